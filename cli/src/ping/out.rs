//! How a ping leaves: through a transmit queue, or from a slot that was loaded ahead of time.

use std::collections::VecDeque;

use linerate::{AnyTx, Backend, Error, FrameTx, Preloaded, TxStamps, TxStats};

/// Slots that are loaded ahead of time.
pub(crate) const SLOTS: usize = 8;

/// The sending end.
#[derive(Debug)]
pub(crate) enum Out {
    Queue(AnyTx),
    Slots(Slots),
}

/// Frames that wait, each in the slot that its number names.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Preloaded,
    /// The times written into the frames that wait, oldest first.
    times: VecDeque<u64>,
}

impl Slots {
    pub(crate) fn new(slots: Preloaded) -> Self {
        Self { slots, times: VecDeque::with_capacity(SLOTS) }
    }

    /// How many frames wait.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Can one more frame, with this number, be loaded?
    pub(crate) fn has_room(&self, number: u64) -> bool {
        self.times.len() < self.slots.slots() && !self.slots.is_in_flight(self.slot(number))
    }

    /// Loads the frame with this number.
    pub(crate) fn load(&mut self, number: u64, frame: &[u8], time_ns: u64) -> Result<(), Error> {
        let slot = self.slot(number);
        // One that the card has no room for yet is armed when it is reaped.
        self.slots.load(slot, frame)?;
        self.times.push_back(time_ns);
        Ok(())
    }

    /// Fires the oldest, which has this number; says what time is written in it. `None`: not now.
    #[inline]
    pub(crate) fn fire(&mut self, number: u64) -> Result<Option<u64>, Error> {
        let slot = self.slot(number);
        let Some(time_ns) = self.times.front().copied() else { return Ok(None) };
        if !self.slots.fire(slot)? {
            return Ok(None);
        }
        self.times.pop_front();
        Ok(Some(time_ns))
    }

    /// Forgets what waits: it is loaded over.
    pub(crate) fn clear(&mut self) {
        self.times.clear();
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.slots.slots().max(1) as u64) as usize
    }
}

impl Out {
    /// Rings the doorbell of a queue; a slot needs none.
    #[inline]
    pub(crate) fn kick(&mut self) -> Result<(), Error> {
        match self {
            Self::Queue(tx) => tx.kick(),
            Self::Slots(_) => Ok(()),
        }
    }

    pub(crate) fn reap(&mut self) -> Result<(), Error> {
        match self {
            Self::Queue(tx) => {
                tx.reap();
                Ok(())
            }
            Self::Slots(slots) => slots.slots.reap().map(|_| ()),
        }
    }

    pub(crate) fn stats(&mut self) -> TxStats {
        match self {
            Self::Queue(tx) => tx.stats(),
            Self::Slots(slots) => slots.slots.stats(),
        }
    }

    /// Stamps of frames that left. Asking costs some backends a system call: only those do it
    /// that can answer.
    pub(crate) fn stamps(&mut self) -> Option<&mut dyn TxStamps> {
        match self {
            Self::Queue(tx) if !matches!(tx.backend(), Some(Backend::Udp)) => tx.stamps(),
            _ => None,
        }
    }
}
