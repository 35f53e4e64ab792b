//! An AF_XDP socket: created, registered, bound to one queue; closed before its frames go back.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use linerate_common::pool::{FrameCache, Huge, Pool};
use linerate_common::{SetupError, last_errno};
use memmap2::{MmapOptions, MmapRaw};

use crate::error;
use crate::options::BusyPoll;
use crate::ring::{Consumer, Desc, Producer, RawRing};
use crate::sys::{self, MmapOffsets, RingOffset, SOL_XDP, TxMetadata, UmemReg, XdpStatistics};
use crate::umem::Umem;

const PGOFF_RX: u64 = 0;
const PGOFF_TX: u64 = 0x8000_0000;
const PGOFF_FILL: u64 = 0x1_0000_0000;
const PGOFF_COMPLETION: u64 = 0x1_8000_0000;

/// How long a busy queue is tried again, and at what distance. The kernel lets go of a queue some
/// time *after* `close` of its last socket has returned (a work item does it, which has to wait for
/// a lock that every change to any interface takes). So a port that is closed and opened again, or
/// whose program has just ended, meets its own ghost.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same for a queue of which this process itself has closed the last socket, and nobody here
/// has had it since: then it is a ghost for sure. On a machine whose CPUs are all busy, and which
/// makes and removes interfaces meanwhile, some lived for more than five seconds.
const PATIENCE_WITH_GHOSTS: Duration = Duration::from_secs(30);
/// The same where a card may still write into frames: they are kept for ever rather than waited for.
const PATIENCE_OF_A_DROP: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// A queue: network namespace, interface, number.
type Place = (u64, u32, u32);

/// Queues whose last socket this process has closed, and that nobody here has bound since; and when
/// that was. After the patience with them they may be somebody else's.
static GHOSTS: Mutex<Vec<(Place, Instant)>> = Mutex::new(Vec::new());

/// What to open.
#[derive(Debug, Clone)]
pub(crate) struct SocketSpec<'a> {
    pub(crate) interface: &'a str,
    pub(crate) ifindex: u32,
    pub(crate) queue: u32,
    pub(crate) pool: &'a Pool,
    /// 0: no such ring.
    pub(crate) rx_slots: u32,
    pub(crate) tx_slots: u32,
    pub(crate) need_wakeup: bool,
    pub(crate) busy_poll: Option<BusyPoll>,
    pub(crate) tx_metadata: bool,
}

/// A bound socket. Both halves of a queue hold it.
///
/// Its fields drop in this order, and that is the point of them: first the mappings and the
/// descriptor, which closes the socket; then the frames that its halves left here go back to the
/// pool; then the memory may go.
#[derive(Debug)]
pub(crate) struct Socket {
    _mappings: Vec<MmapRaw>,
    fd: Option<OwnedFd>,
    /// Of halves that are gone, with frames that the kernel may still write or read.
    frames: Mutex<Vec<FrameCache>>,
    _umem: Arc<Umem>,
    place: Place,
    zero_copy: bool,
    need_wakeup: bool,
    shared: bool,
}

/// The rings of a socket, each for one owner.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) rx: Option<Consumer<Desc>>,
    pub(crate) fill: Producer<u64>,
    pub(crate) tx: Option<Producer<Desc>>,
    pub(crate) completion: Consumer<u64>,
}

impl Socket {
    /// Opens and binds, in zero-copy or copy mode. Joins the registration of the pool's region
    /// when another socket has it, and registers it anew when that does not work out.
    pub(crate) fn open(
        spec: &SocketSpec<'_>,
        zero_copy: bool,
    ) -> Result<(Arc<Self>, Rings), SetupError> {
        let place = (namespace(), spec.ifindex, spec.queue);
        let patience = if is_a_ghost(place) { PATIENCE_WITH_GHOSTS } else { PATIENCE };
        Self::open_within(patience, place, spec, zero_copy)
    }

    fn open_within(
        patience: Duration,
        place: Place,
        spec: &SocketSpec<'_>,
        zero_copy: bool,
    ) -> Result<(Arc<Self>, Rings), SetupError> {
        let umem = Umem::of(spec.pool, spec.tx_metadata)?;
        let give_up = Instant::now() + patience;
        loop {
            let donor = umem.find(zero_copy, spec.need_wakeup);
            let result = match &donor {
                // A driver may refuse to join although it could do the mode by itself.
                Some(donor) => {
                    let joined = Self::open_once(spec, zero_copy, Some(donor), &umem, place);
                    joined.or_else(|e| match is_busy(&e) {
                        true => Err(e),
                        false => Self::open_once(spec, zero_copy, None, &umem, place),
                    })
                }
                None => Self::open_once(spec, zero_copy, None, &umem, place),
            };
            match result {
                Ok((socket, rings)) => {
                    lock_ghosts().retain(|(ghost, _)| *ghost != place);
                    let socket = Arc::new(socket);
                    umem.joined(&socket);
                    return Ok((socket, rings));
                }
                Err(e) if is_busy(&e) && Instant::now() < give_up => thread::sleep(PAUSE),
                Err(e) => return Err(e),
            }
        }
    }

    fn open_once(
        spec: &SocketSpec<'_>,
        zero_copy: bool,
        donor: Option<&Arc<Socket>>,
        umem: &Arc<Umem>,
        place: Place,
    ) -> Result<(Self, Rings), SetupError> {
        // SAFETY: no pointers.
        let raw = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(error::socket("socket(AF_XDP)", last_errno()));
        }
        // SAFETY: a new descriptor, ours alone.
        let owned = unsafe { OwnedFd::from_raw_fd(raw) };
        let fd = owned.as_fd();
        if donor.is_none() {
            register(fd, spec.pool, spec.tx_metadata)?;
        }
        // Fill and completion rings must exist whatever the direction. The fill ring takes every
        // frame that the receive half ever lends, and no more, as `rx/run.rs` explains: the kernel
        // copies into as many as its ring can show, a card keeps some in its own ring besides. The
        // completion ring takes every frame in flight.
        let fill_slots = match spec.rx_slots {
            0 => 64,
            n if zero_copy => n * 2,
            n => n,
        };
        let completion_slots = spec.tx_slots.max(64);
        let rings = [
            (sys::XDP_UMEM_FILL_RING, fill_slots, "setsockopt(XDP_UMEM_FILL_RING)"),
            (
                sys::XDP_UMEM_COMPLETION_RING,
                completion_slots,
                "setsockopt(XDP_UMEM_COMPLETION_RING)",
            ),
            (sys::XDP_RX_RING, spec.rx_slots, "setsockopt(XDP_RX_RING)"),
            (sys::XDP_TX_RING, spec.tx_slots, "setsockopt(XDP_TX_RING)"),
        ];
        for (option, slots, op) in rings.into_iter().filter(|(_, slots, _)| *slots > 0) {
            sys::set(fd, SOL_XDP, option, &slots).map_err(|errno| error::socket(op, errno))?;
        }
        tune(fd, spec)?;

        let offsets: MmapOffsets = sys::get(fd, sys::XDP_MMAP_OFFSETS)
            .map_err(|errno| error::socket("getsockopt(XDP_MMAP_OFFSETS)", errno))?;
        let mut mappings = Vec::new();
        let mut map = |at, offset: &RingOffset, slots: u32, slot_bytes| {
            map_ring(fd, at, offset, slots as usize * slot_bytes, &mut mappings)
        };
        let fill = map(PGOFF_FILL, &offsets.fill, fill_slots, 8)?.ring(&offsets.fill, fill_slots);
        let completion = map(PGOFF_COMPLETION, &offsets.completion, completion_slots, 8)?
            .ring(&offsets.completion, completion_slots);
        let rx = match spec.rx_slots {
            0 => None,
            n => Some(map(PGOFF_RX, &offsets.rx, n, 16)?.ring(&offsets.rx, n)),
        };
        let tx = match spec.tx_slots {
            0 => None,
            n => Some(map(PGOFF_TX, &offsets.tx, n, 16)?.ring(&offsets.tx, n)),
        };
        // SAFETY: the rings lie in mappings that the socket keeps, and both halves keep the
        // socket. Each ring is made once and goes to one owner.
        let rings = unsafe {
            Rings {
                rx: rx.map(|raw| Consumer::new(raw)),
                fill: Producer::new(fill),
                tx: tx.map(|raw| Producer::new(raw)),
                completion: Consumer::new(completion),
            }
        };

        let flags = match donor {
            Some(_) => sys::XDP_SHARED_UMEM,
            None => {
                let mode = if zero_copy { sys::XDP_ZEROCOPY } else { sys::XDP_COPY };
                mode | if spec.need_wakeup { sys::XDP_USE_NEED_WAKEUP } else { 0 }
            }
        };
        let shared_with = donor.map(|d| d.as_fd());
        sys::bind(fd, spec.ifindex, spec.queue, flags, shared_with)
            .map_err(|errno| error::bind(errno, spec.interface, spec.queue))?;
        let options: u32 = sys::get(fd, sys::XDP_OPTIONS)
            .map_err(|errno| error::socket("getsockopt(XDP_OPTIONS)", errno))?;
        let socket = Self {
            _mappings: mappings,
            fd: Some(owned),
            frames: Mutex::new(Vec::new()),
            _umem: umem.clone(),
            place,
            zero_copy: options & sys::XDP_OPTIONS_ZEROCOPY != 0,
            need_wakeup: spec.need_wakeup,
            shared: donor.is_some(),
        };
        Ok((socket, rings))
    }

    /// One that stands for a socket where the rings are not the kernel's.
    #[cfg(any(test, fuzzing, feature = "played"))]
    pub(crate) fn of_anything(fd: OwnedFd, umem: Arc<Umem>) -> Self {
        Self {
            _mappings: Vec::new(),
            fd: Some(fd),
            frames: Mutex::new(Vec::new()),
            _umem: umem,
            place: (0, 0, 0),
            zero_copy: false,
            need_wakeup: true,
            shared: false,
        }
    }

    /// Gives back what [`keep`](Self::keep) kept, although the socket lives on.
    #[cfg(fuzzing)]
    pub(crate) fn forget_kept(&self) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Does the card itself write into the pool?
    pub(crate) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    pub(crate) fn needs_wakeup(&self) -> bool {
        self.need_wakeup
    }

    /// Did it join another socket's registration of the pool?
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(crate) fn queue(&self) -> u32 {
        self.place.2
    }

    /// The kernel's counters.
    pub(crate) fn statistics(&self) -> XdpStatistics {
        sys::get(self.as_fd(), sys::XDP_STATISTICS).unwrap_or_default()
    }

    /// Has the interface gone for good? The kernel says so once.
    pub(crate) fn has_lost_its_interface(&self) -> bool {
        sys::get_at::<i32>(self.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR).is_ok_and(|e| e != 0)
    }

    /// Keeps the frames of a half that is going until the socket is closed.
    pub(crate) fn keep(&self, frames: FrameCache) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frames);
    }
}

impl AsFd for Socket {
    /// # Panics
    ///
    /// Never: only `drop` takes the descriptor out.
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("taken out by drop alone"),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self._mappings.clear();
        drop(self.fd.take());
        let mut ghosts = lock_ghosts();
        ghosts.retain(|(_, when)| when.elapsed() < PATIENCE_WITH_GHOSTS);
        ghosts.push((self.place, Instant::now()));
        drop(ghosts);
        // In copy mode the kernel writes frames only while the socket lives, and waits for those
        // under way. In zero-copy mode the card goes on writing until a work item has taken the
        // buffers from it. Then the queue can be bound again, which is how we know.
        if self.zero_copy && !queue_is_free(self.place) {
            let frames =
                std::mem::take(self.frames.get_mut().unwrap_or_else(PoisonError::into_inner));
            // Rather lose the memory than let a card write where somebody else reads.
            std::mem::forget(frames);
        }
    }
}

/// Waits until nobody has the queue any more, as seen by a socket of our own.
fn queue_is_free(place: Place) -> bool {
    let pool = Pool::builder().frames(64).huge(Huge::Never).lock(false).build();
    let Ok(pool) = pool else { return false };
    let spec = SocketSpec {
        interface: "",
        ifindex: place.1,
        queue: place.2,
        pool: &pool,
        rx_slots: 64,
        tx_slots: 0,
        need_wakeup: false,
        busy_poll: None,
        tx_metadata: false,
    };
    Socket::open_within(PATIENCE_OF_A_DROP, place, &spec, false).is_ok()
}

fn lock_ghosts() -> MutexGuard<'static, Vec<(Place, Instant)>> {
    GHOSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_a_ghost(place: Place) -> bool {
    let fresh = |when: &Instant| when.elapsed() < PATIENCE_WITH_GHOSTS;
    lock_ghosts().iter().any(|(ghost, when)| *ghost == place && fresh(when))
}

/// The network namespace of this thread: numbers of interfaces are its own. 0 where nobody tells.
fn namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |about| about.ino())
}

fn is_busy(e: &SetupError) -> bool {
    e.op() == "bind(AF_XDP)" && e.errno() == libc::EBUSY
}

fn register(fd: BorrowedFd<'_>, pool: &Pool, tx_metadata: bool) -> Result<(), SetupError> {
    let registration = UmemReg {
        addr: pool.region().as_ptr() as u64,
        len: u64::from(pool.frames()) * pool.frame_bytes() as u64,
        chunk_size: pool.frame_bytes() as u32,
        headroom: 0,
        flags: if tx_metadata { sys::XDP_UMEM_TX_METADATA_LEN } else { 0 },
        tx_metadata_len: if tx_metadata { size_of::<TxMetadata>() as u32 } else { 0 },
    };
    sys::set(fd, SOL_XDP, sys::XDP_UMEM_REG, &registration).map_err(|errno| {
        let e = error::socket("setsockopt(XDP_UMEM_REG)", errno);
        if tx_metadata && errno == libc::EINVAL {
            return e.remedy("transmit stamps need Linux 6.8: open without tx_stamps");
        }
        e
    })
}

/// Sets what the socket works better with; only busy polling was asked for, and must work.
fn tune(fd: BorrowedFd<'_>, spec: &SocketSpec<'_>) -> Result<(), SetupError> {
    if spec.tx_slots > 0 {
        // In copy mode each frame in flight is charged to the socket's send buffer, and one
        // sendto sends a fixed number. Let both hold the whole ring; where the kernel cannot or
        // the caller may not, a group just takes more calls.
        let bytes = i32::try_from(spec.tx_slots as usize * 4096).unwrap_or(i32::MAX);
        let _ = sys::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes);
        let _ = sys::set(fd, SOL_XDP, sys::XDP_MAX_TX_SKB_BUDGET, &spec.tx_slots);
    }
    let Some(BusyPoll { micros, budget }) = spec.busy_poll else { return Ok(()) };
    let wanted = [
        (sys::SO_PREFER_BUSY_POLL, 1, "setsockopt(SO_PREFER_BUSY_POLL)"),
        (libc::SO_BUSY_POLL, micros.min(i32::MAX as u32) as i32, "setsockopt(SO_BUSY_POLL)"),
        (sys::SO_BUSY_POLL_BUDGET, i32::from(budget), "setsockopt(SO_BUSY_POLL_BUDGET)"),
    ];
    for (option, value, op) in wanted {
        sys::set(fd, libc::SOL_SOCKET, option, &value).map_err(|errno| match errno {
            libc::ENOPROTOOPT => {
                SetupError::os(op, errno).remedy("use Linux 5.11 or newer, or no busy_poll")
            }
            _ => error::socket(op, errno),
        })?;
    }
    Ok(())
}

/// One mapped ring.
struct Mapped {
    start: NonNull<u8>,
}

impl Mapped {
    /// The ring inside.
    fn ring<T>(&self, offset: &RingOffset, size: u32) -> RawRing<T> {
        let at = |offset: u64| {
            // SAFETY: `map_ring` checked that each part lies inside the mapping.
            unsafe { self.start.add(offset as usize) }
        };
        RawRing {
            producer: at(offset.producer).cast(),
            consumer: at(offset.consumer).cast(),
            flags: at(offset.flags).cast(),
            slots: at(offset.desc).cast(),
            size,
        }
    }
}

fn map_ring(
    fd: BorrowedFd<'_>,
    at: u64,
    offset: &RingOffset,
    slot_bytes: usize,
    mappings: &mut Vec<MmapRaw>,
) -> Result<Mapped, SetupError> {
    let bad = || SetupError::os("mmap(ring)", libc::EPROTO);
    let end = usize::try_from(offset.desc).map_err(|_| bad())?.checked_add(slot_bytes);
    let len = end.ok_or_else(bad)?;
    let words = [offset.producer, offset.consumer, offset.flags];
    if words.iter().any(|w| *w as usize + 4 > len || !w.is_multiple_of(4))
        || !offset.desc.is_multiple_of(8)
    {
        return Err(bad());
    }
    let map = MmapOptions::new()
        .offset(at)
        .len(len)
        .populate()
        .map_raw(fd.as_raw_fd())
        .map_err(|e| error::socket("mmap(ring)", e.raw_os_error().unwrap_or(libc::EIO)))?;
    let start = NonNull::new(map.as_mut_ptr()).ok_or_else(bad)?;
    mappings.push(map);
    Ok(Mapped { start })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use linerate_lab::lab_or_skip;

    use super::*;
    use crate::interface::Interface;

    #[test]
    fn a_queue_that_was_closed_is_a_ghosts_until_it_is_bound_again() {
        let lab = lab_or_skip!();
        let place = lab.in_a(|| {
            let pool = Pool::builder().frames(64).huge(Huge::Never).lock(false).build().unwrap();
            let ifindex = Interface::open("v0").unwrap().index();
            let place = (namespace(), ifindex, 0);
            let spec = SocketSpec {
                interface: "v0",
                ifindex,
                queue: 0,
                pool: &pool,
                rx_slots: 64,
                tx_slots: 0,
                need_wakeup: false,
                busy_poll: None,
                tx_metadata: false,
            };
            for _ in 0..2 {
                let socket = Socket::open(&spec, false).unwrap();
                assert!(!is_a_ghost(place), "ours, and alive: there is nothing to wait for");
                drop(socket);
                assert!(is_a_ghost(place));
            }
            place
        });
        // The same number of an interface elsewhere.
        let (_, ifindex, queue) = place;
        assert!(!lab.in_b(|| is_a_ghost((namespace(), ifindex, queue))));
    }
}
