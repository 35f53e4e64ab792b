//! Frames made ready before they are needed, on any backend.

use linerate_common::{Error, ErrorKind, FrameTx, TxStats};

use crate::any::AnyTx;

/// Where a frame waits until it is fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Waits {
    /// In the card: firing takes one command across the bus.
    InCard,
    /// In this process's memory: firing copies it into the transmit queue and kicks.
    InMemory,
}

/// Slots with a frame each, made ready ahead of time and sent by one call: an order that waits
/// for its price. Opened by [`PortBuilder::preload`](crate::PortBuilder::preload).
///
/// On an ExaNIC the slots are its transmit memory, on ef_vi the card's transmit alternatives:
/// the frame is in the card before it is needed, and only a command crosses the bus. Other
/// backends hold it in memory; what is saved there is making it. [`waits`](Self::waits) tells
/// which.
///
/// A slot keeps its frame: once it has left ([`reap`](Self::reap)), it can be fired again, patched
/// or loaded anew. Slots are independent and fired in any order. When this is dropped, what was
/// fired may not have left yet: [`stats`](Self::stats) tells how many frames completed.
///
/// ```no_run
/// # let order = [0_u8; 100];
/// let mut port = linerate::port("exanic:exanic0/1")
///     .direction(linerate::Direction::Tx)
///     .preload(2, 128)
///     .open()?;
/// let mut orders = port.preloaded.take().ok_or("it cannot send")?;
/// orders.load(0, &order)?;
/// // Later, on a tick:
/// orders.patch(0, 60, &42_u32.to_be_bytes())?;
/// orders.fire(0)?;
/// // And off the critical path again:
/// orders.reap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Preloaded {
    way: Way,
    slots: Vec<Slot>,
    max_len: usize,
    waits: Waits,
}

#[derive(Debug)]
enum Way {
    #[cfg(feature = "exanic")]
    Exanic(Box<linerate_exanic::Preloaded>),
    #[cfg(feature = "efvi")]
    Efvi(Box<linerate_efvi::EfviTx>),
    Memory(AnyTx),
}

/// What the host knows of a slot.
#[derive(Debug, Clone, Default)]
struct Slot {
    frame: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing was loaded.
    #[default]
    Empty,
    /// The frame is not where it is fired from: the card had no room.
    Unarmed,
    /// One command away from the wire.
    Armed,
    /// The card still holds the frame before this one.
    Stale,
    /// On its way.
    Fired,
}

#[cfg_attr(not(any(feature = "exanic", feature = "efvi")), allow(unused_variables))]
impl Preloaded {
    /// In an ExaNIC's own slots.
    #[cfg(feature = "exanic")]
    pub(crate) fn in_exanic(slots: linerate_exanic::Preloaded) -> Self {
        let (n, max_len) = (slots.slots(), slots.max_len());
        Self::new(Way::Exanic(Box::new(slots)), n, max_len, Waits::InCard)
    }

    /// In a Solarflare card's alternatives where the queue has any; elsewhere in memory.
    pub(crate) fn in_queue(tx: AnyTx, slots: usize, max_len: usize) -> Self {
        let max_len = max_len.min(tx.max_len());
        match tx {
            #[cfg(feature = "efvi")]
            AnyTx::Efvi(tx) if tx.alternatives() as usize >= slots => {
                Self::new(Way::Efvi(tx), slots, max_len, Waits::InCard)
            }
            tx => Self::new(Way::Memory(tx), slots, max_len, Waits::InMemory),
        }
    }

    fn new(way: Way, slots: usize, max_len: usize, waits: Waits) -> Self {
        Self { way, slots: vec![Slot::default(); slots], max_len, waits }
    }

    /// Where loaded frames wait.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.waits
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Longest frame that a slot holds, in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Has this slot a frame that can be fired?
    #[must_use]
    pub fn is_armed(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.state == State::Armed)
    }

    /// Is this slot's frame on its way, as far as was reaped?
    #[must_use]
    pub fn is_in_flight(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.state == State::Fired)
    }

    /// Puts a frame into a slot, in place of the one before. Off the critical path. `Ok(false)`:
    /// it is kept, but the card has no room for it yet: [`reap`](Self::reap) arms it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadLength`]: empty, or longer than [`max_len`](Self::max_len).
    /// [`ErrorKind::BadArgument`]: no such slot, or it is in flight.
    pub fn load(&mut self, slot: usize, frame: &[u8]) -> Result<bool, Error> {
        const OP: &str = "load";
        let max_len = self.max_len;
        let state = self.idle(slot, OP)?;
        if frame.is_empty() || frame.len() > max_len {
            return Err(Error::new(ErrorKind::BadLength, OP));
        }
        self.withdraw(slot, state)?;
        let kept = &mut self.slots[slot];
        kept.frame.clear();
        kept.frame.extend_from_slice(frame);
        self.arm(slot)
    }

    /// Overwrites part of a slot's frame: a price, a number. Checksums over it are the caller's.
    /// On an ExaNIC that is a write of these bytes; on ef_vi the whole frame is written anew,
    /// which belongs off the critical path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadLength`]: beyond the loaded frame. [`ErrorKind::BadArgument`]: no such
    /// slot, or it is in flight.
    #[cfg_attr(
        not(feature = "efvi"),
        expect(unused_variables, reason = "only ef_vi takes frames out")
    )]
    pub fn patch(&mut self, slot: usize, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        const OP: &str = "patch";
        let state = self.idle(slot, OP)?;
        let end = offset.checked_add(bytes.len());
        let part = end.and_then(|end| self.slots[slot].frame.get_mut(offset..end));
        part.ok_or(Error::new(ErrorKind::BadLength, OP))?.copy_from_slice(bytes);
        match &mut self.way {
            #[cfg(feature = "exanic")]
            Way::Exanic(card) => card.patch(slot, offset, bytes),
            #[cfg(feature = "efvi")]
            Way::Efvi(_) => {
                self.withdraw(slot, state)?;
                self.arm(slot).map(|_| ())
            }
            Way::Memory(_) => Ok(()),
        }
    }

    /// Sends a slot's frame. `Ok(false)`: it is not armed, or the queue is full:
    /// [`reap`](Self::reap) and try again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadArgument`]: no such slot, nothing loaded, or it is in flight. Otherwise
    /// the queue is in trouble.
    #[inline]
    pub fn fire(&mut self, slot: usize) -> Result<bool, Error> {
        const OP: &str = "fire";
        match self.idle(slot, OP)? {
            State::Empty => return Err(Error::new(ErrorKind::BadArgument, OP)),
            State::Armed => {}
            _ => return Ok(false),
        }
        let fired = match &mut self.way {
            #[cfg(feature = "exanic")]
            Way::Exanic(card) => card.fire(slot)?,
            #[cfg(feature = "efvi")]
            Way::Efvi(tx) => {
                tx.fire(slot as u32)?;
                true
            }
            Way::Memory(tx) => {
                let queued = tx.send(&self.slots[slot].frame)?;
                if queued {
                    tx.kick()?;
                }
                queued
            }
        };
        if fired {
            self.slots[slot].state = State::Fired;
        }
        Ok(fired)
    }

    /// Arms the slots whose frames have left, and those that found no room. Returns how many.
    /// Off the critical path.
    ///
    /// # Errors
    ///
    /// The queue is in trouble.
    pub fn reap(&mut self) -> Result<usize, Error> {
        match &mut self.way {
            #[cfg(feature = "exanic")]
            Way::Exanic(card) => {
                card.reap();
                let mut armed = 0;
                for (i, slot) in self.slots.iter_mut().enumerate() {
                    if slot.state == State::Fired && !card.is_in_flight(i) {
                        slot.state = State::Armed;
                        armed += 1;
                    }
                }
                Ok(armed)
            }
            #[cfg(feature = "efvi")]
            Way::Efvi(tx) => {
                tx.reap();
                let mut armed = 0;
                for i in 0..self.slots.len() {
                    if self.slots[i].state == State::Stale {
                        self.withdraw(i, State::Stale)?;
                    }
                    let waits = matches!(self.slots[i].state, State::Fired | State::Unarmed);
                    armed += usize::from(waits && self.arm(i)?);
                }
                Ok(armed)
            }
            Way::Memory(tx) => {
                tx.kick()?;
                tx.reap();
                // The queue has a copy of its own: a slot is free as soon as it was fired.
                let fired = self.slots.iter_mut().filter(|slot| slot.state == State::Fired);
                Ok(fired.map(|slot| slot.state = State::Armed).count())
            }
        }
    }

    /// The queue's counters. On ef_vi a frame counts when it is written into the card, fired or
    /// not.
    pub fn stats(&mut self) -> TxStats {
        match &mut self.way {
            #[cfg(feature = "exanic")]
            Way::Exanic(card) => card.stats(),
            #[cfg(feature = "efvi")]
            Way::Efvi(tx) => tx.stats(),
            Way::Memory(tx) => tx.stats(),
        }
    }

    /// The state of a slot that is not in flight.
    #[inline]
    fn idle(&self, slot: usize, op: &'static str) -> Result<State, Error> {
        match self.slots.get(slot) {
            Some(slot) if slot.state != State::Fired => Ok(slot.state),
            _ => Err(Error::new(ErrorKind::BadArgument, op)),
        }
    }

    /// Takes a frame out of the card again.
    #[cfg_attr(
        not(feature = "efvi"),
        expect(unused_variables, reason = "only ef_vi takes frames out")
    )]
    fn withdraw(&mut self, slot: usize, state: State) -> Result<(), Error> {
        #[cfg(feature = "efvi")]
        if let (Way::Efvi(tx), State::Armed | State::Stale) = (&mut self.way, state) {
            let gone = tx.discard(slot as u32)?;
            self.slots[slot].state = if gone { State::Unarmed } else { State::Stale };
        }
        Ok(())
    }

    /// Puts a slot's frame where it is fired from.
    fn arm(&mut self, slot: usize) -> Result<bool, Error> {
        if self.slots[slot].state == State::Stale {
            return Ok(false);
        }
        let frame = &self.slots[slot].frame;
        let armed = match &mut self.way {
            #[cfg(feature = "exanic")]
            Way::Exanic(card) => card.load(slot, frame).map(|()| true)?,
            #[cfg(feature = "efvi")]
            Way::Efvi(tx) => tx.preload(slot as u32, frame)?,
            Way::Memory(_) => true,
        };
        let state = &mut self.slots[slot].state;
        match (armed, *state) {
            (true, _) => *state = State::Armed,
            // Still on its way: it stays so.
            (false, State::Fired) => {}
            (false, _) => *state = State::Unarmed,
        }
        Ok(armed)
    }
}
