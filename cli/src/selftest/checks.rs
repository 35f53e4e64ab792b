//! The backend's own checks: what the rules of the traits do not ask.

use std::thread;
use std::time::{Duration, Instant};

use linerate::clock::now_ns;
use linerate::conformance::Outcome;
use linerate::loops::{EventLoop, StopHandle, Strategy};
use linerate::{ClockDomain, Clocked, Direction, FlowSpec, FrameRx, FrameTx, RxFlags};

use super::bench::{Bench, Frames, receive, send};
use super::report::Row;
use crate::format::{ns, pps};
use crate::link;

/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Frames of one check.
const FRAMES: u32 = 2_000;
/// Frames on their way at a time: fewer than the smallest default ring has slots.
const WINDOW: u32 = 32;

/// What came of a check, with what was seen.
type Checked = Result<String, Refused>;

enum Refused {
    Fail(String),
    NotSupported(String),
}

impl From<String> for Refused {
    fn from(what: String) -> Self {
        Self::Fail(what)
    }
}

impl From<linerate::SetupError> for Refused {
    fn from(e: linerate::SetupError) -> Self {
        Self::Fail(e.to_string())
    }
}

impl From<linerate::OpenError> for Refused {
    fn from(e: linerate::OpenError) -> Self {
        Self::Fail(e.to_string())
    }
}

impl From<linerate::Error> for Refused {
    fn from(e: linerate::Error) -> Self {
        Self::Fail(e.to_string())
    }
}

/// One check: its name, its sentence, and how to try it.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) says: &'static str,
    /// Must frames arrive for it?
    pub(super) needs_wire: bool,
    run: fn(&mut Bench) -> Checked,
}

impl Check {
    pub(super) fn run(&self, part: &'static str, bench: &mut Bench) -> Row {
        let (outcome, seen) = match (self.run)(bench) {
            Ok(seen) => (Outcome::Pass, seen),
            Err(Refused::Fail(what)) => (Outcome::Fail(what), String::new()),
            Err(Refused::NotSupported(why)) => (Outcome::NotSupported(why), String::new()),
        };
        bench.close();
        Row::new(part, self.name, self.says, outcome).seen(seen)
    }
}

/// In the order in which they are tried.
pub(super) const CHECKS: &[Check] = &[
    Check { name: "link", says: "the link is up", needs_wire: false, run: link_is_up },
    Check {
        name: "reopen",
        says: "the port can be opened and closed over and over",
        needs_wire: false,
        run: reopen,
    },
    Check {
        name: "steering_offers",
        says: "each kind of flow is taken, or refused by name",
        needs_wire: false,
        run: offers,
    },
    Check {
        name: "sends_complete",
        says: "every frame sent completes or is a named loss",
        needs_wire: false,
        run: sends_complete,
    },
    Check {
        name: "idle_loops_stop",
        says: "each loop runs without frames and stops when told",
        needs_wire: false,
        run: idle_loops,
    },
    Check {
        name: "steering_selects",
        says: "frames of another flow are not delivered",
        needs_wire: true,
        run: selects,
    },
    Check {
        name: "counters_agree",
        says: "sent = delivered + named losses, on both ends' counters",
        needs_wire: true,
        run: counters,
    },
    Check {
        name: "stamps_and_clock",
        says: "stamps are from the clock that the queue names",
        needs_wire: true,
        run: stamps,
    },
    Check {
        name: "loop_low_latency",
        says: "the low-latency loop hands over every frame once, in order",
        needs_wire: true,
        run: |bench| run_loop(bench, Strategy::low_latency()),
    },
    Check {
        name: "loop_throughput",
        says: "the throughput loop hands over every frame once, in order",
        needs_wire: true,
        run: |bench| run_loop(bench, Strategy::throughput()),
    },
    Check {
        name: "loop_blocking",
        says: "the blocking loop hands over every frame once, in order",
        needs_wire: true,
        run: |bench| run_loop(bench, Strategy::blocking()),
    },
    Check {
        name: "loop_adaptive",
        says: "the adaptive loop hands over every frame once, in order",
        needs_wire: true,
        run: |bench| run_loop(bench, Strategy::adaptive()),
    },
];

/// Does a frame get from one end to the other at all?
pub(super) fn arrives(bench: &mut Bench) -> Result<bool, String> {
    let result = bench.queues().map_err(|e| e.to_string()).and_then(|(mut tx, mut rx)| {
        let begun = Instant::now();
        // Over and over: a switch may have to learn, a link to come up.
        for seq in 0.. {
            send(&mut tx, &bench.frame(seq, 60, true), PATIENCE)?;
            tx.kick().map_err(|e| e.to_string())?;
            tx.reap();
            if !receive(bench, &mut rx, 1, Duration::from_millis(100))?.is_empty() {
                return Ok(true);
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
        }
        Ok(false)
    });
    bench.close();
    result
}

fn link_is_up(bench: &mut Bench) -> Checked {
    let mut seen = Vec::new();
    let ends =
        if bench.single { vec![&bench.receiver] } else { vec![&bench.receiver, &bench.sender] };
    for end in ends {
        let Some(interface) = &end.interface else {
            seen.push(format!("{}: no network interface behind it", end.uri));
            continue;
        };
        if !link::has_carrier(&interface.name) {
            let name = &interface.name;
            return Err(
                format!("{name} has no link: ip link set {name} up; check the cable").into()
            );
        }
        let speed = interface.speed_mbps.map_or("unknown speed".into(), |n| format!("{n} Mb/s"));
        seen.push(format!("{}: {speed}, MTU {}", interface.name, interface.mtu));
    }
    Ok(seen.join("; "))
}

fn reopen(bench: &mut Bench) -> Checked {
    const TIMES: u32 = 10;
    for n in 1..=TIMES {
        for end in [bench.receiver.clone(), bench.sender.clone()] {
            let port = bench.open(&end, Direction::Both);
            let mut port = port.map_err(|e| format!("time {n}: {e}"))?;
            let counted = port.rx.iter_mut().map(|rx| rx.stats().lost()).sum::<u64>();
            if counted > 0 {
                return Err(format!("time {n}: {counted} losses before the first frame").into());
            }
        }
    }
    Ok(format!("{TIMES} times"))
}

/// One flow of each kind. None of them is traffic that anybody needs.
const KINDS: [(&str, &str); 8] = [
    ("group", "239.255.136.181:34997"),
    ("group and source", "192.0.2.7,239.255.136.181:34997"),
    ("UDP 3-tuple", "udp:192.0.2.8:34997"),
    ("UDP 5-tuple", "udp:192.0.2.8:34997,192.0.2.7:34997"),
    ("TCP 5-tuple", "tcp:192.0.2.8:34997,192.0.2.7:34997"),
    ("group on a VLAN", "vlan:4000,239.255.136.181:34997"),
    ("MAC", "mac:02:00:00:00:88:b5"),
    ("ethertype", "ether:0x88b5"),
];

fn offers(bench: &mut Bench) -> Checked {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for (kind, text) in KINDS {
        let flow: FlowSpec = text.parse().map_err(|e| format!("{text}: {e}"))?;
        let uri = &bench.receiver.uri;
        let port = linerate::port(uri).flow(flow).join(false).direction(Direction::Rx);
        match port.open() {
            Ok(_) => taken.push(kind),
            Err(e) => {
                let e = e.to_string();
                if e.len() < 8 || e.contains('\n') {
                    return Err(format!("{kind} was refused without a reason: {e:?}").into());
                }
                refused.push(kind);
            }
        }
    }
    if taken.is_empty() {
        return Err("no kind of flow is taken".to_owned().into());
    }
    let refused = if refused.is_empty() { "none".into() } else { refused.join(", ") };
    Ok(format!("taken: {}; refused: {refused}", taken.join(", ")))
}

fn sends_complete(bench: &mut Bench) -> Checked {
    let (mut tx, mut rx) = bench.queues()?;
    let before = tx.stats();
    for seq in 0..FRAMES {
        send(&mut tx, &bench.frame(seq, 60, true), PATIENCE)?;
        if seq % WINDOW == WINDOW - 1 {
            tx.kick()?;
            tx.reap();
            // So that a port that hears itself does not run full.
            rx.poll(64, |_| ())?;
        }
    }
    tx.kick()?;
    let begun = Instant::now();
    loop {
        tx.reap();
        rx.poll(64, |_| ())?;
        let now = tx.stats();
        let lost = now.lost() - before.lost();
        if now.completed - before.completed + lost >= u64::from(FRAMES) {
            let lost = if lost == 0 { String::new() } else { format!(", {lost} named losses") };
            return Ok(format!("{FRAMES} frames{lost}"));
        }
        if begun.elapsed() > PATIENCE {
            let (done, sent) = (now.completed - before.completed, now.frames - before.frames);
            return Err(
                format!("{FRAMES} sent, {sent} counted, {done} completed, {lost} lost").into()
            );
        }
        thread::yield_now();
    }
}

fn strategies() -> [Strategy; 4] {
    [Strategy::low_latency(), Strategy::throughput(), Strategy::blocking(), Strategy::adaptive()]
}

fn idle_loops(bench: &mut Bench) -> Checked {
    let mut seen = Vec::new();
    for strategy in strategies() {
        let (_tx, mut rx) = bench.queues()?;
        let name = strategy.to_string();
        if strategy.check(&mut rx).is_err() {
            continue;
        }
        let stop = StopHandle::new()?;
        let mut events = EventLoop::new(strategy, &stop);
        events.add(rx, ())?;
        let runner = thread::spawn(move || events.run(|(), _| ()).map(|ended| ended.totals.turns));
        thread::sleep(Duration::from_millis(20));
        stop.stop();
        let begun = Instant::now();
        while !runner.is_finished() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("the {name} loop does not stop").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let turns = runner.join().map_err(|_| format!("the {name} loop panicked"))?;
        turns.map_err(|e| format!("the {name} loop: {}", e.error))?;
        seen.push(name);
    }
    Ok(seen.join(", "))
}

fn selects(bench: &mut Bench) -> Checked {
    let (mut tx, mut rx) = bench.queues()?;
    let len = 60;
    for seq in 0..WINDOW {
        send(&mut tx, &bench.frame(1000 + seq, len, false), PATIENCE)?;
        send(&mut tx, &bench.frame(seq, len, true), PATIENCE)?;
        tx.kick()?;
        tx.reap();
    }
    let got = receive(bench, &mut rx, WINDOW as usize, PATIENCE)?;
    // The last frame is ours and came after all others: what is not here now does not come.
    let strange = got.iter().filter(|(seq, _)| *seq >= 1000).count();
    if strange > 0 {
        return Err(format!("{strange} frames of a flow that was not asked for").into());
    }
    if got.len() < WINDOW as usize {
        return Err(format!("{} of {WINDOW} frames arrived", got.len()).into());
    }
    let other = match bench.frames {
        Frames::Ether { .. } => "ethertype",
        Frames::Group { .. } => "group",
    };
    Ok(format!("{WINDOW} frames arrived, as many of another {other} did not"))
}

/// Sends [`FRAMES`] frames, [`WINDOW`] at a time, and receives them: `(number, meta)` each.
fn exchange(
    bench: &Bench,
    tx: &mut linerate::AnyTx,
    rx: &mut linerate::AnyRx,
    mut each: impl FnMut(linerate::RxMeta, u64),
) -> Result<u32, String> {
    let mut arrived = 0;
    for first in (0..FRAMES).step_by(WINDOW as usize) {
        for seq in first..first + WINDOW {
            send(tx, &bench.frame(seq, 60 + (seq % 200) as usize, true), PATIENCE)?;
        }
        tx.kick().map_err(|e| e.to_string())?;
        let got = receive(bench, rx, WINDOW as usize, PATIENCE)?;
        let now = now_ns();
        for (expected, (seq, meta)) in (first..).zip(&got) {
            if *seq != expected {
                return Err(format!("frame {seq} arrived where frame {expected} was due"));
            }
            each(*meta, now);
        }
        arrived += got.len() as u32;
        tx.reap();
        if got.len() < WINDOW as usize {
            break;
        }
    }
    Ok(arrived)
}

fn counters(bench: &mut Bench) -> Checked {
    let (mut tx, mut rx) = bench.queues()?;
    let sent = FRAMES.next_multiple_of(WINDOW);
    let arrived = exchange(bench, &mut tx, &mut rx, |_, _| ())?;
    let (to, from) = (tx.stats(), rx.stats());
    let lost = to.lost() + from.lost();
    if u64::from(arrived) + lost < u64::from(sent) {
        let gone = u64::from(sent) - u64::from(arrived) - lost;
        let named: Vec<_> = to.losses().chain(from.losses()).filter(|(_, n)| *n > 0).collect();
        return Err(
            format!("{sent} sent, {arrived} arrived, lost {named:?}: {gone} unexplained").into()
        );
    }
    if to.frames != u64::from(sent) || from.frames < u64::from(arrived) {
        let (to, from) = (to.frames, from.frames);
        return Err(format!("{sent} sent and {arrived} seen, but {to} and {from} counted").into());
    }
    Ok(format!("{sent} sent, {arrived} arrived, {lost} lost by name"))
}

fn stamps(bench: &mut Bench) -> Checked {
    let (mut tx, mut rx) = bench.queues()?;
    let clock = rx.clock();
    if clock.domain == ClockDomain::None {
        return Err(Refused::NotSupported("the queue gives no stamps".into()));
    }
    let (mut stamped, mut hardware, mut unsynced, mut back, mut last) = (0_u32, 0_u32, 0_u32, 0, 0);
    let (mut least, mut most) = (i64::MAX, i64::MIN);
    exchange(bench, &mut tx, &mut rx, |meta, now| {
        let Some(ts) = meta.timestamp() else { return };
        stamped += 1;
        hardware += u32::from(meta.flags.contains(RxFlags::TS_HW));
        unsynced += u32::from(meta.flags.contains(RxFlags::TS_UNSYNCED));
        back += u32::from(ts < last);
        last = ts;
        let behind = i64::try_from(i128::from(now) - i128::from(ts)).unwrap_or(i64::MAX);
        (least, most) = (least.min(behind), most.max(behind));
    })?;
    if stamped == 0 {
        return Err(format!("the queue names {:?}, but no frame was stamped", clock.domain).into());
    }
    if hardware > 0 && clock.domain == ClockDomain::Realtime {
        return Err("hardware stamps from a queue that names the kernel's clock".to_owned().into());
    }
    let signed =
        |span: i64| format!("{}{}", if span < 0 { "-" } else { "" }, ns(span.unsigned_abs()));
    Ok(format!(
        "{:?}, synced: {}; {stamped} stamped, {hardware} by hardware, {unsynced} unsynced, {back} \
         times backwards; {} to {} before the host read them",
        clock.domain,
        clock.synced.map_or("unknown", |yes| if yes { "yes" } else { "no" }),
        signed(least),
        signed(most),
    ))
}

fn run_loop(bench: &mut Bench, strategy: Strategy) -> Checked {
    let (mut tx, mut rx) = bench.queues()?;
    if let Err(e) = strategy.check(&mut rx) {
        return Err(Refused::NotSupported(e.to_string()));
    }
    let stop = StopHandle::new()?;
    let mut events = EventLoop::new(strategy, &stop);
    events.add(rx, ())?;
    let total = FRAMES.next_multiple_of(WINDOW);
    let (note, arrivals) = std::sync::mpsc::channel::<u32>();
    let begun = Instant::now();
    let shared: &Bench = bench;
    let sent = thread::scope(|scope| {
        let reader = scope.spawn(move || {
            events.run(|(), frame| {
                if let Some(seq) = shared.number(frame.bytes) {
                    // The sender gives up first when something is missing.
                    let _ = note.send(seq);
                }
            })
        });
        let done = (|| {
            let mut due = 0;
            for first in (0..total).step_by(WINDOW as usize) {
                for seq in first..first + WINDOW {
                    send(&mut tx, &shared.frame(seq, 60, true), PATIENCE)?;
                }
                tx.kick().map_err(|e| e.to_string())?;
                while due < first + WINDOW {
                    match arrivals.recv_timeout(PATIENCE) {
                        Ok(seq) if seq == due => due += 1,
                        Ok(seq) => return Err(format!("frame {seq} came where {due} was due")),
                        Err(_) => return Err(format!("frame {due} never came")),
                    }
                    tx.reap();
                }
            }
            Ok(())
        })();
        stop.stop();
        match reader.join() {
            Ok(Ok(_)) => done,
            Ok(Err(e)) => done.and(Err(e.error.to_string())),
            Err(_) => Err("the loop panicked".to_owned()),
        }
    });
    sent?;
    let rate = f64::from(total) / begun.elapsed().as_secs_f64();
    Ok(format!("{total} frames, {WINDOW} at a time, {}", pps(rate)))
}
