//! Sending: DMA, CTPIO with its fallback, or programmed I/O.
//!
//! Every frame lies in a buffer of the pool, whichever way it takes: that is the card's DMA
//! source, CTPIO's fallback, and what programmed I/O copies from. Its id is the token that comes
//! back with the completion; the cache refuses a completion of a buffer that is not lent.

mod completions;
mod preload;
mod warm;

use std::collections::VecDeque;

use linerate_common::pool::{FrameCache, Pool};
use linerate_common::{
    Buf, BufTx, ClockInfo, Clocked, Error, FrameTx, RxFlags, SetupError, TxStamp, TxStamps, TxStats,
};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::{Library, ef_event, ef_vi};

use crate::alternatives::Alternatives;
use crate::error::{bad_argument, unsupported};
use crate::options::{Options, Push, SendPath};
use crate::pio::PioSlots;
use crate::session::{Arch, DmaTable, Session};
use crate::stamp::{StampState, Stamper};
use crate::warm::Warming;

/// Events fetched at once.
const EVENTS: usize = 16;

/// A send queue. Dropping it stops the card: what the card has not fetched by then is not sent, so
/// [`reap`](FrameTx::reap) until the counts in [`stats`](FrameTx::stats) are equal first.
#[derive(Debug)]
pub struct EfviTx {
    // Drops first: closes the driver handle, which stops the card.
    session: Session,
    // Drops after it: takes back the buffers the card had.
    cache: FrameCache,
    pub(crate) vi: *mut ef_vi,
    pub(crate) lib: Library,
    base: *mut u8,
    frame_bytes: usize,
    headroom: usize,
    dma: DmaTable,
    max_len: usize,
    /// Frames that the ring holds.
    ring: u32,
    /// Does the card count the room in its FIFO in bytes (X3, X4)?
    fifo: bool,
    path: Path,
    threshold: u32,
    pio: Option<PioSlots>,
    alternatives: Option<Alternatives>,
    /// The slot handed out: its buffer, kept over a cancelled reservation, and its length.
    reserved: Option<u32>,
    reserved_len: usize,
    inflight: VecDeque<InFlight>,
    unpushed: u32,
    seq: u64,
    events: Box<[ef_event; EVENTS]>,
    lost: Option<Error>,
    stamper: Stamper,
    stats: TxStats,
    paths: PathCounts,
    unknown_events: u64,
    options: Options,
}

// SAFETY: the pointers are to the session's own VI and to the pool's region, which the session's
// registration keeps; neither is bound to a thread, and the queue has one owner.
unsafe impl Send for EfviTx {}

/// How a frame left the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Fetched by the card.
    Dma,
    /// Written through the card by CTPIO.
    Ctpio,
    /// Written by CTPIO, too slow or with no room, and then fetched by the card.
    Fallback,
    /// Written into the card's memory.
    Pio,
}

/// Frames that left by each path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathCounts {
    /// By DMA.
    pub dma: u64,
    /// By CTPIO.
    pub ctpio: u64,
    /// By DMA, because CTPIO did not make it.
    pub fallback: u64,
    /// By programmed I/O.
    pub pio: u64,
}

/// What became of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Counts the queue's committed frames from 0.
    pub seq: u64,
    /// How it really left.
    pub path: Path,
    /// When, in ns since the UNIX epoch, UTC, or [`NO_TS`](linerate_common::NO_TS).
    pub ts_ns: u64,
    /// Whose clock that is.
    pub flags: RxFlags,
}

/// A frame that the card has.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    id: u32,
    path: Path,
    pio_slot: Option<u8>,
    seq: u64,
}

impl EfviTx {
    /// Takes over a session whose VI was allocated with a send ring.
    pub(crate) fn new(
        mut session: Session,
        pool: &Pool,
        options: &Options,
    ) -> Result<Self, SetupError> {
        let (lib, vi) = (session.lib(), session.vi());
        let fifo = session.arch()? == Arch::Shared;
        // What the VI really has, whatever was asked for and whatever the environment says.
        // SAFETY: live and checked.
        let (ring, flags, ctpio) = unsafe {
            let flags = lib.flags(vi);
            let ctpio = flags & sys::EF_VI_TX_CTPIO != 0 && (fifo || lib.has_ctpio(vi));
            (lib.transmit_capacity(vi), flags, ctpio)
        };
        let dma = session.register(pool.region())?;
        let path = match options.path {
            // Alternatives are fed by DMA.
            _ if options.alternatives > 0 => Path::Dma,
            SendPath::Auto | SendPath::Ctpio if ctpio => Path::Ctpio,
            SendPath::Ctpio => {
                return Err(unsupported("ef_vi_transmit_ctpio", "the card gave no CTPIO aperture")
                    .remedy("use an X2 or later card, a free CTPIO slot, or another send path"));
            }
            SendPath::Pio => Path::Pio,
            _ => Path::Dma,
        };
        let pio = match path {
            Path::Pio => Some(PioSlots::new(session.link_pio()?)),
            _ => None,
        };
        let alternatives = match options.alternatives {
            0 => None,
            n => Some(Alternatives::new(&session, n, options.alternatives_bytes)?),
        };
        if let Push::Below(n) = options.push {
            // SAFETY: a live VI.
            unsafe { (lib.vi_set_tx_push_threshold)(vi, n) };
        }
        if options.tx_timestamps && flags & sys::EF_VI_TX_TIMESTAMPS == 0 {
            return Err(unsupported("ef_vi_alloc_from_pd", "the card gave no send timestamps"));
        }
        let max_len = session.max_frame().min(pool.frame_bytes() - pool.headroom());
        if max_len < 60 {
            return Err(bad_argument("ef_vi_mtu", format!("frames of at most {max_len} B")));
        }
        Ok(Self {
            cache: pool.cache(),
            vi,
            lib,
            base: pool.region().as_ptr(),
            frame_bytes: pool.frame_bytes(),
            headroom: pool.headroom(),
            dma,
            max_len,
            ring,
            fifo,
            path,
            threshold: options.ctpio_threshold,
            pio,
            alternatives,
            reserved: None,
            reserved_len: 0,
            inflight: VecDeque::with_capacity(ring as usize + 1),
            unpushed: 0,
            seq: 0,
            events: Box::new([ef_event::default(); EVENTS]),
            lost: None,
            stamper: Stamper::new(
                flags & sys::EF_VI_TX_TIMESTAMPS != 0,
                options.clock_ahead_of_utc_s,
            ),
            stats: TxStats::default(),
            paths: PathCounts::default(),
            unknown_events: 0,
            options: options.clone(),
            session,
        })
    }

    /// The way frames take from here: `Dma`, `Ctpio` or `Pio`.
    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    /// Frames that left by each path.
    #[must_use]
    pub fn paths(&self) -> PathCounts {
        self.paths
    }

    /// How good the last timestamp was.
    #[must_use]
    pub fn stamps(&self) -> StampState {
        self.stamper.state
    }

    /// Events of kinds this queue does not know, counted and passed over.
    #[must_use]
    pub fn unknown_events(&self) -> u64 {
        self.unknown_events
    }

    /// Buffers this queue has out: sent and not reaped, and one that is or was reserved.
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.cache.lent()
    }

    /// The pool that frames are sent from.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.cache.pool()
    }

    /// [`FrameTx::reap`] that also tells what became of each frame, in order of sending.
    pub fn reap_sent(&mut self, mut f: impl FnMut(Sent)) -> usize {
        self.collect(&mut f)
    }

    /// Keeps the send path's code and data in the CPU's caches without sending anything, for as
    /// long as the guard lives. `None` before Onload 9.0, which cannot.
    ///
    /// # Errors
    ///
    /// As [`FrameTx::kick`].
    pub fn warm(&mut self) -> Result<Option<Warming<'_>>, Error> {
        self.kick()?;
        Ok(Warming::start(self))
    }

    /// Opens the queue anew on the same pool: the way on after
    /// [`ErrorKind::QueueLost`](linerate_common::ErrorKind::QueueLost). What the old queue had
    /// not completed may or may not have left; counters start again from 0.
    ///
    /// # Errors
    ///
    /// The card does not give a queue (it may take a moment to come back from a reset): open one
    /// with [`open_tx`](crate::open_tx) later.
    pub fn rebuild(self) -> Result<Self, SetupError> {
        let mut options = self.options.clone();
        options.pool = Some(self.pool().clone());
        let interface = self.session.name().to_owned();
        // The card and the pool must have room before the new one is opened.
        drop(self);
        crate::open_tx(&interface, &options)
    }

    #[inline]
    fn buffer(&self, id: u32, offset: usize) -> *mut u8 {
        // SAFETY: ids come from the cache, which gives only those of the pool, and offsets lie
        // within a frame.
        unsafe { self.base.add(id as usize * self.frame_bytes + offset) }
    }

    /// Is there room in the ring, and in the card's FIFO, for a frame of `len` bytes?
    #[inline]
    fn has_room(&self, len: usize) -> bool {
        // SAFETY: a live VI.
        let free = unsafe { self.lib.transmit_space(self.vi) };
        // SAFETY: a live VI.
        free > 0 && (!self.fifo || unsafe { self.lib.transmit_space_bytes(self.vi) } >= len)
    }

    /// Gives a buffer that is lent to the card to the card.
    #[inline]
    fn start(&mut self, id: u32, offset: usize, len: usize) {
        let at = id as usize * self.frame_bytes + offset;
        // SAFETY: the buffer is one of the pool, and the frame lies within it.
        let addr = unsafe { self.dma.addr(at) };
        let bytes = self.buffer(id, offset);
        let (vi, token) = (self.vi, id as i32);
        let mut flight = InFlight { id, path: self.path, pio_slot: None, seq: self.seq };
        let rc = match self.path {
            Path::Ctpio | Path::Fallback => {
                // SAFETY: the VI has CTPIO (checked when opened); `len` bytes of a buffer that
                // is lent; the fallback, with the same bytes in registered memory, follows.
                unsafe {
                    self.lib.transmit_ctpio(vi, bytes.cast(), len, self.threshold);
                    self.lib.transmit_ctpio_fallback(vi, addr, len, token)
                }
            }
            Path::Pio => match self.pio.as_mut().and_then(|pio| pio.take(len)) {
                Some((slot, offset)) => {
                    flight.pio_slot = Some(slot);
                    self.push_descriptors();
                    // SAFETY: a free slot of the linked region, `len` bytes long at most.
                    unsafe {
                        self.lib.transmit_copy_pio(vi, offset, bytes.cast(), len as i32, token)
                    }
                }
                None => {
                    flight.path = Path::Dma;
                    self.unpushed += 1;
                    // SAFETY: registered memory that is lent until the completion.
                    unsafe { (self.lib.vi_transmit_init)(vi, addr, len as i32, token) }
                }
            },
            Path::Dma => {
                self.unpushed += 1;
                // SAFETY: registered memory that is lent until the completion.
                unsafe { (self.lib.vi_transmit_init)(vi, addr, len as i32, token) }
            }
        };
        self.seq += 1;
        if rc < 0 {
            self.refused(flight);
            return;
        }
        self.stats.frames += 1;
        self.stats.bytes += len as u64;
        self.inflight.push_back(flight);
    }

    /// The library did not take a frame although there was room.
    #[cold]
    fn refused(&mut self, flight: InFlight) {
        self.stats.queue_full += 1;
        self.release(flight);
    }

    #[inline]
    fn release(&mut self, flight: InFlight) {
        if let (Some(pio), Some(slot)) = (&mut self.pio, flight.pio_slot) {
            pio.put(slot);
        }
        self.cache.free(flight.id);
    }

    #[inline]
    fn push_descriptors(&mut self) {
        if self.unpushed > 0 {
            // SAFETY: a live VI.
            unsafe { self.lib.transmit_push(self.vi) };
            self.unpushed = 0;
        }
    }
}

impl FrameTx for EfviTx {
    #[inline]
    fn max_len(&self) -> usize {
        self.max_len
    }

    #[inline]
    fn room(&self) -> usize {
        if self.lost.is_some() {
            return 0;
        }
        // SAFETY: a live VI.
        let mut room = unsafe { self.lib.transmit_space(self.vi) } as usize;
        if self.fifo {
            // SAFETY: a live VI.
            let bytes = unsafe { self.lib.transmit_space_bytes(self.vi) };
            // A frame takes whole lines of the FIFO, with a header.
            room = room.min(bytes / (self.max_len + 8).next_multiple_of(64));
        }
        let buffers = self.cache.available() + self.pool().free_frames() as usize;
        room.min(buffers + usize::from(self.reserved.is_some()))
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved_len = 0;
        if len == 0 || len > self.max_len || self.lost.is_some() {
            return None;
        }
        if !self.has_room(len) && (self.reap() == 0 || !self.has_room(len)) {
            return None;
        }
        let id = match self.reserved {
            Some(id) => id,
            None => match self.cache.alloc() {
                Some(id) => id,
                None if self.reap() > 0 => self.cache.alloc()?,
                None => return None,
            },
        };
        self.reserved = Some(id);
        self.reserved_len = len;
        let bytes = self.buffer(id, self.headroom);
        // SAFETY: the buffer is this queue's (lent, but not with the card yet), `len` bytes
        // behind the headroom lie within it, and the borrow is exclusive.
        Some(unsafe { std::slice::from_raw_parts_mut(bytes, len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        assert!(self.reserved_len > 0 && len <= self.reserved_len, "commit without reservation");
        self.reserved_len = 0;
        if len == 0 {
            return;
        }
        if let Some(id) = self.reserved.take() {
            self.start(id, self.headroom, len);
        }
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        if let Some(e) = self.lost {
            return Err(e);
        }
        self.push_descriptors();
        // Completions are cheap to collect in bunches, and the event queue must not overflow.
        if self.inflight.len() >= self.ring as usize / 2 {
            self.reap();
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self) -> usize {
        self.collect(&mut |_| {})
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

impl BufTx for EfviTx {
    #[inline]
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        let len = buf.len();
        if len == 0 || len > self.max_len || self.lost.is_some() {
            return Err(buf);
        }
        if !self.has_room(len) && (self.reap() == 0 || !self.has_room(len)) {
            return Err(buf);
        }
        let (id, offset, len) = self.cache.accept(buf)?;
        self.start(id, offset, len);
        Ok(())
    }
}

impl TxStamps for EfviTx {
    fn reap_with(&mut self, f: &mut dyn FnMut(TxStamp)) -> usize {
        let stamped = self.stamper.is_on();
        self.collect(&mut |sent| {
            if stamped {
                f(TxStamp { seq: sent.seq, ts_ns: sent.ts_ns, flags: sent.flags });
            }
        })
    }
}

impl Clocked for EfviTx {
    fn clock(&self) -> ClockInfo {
        self.stamper.clock()
    }
}

/// `EF_VI_*` for a send queue.
pub(crate) fn vi_flags(options: &Options, ctpio: bool) -> u64 {
    let mut flags = 0;
    if options.tx_timestamps {
        flags |= sys::EF_VI_TX_TIMESTAMPS;
    }
    if ctpio {
        flags |= sys::EF_VI_TX_CTPIO;
        if !options.ctpio_poison {
            flags |= sys::EF_VI_TX_CTPIO_NO_POISON;
        }
    }
    if options.alternatives > 0 {
        flags |= sys::EF_VI_TX_ALT;
    }
    match options.push {
        Push::Always => flags |= sys::EF_VI_TX_PUSH_ALWAYS,
        Push::Never => flags |= sys::EF_VI_TX_PUSH_DISABLE,
        Push::Auto | Push::Below(_) => {}
    }
    flags
}
