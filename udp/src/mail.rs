//! The arrays that `sendmmsg` reads: messages, their parts and their control messages.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use linerate_common::last_errno;

use crate::outbox::Outbox;
use crate::sys::RawAddr;

/// Messages in one `sendmmsg`.
const MESSAGES: usize = 64;

/// Datagrams in one message with segmentation offload (`UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS: usize = 64;

/// Datagrams in one `sendmmsg`.
const PARTS: usize = 256;

/// Bytes in one message with segmentation offload: an IP packet holds 65,535.
const RUN_BYTES: usize = 65_000;

/// A control message that carries the segment size.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Segment {
    header: libc::cmsghdr,
    size: u16,
}

/// One batch, packed from the front of an outbox and sent at once: the pointers in it are good
/// only until the outbox changes.
pub(crate) struct Mail {
    messages: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    segments: Box<[Segment]>,
    /// Datagrams in each message.
    runs: [u8; MESSAGES],
    count: usize,
}

// SAFETY: the pointers are written by `pack` and read by `send` of the same kick; between kicks
// nobody follows them.
unsafe impl Send for Mail {}

impl Mail {
    pub(crate) fn new() -> Self {
        // SAFETY: all three are plain data for which zeros are valid.
        let (message, part, segment) = unsafe { std::mem::zeroed() };
        Self {
            messages: vec![message; MESSAGES].into(),
            parts: vec![part; PARTS].into(),
            segments: vec![segment; MESSAGES].into(),
            runs: [0; MESSAGES],
            count: 0,
        }
    }

    /// Packs letters that are due, of the first one's family, oldest first. Runs of datagrams to one
    /// address that are equally long, up to `segment` bytes, become one message; 0 packs no runs.
    /// Over a connected socket only what goes to its peer is packed, without addresses. Gives the
    /// number of datagrams in the first message.
    pub(crate) fn pack(
        &mut self,
        outbox: &Outbox,
        segment: usize,
        peer: Option<&RawAddr>,
    ) -> usize {
        let due = outbox.due();
        let (mut i, mut used) = (0, 0);
        self.count = 0;
        while i < due && self.count < MESSAGES && used < PARTS {
            let letter = outbox.letter(i);
            if letter.v6 != outbox.letter(0).v6 || peer.is_some_and(|p| !p.is_same(&letter.to)) {
                break;
            }
            let most = if segment == 0 { 1 } else { SEGMENTS.min(PARTS - used) };
            let run = run_length(outbox, i, most, segment);
            for part in 0..run {
                let payload = outbox.payload(i + part);
                self.parts[used + part] = libc::iovec {
                    iov_base: payload.as_ptr().cast_mut().cast(),
                    iov_len: payload.len(),
                };
            }
            let header = &mut self.messages[self.count].msg_hdr;
            (header.msg_name, header.msg_namelen) = match peer {
                Some(_) => (ptr::null_mut(), 0),
                None => (ptr::from_ref(&letter.to).cast_mut().cast(), letter.to.len()),
            };
            header.msg_iov = &mut self.parts[used];
            header.msg_iovlen = run as _;
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            if run > 1 {
                const LEN: usize = size_of::<libc::cmsghdr>() + size_of::<u16>();
                let control = &mut self.segments[self.count];
                control.header.cmsg_len = LEN as _;
                control.header.cmsg_level = libc::SOL_UDP;
                control.header.cmsg_type = libc::UDP_SEGMENT;
                control.size = letter.len as u16;
                header.msg_control = ptr::from_mut(control).cast();
                header.msg_controllen = size_of::<Segment>() as _;
            }
            self.runs[self.count] = run as u8;
            self.count += 1;
            used += run;
            i += run;
        }
        usize::from(self.runs[0])
    }

    /// Sends what `pack` packed and gives the number of datagrams that went, or the errno that
    /// stopped the first.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> Result<usize, i32> {
        // SAFETY: `pack` has just described `count` messages by pointers to the outbox, which
        // has not changed since, and to arrays of `self`; the kernel reads them, and writes
        // only the lengths in `messages`.
        let n = unsafe {
            let (at, count) = (self.messages.as_mut_ptr(), self.count as libc::c_uint);
            libc::sendmmsg(socket.as_raw_fd(), at, count, libc::MSG_DONTWAIT as _)
        };
        let n = usize::try_from(n).map_err(|_| last_errno())?;
        Ok(self.runs[..n.min(self.count)].iter().map(|run| usize::from(*run)).sum())
    }
}

/// Sends the oldest letter and no other, which needs no description of messages: to its address,
/// or to the socket's `peer`. Gives 1, as one datagram went, or the errno.
#[inline]
pub(crate) fn send_first(
    outbox: &Outbox,
    socket: BorrowedFd<'_>,
    peer: Option<&RawAddr>,
) -> Result<usize, i32> {
    let (payload, to) = (outbox.payload(0), &outbox.letter(0).to);
    let (name, len) = match peer {
        Some(_) => (ptr::null(), 0),
        None => (ptr::from_ref(to).cast(), to.len()),
    };
    // SAFETY: payload and address outlive the call, which only reads them; their lengths are given.
    let n = unsafe {
        let (at, flags) = (payload.as_ptr().cast(), libc::MSG_DONTWAIT);
        libc::sendto(socket.as_raw_fd(), at, payload.len(), flags, name, len)
    };
    if n < 0 { Err(last_errno()) } else { Ok(1) }
}

/// How many letters from `i` on can travel as one: to the same address, all as long as the first,
/// but for the last, which may be shorter.
fn run_length(outbox: &Outbox, i: usize, most: usize, segment: usize) -> usize {
    let first = outbox.letter(i);
    let len = first.len as usize;
    if most <= 1 || len == 0 || len > segment {
        return 1;
    }
    let most = most.min(RUN_BYTES / len).min(outbox.due() - i);
    let mut run = 1;
    while run < most {
        let next = outbox.letter(i + run);
        if next.len > first.len || next.len == 0 || !next.to.is_same(&first.to) {
            break;
        }
        run += 1;
        if next.len < first.len {
            break;
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(letters: &[(&str, usize)]) -> Outbox {
        let mut outbox = Outbox::new(300, 2000);
        for (to, len) in letters {
            let to: std::net::SocketAddr = to.parse().unwrap();
            outbox.seal(RawAddr::new(to, 1), to.is_ipv6(), 42..42 + len, 42 + len);
        }
        outbox.kick();
        outbox
    }

    fn runs(letters: &[(&str, usize)], segment: usize) -> Vec<u8> {
        let mut mail = Mail::new();
        mail.pack(&outbox(letters), segment, None);
        mail.runs[..mail.count].to_vec()
    }

    const A: &str = "239.1.1.1:1";
    const B: &str = "239.1.1.1:2";

    #[test]
    fn only_equal_neighbours_travel_together() {
        let letters = [(A, 9), (A, 9), (A, 5), (A, 5), (B, 5), (B, 6), (B, 0), (B, 6)];
        assert_eq!(runs(&letters, 1472), [3, 1, 1, 1, 1, 1]);
        assert_eq!(runs(&letters, 8), [1, 1, 2, 1, 1, 1, 1], "9 bytes are more than a segment");
        assert_eq!(runs(&letters, 0), [1; 8]);
    }

    #[test]
    fn runs_and_batches_have_limits() {
        assert_eq!(runs(&[(A, 10); 300], 1472), [64, 64, 64, 64], "parts");
        assert_eq!(runs(&[(A, 1400); 100], 1472), [46, 46, 8], "bytes in a packet");
        assert_eq!(runs(&[(A, 10); 300], 0).len(), 64, "messages");
    }

    #[test]
    fn a_connected_socket_gets_what_is_for_its_peer() {
        let outbox = outbox(&[(A, 1), (A, 2), (B, 1), (A, 1)]);
        let mut mail = Mail::new();
        mail.pack(&outbox, 0, Some(&RawAddr::new(A.parse().unwrap(), 1)));
        assert_eq!(mail.count, 2);
        assert!(mail.messages[..2].iter().all(|m| m.msg_hdr.msg_name.is_null()));
    }

    #[test]
    fn a_batch_has_one_family() {
        assert_eq!(runs(&[(A, 1), ("[ff15::1]:1", 1), (A, 1)], 0), [1]);
    }
}
