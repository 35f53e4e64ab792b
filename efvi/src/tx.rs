//! Sending: DMA, CTPIO with its fallback, or programmed I/O.
//!
//! Every frame lies in a buffer of the pool, whichever way it takes: that is the card's DMA
//! source, CTPIO's fallback, and what programmed I/O copies from. Its id is the token that comes
//! back with the completion; one that names a buffer which the card does not have is refused.

mod completions;
mod flights;
mod path;
mod preload;
mod send;
mod warm;

use linerate_common::pool::{FrameCache, Pool};
use linerate_common::{ClockInfo, Clocked, Error, FrameTx, SetupError, TxStamp, TxStamps, TxStats};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::{EF_VI_TRANSMIT_BATCH, Library, ef_event, ef_request_id, ef_vi};

use crate::alternatives::Alternatives;
use crate::error::{bad_argument, unsupported};
use crate::options::{Options, Push, SendPath};
use crate::pio::PioSlots;
use crate::session::{Arch, DmaTable, Session};
use crate::stamp::{StampState, Stamper};
use crate::warm::Warming;
use flights::{Buffer, Flights, Spare};
pub use path::{Path, PathCounts, Sent};

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
    /// Frames that may be in flight: as many, or none when the queue is lost.
    limit: usize,
    way: Way,
    /// Does the card count the room in its FIFO in bytes (X3, X4)?
    fifo: bool,
    path: Path,
    threshold: u32,
    pio: Option<PioSlots>,
    alternatives: Option<Alternatives>,
    /// The slot handed out: its buffer, kept over a cancelled reservation, and its length.
    reserved: Option<Buffer>,
    reserved_len: usize,
    spare: Spare,
    flights: Flights,
    /// Frames that the card knows of.
    pushed: u64,
    ids: Box<[ef_request_id; EF_VI_TRANSMIT_BATCH]>,
    events: Box<[ef_event; EVENTS]>,
    lost: Option<Error>,
    stamper: Stamper,
    stats: TxStats,
    paths: PathCounts,
    unknown_events: u64,
    options: Options,
}

/// What there is to do for a frame, decided when the queue is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// DMA out of a ring.
    Plain,
    /// CTPIO and its fallback.
    Ctpio,
    /// Programmed I/O, or DMA through a card's FIFO.
    Other,
}

// SAFETY: the pointers are to the session's own VI and to the pool's region, which the session's
// registration keeps; neither is bound to a thread, and the queue has one owner.
unsafe impl Send for EfviTx {}

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
            limit: ring as usize,
            way: match path {
                Path::Dma if !fifo => Way::Plain,
                Path::Ctpio => Way::Ctpio,
                _ => Way::Other,
            },
            fifo,
            path,
            threshold: options.ctpio_threshold,
            pio,
            alternatives,
            reserved: None,
            reserved_len: 0,
            // Few where the pool is small, so that the other queues get their share.
            spare: Spare::new((pool.frames() as usize / 16).clamp(1, ring.max(1) as usize)),
            flights: Flights::new(ring),
            pushed: 0,
            ids: Box::new([0; EF_VI_TRANSMIT_BATCH]),
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
        self.stamper.state()
    }

    /// Events of kinds this queue does not know, counted and passed over.
    #[must_use]
    pub fn unknown_events(&self) -> u64 {
        self.unknown_events
    }

    /// Buffers this queue has out: sent and not reaped, and one that is or was reserved.
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.cache.lent() - self.spare.len() as u32
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
