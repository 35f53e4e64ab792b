//! One direction: from the receive queues of one port into the transmit queue of the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use linerate::packet::{Ethernet, IpView, transport_checksum};
use linerate::pool::Pool;
use linerate::{
    AnyRx, AnyTx, BufRx, BufTx, Error, ErrorKind, FrameRx, FrameTx, RxFlags, RxStats, TxStats,
    wait_readable,
};

use crate::failure::Failure;
use crate::meeting::may_pass;
use crate::metrics::Poster;

/// Frames passed on at once.
const BURST: usize = 64;
/// How long to spin after the last frame before sleeping.
const SPIN: Duration = Duration::from_micros(200);
/// Longest sleep without looking whether to stop.
const NAP: Duration = Duration::from_millis(20);
/// Sleep where a queue cannot be slept on.
const SHORT_NAP: Duration = Duration::from_micros(100);
/// How long to wait for the last frames to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the main thread sees and says.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    /// Frames and bytes of either direction.
    pub(crate) passed: [(AtomicU64, AtomicU64); 2],
}

/// What was done with frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Frames that came.
    pub(crate) taken: u64,
    pub(crate) passed: u64,
    pub(crate) bytes: u64,
    /// Not passed on: longer than the other port sends.
    pub(crate) too_long: u64,
    /// Not passed on: the other port refused the buffer.
    pub(crate) refused: u64,
    /// Check sums that this host's own stack had left to a card.
    pub(crate) summed: u64,
}

impl Counts {
    /// Frames that were not passed on, by name.
    pub(crate) fn dropped(&self) -> [(&'static str, u64); 2] {
        [("too_long", self.too_long), ("tx_refused_buffer", self.refused)]
    }
}

/// How a direction ended.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) counts: Counts,
    pub(crate) rx: RxStats,
    pub(crate) tx: TxStats,
    pub(crate) failure: Option<Failure>,
}

/// A direction before it runs.
#[derive(Debug)]
pub(crate) struct Path {
    /// Its ports.
    name: String,
    index: usize,
    rx: Vec<AnyRx>,
    tx: AnyTx,
    /// Of both ports, where it is one.
    pool: Option<Pool>,
    spins: bool,
    shared: Arc<Shared>,
    poster: Poster,
    counts: Counts,
    /// Are there frames that no kick has taken yet?
    uncommitted: bool,
}

impl Path {
    pub(crate) fn new(
        (index, name): (usize, String),
        rx: Vec<AnyRx>,
        tx: AnyTx,
        pool: Option<Pool>,
        spins: bool,
        shared: Arc<Shared>,
        poster: Poster,
    ) -> Self {
        let counts = Counts::default();
        Self { name, index, rx, tx, pool, spins, shared, poster, counts, uncommitted: false }
    }

    pub(crate) fn run(mut self) -> Way {
        let failure = self.pass_on().err().map(|e| {
            Failure::new(format!("{} failed after {} frames: {e}", self.name, self.counts.passed))
                .remedy("are both interfaces up? ip -s link")
        });
        if failure.is_none() {
            self.see_off();
        }
        let mut rx = RxStats::default();
        self.rx.iter_mut().for_each(|queue| rx += queue.stats());
        Way { counts: self.counts, rx, tx: self.tx.stats(), failure }
    }

    fn pass_on(&mut self) -> Result<(), Error> {
        let mut last_frame = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let moved = self.turn()?;
            if self.poster.is_due() {
                self.post();
            }
            if moved > 0 {
                last_frame = Instant::now();
            } else if self.uncommitted {
                thread::yield_now();
            } else if !self.spins && last_frame.elapsed() > SPIN {
                self.sleep()?;
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Frames come in at one port and leave by the other.
    fn post(&mut self) {
        let Self { index, rx, tx, poster, counts, .. } = self;
        let (from, to) = (*index, 1 - *index);
        poster.post(|ports| {
            ports[from].rx(rx.iter_mut().map(FrameRx::stats));
            ports[from].dropped(&counts.dropped());
            ports[to].tx(tx.stats());
        });
    }

    /// A burst of each queue.
    fn turn(&mut self) -> Result<usize, Error> {
        let Self { rx, tx, pool, counts, .. } = self;
        tx.reap();
        let mut moved = 0;
        for queue in rx {
            let room = tx.room().min(BURST);
            if room == 0 {
                break;
            }
            let ends = (queue.buf_rx(), tx.buf_tx());
            let done = match (pool.as_ref(), ends) {
                (Some(pool), (Some(from), Some(to))) => lend(from, to, pool, room, counts),
                _ => copy(queue, tx, room, counts),
            };
            moved += match done {
                // Frames may come again when the link is back.
                Err(e) if e.kind == ErrorKind::LinkDown => 0,
                done => done?,
            };
        }
        self.uncommitted |= moved > 0 || self.tx.room() == 0;
        if self.uncommitted {
            self.kick()?;
        }
        let (frames, bytes) = &self.shared.passed[self.index];
        frames.store(self.counts.passed, Ordering::Relaxed);
        bytes.store(self.counts.bytes, Ordering::Relaxed);
        Ok(moved)
    }

    /// What is back-pressure keeps its frames in the queue, for the next turn.
    fn kick(&mut self) -> Result<(), Error> {
        match self.tx.kick() {
            Err(e) if may_pass(e) => Ok(()),
            done => {
                self.uncommitted = false;
                done
            }
        }
    }

    fn sleep(&mut self) -> Result<(), Error> {
        if let [queue] = &mut self.rx[..]
            && let Some(waitable) = queue.waitable()
        {
            match waitable.arm() {
                // It is looked at again in the next turn: the link may be back then.
                Err(e) if e.kind == ErrorKind::LinkDown => {
                    thread::sleep(NAP);
                    return Ok(());
                }
                armed => armed?,
            }
            // What came before the arming wakes nobody.
            if self.turn()? == 0
                && let Some(waitable) = self.rx.first_mut().and_then(|q| q.waitable())
            {
                match wait_readable(waitable.fd(), Some(NAP)) {
                    Err(e) if e.kind == ErrorKind::LinkDown => thread::sleep(NAP),
                    waited => {
                        waited?;
                    }
                }
            }
            return Ok(());
        }
        thread::sleep(SHORT_NAP);
        Ok(())
    }

    /// Waits for what was passed on to leave.
    fn see_off(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < FAREWELL {
            // A queue in trouble now keeps what it has: the ledger shows it.
            let _ = self.kick();
            self.tx.reap();
            let tx = self.tx.stats();
            if tx.completed + tx.lost() >= self.counts.passed {
                return;
            }
            thread::sleep(SHORT_NAP);
        }
    }
}

/// Hands buffers from one queue to the other.
fn lend(
    rx: &mut dyn BufRx,
    tx: &mut dyn BufTx,
    pool: &Pool,
    room: usize,
    counts: &mut Counts,
) -> Result<usize, Error> {
    let n = rx.acquire(room)?;
    for i in 0..n {
        let len = rx.frame(i).bytes.len();
        if len > tx.max_len() {
            counts.too_long += 1;
            continue;
        }
        let Some(buf) = rx.take(i) else { continue };
        match tx.push(buf) {
            Ok(()) => {
                counts.passed += 1;
                counts.bytes += len as u64;
            }
            Err(buf) => {
                counts.refused += 1;
                // Of this pool: it takes it back.
                let _ = pool.free(buf);
            }
        }
    }
    rx.release();
    counts.taken += n as u64;
    Ok(n)
}

/// Copies frames from one queue to the other.
fn copy(rx: &mut AnyRx, tx: &mut AnyTx, room: usize, counts: &mut Counts) -> Result<usize, Error> {
    let max_len = tx.max_len();
    let n = rx.poll(room, |frame| {
        let len = frame.bytes.len();
        if len > max_len || len == 0 {
            counts.too_long += 1;
            return;
        }
        let sent = if frame.meta.flags.contains(RxFlags::CSUM_PARTIAL)
            && let Some(whole) = with_sum(frame.bytes)
        {
            counts.summed += 1;
            tx.send(&whole)
        } else {
            tx.send(frame.bytes)
        };
        // There was room for all of them.
        if sent == Ok(true) {
            counts.passed += 1;
            counts.bytes += len as u64;
        } else {
            counts.refused += 1;
        }
    })?;
    counts.taken += n as u64;
    Ok(n)
}

/// The frame with the check sum that its sender's stack had left to the card. `None`: it has no
/// such check sum.
fn with_sum(frame: &[u8]) -> Option<Vec<u8>> {
    let ip: IpView<'_> = Ethernet::parse(frame)?.ip()?;
    let upper = ip.upper();
    let sum_at = match upper.proto {
        6 => 16,
        17 => 6,
        _ => return None,
    };
    let at = upper.payload.as_ptr().addr().checked_sub(frame.as_ptr().addr())?;
    let end = at + upper.payload.len();
    let mut whole = frame.to_vec();
    whole.get_mut(at + sum_at..at + sum_at + 2)?.fill(0);
    let sum = transport_checksum(ip.src(), ip.dst(), upper.proto, whole.get(at..end)?);
    let sum = if upper.proto == 17 && sum == 0 { 0xffff } else { sum };
    whole.get_mut(at + sum_at..at + sum_at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate::packet::UdpTemplate;

    #[test]
    fn an_unfinished_check_sum_is_finished() {
        let template =
            UdpTemplate::new("10.0.0.1:7".parse().unwrap(), "10.0.0.2:8".parse().unwrap());
        let mut frame = [0; 100];
        let len = template.unwrap().write(&mut frame, b"some payload").unwrap();
        let right = frame[..len].to_vec();
        let mut partial = right.clone();
        partial[40..42].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(with_sum(&partial).as_deref(), Some(&right[..]));
        assert_eq!(with_sum(&right[..20]), None);
    }
}
