//! The transmit queue.
//!
//! Frames are written into slots of this process and handed over in groups by `sendmmsg`. The
//! kernel offers a mapped transmit ring as well (`PACKET_TX_RING`); it is not used because it is
//! slower: each of its frames is set up page by page as a fragmented packet, which costs more
//! than the copy that it saves. Measured on a veth pair, 60-byte frames, one core, groups of 64,
//! both with `PACKET_QDISC_BYPASS` (Linux 6.18): `sendmmsg` 0.53 million frames a second, the ring
//! 0.44, one `send` for each frame 0.48.

use std::fmt;
use std::time::{Duration, Instant};

use linerate_common::{Error, FrameTx, TxStats, last_errno};

use crate::link;
use crate::sys::Socket;

/// One transmit queue: a packet socket and its slots.
///
/// * `commit` sends nothing but when it fills the last slot; `kick` sends all in one system call
///   for each 1,024 frames. Slots come back with it: the kernel copies.
/// * **Back-pressure.** While the kernel's buffer or the device's queue is full, `kick` waits and
///   tries again; it gives up with an error after 100 ms without any progress. What was not taken
///   stays queued in order for the next `kick` or `reap`. A frame is never sent twice.
/// * **Losses.** `refused` counts frames that the kernel calls invalid: shorter than 14 bytes, or
///   over MTU + 14 bytes, which it allows with an 802.1Q tag in front only (then MTU + 18). What the kernel drops behind the socket
///   (a veth peer that is too slow, for one) shows in the interface's counters only.
/// * **Link.** `kick` gives `LinkDown` while the interface is down or has no carrier and
///   `DeviceGone` when it has been removed; what was committed stays queued.
pub struct PacketTx {
    socket: Socket,
    /// All slots, `stride` bytes each.
    memory: Box<[u8]>,
    stride: usize,
    max_len: usize,
    slots: usize,
    /// Length of the committed frame in each slot.
    lens: Box<[u32]>,
    /// The committed slots are `sent..filled`; both go back to 0 when all are sent.
    sent: usize,
    filled: usize,
    /// Bytes that the slot at `filled` is reserved for, 0 for none.
    reserved: usize,
    messages: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    stats: TxStats,
    /// Slots that came back since the last `reap`.
    returned: usize,
}

/// How long `kick` waits for a full queue to move.
const PATIENCE: Duration = Duration::from_millis(100);

// SAFETY: the raw pointers in `messages` and `vectors` point into the queue's own boxes; they are
// written anew before each system call that reads them.
unsafe impl Send for PacketTx {}

impl PacketTx {
    pub(crate) fn new(socket: Socket, max_len: usize, slots: usize) -> Self {
        // Slots begin on cache lines of their own.
        let stride = max_len.next_multiple_of(64);
        // SAFETY: both are plain data of the C library.
        let (message, vector) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            socket,
            memory: vec![0; stride * slots].into(),
            stride,
            max_len,
            slots,
            lens: vec![0; slots].into(),
            sent: 0,
            filled: 0,
            reserved: 0,
            messages: vec![message; slots].into(),
            vectors: vec![vector; slots].into(),
            stats: TxStats::default(),
            returned: 0,
        }
    }

    /// Hands over what is queued. `EAGAIN` or `ENOBUFS`: the kernel takes no more just now.
    fn flush(&mut self) -> Result<(), Error> {
        while self.sent < self.filled {
            let errno = match self.send_group() {
                Ok(n) => {
                    for len in &self.lens[self.sent..self.sent + n] {
                        self.stats.bytes += u64::from(*len);
                    }
                    self.stats.frames += n as u64;
                    self.advance(n);
                    continue;
                }
                Err(errno) => errno,
            };
            match errno {
                libc::EINTR => {}
                // The frame at hand is no good; those behind it may be.
                libc::EINVAL | libc::EMSGSIZE => {
                    self.stats.refused += 1;
                    self.advance(1);
                }
                errno => return Err(Error::os("sendmmsg", errno)),
            }
        }
        Ok(())
    }

    /// One `sendmmsg` over all that is queued; how many it took.
    fn send_group(&mut self) -> Result<usize, i32> {
        let queued = self.sent..self.filled;
        let count = queued.len();
        for (i, slot) in queued.enumerate() {
            let frame = &mut self.memory[slot * self.stride..][..self.lens[slot] as usize];
            self.vectors[i].iov_base = frame.as_mut_ptr().cast();
            self.vectors[i].iov_len = frame.len();
            self.messages[i].msg_hdr.msg_iov = &raw mut self.vectors[i];
            self.messages[i].msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `count` messages, each with one vector that points to a frame of ours; all of it
        // outlives the call, which does not write but to `msg_len`.
        let n = unsafe {
            libc::sendmmsg(
                self.socket.raw(),
                self.messages.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
            )
        };
        if n < 0 { Err(last_errno()) } else { Ok(n as usize) }
    }

    /// [`flush`](Self::flush) where no error can be returned: the next `kick` meets it again.
    #[cold]
    fn try_flush(&mut self) {
        let _ = self.flush();
    }

    fn advance(&mut self, n: usize) {
        self.sent += n;
        self.returned += n;
        self.stats.completed += n as u64;
        if self.sent == self.filled {
            (self.sent, self.filled) = (0, 0);
        }
    }
}

impl FrameTx for PacketTx {
    fn max_len(&self) -> usize {
        self.max_len
    }

    fn room(&self) -> usize {
        self.slots - self.filled
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len == 0 || len > self.max_len {
            return None;
        }
        if self.filled == self.slots {
            self.try_flush();
            if self.filled == self.slots {
                return None;
            }
        }
        self.reserved = len;
        Some(&mut self.memory[self.filled * self.stride..][..len])
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        assert!(len <= self.reserved, "commit({len}) after reserve({})", self.reserved);
        self.reserved = 0;
        if len == 0 {
            return;
        }
        self.lens[self.filled] = len as u32;
        self.filled += 1;
        if self.filled == self.slots {
            self.try_flush();
        }
    }

    fn kick(&mut self) -> Result<(), Error> {
        let mut stuck: Option<(Instant, u64)> = None;
        loop {
            let e = match self.flush() {
                Err(e) if matches!(e.errno, libc::EAGAIN | libc::ENOBUFS) => e,
                other => return other,
            };
            // Without a carrier the device's queue stays full.
            link::has_carrier(&self.socket)?;
            match stuck {
                Some((since, frames)) if frames == self.stats.frames => {
                    if since.elapsed() > PATIENCE {
                        return Err(e);
                    }
                }
                _ => stuck = Some((Instant::now(), self.stats.frames)),
            }
            // A full device queue wakes nobody.
            if e.errno == libc::EAGAIN {
                self.socket.wait_writable(PATIENCE);
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn reap(&mut self) -> usize {
        if self.sent > 0 {
            self.try_flush();
        }
        std::mem::take(&mut self.returned)
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

impl fmt::Debug for PacketTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketTx")
            .field("slots", &self.slots)
            .field("queued", &(self.filled - self.sent))
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
