//! The memory that one receive call fills: datagrams, addresses and control messages.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use linerate_common::{Error, MAX_BURST, last_errno};

use crate::headers::HEADROOM;
use crate::sys::RawAddr;

/// Room for the control messages of one datagram. All that is asked for at once (three
/// timestamps, packet info, drop count, time to live, type of service) takes 176 bytes.
const CONTROL: usize = 256;

/// A zeroed array that is only reached through its pointer, so that pointers to its elements,
/// which the kernel keeps getting, stay valid whatever Rust borrows in between.
struct Raw<T> {
    at: NonNull<T>,
    layout: Layout,
}

impl<T> Raw<T> {
    /// `T` must be plain data, valid as zeros and in need of no drop.
    fn zeroed(len: usize) -> Self {
        // No more than 64 elements, or 64 datagrams: far from the limit of a layout.
        let layout = Layout::array::<T>(len).unwrap_or_else(|_| Layout::new::<T>());
        let layout = layout.align_to(64).unwrap_or(layout);
        // SAFETY: no caller asks for 0 elements of a type without size.
        let at = unsafe { alloc_zeroed(layout) }.cast();
        Self { at: NonNull::new(at).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl<T> Drop for Raw<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed only here.
        unsafe { dealloc(self.at.as_ptr().cast(), self.layout) }
    }
}

/// [`MAX_BURST`] slots, each with headroom for headers before the datagram.
pub(crate) struct Batch {
    datagrams: Raw<u8>,
    stride: usize,
    capacity: usize,
    messages: Raw<libc::mmsghdr>,
    // Held for the pointers into them.
    _parts: Raw<libc::iovec>,
    names: Raw<RawAddr>,
    controls: Raw<[u8; CONTROL]>,
}

// SAFETY: the pointers lead to memory that this value owns alone. It is not `Sync`: `&self`
// methods read what `&mut self` methods let the kernel write, which Rust's own rules order.
unsafe impl Send for Batch {}

/// What the kernel said about one received datagram.
pub(crate) struct Message<'a> {
    /// Bytes at hand.
    pub(crate) stored: usize,
    /// Bytes that were sent; more than `stored` when it was cut.
    pub(crate) sent: usize,
    pub(crate) truncated: bool,
    pub(crate) src: &'a RawAddr,
    pub(crate) control: &'a [u8],
}

/// What a failed receive call means.
fn nothing(op: &'static str) -> Result<usize, Error> {
    match last_errno() {
        libc::EAGAIN | libc::EINTR => Ok(0),
        errno => Err(Error::os(op, errno)),
    }
}

impl Batch {
    /// Slots for datagrams of up to `capacity` bytes; what is longer is cut.
    pub(crate) fn new(capacity: usize) -> Self {
        // An odd number of cache lines apart, so that the slots' first lines do not all fall
        // into the same cache set.
        let stride = ((HEADROOM + capacity).div_ceil(64) | 1) * 64;
        let batch = Self {
            datagrams: Raw::zeroed(MAX_BURST * stride),
            stride,
            capacity,
            messages: Raw::zeroed(MAX_BURST),
            _parts: Raw::zeroed(MAX_BURST),
            names: Raw::zeroed(MAX_BURST),
            controls: Raw::zeroed(MAX_BURST),
        };
        for i in 0..MAX_BURST {
            // SAFETY: `i` is within each array and `i * stride + stride` within the datagrams.
            unsafe {
                let part = batch._parts.at.add(i).as_ptr();
                (*part).iov_base = batch.datagrams.at.add(i * stride + HEADROOM).as_ptr().cast();
                (*part).iov_len = capacity;
                let header = &mut (*batch.messages.at.add(i).as_ptr()).msg_hdr;
                header.msg_name = batch.names.at.add(i).as_ptr().cast();
                header.msg_iov = part;
                header.msg_iovlen = 1;
                header.msg_control = batch.controls.at.add(i).as_ptr().cast();
                // So that the first datagram into each slot does not pay for its page.
                batch.datagrams.at.add(i * stride).write_volatile(0);
            }
            batch.reset(i);
        }
        batch
    }

    /// Receives what waits, at most `max` datagrams, into the slots from `first` on. `Ok(0)`:
    /// nothing waits.
    ///
    /// # Errors
    ///
    /// `recvmmsg` failed with anything but `EAGAIN` and `EINTR`.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        first: usize,
        max: usize,
    ) -> Result<usize, Error> {
        let max = max.min(MAX_BURST.saturating_sub(first));
        // With MSG_TRUNC the kernel tells how long a datagram was that it had to cut.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: `max` messages from `first` on lie within the array, and each describes slots
        // that this value owns and nobody has borrowed, since `self` is borrowed mutably.
        let n = unsafe {
            let at = self.messages.at.add(first).as_ptr();
            libc::recvmmsg(socket.as_raw_fd(), at, max as u32, flags as _, std::ptr::null_mut())
        };
        match usize::try_from(n) {
            Ok(n) => Ok(n.min(max)),
            Err(_) => nothing("recvmmsg"),
        }
    }

    /// Receives one datagram into slot `i`: a `recvmmsg` would look for a second one, which costs
    /// as much as half a datagram. `plain` leaves control messages away, and is cheaper still.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    #[inline]
    pub(crate) fn receive_one(
        &mut self,
        socket: BorrowedFd<'_>,
        i: usize,
        plain: bool,
    ) -> Result<usize, Error> {
        if i >= MAX_BURST {
            return Ok(0);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: `i` is within the arrays, whose slots this value owns and nobody has borrowed,
        // since `self` is borrowed mutably. The message describes its slot; the plain call gets
        // the same address, length and room for a name.
        let n = unsafe {
            let message = &mut *self.messages.at.add(i).as_ptr();
            let header = &mut message.msg_hdr;
            let n = if plain {
                let part = &*header.msg_iov;
                let (name, len) = (header.msg_name.cast(), &mut header.msg_namelen);
                let (at, room) = (part.iov_base, part.iov_len);
                let n = libc::recvfrom(socket.as_raw_fd(), at, room, flags, name, len);
                if n >= 0 {
                    header.msg_controllen = 0;
                }
                n
            } else {
                libc::recvmsg(socket.as_raw_fd(), header, flags)
            };
            message.msg_len = n.max(0) as libc::c_uint;
            n
        };
        if n < 0 { nothing("recvmsg") } else { Ok(1) }
    }

    /// What came into slot `i`.
    #[inline]
    pub(crate) fn message(&self, i: usize) -> Message<'_> {
        assert!(i < MAX_BURST);
        // SAFETY: within the arrays; the kernel is done with them since `receive` returned. A
        // preloaded stack may leave lengths as they were or beyond the room: they are clamped.
        unsafe {
            let message = &*self.messages.at.add(i).as_ptr();
            let sent = message.msg_len as usize;
            // Its type differs between C libraries.
            #[allow(clippy::unnecessary_cast)]
            let control_len = (message.msg_hdr.msg_controllen as usize).min(CONTROL);
            Message {
                stored: sent.min(self.capacity),
                sent,
                truncated: sent > self.capacity || message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                src: &*self.names.at.add(i).as_ptr(),
                control: &(&*self.controls.at.add(i).as_ptr())[..control_len],
            }
        }
    }

    /// Slot `i`: headroom and datagram.
    #[inline]
    pub(crate) fn slot(&self, i: usize) -> &[u8] {
        assert!(i < MAX_BURST);
        // SAFETY: within the datagrams, initialised from the start.
        unsafe {
            let at = self.datagrams.at.add(i * self.stride).as_ptr();
            std::slice::from_raw_parts(at, HEADROOM + self.capacity)
        }
    }

    /// Slot `i`, to write headers into.
    #[inline]
    pub(crate) fn slot_mut(&mut self, i: usize) -> &mut [u8] {
        assert!(i < MAX_BURST);
        // SAFETY: as in `slot`, and `self` is borrowed mutably.
        unsafe {
            let at = self.datagrams.at.add(i * self.stride).as_ptr();
            std::slice::from_raw_parts_mut(at, HEADROOM + self.capacity)
        }
    }

    /// Makes slot `i` ready for the next datagram: the kernel overwrites the lengths of what it
    /// may fill with those of what it filled.
    #[inline]
    pub(crate) fn reset(&self, i: usize) {
        assert!(i < MAX_BURST);
        // SAFETY: within the array; no reference into it is held across calls.
        unsafe {
            let header = &mut (*self.messages.at.add(i).as_ptr()).msg_hdr;
            header.msg_namelen = RawAddr::LEN;
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
    }
}
