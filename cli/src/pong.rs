//! `linerate pong`: answers test frames.
//!
//! One loop: the handler checks a frame and writes its answer into the transmit queue, and the
//! hook at the end of the turn rings the doorbell.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::{End, EventLoop, StopHandle, pin_to_cpu};
use linerate::packet::{Ethernet, Udp, UdpTemplate};
use linerate::{AnyRx, AnyTx, ErrorKind, FrameRx, FrameTx, RxFrame, RxStats};
use serde::Serialize;

use crate::args::PongArgs;
use crate::events::Clock;
use crate::failure::Failure;
use crate::format::{count, per_second, plural, pps};
use crate::json::{Identity, Line, Volume};
use crate::meeting::{self, may_pass};
use crate::metrics::{Feed, Poster};
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::probe::{Kind, Mark, Origin, Unmarked};
use crate::setting::{Setting, interface_of};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join, spawn};

const TICK: Duration = Duration::from_millis(20);
/// Pause before a queue is tried again whose link is down.
const LINK_NAP: Duration = Duration::from_millis(10);
/// How long an answer waits for room; meanwhile frames wait in the receive ring. Longer than a
/// busy machine keeps a thread from running.
const ROOM_PATIENCE: Duration = Duration::from_millis(200);
/// Clients that are told apart; more are counted as one.
const CLIENTS: usize = 256;

/// Runs the command.
pub(crate) fn run(args: &PongArgs, out: &Output) -> Result<(), Failure> {
    check_cpu(args.cpu)?;
    let reply = match args.reply {
        None if args.on.ip().is_multicast() => Some(meeting::next_group(args.on)),
        reply => reply,
    };
    let flow = meeting::flow_to(args.on)?;
    let interrupt = Interrupt::install()?;
    let stop = StopHandle::new().map_err(Failure::new)?;
    let port = linerate::port(&args.port)
        .flow(flow)
        // Also when it sleeps: a question must not wait until a block of a ring is full or old.
        .low_latency(true);
    let port = port.open().map_err(Failure::new)?;
    meeting::tell(&port, out);
    let identity = Identity::of(&port);
    let interface = interface_of(&port);
    let setting = Setting::of(&port, interface.as_ref(), args.cpu, args.strategy);
    out.text(&setting.render(&identity.port, out.paint()));
    out.text(&format!("answering what comes to {}; Ctrl-C ends it", args.on));
    let origin = Origin::of(interface.as_ref());
    let mut feed = Feed::start(args.metrics, &[&identity], out)?;
    privilege::give_up(&[port.backend()], Need::Nothing, out);
    let (queues, tx, guard) = port.into_parts();
    let tx = meeting::sender(tx, &identity)?.tx;
    let mut events = EventLoop::new(args.strategy, &stop);
    for queue in queues {
        events.add(queue, ()).map_err(Failure::usage)?;
    }
    let poster = feed.poster();
    let shared = Arc::new(Shared::default());
    let responder = Responder::new(tx, origin, reply);
    let (cpu, seen) = (args.cpu, Arc::clone(&shared));
    let begun = Instant::now();
    let worker = spawn("linerate-pong", move || {
        if let Some(cpu) = cpu {
            // Tried before on another thread: it works.
            let _ = pin_to_cpu(cpu);
        }
        serve(events, responder, &seen, poster)
    })?;

    let deadline = args.duration.map(|s| begun + Duration::from_secs_f64(s));
    let mut next = if out.is_json() { begun } else { begun + Duration::from_secs(1) };
    let mut before = (begun, 0);
    let clock = Clock::default();
    while !worker.is_finished() {
        clock.tick(out);
        let now = Instant::now();
        if interrupt.asked() || out.closed() || deadline.is_some_and(|end| now >= end) {
            break;
        }
        feed.tick();
        if now >= next {
            next += Duration::from_secs(1);
            let answered = shared.answered.load(Ordering::Relaxed);
            let (then, last) = std::mem::replace(&mut before, (now, answered));
            let rate = per_second((answered - last) as f64, (now - then).as_secs_f64());
            let seconds = begun.elapsed().as_secs_f64();
            let volume = Volume { seconds, frames: answered, bytes: 0, pps: rate };
            out.json(&Line::running(&identity, volume, ()));
            out.live(&format!("{seconds:>4.0} s  {} answered  {}", count(answered), pps(rate)));
        }
        thread::sleep(TICK);
    }
    stop.stop();
    let (counts, failure) = join(worker)?;
    let failure = failure.map(|failure| failure.on(&identity.port));
    meeting::close(guard, out);
    out.end_live();
    report(&identity, &setting, &counts, begun.elapsed().as_secs_f64(), failure.as_ref(), out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

/// What the main thread sees.
#[derive(Debug, Default)]
struct Shared {
    answered: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    answered: u64,
    bytes: u64,
    no_room: u64,
    damaged: u64,
    foreign: u64,
    clients: BTreeSet<(SocketAddr, u8)>,
    /// Of all queues together, at the end.
    queue: RxStats,
}

#[derive(Debug)]
struct Responder {
    tx: AnyTx,
    origin: Origin,
    /// `None`: back to the sender.
    reply: Option<SocketAddr>,
    counts: Counts,
    /// Who was answered last.
    client: Option<(SocketAddr, u8)>,
    last: Last,
    pending: bool,
    /// Was there no room for too long? Then nobody waits for it until there is some.
    stuck: bool,
}

/// The headers of the last question and of its answer. As long as they stay the same, an answer
/// takes no parsing and no sums.
#[derive(Debug, Default)]
struct Last {
    /// Of the whole frame.
    request_bytes: usize,
    request: Vec<u8>,
    answer: Vec<u8>,
    payload_bytes: usize,
    from: Option<SocketAddr>,
}

impl Last {
    /// Who sent this question, if its headers are those of the last one.
    #[inline]
    fn knows(&self, request: &[u8]) -> Option<SocketAddr> {
        let same = request.len() == self.request_bytes && request.starts_with(&self.request);
        self.from.filter(|_| same)
    }
}

impl Responder {
    fn new(tx: AnyTx, origin: Origin, reply: Option<SocketAddr>) -> Self {
        let (counts, last) = (Counts::default(), Last::default());
        Self { tx, origin, reply, counts, client: None, last, pending: false, stuck: false }
    }

    #[inline]
    fn answer(&mut self, frame: &RxFrame<'_>) {
        // The time goes back as it came, and only its lower bits: nothing needs to complete them.
        let mark = match Mark::of_frame(frame.bytes, 0) {
            Ok(mark) if mark.kind == Kind::Ping => mark,
            Ok(_) | Err(Unmarked::Foreign) => return self.counts.foreign += 1,
            Err(Unmarked::Damaged) => return self.counts.damaged += 1,
        };
        let mut answered = self.write(frame.bytes, mark);
        if answered.is_none() && !self.stuck {
            answered = self.write_late(frame.bytes, mark);
        }
        self.stuck = answered.is_none();
        match answered {
            Some(from) => {
                self.counts.answered += 1;
                self.counts.bytes += frame.bytes.len() as u64;
                self.pending = true;
                let client = (from, mark.stream);
                if self.client != Some(client) && self.counts.clients.len() < CLIENTS {
                    self.counts.clients.insert(client);
                    self.client = Some(client);
                }
            }
            None => self.counts.no_room += 1,
        }
    }

    /// Writes the answer when there is room again.
    #[cold]
    fn write_late(&mut self, request: &[u8], mark: Mark) -> Option<SocketAddr> {
        let begun = Instant::now();
        while begun.elapsed() < ROOM_PATIENCE {
            // An error that does not pass comes up again at the end of the turn.
            let _ = self.tx.kick();
            self.tx.reap();
            if let Some(from) = self.write(request, mark) {
                return Some(from);
            }
            thread::yield_now();
        }
        None
    }

    /// Writes the answer into the transmit queue and says where the question came from. `None`:
    /// there is no room.
    #[inline]
    fn write(&mut self, request: &[u8], mark: Mark) -> Option<SocketAddr> {
        let Some(from) = self.last.knows(request) else { return self.write_anew(request, mark) };
        let Last { request: head, answer, payload_bytes, .. } = &self.last;
        let payload = request.get(head.len()..head.len() + payload_bytes)?;
        let len = answer.len() + payload.len();
        let slot = self.tx.reserve(len)?;
        let (slot_head, slot_payload) = slot.split_at_mut_checked(answer.len())?;
        let mut copy = [0; SHORT];
        // Longer ones are not remembered.
        let copy = copy.get_mut(..payload.len())?;
        copy.copy_from_slice(payload);
        Mark { kind: Kind::Pong, ..mark }.write(copy);
        slot_head.copy_from_slice(answer);
        slot_payload.copy_from_slice(copy);
        self.tx.commit(len);
        Some(from)
    }

    #[cold]
    fn write_anew(&mut self, request: &[u8], mark: Mark) -> Option<SocketAddr> {
        let ethernet = Ethernet::parse(request)?;
        let ip = ethernet.ip()?;
        let udp = Udp::parse(ip.upper().payload)?;
        let from = SocketAddr::new(ip.src(), udp.src_port());
        let own = if ip.dst().is_multicast() { self.origin.ip(ip.src()) } else { ip.dst() };
        let to = self.reply.unwrap_or(from);
        let mut template = UdpTemplate::new(SocketAddr::new(own, udp.dst_port()), to)?;
        template.src_mac = self.origin.mac();
        if !to.ip().is_multicast() {
            template.dst_mac = ethernet.src();
        }
        template.checksum = false;
        template.vlan_tci = ethernet.tags().next().map(|tag| tag.tci);
        let payload = udp.payload();
        let at = template.header_len();
        let len = at + payload.len();
        let slot = self.tx.reserve(len)?;
        let mark = Mark { kind: Kind::Pong, ..mark };
        // Card memory is not read back: what needs reading is written from our own.
        let mut small = [0; SMALL];
        match small.get_mut(..payload.len()) {
            Some(copy) => {
                copy.copy_from_slice(payload);
                mark.write(copy);
                template.write(slot, copy)?;
            }
            None => {
                let mut copy = payload.to_vec();
                mark.write(&mut copy);
                template.write(slot, &copy)?;
            }
        }
        self.tx.commit(len);
        // A part of `request`: where it begins is how much is before it. Over IPv6 the headers
        // have a sum over all the rest.
        let before = payload.as_ptr().addr().checked_sub(request.as_ptr().addr());
        let mut answer = vec![0; at];
        if let Some(head) = before.and_then(|at| request.get(..at))
            && to.is_ipv4()
            && payload.len() <= SHORT
            && template.write_headers(&mut answer, payload).is_some()
        {
            self.last = Last {
                request_bytes: request.len(),
                request: head.to_vec(),
                answer,
                payload_bytes: payload.len(),
                from: Some(from),
            };
        }
        Some(from)
    }

    #[inline]
    fn kick(&mut self) -> Result<(), linerate::Error> {
        if self.pending {
            match self.tx.kick() {
                Err(e) if may_pass(e) => return Ok(()),
                done => done?,
            }
            self.pending = false;
        }
        Ok(())
    }
}

/// Answers up to this long need no allocation.
const SMALL: usize = 2048;
/// Payloads up to this long are answered by what the last answer was.
const SHORT: usize = 128;

fn serve(
    mut events: EventLoop<AnyRx, ()>,
    responder: Responder,
    shared: &Shared,
    mut poster: Poster,
) -> (Counts, Option<Failure>) {
    let responder = RefCell::new(responder);
    let mut broken = None;
    let failure = loop {
        let ended = events.run_with(
            |(), frame| responder.borrow_mut().answer(&frame),
            |_| {
                let mut responder = responder.borrow_mut();
                if let Err(e) = responder.kick() {
                    broken = Some(e);
                    return ControlFlow::Break(());
                }
                shared.answered.store(responder.counts.answered, Ordering::Relaxed);
                // Outside the loop the queues' counters can be read.
                if poster.is_due() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        match ended {
            Ok(ended) if ended.why == End::Stopped => break None,
            Ok(_) => match broken {
                Some(e) => {
                    let failure = Failure::new(format!("cannot send: {e}"));
                    break Some(failure.remedy("ip -s link"));
                }
                None => poster.post(|ports| {
                    ports[0].rx(events.queues_mut().map(|(queue, ())| queue.stats()));
                    ports[0].tx(responder.borrow_mut().tx.stats());
                }),
            },
            Err(e) if e.error.kind == ErrorKind::LinkDown => thread::sleep(LINK_NAP),
            Err(e) => break Some(Failure::new(e)),
        }
    };
    let mut counts = responder.into_inner().counts;
    events.queues_mut().for_each(|(queue, ())| counts.queue += queue.stats());
    (counts, failure)
}

#[derive(Serialize)]
struct Final<'a> {
    setting: &'a Setting,
    answered: u64,
    clients: usize,
    no_room: u64,
    damaged: u64,
    foreign: u64,
    /// What the receive queues lost, by name.
    dropped: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn report(
    identity: &Identity,
    setting: &Setting,
    counts: &Counts,
    seconds: f64,
    failure: Option<&Failure>,
    out: &Output,
) {
    let Counts { answered, bytes, no_room, damaged, foreign, ref clients, queue } = *counts;
    let rate = per_second(answered as f64, seconds);
    let volume = Volume { seconds, frames: answered, bytes, pps: rate };
    let clients = clients.len();
    let error = failure.map(ToString::to_string);
    let dropped = queue.losses().filter(|(_, n)| *n > 0).collect();
    let last = Final { setting, answered, clients, no_room, damaged, foreign, dropped, error };
    out.json(&Line::last(identity, volume, last));
    let paint = out.paint();
    let mut lines = vec![format!(
        "{} of {} answered in {seconds:.1} s",
        plural(answered, "frame"),
        plural(clients as u64, "client")
    )];
    let mut note = |n: u64, text: &str| {
        if n > 0 {
            lines.push(paint.bad(&format!("  {:>13}  {text}", count(n))));
        }
    };
    note(no_room, "not answered: the transmit queue had no room");
    note(damaged, "not answered: damaged");
    note(foreign, "not answered: no ping");
    for (name, n) in queue.losses() {
        note(n, &format!("never seen: {name}"));
    }
    out.text(&lines.join("\n"));
}
