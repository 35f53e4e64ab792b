//! The receive queue.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use linerate_common::clock::{PhcScale, PhcWatch};
use linerate_common::{
    ClockInfo, Clocked, Error, FlowSpec, FrameRx, MAX_BURST, RuleId, RxFrame, RxMeta, RxStats,
    SetupError, Steer, Waitable,
};

use crate::blocks::Blocks;
use crate::decode::{Decoder, Seen};
use crate::frames::Frames;
use crate::ledger::Ledger;
use crate::link;
use crate::rules::Rules;
use crate::sys::Socket;

/// The two shapes of the receive ring.
#[derive(Debug)]
pub(crate) enum RxRing {
    Blocks(Blocks),
    Frames(Frames),
}

/// One receive queue: a packet socket and its ring, read without system calls.
///
/// * **Losses.** `kernel_drop` counts the frames that the filter took and the ring had no room for
///   (`tp_drops`): this reader was too slow. `malformed` counts frames whose place in the ring made
///   no sense, which no kernel known does. The first frame behind a loss is flagged `LOSS_BEFORE`;
///   where losses follow each other faster than the ring is read, once too often or for several at
///   once.
/// * **Link.** A spinning reader makes no system call, so it learns that the interface went down
///   when it asks for [`stats`](FrameRx::stats) or [`arms`](Waitable::arm) a wait: from then on
///   `acquire` and `poll` on an empty ring give `LinkDown`, until the interface is up again and
///   frames come. `DeviceGone` stays.
/// * **The card's clock.** With hardware stamps `stats` and `arm` look, once a second, whether the
///   clock still tells the time that it told, UTC or TAI. When it has been moved, stamps follow from
///   there on, and are flagged `TS_UNSYNCED` until the next look has found the same: until a look
///   they are wrong by the difference. [`clock`](Clocked::clock) gives what the last look found.
/// * **Merged frames.** What GRO put together before the kernel showed it here is flagged `MERGED`:
///   TCP segments, and whatever is longer than the interface's MTU allows. For the frames as they
///   were on the wire switch it off: `ethtool -K eth2 gro off lro off`.
pub struct PacketRx {
    ring: RxRing,
    decoder: Decoder,
    ledger: Ledger,
    /// The frames of the open window: where each header is in the ring, and what it says.
    window: Box<[(usize, Seen); MAX_BURST]>,
    open: usize,
    rules: Rules,
    /// Of the card's clock, where that gives the stamps.
    phc: Option<PhcWatch>,
    /// Was the interface down when we last looked?
    is_down: bool,
}

impl PacketRx {
    pub(crate) fn new(
        ring: RxRing,
        decoder: Decoder,
        socket: Socket,
        rules: Rules,
        phc: Option<PhcWatch>,
    ) -> Self {
        let blank = (0, Seen { at: 0, len: 0, meta: RxMeta::plain(0) });
        let mut queue = Self {
            ring,
            decoder,
            ledger: Ledger { socket, stats: RxStats::default() },
            window: Box::new([blank; MAX_BURST]),
            open: 0,
            rules,
            phc,
            is_down: false,
        };
        if let Some(scale) = queue.phc.as_ref().map(PhcWatch::scale) {
            queue.stamp_by(scale);
        }
        queue
    }

    fn stamp_by(&mut self, scale: PhcScale) {
        self.decoder.hardware_ahead_ns = scale.ahead_ns;
        self.decoder.hardware_flags = scale.flags;
    }

    /// Looks whether the card's clock tells what it told, at most once a second.
    fn look_at_the_clock(&mut self) {
        if let Some(scale) = self.phc.as_mut().map(PhcWatch::look) {
            self.stamp_by(scale);
        }
    }

    /// The flows that reach this queue, and the ids to remove them by. Those it was opened with
    /// have the ids 1, 2, … in their order.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = (RuleId, FlowSpec)> + '_ {
        self.rules.iter()
    }

    /// Whether the interface is there and up. A system call.
    ///
    /// # Errors
    ///
    /// [`LinkDown`](linerate_common::ErrorKind::LinkDown) while it is down,
    /// [`DeviceGone`](linerate_common::ErrorKind::DeviceGone) when it has been removed.
    pub fn check_link(&mut self) -> Result<(), Error> {
        // The kernel notes an error on the socket when the interface goes; reading clears it.
        if self.ledger.socket.take_error()? != 0 || self.is_down {
            self.is_down = true;
            link::is_up(&self.ledger.socket)?;
            self.is_down = false;
        }
        Ok(())
    }

    /// What to return when nothing came.
    #[cold]
    fn nothing(&mut self) -> Result<usize, Error> {
        self.check_link().map(|()| 0)
    }
}

impl FrameRx for PacketRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.release();
        let window = &mut self.window[..max.min(MAX_BURST)];
        self.open = match &mut self.ring {
            RxRing::Blocks(ring) => ring.window(window, &self.decoder, &mut self.ledger),
            RxRing::Frames(ring) => ring.window(window, &self.decoder, &mut self.ledger),
        };
        if self.open == 0 && self.is_down {
            return self.nothing();
        }
        Ok(self.open)
    }

    #[inline]
    fn len(&self) -> usize {
        self.open
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        let entry = &self.window[..self.open][i];
        // SAFETY: an entry of the open window, which only `release`, `acquire` and `poll` close,
        // and they need the queue to themselves.
        unsafe {
            match &self.ring {
                RxRing::Blocks(ring) => ring.frame(entry),
                RxRing::Frames(ring) => ring.frame(entry),
            }
        }
    }

    #[inline]
    fn release(&mut self) {
        self.open = 0;
        match &mut self.ring {
            RxRing::Blocks(ring) => ring.give_back(),
            RxRing::Frames(ring) => ring.give_back(),
        }
    }

    fn stats(&mut self) -> RxStats {
        self.ledger.collect_drops();
        // Noted in `is_down`; the next `acquire` that finds nothing reports it.
        let _ = self.check_link();
        self.look_at_the_clock();
        self.ledger.stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, f: F) -> Result<usize, Error> {
        self.release();
        let shown = match &mut self.ring {
            RxRing::Blocks(ring) => ring.poll(max, &self.decoder, &mut self.ledger, f),
            RxRing::Frames(ring) => ring.poll(max, &self.decoder, &mut self.ledger, f),
        };
        if shown == 0 && self.is_down {
            return self.nothing();
        }
        Ok(shown)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl Clocked for PacketRx {
    fn clock(&self) -> ClockInfo {
        self.phc.as_ref().map_or(ClockInfo::KERNEL, |phc| phc.scale().info)
    }
}

impl Waitable for PacketRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.ledger.socket.as_fd()
    }

    /// The descriptor is readable as long as the ring holds frames: there is nothing to arm, and
    /// the call only looks after the interface and, once a second, after the card's clock.
    fn arm(&mut self) -> Result<(), Error> {
        self.look_at_the_clock();
        self.check_link()
    }
}

impl Steer for PacketRx {
    /// Replaces the filter in the kernel, at once, by one that takes this flow too. Every form
    /// of flow is supported. With several queues add a flow to each.
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        self.rules.add(flow, &self.ledger.socket)
    }

    /// Replaces the filter, at once, by one without this rule. Frames that the old filter let
    /// into the ring still arrive: to be rid of them, poll until the ring is empty once.
    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        self.rules.remove(rule, &self.ledger.socket)
    }
}

impl fmt::Debug for PacketRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketRx")
            .field("ring", &self.ring)
            .field("open", &self.open)
            .field("rules", &self.rules.iter().len())
            .field("stats", &self.ledger.stats)
            .finish_non_exhaustive()
    }
}
