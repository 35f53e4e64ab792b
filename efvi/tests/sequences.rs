//! Whatever order things happen in: no buffer is lost or in two hands, no frame comes twice or
//! changed, and the card has nothing to complain about.

#![allow(clippy::unwrap_used)]

mod bench;

use bench::{Bench, frame};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{Buf, BufTx, ErrorKind, FrameRx, FrameTx};
use linerate_efvi::{EfviRx, EfviTx, SendPath};
use linerate_efvi_sys::{
    EF_EVENT_FLAG_CONT, EF_EVENT_FLAG_SOP, EF_EVENT_TYPE_RX, EF_EVENT_TYPE_RX_DISCARD,
    EF_EVENT_TYPE_RX_NO_DESC_TRUNC, EF_EVENT_TYPE_SW, EF_EVENT_TYPE_TX_ALT, ef_event,
};
use linerate_sim::efvi::{Discard, Kind, Settings};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Op {
    Send { frames: u8, len: u16 },
    Kick,
    Reap,
    Work,
    WorkOfSender,
    Poll(u8),
    Window { max: u8, take: u64, push: bool },
    LeaveOpen(u8),
    FreeKept(u8),
    Discard { n: u8, reason: usize },
    HoldCompletions(bool),
    CtpioLoses(bool),
    SlowTails(bool),
    StrayEvent(u8),
    Overflow { sender: bool },
    Reset { sender: bool },
    SendError,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (1..40_u8, 60..3000_u16).prop_map(|(frames, len)| Op::Send { frames, len }),
        3 => Just(Op::Kick),
        3 => Just(Op::Reap),
        6 => Just(Op::Work),
        3 => Just(Op::WorkOfSender),
        6 => (0..80_u8).prop_map(Op::Poll),
        6 => (1..70_u8, any::<u64>(), any::<bool>())
            .prop_map(|(max, take, push)| Op::Window { max, take, push }),
        2 => (1..70_u8).prop_map(Op::LeaveOpen),
        3 => any::<u8>().prop_map(Op::FreeKept),
        3 => (0..20_u8, 0..8_usize).prop_map(|(n, reason)| Op::Discard { n, reason }),
        1 => any::<bool>().prop_map(Op::HoldCompletions),
        1 => any::<bool>().prop_map(Op::CtpioLoses),
        1 => any::<bool>().prop_map(Op::SlowTails),
        2 => any::<u8>().prop_map(Op::StrayEvent),
        1 => any::<bool>().prop_map(|sender| Op::Overflow { sender }),
        1 => any::<bool>().prop_map(|sender| Op::Reset { sender }),
        1 => Just(Op::SendError),
    ];
    proptest::collection::vec(op, 1..120)
}

/// How the queues are opened.
#[derive(Debug, Clone, Copy)]
struct Mode {
    kind: Kind,
    merge: bool,
    deliver_bad: bool,
    stamps: bool,
    /// Frames longer than a receive buffer, from a pool of the sender's own.
    long: bool,
    path: SendPath,
}

fn modes() -> impl Strategy<Value = Mode> {
    let path = prop_oneof![
        Just(SendPath::Auto),
        Just(SendPath::Dma),
        Just(SendPath::Ctpio),
        Just(SendPath::Pio)
    ];
    (any::<[bool; 5]>(), path).prop_map(|([ring, merge, deliver_bad, stamps, long], path)| Mode {
        kind: if ring { Kind::Ring } else { Kind::Shared },
        merge: merge && ring,
        deliver_bad,
        stamps,
        long: long && ring,
        path: if ring { path } else { SendPath::Auto },
    })
}

/// The queues, and what the test knows of them.
struct World {
    bench: Bench,
    rx: Option<EfviRx>,
    tx: Option<EfviTx>,
    kept: Vec<Buf>,
    sent: u32,
    /// Frames are numbered; each that comes must be later than the last.
    last: Option<u32>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut settings = Settings::default();
        settings.manual = true;
        settings.max_frame = 3200;
        settings.tx_batch = 5;
        let bench = Bench::with(mode.kind, settings);
        let mut options = bench.options();
        options.rx_ring = 64;
        options.tx_ring = 64;
        options.refill = 8;
        options.merge_events = mode.merge;
        options.deliver_bad = mode.deliver_bad;
        options.rx_timestamps = mode.stamps;
        options.tx_timestamps = mode.stamps;
        options.path = mode.path;
        let rx = Some(bench.rx(&options));
        if mode.long {
            let pool = Pool::builder().frames(256).frame_bytes(4096).huge(Huge::Never).lock(false);
            options.pool = Some(pool.build().unwrap());
        }
        let tx = Some(bench.tx(&options));
        Self { bench, rx, tx, kept: Vec::new(), sent: 0, last: None }
    }

    /// A frame came: whole or cut off, but in order and unchanged.
    fn came(last: &mut Option<u32>, bytes: &[u8], wire_len: u32) {
        let n = u32::from_le_bytes(bytes[14..18].try_into().unwrap());
        assert_eq!(bytes, &frame(n, wire_len as usize)[..bytes.len()], "frame {n}");
        assert!(last.is_none_or(|last| n > last), "{n} after {last:?}");
        *last = Some(n);
    }

    fn run(&mut self, op: &Op) {
        let (Some(rx), Some(tx)) = (&mut self.rx, &mut self.tx) else { return };
        let last = &mut self.last;
        match *op {
            Op::Send { frames, len } => {
                for _ in 0..frames {
                    let len = usize::from(len).min(tx.max_len());
                    if tx.send(&frame(self.sent, len)) == Ok(true) {
                        self.sent += 1;
                    }
                }
            }
            Op::Kick => _ = tx.kick(),
            Op::Reap => _ = tx.reap(),
            Op::Work => self.bench.step(),
            Op::WorkOfSender => self.bench.a.step(),
            Op::Poll(max) => {
                _ = rx.poll(max.into(), |f| Self::came(last, f.bytes, f.meta.wire_len));
            }
            Op::Window { max, take, push } => {
                let n = rx.acquire(max.into()).unwrap_or(0);
                for i in 0..n {
                    let f = rx.frame(i);
                    Self::came(last, f.bytes, f.meta.wire_len);
                    if take >> (i % 64) & 1 == 0 {
                        continue;
                    }
                    let Some(buf) = rx.buf_rx().and_then(|rx| rx.take(i)) else { continue };
                    assert!(rx.buf_rx().unwrap().take(i).is_none());
                    // A frame that is sent on comes again, out of order: not to be sent.
                    let mut buf = buf;
                    if push && buf.len() <= tx.max_len() {
                        let bytes = self.bench.pool.bytes_mut(&mut buf).unwrap();
                        bytes.copy_from_slice(&frame(self.sent, bytes.len()));
                        match tx.push(buf) {
                            Ok(()) => self.sent += 1,
                            Err(buf) => self.kept.push(buf),
                        }
                    } else {
                        self.kept.push(buf);
                    }
                }
                rx.release();
            }
            Op::LeaveOpen(max) => {
                for i in 0..rx.acquire(max.into()).unwrap_or(0) {
                    let f = rx.frame(i);
                    Self::came(last, f.bytes, f.meta.wire_len);
                }
            }
            Op::FreeKept(n) => {
                for _ in 0..n.min(self.kept.len() as u8) {
                    self.bench.pool.free(self.kept.swap_remove(0)).unwrap();
                }
            }
            Op::Discard { n, reason } => self.bench.b.discard(n.into(), Discard::ALL[reason]),
            Op::HoldCompletions(hold) => self.bench.a.hold_completions(hold),
            Op::CtpioLoses(loses) => self.bench.a.ctpio_loses(loses),
            Op::SlowTails(slow) => self.bench.b.slow_tails(slow),
            Op::StrayEvent(n) => {
                for card in [&self.bench.a, &self.bench.b] {
                    card.event(stray(n));
                }
            }
            Op::Overflow { sender: true } => self.bench.a.overflow(),
            Op::Overflow { sender: false } => self.bench.b.overflow(),
            Op::Reset { sender: true } => self.bench.a.reset(),
            Op::Reset { sender: false } => self.bench.b.reset(),
            Op::SendError => self.bench.a.tx_error(),
        }
        self.rebuild_lost();
        assert_eq!(self.bench.pool.outstanding() as usize, self.kept.len());
    }

    /// Everything comes to its end: then each buffer is where it belongs.
    fn settle(&mut self) {
        self.bench.a.hold_completions(false);
        self.bench.b.slow_tails(false);
        for _ in 0..40 {
            self.run(&Op::Kick);
            self.run(&Op::Work);
            self.run(&Op::Poll(64));
            self.run(&Op::Reap);
        }
        if let Some(EfviRx::Ring(rx)) = &self.rx {
            // A long frame whose end was lost may still be held.
            assert!(rx.lent() - rx.posted() <= 1, "{} out, {} posted", rx.lent(), rx.posted());
            assert!(rx.posted() > 56 - 8, "{} posted", rx.posted());
        }
        if let Some(tx) = &self.tx {
            assert!(tx.lent() <= 1, "{} out, all reaped", tx.lent());
        }
    }

    /// A queue that says that it is lost is opened anew.
    fn rebuild_lost(&mut self) {
        if self.tx.as_mut().is_some_and(|tx| tx.kick().is_err()) {
            self.tx = self.tx.take().map(|tx| tx.rebuild().unwrap());
        }
        if let Some(rx) = &mut self.rx
            && rx.is_empty()
            && let Err(e) = rx.acquire(0)
        {
            assert_eq!(e.kind, ErrorKind::QueueLost);
            self.rx = self.rx.take().map(|rx| rx.rebuild().unwrap());
        }
    }
}

/// An event about nothing that exists, or that means nothing here.
fn stray(n: u8) -> ef_event {
    let id = u32::from(n).wrapping_mul(0x0123_4567);
    let rx = |kind, flags| ef_event::new(kind, 0).with(32, 32, id | 1 << 31).with(80, 16, flags);
    match n % 7 {
        0 => ef_event::new(EF_EVENT_TYPE_SW, 0),
        1 => ef_event::new(0x5000 + u32::from(n), 0),
        2 => rx(EF_EVENT_TYPE_RX, EF_EVENT_FLAG_SOP).with(64, 16, 100),
        3 => rx(EF_EVENT_TYPE_RX, EF_EVENT_FLAG_CONT),
        4 => rx(EF_EVENT_TYPE_RX_DISCARD, EF_EVENT_FLAG_SOP),
        5 => ef_event::new(EF_EVENT_TYPE_TX_ALT, 0).with(32, 16, u32::from(n)),
        _ => ef_event::new(EF_EVENT_TYPE_RX_NO_DESC_TRUNC, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn buffers_and_frames_survive_any_order(mode in modes(), ops in ops()) {
        let mut world = World::new(mode);
        for op in &ops {
            world.run(op);
        }
        world.settle();
        let World { bench, rx, tx, kept, .. } = world;
        drop((rx, tx));
        for buf in kept {
            bench.pool.free(buf).unwrap();
        }
        bench.is_empty();
    }
}
