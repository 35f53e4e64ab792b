//! Options, and opening the two ends.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use super::ring::ring;
use super::{LoopRx, LoopTx};
use crate::error::{ErrorKind, SetupError};
use crate::frame::RxFlags;
use crate::pool::{FrameCache, Huge, Pool};

/// How a pair behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Slots of each end's ring, 2 to 65536, rounded up to a power of two: frames that can be on
    /// the way, and buffers that the receiver posts.
    pub ring_slots: usize,
    /// Where both ends take their buffers: at least `2 * ring_slots` free ones. `None`: a pool
    /// of its own, four times `ring_slots`.
    pub pool: Option<Pool>,
    /// Longest frame in bytes; `None`: what a buffer of the pool holds behind its headroom.
    pub max_len: Option<usize>,
    /// `false`: the sender sees back-pressure while the receiver has no buffer posted, as with
    /// link-level flow control. `true`: it sends anyway, and what meets no buffer is lost under
    /// [`RxStats::no_buffer`](crate::RxStats::no_buffer), as on most wires.
    pub lossy: bool,
    /// Stamp frames with the time of their `kick`, by `CLOCK_REALTIME`, at both ends.
    pub stamps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_slots: 256, pool: None, max_len: None, lossy: false, stamps: true }
    }
}

/// The two ends of a cable, sender first.
///
/// # Errors
///
/// An option is out of range, the pool has too few free buffers, or the process is out of file
/// descriptors.
pub fn pair(options: &Options) -> Result<(LoopTx, LoopRx), SetupError> {
    open(options).map_err(|e| e.on("loopback"))
}

fn open(options: &Options) -> Result<(LoopTx, LoopRx), SetupError> {
    if !(2..=65536).contains(&options.ring_slots) {
        let what = format!("{} ring slots", options.ring_slots);
        return Err(SetupError::new(ErrorKind::BadArgument, "pair", what)
            .remedy("use 2 to 65536, a power of two"));
    }
    let slots = options.ring_slots.next_power_of_two();
    let pool = match &options.pool {
        Some(pool) => pool.clone(),
        None => Pool::builder().frames(4 * slots as u32).huge(Huge::Never).lock(false).build()?,
    };
    let holds = pool.frame_bytes() - pool.headroom();
    let max_len = options.max_len.unwrap_or(holds);
    if !(1..=holds).contains(&max_len) {
        let what = format!("frames of up to {max_len} bytes");
        return Err(SetupError::new(ErrorKind::BadArgument, "pair", what)
            .remedy(format!("buffers of this pool hold 1 to {holds} bytes")));
    }
    let mut rx_frames = pool.cache();
    rx_frames.reserve(slots)?;
    let mut tx_frames = pool.cache();
    tx_frames.reserve(slots)?;

    let (posted_in, posted_out) = ring(slots);
    let (arrived_in, arrived_out) = ring(slots);
    let wire = Arc::new(Wire {
        event: eventfd()?,
        armed: AtomicBool::new(false),
        no_buffer: AtomicU64::new(0),
        rx_gone: AtomicBool::new(false),
        rx_frames: Mutex::new(None),
    });
    let rx = LoopRx::new(rx_frames, posted_in, arrived_out, Arc::clone(&wire), options.stamps);
    let tx = LoopTx::new(tx_frames, posted_out, arrived_in, wire, slots, max_len, options);
    Ok((tx, rx))
}

/// What both ends share beside the rings.
pub(super) struct Wire {
    /// Readable after a frame arrived at an armed receiver.
    pub(super) event: OwnedFd,
    /// Does the receiver want a wake-up?
    pub(super) armed: AtomicBool,
    /// Frames that met no buffer. Written by the sender only.
    pub(super) no_buffer: AtomicU64,
    pub(super) rx_gone: AtomicBool,
    /// The receiver's buffers once it is gone. The sender may still be writing to posted ones, so
    /// they return to the pool with the last end.
    pub(super) rx_frames: Mutex<Option<FrameCache>>,
}

/// A frame that has arrived in the receiver's buffer `id`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) id: u32,
    pub(super) len: u32,
    pub(super) ts_ns: u64,
    pub(super) flags: RxFlags,
}

fn eventfd() -> Result<OwnedFd, SetupError> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(SetupError::last_os("eventfd").remedy("raise the limit: ulimit -n 4096"));
    }
    // SAFETY: the kernel just returned this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
