//! The device: what libibverbs sees, and what its queues and its hardware thread share.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use linerate_ibverbs_sys::{self as sys, ibv_device};

use crate::cable::Plug;

use super::abi::{self, Private, Unavailable};
use super::faults::{Faults, Forged, StampKind};
use super::flow::Rule;
use super::hardware;
use super::provider;
use super::qp::QpState;

/// A simulated device with one Ethernet port, number 1.
///
/// Its thread works until it is dropped. The raw device itself is never freed: libibverbs keeps
/// pointers to a device for as long as the process lives.
#[derive(Debug)]
pub struct Device {
    raw: NonNull<ibv_device>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

// SAFETY: the raw device is a fixed piece of memory; what changes is behind locks in `shared`.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// What the provider's functions and the hardware thread have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) private: Private,
    pub(super) plug: Plug,
    pub(super) faults: Faults,
    pub(super) stamps: StampKind,
    pub(super) link_up: AtomicBool,
    pub(super) stop: AtomicBool,
    pub(super) qps: Mutex<Vec<Arc<QpState>>>,
    pub(super) rules: Mutex<Vec<(u32, Rule)>>,
    /// Registered memory by key: start and length.
    pub(super) memory: Mutex<HashMap<u32, (u64, u64)>>,
    pub(super) next: AtomicU32,
    /// Frames that found no posted buffer, matched no flow, or had a bad check sequence.
    pub(super) out_of_buffer: AtomicU64,
    pub(super) unmatched: AtomicU64,
    pub(super) crc: AtomicU64,
    /// Both ends of the event pipes of open contexts, the one for writing second.
    pub(super) events: Mutex<Vec<[i32; 2]>>,
    pub(super) worker: Mutex<Option<Thread>>,
    /// Objects that the program has not destroyed.
    pub(super) live: AtomicU32,
}

/// Bytes of the raw device before our own pointer.
const OURS: usize = abi::DEVICE_BYTES;

impl Device {
    /// A device whose port ends in `plug`.
    ///
    /// # Errors
    ///
    /// libibverbs is not installed, or has another provider interface.
    pub fn new(name: &str, plug: Plug) -> Result<Self, Unavailable> {
        Self::with_stamps(name, plug, StampKind::default())
    }

    /// A device that stamps completions in a way of its own.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_stamps(name: &str, plug: Plug, stamps: StampKind) -> Result<Self, Unavailable> {
        let shared = Arc::new(Shared {
            private: Private::load()?,
            plug,
            faults: Faults::default(),
            stamps,
            link_up: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            qps: Mutex::default(),
            rules: Mutex::default(),
            memory: Mutex::default(),
            next: AtomicU32::new(0x100),
            out_of_buffer: AtomicU64::new(0),
            unmatched: AtomicU64::new(0),
            crc: AtomicU64::new(0),
            events: Mutex::default(),
            worker: Mutex::default(),
            live: AtomicU32::new(0),
        });
        let raw = raw_device(name, &shared)?;
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("sim-{name}"))
            .spawn(move || {
                linerate_common::own_threads::give_up_rights();
                hardware::run(&worker);
            })
            .ok();
        if let Some(thread) = &thread {
            *lock(&shared.worker) = Some(thread.thread().clone());
            shared.plug.wake_on_arrival(thread.thread().clone());
        }
        Ok(Self { raw, shared, thread })
    }

    /// Does it work by itself? Not where its thread could not start.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.thread.is_some()
    }

    /// For `ibv_open_device`. Valid for as long as the process lives.
    #[must_use]
    pub fn raw(&self) -> NonNull<ibv_device> {
        self.raw
    }

    /// What goes wrong on purpose.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// One round of the device's work in the caller's thread; `false` when there was none. For
    /// tests that have [stalled](Faults::stall) the device's own thread.
    pub fn step(&self) -> bool {
        hardware::work(&self.shared)
    }

    /// Puts a completion that belongs to nothing into the completion queue of every pair.
    pub fn forge(&self, forged: Forged) {
        for qp in lock(&self.shared.qps).iter() {
            qp.forge(forged);
        }
    }

    /// Takes the link down or up, with the event that libibverbs reports for it.
    pub fn set_link(&self, up: bool) {
        self.shared.link_up.store(up, Ordering::Release);
        let event = if up { sys::IBV_EVENT_PORT_ACTIVE } else { sys::IBV_EVENT_PORT_ERR };
        self.shared.event(1, event);
        if up {
            // As seen with real cards: the good news comes twice.
            self.shared.event(1, event);
        }
    }

    /// The device dies: a fatal event, and nothing works any more.
    pub fn die(&self) {
        self.shared.faults.stall(true);
        self.shared.event(0, sys::IBV_EVENT_DEVICE_FATAL);
    }

    /// Frames that arrived while no buffer was posted (the counter `rx_out_of_buffer`).
    #[must_use]
    pub fn out_of_buffer(&self) -> u64 {
        self.shared.out_of_buffer.load(Ordering::Acquire)
    }

    /// Reads [`out_of_buffer`](Self::out_of_buffer) for as long as it is kept: what a real card
    /// shows in sysfs.
    pub fn out_of_buffer_counter(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.out_of_buffer.load(Ordering::Acquire)
    }

    /// Frames that no flow matched: on a real card the kernel gets them.
    #[must_use]
    pub fn unmatched(&self) -> u64 {
        self.shared.unmatched.load(Ordering::Acquire)
    }

    /// Frames with a bad check sequence, dropped by the port.
    #[must_use]
    pub fn crc_errors(&self) -> u64 {
        self.shared.crc.load(Ordering::Acquire)
    }

    /// Contexts, domains, registrations, queues and flows that are still there: 0 when a program
    /// has cleaned up.
    #[must_use]
    pub fn live_objects(&self) -> u32 {
        self.shared.live.load(Ordering::Acquire)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the hardware thread was already printed; the device just stays silent.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Lets the hardware thread look at its queues.
    pub(super) fn wake(&self) {
        if let Some(worker) = &*lock(&self.worker) {
            worker.unpark();
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts an object that the program made (1) or destroyed (-1).
    pub(super) fn count(&self, change: i32) {
        if change > 0 {
            self.live.fetch_add(1, Ordering::AcqRel);
        } else {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Writes an asynchronous event into every open context, as the kernel's file would.
    pub(super) fn event(&self, element: u64, event_type: u32) {
        let mut record = [0_u8; 16];
        record[..8].copy_from_slice(&element.to_ne_bytes());
        record[8..12].copy_from_slice(&event_type.to_ne_bytes());
        for [_, fd] in lock(&self.events).iter() {
            // SAFETY: an open descriptor of ours and 16 bytes. A full pipe loses the event, as
            // the kernel's queue would.
            unsafe { libc::write(*fd, record.as_ptr().cast(), record.len()) };
        }
    }

    /// Takes back the events of an object that is destroyed, as the kernel does: whoever read
    /// one later would touch it.
    pub(super) fn forget_events(&self, element: u64) {
        for [from, to] in lock(&self.events).iter() {
            let mut kept = Vec::new();
            let mut record = [0_u8; 16];
            // SAFETY: open descriptors of ours that do not block, and 16 bytes.
            unsafe {
                while libc::read(*from, record.as_mut_ptr().cast(), record.len()) == 16 {
                    if record[..8] != element.to_ne_bytes() {
                        kept.push(record);
                    }
                }
                for record in kept {
                    libc::write(*to, record.as_ptr().cast(), record.len());
                }
            }
        }
    }
}

/// A lock that a panicking thread cannot spoil: what it guards is changed in single steps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every device there ever was: none is freed, and whoever looks for leaks finds them here.
static DEVICES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Lays out a `verbs_device` that points to our functions, with our state behind it.
fn raw_device(name: &str, shared: &Arc<Shared>) -> Result<NonNull<ibv_device>, Unavailable> {
    let mut ops = Box::new([0_usize; abi::DEVICE_OPS_WORDS]);
    ops[abi::ALLOC_CONTEXT] = provider::alloc_context as *const () as usize;
    let ops = Box::leak(ops);
    // SAFETY: calloc of a size; checked for null below.
    let raw = NonNull::new(unsafe { libc::calloc(1, OURS + 8) }.cast::<u8>());
    let raw = raw.ok_or_else(|| Unavailable("out of memory".into()))?;
    let take = name.len().min(63);
    // SAFETY: all writes lie inside the zeroed allocation, at the offsets of the C struct; the
    // name keeps its terminating zero.
    unsafe {
        let at = |offset: usize| raw.as_ptr().add(offset);
        let device = raw.as_ptr().cast::<ibv_device>();
        (*device).node_type = 1; // a channel adapter
        std::ptr::copy_nonoverlapping(name.as_ptr(), (&raw mut (*device).name).cast(), take);
        at(abi::DEVICE_OPS).cast::<usize>().write(ops.as_ptr() as usize);
        at(abi::DEVICE_REFCOUNT).cast::<u32>().write(1);
        at(OURS).cast::<*const Shared>().write(Arc::into_raw(Arc::clone(shared)));
    }
    lock(&DEVICES).push(raw.as_ptr() as usize);
    Ok(raw.cast())
}

/// The state behind a device that [`raw_device`] laid out.
///
/// # Safety
///
/// `device` is such a device.
pub(super) unsafe fn shared_of_device(device: *mut c_void) -> Arc<Shared> {
    // SAFETY: the pointer behind the struct came from `Arc::into_raw` and is never given back, so
    // the state lives; we take a count of our own.
    unsafe {
        let shared = device.byte_add(OURS).cast::<*const Shared>().read();
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    }
}
