//! Asks the kernel by netlink which XDP program is on an interface, and takes it off.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use linerate_common::{SetupError, last_errno};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLA_F_NESTED: u16 = 1 << 15;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
/// Program ids by mode, with the flag that names the mode when detaching.
const BY_MODE: [(u16, u32); 3] = [(5, 1 << 2), (6, 1 << 1), (7, 1 << 3)];

const HEADER: usize = 16;
const IFINFO: usize = 16;

/// A program that is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct XdpAttached {
    pub(crate) program: u32,
    /// The `XDP_FLAGS_*` bit of its mode.
    pub(crate) mode_flag: u32,
}

/// The XDP program on the interface, if there is one.
pub(crate) fn xdp_program(ifindex: u32) -> Result<Option<XdpAttached>, SetupError> {
    let mut body = ifinfo(ifindex);
    attribute(&mut body, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let answer = transact(RTM_GETLINK, NLM_F_REQUEST, &body)?;
    let xdp = answer
        .get(HEADER + IFINFO..)
        .and_then(|rest| attributes(rest).find(|(kind, _)| *kind == IFLA_XDP));
    let Some((_, nested)) = xdp else { return Ok(None) };
    let attached = attributes(nested).find_map(|(kind, value)| {
        let (_, mode_flag) = BY_MODE.into_iter().find(|(attr, _)| *attr == kind)?;
        let program = u32::from_ne_bytes(*value.first_chunk()?);
        (program != 0).then_some(XdpAttached { program, mode_flag })
    });
    Ok(attached)
}

/// Takes a program off that was put there by netlink (`ip link`, old loaders).
pub(crate) fn detach_xdp(ifindex: u32, mode_flag: u32) -> Result<(), SetupError> {
    set_xdp(ifindex, -1, mode_flag)
}

/// Puts the program `fd` on the interface, or takes it off with -1.
fn set_xdp(ifindex: u32, fd: i32, flags: u32) -> Result<(), SetupError> {
    let mut nested = Vec::new();
    attribute(&mut nested, IFLA_XDP_FD, &fd.to_ne_bytes());
    attribute(&mut nested, IFLA_XDP_FLAGS, &flags.to_ne_bytes());
    let mut body = ifinfo(ifindex);
    attribute(&mut body, IFLA_XDP | NLA_F_NESTED, &nested);
    transact(RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, &body).map(|_| ())
}

/// `struct ifinfomsg` of any family.
fn ifinfo(ifindex: u32) -> Vec<u8> {
    let mut body = vec![0; IFINFO];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The attributes in a row; ends at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// Sends one request and gives the first answer, header included. A kernel error becomes `Err`.
fn transact(kind: u16, flags: u16, body: &[u8]) -> Result<Vec<u8>, SetupError> {
    let op = if kind == RTM_GETLINK { "netlink(RTM_GETLINK)" } else { "netlink(RTM_SETLINK)" };
    let domain = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, domain, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(SetupError::os("socket(AF_NETLINK)", last_errno()));
    }
    // SAFETY: a new descriptor, ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };

    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&flags.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(body);
    // SAFETY: the buffer is as long as said.
    let sent = unsafe { libc::send(fd.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(SetupError::os(op, last_errno()));
    }
    let mut answer = vec![0; 32 << 10];
    // SAFETY: the buffer is as long as said.
    let n = unsafe { libc::recv(fd.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    let Ok(n) = usize::try_from(n) else { return Err(SetupError::os(op, last_errno())) };
    answer.truncate(n);
    match half(&answer, 4) {
        Some(NLMSG_ERROR) => {
            let errno = answer.get(HEADER..).and_then(|b| b.first_chunk());
            match errno.map_or(-libc::EIO, |b| i32::from_ne_bytes(*b)) {
                0 => Ok(answer),
                errno => Err(crate::error::bpf(op, -errno)),
            }
        }
        Some(RTM_NEWLINK) => Ok(answer),
        _ => Err(SetupError::os(op, libc::EBADMSG)),
    }
}

#[cfg(test)]
mod tests {
    use linerate_lab::lab_or_skip;

    use super::*;
    use crate::{Options, open};

    /// As `ip link set v0 xdp obj ...` leaves it.
    #[test]
    fn a_foreign_program_is_refused_and_replaced_only_when_told_to() {
        let lab = lab_or_skip!();
        lab.in_a(|| {
            // r0 = XDP_PASS; exit
            let program = crate::bpf::load_for_test(&[0x2_0000_00b7, 0x95], "theirs").unwrap();
            let ifindex = crate::interface::Interface::open("v0").unwrap().index();
            for mode_flag in [1 << 1, 1 << 2] {
                set_xdp(ifindex, program.as_raw_fd(), mode_flag).unwrap();
                let there = xdp_program(ifindex).unwrap().unwrap();
                assert_eq!(there.mode_flag, mode_flag);
                let mut options = Options { ring_slots: 64, ..Options::default() };
                let e = open("v0", &options).unwrap_err();
                assert!(e.to_string().contains("the XDP program theirs (id "), "{e}");
                assert!(e.remedy_text().contains("ip link set v0 xdp off"), "{e}");
                assert_eq!(xdp_program(ifindex).unwrap(), Some(there));

                options.replace = true;
                let port = open("v0", &options).unwrap();
                assert!(port.notices().iter().any(|n| n.contains("took the XDP program theirs")));
                assert_ne!(xdp_program(ifindex).unwrap().unwrap().program, there.program);
                drop(port);
                assert_eq!(xdp_program(ifindex).unwrap(), None);
            }
        });
    }

    #[test]
    fn attributes_are_written_and_read_back() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 7, b"abcde");
        attribute(&mut bytes, IFLA_XDP | NLA_F_NESTED, &[]);
        assert_eq!(bytes.len(), 16);
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(7, &b"abcde"[..]), (IFLA_XDP, &[][..])]);
    }

    #[test]
    fn cut_off_attributes_end_the_walk() {
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
