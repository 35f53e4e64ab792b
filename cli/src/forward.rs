//! `linerate forward`: passes frames on between two ports.
//!
//! One thread for each direction; the main thread shows what they count.

mod path;
mod report;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::{StrategyKind, pin_to_cpu};
use linerate::pool::Pool;
use linerate::{Direction, FlowSpec, Port};

use crate::args::ForwardArgs;
use crate::events::Clock;
use crate::failure::Failure;
use crate::json::Identity;
use crate::meeting;
use crate::metrics::Feed;
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join, spawn};

use path::{Path, Shared};
use report::{Live, Summary};

const TICK: Duration = Duration::from_millis(20);
/// Frames of a pool for both ports: the rings of two queues each, and what is under way.
const POOL_FRAMES: u32 = 16_384;

/// Runs the command.
pub(crate) fn run(args: &ForwardArgs, out: &Output) -> Result<(), Failure> {
    if args.cpus.len() > 2 {
        return Err(Failure::usage("--cpus takes two: for A to B, for B to A"));
    }
    args.cpus.iter().try_for_each(|cpu| check_cpu(Some(*cpu)))?;
    let spins = match args.strategy.kind() {
        StrategyKind::LowLatency => true,
        StrategyKind::Adaptive => false,
        _ => return Err(Failure::usage("forward waits with --loop low-latency or adaptive")),
    };
    let mut flows = Vec::new();
    for text in &args.flows {
        flows.extend(FlowSpec::parse_list(text).map_err(Failure::usage)?);
    }
    let interrupt = Interrupt::install()?;
    let pool = shared_pool(args, out)?;
    let both = if args.one_way { [Direction::Rx, Direction::Tx] } else { [Direction::Both; 2] };
    let a = open(&args.a, &flows, pool.as_ref(), both[0], out)?;
    let b = open(&args.b, &flows, pool.as_ref(), both[1], out)?;
    let same = |a: &Port, b: &Port| Some(a.pool()?.tag() == b.pool()?.tag());
    // The pool through which taken frames are given back, if both ports work with the same.
    let pool = if same(&a, &b) == Some(true) { a.pool().cloned() } else { None };
    let ids = [Identity::of(&a), Identity::of(&b)];
    let how = if pool.is_some() { "without a copy" } else { "with one copy" };
    let arrow = if args.one_way { "to" } else { "and" };
    out.text(&format!("{} {arrow} {}, {how}; Ctrl-C ends it", ids[0].port, ids[1].port));

    let mut feed = Feed::start(args.metrics, &[&ids[0], &ids[1]], out)?;
    privilege::give_up(&[a.backend(), b.backend()], Need::Nothing, out);
    let (a_rx, a_tx, a_guard) = a.into_parts();
    let (b_rx, b_tx, b_guard) = b.into_parts();
    let shared = Arc::new(Shared::default());
    let begun = Instant::now();
    let mut workers = Vec::new();
    let ways = [(a_rx, b_tx, &ids[1]), (b_rx, a_tx, &ids[0])];
    for (i, (rx, tx, to)) in ways.into_iter().enumerate().take(if args.one_way { 1 } else { 2 }) {
        let tx = meeting::sender(tx, to)?.tx;
        let name = format!("{} to {}", ids[i].port, to.port);
        let path =
            Path::new((i, name), rx, tx, pool.clone(), spins, Arc::clone(&shared), feed.poster());
        let cpu = args.cpus.get(i).copied();
        workers.push(spawn("linerate-fwd", move || {
            if let Some(cpu) = cpu {
                // Tried before on another thread: it works.
                let _ = pin_to_cpu(cpu);
            }
            path.run()
        })?);
    }

    let deadline = args.duration.map(|s| begun + Duration::from_secs_f64(s));
    let mut live = Live::new(&ids, out);
    let clock = Clock::default();
    while !workers.iter().any(|worker| worker.is_finished()) {
        clock.tick(out);
        let over = deadline.is_some_and(|end| Instant::now() >= end);
        if interrupt.asked() || out.closed() || over {
            break;
        }
        live.tick(&shared, out);
        feed.tick();
        thread::sleep(TICK);
    }
    shared.stop.store(true, Ordering::Relaxed);
    let ways = workers.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
    out.end_live();
    meeting::close(a_guard, out);
    meeting::close(b_guard, out);
    let failure = ways.iter().find_map(|way| way.failure.clone());
    let summary = Summary {
        ids: &ids,
        zero_copy: pool.is_some(),
        seconds: begun.elapsed().as_secs_f64(),
        ways: &ways,
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

/// A pool for both ports, where both may work with one.
fn shared_pool(args: &ForwardArgs, out: &Output) -> Result<Option<Pool>, Failure> {
    let pooled = |uri: &String| {
        ["afxdp:", "efvi:", "verbs:", "sim:efvi", "sim:verbs"].iter().any(|p| uri.starts_with(p))
    };
    if !pooled(&args.a) || !pooled(&args.b) {
        return Ok(None);
    }
    let pool = Pool::builder().frames(POOL_FRAMES).build().map_err(Failure::new)?;
    for notice in pool.notices() {
        out.notice(notice);
    }
    Ok(Some(pool))
}

fn open(
    uri: &str,
    flows: &[FlowSpec],
    pool: Option<&Pool>,
    direction: Direction,
    out: &Output,
) -> Result<Port, Failure> {
    let mut builder =
        linerate::port(uri).flows(flows.iter().copied()).promiscuous(true).direction(direction);
    if let Some(pool) = pool {
        builder = builder.pool(pool);
    }
    let port = builder.open().map_err(Failure::new)?;
    meeting::tell(&port, out);
    Ok(port)
}
