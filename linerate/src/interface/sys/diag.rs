//! AF_XDP sockets as `NETLINK_SOCK_DIAG` lists them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::interface::XdpSocket;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SHOW_INFO_AND_STATS: u32 = 1 | 1 << 4;
const ATTRIBUTE_INFO: u16 = 1;
const ATTRIBUTE_STATS: u16 = 9;
/// More than a dump of any real machine has.
const MOST_MESSAGES: usize = 100_000;

/// Every socket; `None` when the kernel does not answer.
pub(in crate::interface) fn xdp_sockets() -> Option<Vec<XdpSocket>> {
    let socket = open()?;
    let mut request = Vec::new();
    // struct nlmsghdr, then struct xdp_diag_req: family, protocol, pad, inode, show, cookie.
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request.extend(36_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_XDP as u8, 0, 0, 0]);
    request.extend(0_u32.to_ne_bytes());
    request.extend(SHOW_INFO_AND_STATS.to_ne_bytes());
    request.extend([0xff; 8]);
    // SAFETY: `request` is that long; a netlink socket that is not connected sends to the kernel.
    let n = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if n < 0 {
        return None;
    }
    let mut sockets = Vec::new();
    let mut reply = vec![0_u8; 64 << 10];
    for _ in 0..MOST_MESSAGES {
        // SAFETY: writes at most `reply.len()` bytes into `reply`.
        let n =
            unsafe { libc::recv(socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), 0) };
        let mut rest = reply.get(..usize::try_from(n).ok()?)?;
        while let Some((kind, body, after)) = message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Some(sockets),
                libc::NLMSG_ERROR => return None,
                _ => sockets.extend(parse(body)),
            }
            rest = after;
        }
    }
    None
}

fn open() -> Option<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the descriptor is owned by what is returned.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let patience = libc::timeval { tv_sec: 2, tv_usec: 0 };
    // SAFETY: a timeval of that size, read during the call.
    let rc = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const patience).cast(),
            size_of::<libc::timeval>() as u32,
        )
    };
    (rc == 0).then_some(socket)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The first message: its type, its body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32_at(bytes, 0)? as usize;
    let body = bytes.get(16..len)?;
    Some((u16_at(bytes, 4)?, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// struct xdp_diag_msg and its attributes.
fn parse(body: &[u8]) -> Option<XdpSocket> {
    let mut found = XdpSocket { inode: u32_at(body, 4)?, ..XdpSocket::default() };
    let mut rest = body.get(16..)?;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let len = usize::from(len);
        let Some(value) = rest.get(4..len) else { break };
        match kind {
            ATTRIBUTE_INFO => {
                found.interface_index = u32_at(value, 0)?;
                found.queue = u32_at(value, 4)?;
            }
            ATTRIBUTE_STATS => {
                found.rx_dropped = u64_at(value, 0)?;
                found.rx_invalid = u64_at(value, 8)?;
                found.rx_ring_full = u64_at(value, 16)?;
                found.fill_ring_empty = u64_at(value, 24)?;
                found.tx_invalid = u64_at(value, 32)?;
            }
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_lie_about_their_length_are_not_read() {
        assert!(message(&[0; 16]).is_none());
        assert!(message(&[0xff; 64]).is_none());
        assert!(parse(&[0; 8]).is_none());
        let mut body = vec![0; 16];
        body.extend([0xff, 0xff, 1, 0]);
        assert_eq!(parse(&body), Some(XdpSocket::default()));
    }

    #[test]
    #[cfg(feature = "afxdp")]
    fn a_socket_of_ours_is_listed_with_what_it_lost() {
        let lab = linerate_lab::lab_or_skip!();
        let (index, listed) = lab.in_b(|| {
            let flow = "ether:0x88b5".parse().expect("a flow");
            let port = crate::port("afxdp:v1?ring_slots=64").flow(flow).open().expect("it opens");
            let listed = xdp_sockets();
            drop(port);
            (crate::interface::named("v1").expect("the lab has v1").index, listed)
        });
        let Some(listed) = listed else {
            linerate_lab::skip("a_socket_of_ours_is_listed", "this kernel has no xsk_diag");
            return;
        };
        assert!(listed.iter().any(|s| s.interface_index == index && s.inode > 0), "{listed:?}");
    }
}
