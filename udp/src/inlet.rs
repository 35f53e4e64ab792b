//! One receiving socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linerate_common::membership::SocketJoins;
use linerate_common::{Error, MAX_BURST, SetupError};

use crate::batch::Batch;
use crate::port::{Options, Stamps};
use crate::preload::needed;
use crate::{error, preload, sys};

/// By how much more is asked for after as many datagrams were there as were asked for.
const GROWTH: usize = 8;

/// The interface that sockets are opened on, as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
}

/// A socket, what it is open for, and what it has lost.
pub(crate) struct Inlet {
    socket: OwnedFd,
    pub(crate) target: Target,
    /// Port of every datagram's destination.
    pub(crate) port: u16,
    index: u32,
    drops: u32,
    total_drops: u64,
    last_drops: u32,
    /// Datagrams to ask for next: see [`receive`](Self::receive).
    want: usize,
    /// No control message is wanted but the count of drops.
    bare: bool,
    /// Whether datagrams come one by one.
    pace: Pace,
}

/// What the last looks into a socket found. Between two datagrams of which the first was the only
/// one there, the socket had room: none was dropped, and the second has no count to tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Unknown,
    Nothing,
    /// One datagram after nothing.
    One,
    /// Nothing again after that.
    Lone,
}

impl Pace {
    fn after(self, received: usize) -> Self {
        match (self, received) {
            (Self::One | Self::Lone, 0) => Self::Lone,
            (_, 0) => Self::Nothing,
            (Self::Nothing | Self::Lone, 1) => Self::One,
            _ => Self::Unknown,
        }
    }
}

/// What a socket is open for.
pub(crate) enum Target {
    /// Groups of one family on one port.
    Groups {
        v6: bool,
        joins: SocketJoins,
        /// The stack may deliver what the socket did not join, so look at each datagram.
        check: bool,
    },
    /// One address, and perhaps one peer.
    Unicast { dst: SocketAddr, src: Option<SocketAddr> },
}

impl Inlet {
    /// A socket for groups on `port`, bound to the port alone: what it gets, its joins decide.
    pub(crate) fn for_groups(
        place: &Place,
        options: &Options,
        v6: bool,
        port: u16,
        notices: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        let fail = |e| error::socket(e, &place.name);
        let socket = sys::udp_socket(v6).map_err(fail)?;
        let fd = socket.as_fd();
        // Other programs may listen to the same groups.
        sys::enable(fd, "SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR).map_err(fail)?;
        // The destination, to tell groups apart.
        prepare(fd, place, options, v6, true, notices).map_err(fail)?;
        let (level, option) = if v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL)
        } else {
            (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL)
        };
        // Only what this socket joined, not what others on this host did.
        let only_own = sys::set(fd, "IP_MULTICAST_ALL", level, option, &0i32).is_ok();
        let any: IpAddr =
            if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let addr = SocketAddr::new(any, port);
        sys::name("bind", fd, addr, place.index)
            .map_err(|e| error::address(e, &place.name, addr))?;
        let target = Target::Groups { v6, joins: SocketJoins::default(), check: !only_own };
        Ok(Self::new(socket, target, port, place.index, false))
    }

    /// A socket for one address of this host, from anybody or connected to one peer.
    pub(crate) fn for_address(
        place: &Place,
        options: &Options,
        dst: SocketAddr,
        src: Option<SocketAddr>,
        notices: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        let fail = |e| error::socket(e, &place.name);
        let socket = sys::udp_socket(dst.is_ipv6()).map_err(fail)?;
        let fd = socket.as_fd();
        if src.is_some() {
            // Several conversations of one address; the kernel prefers the connected socket.
            sys::enable(fd, "SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR).map_err(fail)?;
        }
        // The destination is the address that the socket is bound to, unless that is any.
        let any = dst.ip().is_unspecified();
        prepare(fd, place, options, dst.is_ipv6(), any, notices).map_err(fail)?;
        if !sys::bind_to_interface(fd, &place.name).map_err(fail)? {
            notices.push(format!(
                "{dst} is received on every interface: tying it to {} needs Linux 5.7 or CAP_NET_RAW",
                place.name
            ));
        }
        sys::name("bind", fd, dst, place.index).map_err(|e| error::address(e, &place.name, dst))?;
        if let Some(src) = src {
            sys::name("connect", fd, src, place.index)
                .map_err(|e| error::address(e, &place.name, src))?;
        }
        let bare = !any && options.stamps == Stamps::Off && !options.ttl_tos;
        Ok(Self::new(socket, Target::Unicast { dst, src }, dst.port(), place.index, bare))
    }

    fn new(socket: OwnedFd, target: Target, port: u16, index: u32, bare: bool) -> Self {
        Self {
            socket,
            target,
            port,
            index,
            drops: 0,
            total_drops: 0,
            last_drops: 0,
            want: 1,
            bare,
            pace: Pace::Unknown,
        }
    }

    /// Receives what waits, at most `max` datagrams, into the slots from `first` on.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        batch: &mut Batch,
        first: usize,
        max: usize,
    ) -> Result<usize, Error> {
        self.pace = Pace::Unknown;
        batch.receive(self.socket.as_fd(), first, max)
    }

    /// As [`receive`](Self::receive), but asks for as many datagrams as were there the last time,
    /// and for more as long as there are. So one that comes alone costs no second look, and is
    /// shown before those behind it are fetched.
    #[inline]
    pub(crate) fn receive_growing(
        &mut self,
        batch: &mut Batch,
        first: usize,
        max: usize,
    ) -> Result<usize, Error> {
        if max == 0 {
            return Ok(0);
        }
        let want = self.want.min(max);
        let socket = self.socket.as_fd();
        let n = if want > 1 {
            batch.receive(socket, first, want)?
        } else {
            batch.receive_one(socket, first, self.bare && self.pace == Pace::Lone)?
        };
        self.pace = self.pace.after(n);
        self.want = if n < want { n.max(1) } else { (want * GROWTH).min(MAX_BURST) };
        Ok(n)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Joins; `Ok(false)`: this socket cannot take it, another may.
    pub(crate) fn join(&mut self, group: IpAddr, source: Option<IpAddr>) -> Result<bool, Error> {
        match &mut self.target {
            Target::Groups { joins, check, .. } => {
                // Onload joins by source and then delivers the whole group.
                *check |= source.is_some();
                joins.join(self.socket.as_fd(), self.index, group, source)
            }
            Target::Unicast { .. } => Ok(false),
        }
    }

    /// Leaves again. What cannot be left went with its interface.
    pub(crate) fn leave(&mut self, group: IpAddr, source: Option<IpAddr>) {
        if let Target::Groups { joins, .. } = &mut self.target {
            let _ = joins.leave(self.socket.as_fd(), self.index, group, source);
        }
    }

    /// Does a datagram from `src` to `dst` belong here? Gives its destination. `dst` is `None`
    /// when the stack did not say: then it is the address that the socket is bound to, or the
    /// only group that it has joined.
    #[inline]
    pub(crate) fn admit(&self, src: IpAddr, dst: Option<IpAddr>) -> Option<IpAddr> {
        match &self.target {
            Target::Groups { joins, check, .. } => {
                let dst = dst.or_else(|| joins.only_group())?;
                // A socket bound to the port alone also gets datagrams to this host itself.
                let wanted = dst.is_multicast()
                    && (!check || joins.contains(dst, None) || joins.contains(dst, Some(src)));
                wanted.then_some(dst)
            }
            Target::Unicast { dst: bound, .. } => Some(dst.unwrap_or(bound.ip())),
        }
    }

    /// Throws away what waits, and says how many datagrams that were.
    pub(crate) fn drain(&mut self) -> u64 {
        // A sender may keep up with this loop for ever; no buffer holds as many.
        const MOST: u64 = 1 << 20;
        let mut byte = 0u8;
        for n in 0..MOST {
            // SAFETY: one byte, which outlives the call; what does not fit is cut off.
            let got = unsafe {
                let at = (&raw mut byte).cast();
                libc::recv(self.socket.as_raw_fd(), at, 1, libc::MSG_DONTWAIT)
            };
            if got < 0 {
                return n;
            }
        }
        MOST
    }

    /// Takes in the kernel's count of dropped datagrams, of which it shows 32 bits; `true` when
    /// it grew since the last datagram that carried one.
    #[inline]
    pub(crate) fn note_drops(&mut self, now: u32) -> bool {
        let grew = now != self.last_drops;
        self.last_drops = now;
        self.count(now);
        grew
    }

    /// Everything the kernel dropped on this socket until now.
    pub(crate) fn drops(&mut self) -> u64 {
        // SO_MEMINFO tells the count as it is; with a datagram came only what was lost before it.
        const DROPS: usize = 8;
        if let Some(info) = sys::get::<9>(self.fd(), libc::SOL_SOCKET, SO_MEMINFO) {
            self.count(info[DROPS]);
        }
        self.total_drops
    }

    /// A datagram's count may be older than the last one asked for, so only growth counts.
    fn count(&mut self, now: u32) {
        let grown = now.wrapping_sub(self.drops);
        if grown as i32 > 0 {
            self.total_drops += u64::from(grown);
            self.drops = now;
        }
    }
}

/// From <asm-generic/socket.h>, since Linux 4.12; the libc crate does not have it everywhere.
const SO_MEMINFO: libc::c_int = 55;

impl Drop for Inlet {
    fn drop(&mut self) {
        if let Target::Groups { joins, .. } = &mut self.target {
            joins.leave_all(self.socket.as_fd(), self.index);
        }
    }
}

/// The options that every receiving socket gets. What a preloaded stack does not know is left
/// away, and what is then missing in the frames is said by their flags.
fn prepare(
    fd: BorrowedFd<'_>,
    place: &Place,
    options: &Options,
    v6: bool,
    destination: bool,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let mut notice = |text: String| {
        if !notices.contains(&text) {
            notices.push(text);
        }
    };
    if v6 {
        sys::enable(fd, "IPV6_V6ONLY", libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
    }
    // Each control message that comes with a datagram costs as much as copying a short one.
    for (level, op, option) in facts(v6, destination, options.ttl_tos) {
        needed(sys::enable(fd, op, level, option))?;
    }
    // Comes with no datagram until one has been dropped.
    needed(sys::enable(fd, "SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL))?;
    if !stamp(fd, options.stamps) {
        notice("no timestamps: this socket layer does not know SO_TIMESTAMPING".into());
    }
    if let Some(got) = grow_buffer(fd, options.receive_buffer_bytes) {
        notice(format!(
            "the kernel gave {got} bytes of receive buffer instead of {} for datagrams on {}; \
             raise the limit: sysctl -w net.core.rmem_max={}",
            options.receive_buffer_bytes, place.name, options.receive_buffer_bytes
        ));
    }
    if options.busy_poll_us > 0 {
        let us = options.busy_poll_us as libc::c_int;
        if sys::set(fd, "SO_BUSY_POLL", libc::SOL_SOCKET, libc::SO_BUSY_POLL, &us).is_err() {
            notice(
                "no busy polling: on this kernel SO_BUSY_POLL needs CAP_NET_ADMIN: \
                    sudo setcap cap_net_admin+ep PROGRAM"
                    .into(),
            );
        }
    }
    Ok(())
}

/// The options that have the kernel tell about a datagram's headers.
fn facts(
    v6: bool,
    destination: bool,
    ttl_tos: bool,
) -> impl Iterator<Item = (libc::c_int, &'static str, libc::c_int)> {
    let (level, dst, ttl, tos) = if v6 {
        (
            libc::IPPROTO_IPV6,
            ("IPV6_RECVPKTINFO", libc::IPV6_RECVPKTINFO),
            ("IPV6_RECVHOPLIMIT", libc::IPV6_RECVHOPLIMIT),
            ("IPV6_RECVTCLASS", libc::IPV6_RECVTCLASS),
        )
    } else {
        // For IP_PKTINFO the kernel looks a route up for each datagram to a group. The preloaded
        // stacks know nothing else.
        let dst = if preload::stack().is_some() {
            ("IP_PKTINFO", libc::IP_PKTINFO)
        } else {
            ("IP_RECVORIGDSTADDR", libc::IP_RECVORIGDSTADDR)
        };
        let (ttl, tos) = (("IP_RECVTTL", libc::IP_RECVTTL), ("IP_RECVTOS", libc::IP_RECVTOS));
        (libc::IPPROTO_IP, dst, ttl, tos)
    };
    [(destination, dst), (ttl_tos, ttl), (ttl_tos, tos)]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(move |(_, (op, option))| (level, op, option))
}

/// Asks for timestamps: with the card's where wanted and possible.
fn stamp(fd: BorrowedFd<'_>, stamps: Stamps) -> bool {
    let software = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    let both = software | libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    let set = |flags: libc::c_uint| {
        let op = "SO_TIMESTAMPING";
        sys::set(fd, op, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &flags).is_ok()
    };
    match stamps {
        // VMA refuses the pair when the card has no clock.
        Stamps::Best => set(both) || set(software),
        Stamps::Software => set(software),
        Stamps::Off => true,
    }
}

/// Asks for a receive buffer, beyond the limit where the caller may. Gives what the kernel
/// granted if that is less.
fn grow_buffer(fd: BorrowedFd<'_>, bytes: u32) -> Option<u32> {
    if bytes == 0 {
        return None;
    }
    let want = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
    let force = ("SO_RCVBUFFORCE", libc::SO_RCVBUFFORCE);
    for (op, option) in [force, ("SO_RCVBUF", libc::SO_RCVBUF)] {
        if sys::set(fd, op, libc::SOL_SOCKET, option, &want).is_ok() {
            break;
        }
    }
    // The kernel doubles the value to account for its own overhead, and reports the double.
    let got = sys::get::<1>(fd, libc::SOL_SOCKET, libc::SO_RCVBUF)?[0] / 2;
    (got < bytes).then_some(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inlet() -> Inlet {
        let target = Target::Unicast { dst: "127.0.0.1:1".parse().unwrap(), src: None };
        Inlet::new(sys::udp_socket(false).unwrap(), target, 1, 1, false)
    }

    #[test]
    fn a_drop_counter_that_wraps_keeps_counting() {
        let mut inlet = inlet();
        assert!(inlet.note_drops(u32::MAX / 2));
        assert!(inlet.note_drops(u32::MAX - 1));
        assert!(inlet.note_drops(3));
        assert!(!inlet.note_drops(3));
        assert_eq!(inlet.total_drops, u64::from(u32::MAX) + 4);
    }

    #[test]
    fn an_older_count_takes_nothing_back() {
        let mut inlet = inlet();
        inlet.count(10);
        inlet.note_drops(4);
        assert_eq!(inlet.total_drops, 10);
        inlet.note_drops(11);
        assert_eq!(inlet.total_drops, 11);
    }
}
