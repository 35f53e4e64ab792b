//! Receives a hundred groups and more over several queues in one loop:
//! `many_groups SECONDS GROUP:PORT+N PORT [PORT ...]`.
//!
//! ```text
//! many_groups 60 239.1.1.1:5000+128 'afpacket:eth2?queues=2'       # two queues of one port
//! many_groups 60 239.1.1.1:5000+128 afxdp:eth2 afxdp:eth3          # line A and line B
//! many_groups 60 239.1.1.1:5000+128 udp:lo                         # without rights
//! ```
//!
//! Joins are spread over as many sockets as the kernel asks for. A frame finds its group's counter
//! by hash; each second the busiest groups and those that are silent are named.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use linerate::loops::{EventLoop, Every, StopHandle, Strategy};
use linerate::packet::Headers;
use linerate::{AnyRx, Direction, FlowKind, FlowSpec, FrameRx};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, groups, names @ ..] = args.as_slice() else {
        return Err("usage: many_groups SECONDS GROUP:PORT+N PORT [PORT ...]".into());
    };
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let flows = FlowSpec::parse_list(groups)?;
    let mut frames: HashMap<SocketAddr, u64> = HashMap::with_capacity(flows.len());
    for flow in &flows {
        if let FlowKind::Group { group, port: Some(port), .. } = flow.kind {
            frames.insert(SocketAddr::new(group, port), 0);
        }
    }

    // The guards keep the groups joined; the queues go into the loop.
    let (mut guards, mut queues): (Vec<_>, Vec<AnyRx>) = (Vec::new(), Vec::new());
    for name in names {
        let port = linerate::port(name).flows(flows.clone()).direction(Direction::Rx).open()?;
        let (rx, _, guard) = port.into_parts();
        println!("{name}: {} queues", rx.len());
        queues.extend(rx);
        guards.push(guard);
    }
    let sleeps = queues.iter_mut().all(|rx| Strategy::adaptive().check(rx).is_ok());
    let strategy = if sleeps { Strategy::adaptive() } else { Strategy::low_latency() };
    let mut events = EventLoop::new(strategy, &StopHandle::new()?);
    for queue in queues {
        // The context is what the handler gets with each frame of the queue: here a count.
        events.add(queue, 0_u64)?;
    }

    let mut second = Every::new(Duration::from_secs(1));
    let mut others = 0_u64;
    while Instant::now() < end {
        events.run_with(
            |of_queue, frame| {
                *of_queue += 1;
                let headers = Headers::parse(frame.bytes);
                let to = headers.and_then(|h| Some(SocketAddr::new(h.addresses?.1, h.ports?.1)));
                match to.and_then(|to| frames.get_mut(&to)) {
                    Some(count) => *count += 1,
                    None => others += 1,
                }
            },
            |turn| match second.is_due(turn) || (turn.slept && Instant::now() >= end) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            },
        )?;
        show(&frames, others);
        // Asked once a second, also where the answer is not wanted: a queue that is polled and
        // never asked does not learn that its interface is gone or has got more queues.
        events.queues_mut().for_each(|(rx, _)| _ = rx.stats());
    }
    let (mut lost, mut by_queue) = (0, Vec::new());
    for (rx, count) in events.queues_mut() {
        lost += rx.stats().lost();
        by_queue.push(*count);
    }
    println!("by queue {by_queue:?}, lost {lost}");
    Ok(())
}

fn show(frames: &HashMap<SocketAddr, u64>, others: u64) {
    let mut busiest: Vec<_> = frames.iter().map(|(to, n)| (*n, *to)).collect();
    busiest.sort_unstable_by(|a, b| b.cmp(a));
    let total: u64 = frames.values().sum();
    let silent = frames.values().filter(|n| **n == 0).count();
    print!("{total} frames of {} groups, {silent} silent, {others} others;", frames.len());
    for (n, to) in busiest.iter().take(3).filter(|(n, _)| *n > 0) {
        print!("  {to} {n}");
    }
    println!();
}
