//! Queues whose kernel is played, over rings in ordinary memory: for `fuzz/`, and for counting what
//! the loops cost.

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linerate_common::pool::{Huge, Pool};

use crate::port::Shared;
use crate::ring::{Consumer, Desc, Producer, RawRing};
use crate::rx::{Stamping, XdpRx};
use crate::socket::Socket;
use crate::sync::AtomicU32;
use crate::sys::XDP_PACKET_HEADROOM;
use crate::tx::XdpTx;
use crate::umem::Umem;

/// A ring in ordinary memory, seen from the kernel's side.
pub(crate) struct Ring<T> {
    /// Producer, consumer, flags.
    words: [AtomicU32; 3],
    slots: Box<[T]>,
}

impl<T: Copy + Default> Ring<T> {
    pub(crate) fn new(slots: usize) -> Box<Self> {
        let words = [0; 3].map(AtomicU32::new);
        Box::new(Self { words, slots: vec![T::default(); slots].into_boxed_slice() })
    }

    pub(crate) fn raw(&mut self) -> RawRing<T> {
        RawRing {
            producer: NonNull::from(&self.words[0]),
            consumer: NonNull::from(&self.words[1]),
            flags: NonNull::from(&self.words[2]),
            slots: NonNull::from(&mut *self.slots).cast(),
            size: self.slots.len() as u32,
        }
    }
}

impl<T: Copy> RawRing<T> {
    fn word(self, which: usize) -> &'static AtomicU32 {
        let word = [self.producer, self.consumer, self.flags][which % 3];
        // SAFETY: of a `Ring` that whoever plays the kernel keeps meanwhile; the reference does
        // not leave this file.
        unsafe { &*word.as_ptr() }
    }

    fn at(self, index: u32) -> *mut T {
        // SAFETY: masked, so inside the ring.
        unsafe { self.slots.add((index & (self.size - 1)) as usize).as_ptr() }
    }

    /// As the side that fills.
    pub(crate) fn give(self, value: T) {
        let index = self.word(0).load(Ordering::Acquire);
        // SAFETY: inside the ring; one thread.
        unsafe { self.at(index).write(value) };
        self.word(0).store(index.wrapping_add(1), Ordering::Release);
    }

    /// As the side that reads.
    pub(crate) fn take(self) -> Option<T> {
        let index = self.word(1).load(Ordering::Acquire);
        if index == self.word(0).load(Ordering::Acquire) {
            return None;
        }
        self.word(1).store(index.wrapping_add(1), Ordering::Release);
        // SAFETY: inside the ring; one thread.
        Some(unsafe { self.at(index).read() })
    }
}

/// What stands for a socket: a descriptor of another kind, which no call does anything with.
pub(crate) fn no_socket(pool: &Pool) -> Arc<Socket> {
    let umem = Umem::of(pool, false).expect("no call can fail");
    let fd = OwnedFd::from(UnixDatagram::unbound().expect("a descriptor"));
    Arc::new(Socket::of_anything(fd, umem))
}

/// A ring's parts, as C has them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// What the side that fills moves.
    pub producer: *mut u32,
    /// What the side that reads moves.
    pub consumer: *mut u32,
    /// Nothing is set in them: this kernel never sleeps.
    pub flags: *mut u32,
    /// The first slot.
    pub slots: *mut c_void,
}

impl<T> From<RawRing<T>> for Parts {
    fn from(ring: RawRing<T>) -> Self {
        Self {
            producer: ring.producer.as_ptr().cast(),
            consumer: ring.consumer.as_ptr().cast(),
            flags: ring.flags.as_ptr().cast(),
            slots: ring.slots.as_ptr().cast(),
        }
    }
}

/// Plays the kernel for one queue that behaves: copies frames in, and takes at once what is sent.
/// Its rings and its pool are never given back.
#[derive(Debug)]
pub struct Kernel {
    pool: Pool,
    pub(crate) rx: RawRing<Desc>,
    pub(crate) tx: RawRing<Desc>,
    pub(crate) fill: RawRing<u64>,
    pub(crate) completion: RawRing<u64>,
}

impl Kernel {
    /// Rings of `slots`, a power of two, and frames of 2048 bytes for both directions.
    ///
    /// # Panics
    ///
    /// There is no memory.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let pool = Pool::builder().frames(2 * slots).huge(Huge::Never).lock(false).build();
        let size = slots as usize;
        Self {
            pool: pool.expect("a pool"),
            rx: Box::leak(Ring::new(size)).raw(),
            tx: Box::leak(Ring::new(size)).raw(),
            fill: Box::leak(Ring::new(size)).raw(),
            completion: Box::leak(Ring::new(size)).raw(),
        }
    }

    /// Both halves of the queue, without stamps. To be asked for once, and not if other code uses
    /// [`rings`](Self::rings).
    ///
    /// # Panics
    ///
    /// It was asked for before.
    #[must_use]
    pub fn queue(&self) -> (XdpRx, XdpTx) {
        let mut lent = self.pool.cache();
        lent.reserve(self.rx.size as usize).expect("one queue");
        // SAFETY: the rings live for ever, and each has one owner.
        let (rx, fill, tx, completion) = unsafe {
            (
                Consumer::new(self.rx),
                Producer::new(self.fill),
                Producer::new(self.tx),
                Consumer::new(self.completion),
            )
        };
        let (socket, shared) = (no_socket(&self.pool), Arc::new(Shared::without_steering()));
        let stamps = Stamping { hardware: None, software: false };
        let rx = XdpRx::new(socket.clone(), shared.clone(), lent, rx, fill, stamps, false);
        let tx = XdpTx::new(socket, shared, self.pool.cache(), tx, completion, 1514, None);
        (rx, tx.expect("one queue"))
    }

    /// Receive, transmit, fill and completion ring.
    #[must_use]
    pub fn rings(&self) -> [Parts; 4] {
        [self.rx.into(), self.tx.into(), self.fill.into(), self.completion.into()]
    }

    /// What descriptors count from.
    #[must_use]
    pub fn memory(&self) -> *mut u8 {
        self.pool.region().as_ptr()
    }

    /// A frame comes. `false`: nobody has lent memory for it.
    ///
    /// # Panics
    ///
    /// It does not fit.
    pub fn bring(&self, frame: &[u8]) -> bool {
        let Some(start) = self.fill.take() else { return false };
        self.bring_in(start, frame);
        true
    }

    /// A frame comes into the memory at `start`, which was lent.
    pub(crate) fn bring_in(&self, start: u64, frame: &[u8]) {
        assert!(frame.len() <= self.pool.frame_bytes() - XDP_PACKET_HEADROOM, "{}", frame.len());
        let at = start as usize + XDP_PACKET_HEADROOM;
        assert!(at + frame.len() <= self.pool.region().len(), "no frame of the pool: {start:#x}");
        // SAFETY: inside the region, and lent to the kernel, which this is.
        unsafe { self.memory().add(at).copy_from_nonoverlapping(frame.as_ptr(), frame.len()) };
        self.rx.give(Desc { addr: at as u64, len: frame.len() as u32, options: 0 });
    }

    /// Takes all that is to be sent, and says that it was. Returns how many frames.
    pub fn send(&self) -> usize {
        let mut frames = 0;
        while let Some(desc) = self.tx.take() {
            self.completion.give(desc.addr);
            frames += 1;
        }
        frames
    }
}
