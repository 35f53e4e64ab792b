//! The send queue.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linerate_common::membership::Interfaces;
use linerate_common::{Error, ErrorKind, FrameTx, SetupError, TxStats};

use crate::inlet::Place;
use crate::mail::{self, Mail};
use crate::outbox::Outbox;
use crate::port::{Gso, Options};
use crate::preload::needed;
use crate::sys::RawAddr;
use crate::way::Way;
use crate::{error, preload, strip, sys};

/// How long a kick waits, in ms, for room in a send buffer that the card is emptying.
const DRAIN_MS: libc::c_int = 5;

/// Sends the payloads of UDP frames to the addresses in their headers.
///
/// `commit` checks the frame and takes the headers off; a frame that is no whole UDP datagram is
/// counted in `refused`. `kick` sends all that was committed, 64 messages a system call; after some
/// dozens of datagrams to one address and none to another the socket is connected to it. Source
/// address and port, type of service and time to live are those of the socket, not of the frame.
///
/// `TxStats`: `queue_full` are datagrams that the kernel threw away because the device's queue
/// was full (`ENOBUFS`), `failed` those it could not send for another reason, such as a missing
/// route, `refused` those that no socket can send. When the socket's own buffer is full, `kick`
/// waits a few ms; what is left then stays queued, shows in `room`, and goes with a later `kick`,
/// `reap` or `reserve`.
pub struct UdpTx {
    place: Place,
    interfaces: Interfaces,
    options: Options,
    v4: Option<Way>,
    v6: Option<Way>,
    outbox: Outbox,
    mail: Mail,
    /// Longest IP packet that the interface carries in one piece.
    mtu: usize,
    gso: bool,
    reserved: usize,
    reaped: u64,
    stats: TxStats,
}

impl UdpTx {
    pub(crate) fn open(place: &Place, options: &Options) -> Result<Self, SetupError> {
        let fail = |e| error::socket(e, &place.name);
        let interfaces = Interfaces::here().map_err(fail)?;
        let mtu = interfaces.mtu_of(&place.name).map_err(fail)? as usize;
        // 14 bytes of Ethernet, one VLAN tag; no IP packet is longer than 65,535 bytes.
        let max_len = match options.max_frame_bytes {
            0 => mtu + 18,
            n => n,
        };
        let max_len = max_len.clamp(64, 65_535 + 18);
        let wanted = match options.gso {
            Gso::Off => false,
            Gso::On => true,
            Gso::Auto => is_card(&place.name),
        };
        // The stacks pass over the control message that says where to cut.
        let gso = wanted && preload::stack().is_none();
        let mut tx = Self {
            place: place.clone(),
            interfaces,
            options: options.clone(),
            v4: None,
            v6: None,
            outbox: Outbox::new(options.send_slots, max_len),
            mail: Mail::new(),
            mtu,
            gso,
            reserved: 0,
            reaped: 0,
            stats: TxStats::default(),
        };
        tx.open_sockets()?;
        Ok(tx)
    }

    fn open_sockets(&mut self) -> Result<(), SetupError> {
        let source = self.interfaces.ipv4_of(&self.place.name);
        // What a preloaded stack makes of a connection that comes and goes is its own affair.
        let able = preload::stack().is_none();
        let way = |v6| {
            socket(&self.place, &self.options, v6, source).map(|socket| Way::new(socket, able))
        };
        self.v4 = Some(way(false)?);
        // A kernel without IPv6 still sends IPv4.
        self.v6 = match way(true) {
            Err(e) if e.errno() == libc::EAFNOSUPPORT => None,
            other => Some(other?),
        };
        Ok(())
    }

    /// Is segmentation offload in use? It is switched off by the first send that shows it not to
    /// work.
    #[must_use]
    pub fn uses_gso(&self) -> bool {
        self.gso
    }

    /// Sends what is due. `Ok` with frames left: the socket's buffer is full.
    fn flush(&mut self, wait_ms: libc::c_int) -> Result<(), Error> {
        let mut trouble = None;
        let mut waited = false;
        let mut excused = false;
        let mut reopened = false;
        while self.outbox.due() > 0 {
            let first = self.outbox.letter(0);
            let v6 = first.v6;
            let Some(way) = (if v6 { &mut self.v6 } else { &mut self.v4 }) else {
                self.lose(1, |s| &mut s.failed);
                trouble = Some(Error::new(ErrorKind::Unsupported, "socket(AF_INET6)"));
                continue;
            };
            way.turn_to(&first.to);
            let (first, sent) = if self.outbox.due() == 1 {
                (1, mail::send_first(&self.outbox, way.fd(), way.peer()))
            } else {
                let headers = if v6 { 48 } else { 28 };
                let segment = if self.gso { self.mtu.saturating_sub(headers) } else { 0 };
                let first = self.mail.pack(&self.outbox, segment, way.peer());
                (first, self.mail.send(way.fd()))
            };
            match sent {
                Ok(frames) => {
                    for _ in 0..frames {
                        let letter = self.outbox.pop();
                        way.sent(&letter.to);
                        self.stats.frames += 1;
                        self.stats.completed += 1;
                        self.stats.bytes += u64::from(letter.frame_len);
                    }
                    excused = false;
                }
                Err(errno) => match errno {
                    libc::EINTR => {}
                    libc::EAGAIN => {
                        if waited || !drains(way.fd(), wait_ms) {
                            break;
                        }
                        waited = true;
                    }
                    // The run as a whole was the problem: send its datagrams one by one.
                    libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::EMSGSIZE if first > 1 => {
                        self.gso = false;
                    }
                    libc::ENOBUFS => self.lose(first, |s| &mut s.queue_full),
                    libc::EINVAL if way.part() => {}
                    // Too long, or an address that nothing can be sent to.
                    libc::EMSGSIZE | libc::EINVAL | libc::EACCES | libc::EDESTADDRREQ => {
                        self.lose(1, |s| &mut s.refused);
                    }
                    // Perhaps about an earlier datagram, reported by ICMP; then it is told once.
                    errno if !excused && is_report(errno) => {
                        sys::drain_errors(way.fd());
                        excused = true;
                    }
                    // Perhaps about the source address, which a connection keeps.
                    _ if way.part() => {}
                    _ if !reopened && self.reopen() => reopened = true,
                    errno => {
                        self.lose(first, |s| &mut s.failed);
                        trouble = Some(self.explain(errno));
                        excused = false;
                    }
                },
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Tries once more to send what an earlier kick could not.
    fn retry(&mut self) {
        if self.outbox.due() > 0 {
            // What fails is counted; frames that are left show as missing room.
            let _ = self.flush(0);
        }
    }

    /// The oldest `n` frames will not be sent.
    fn lose(&mut self, n: usize, counter: impl FnOnce(&mut TxStats) -> &mut u64) {
        for _ in 0..n {
            self.outbox.pop();
        }
        *counter(&mut self.stats) += n as u64;
    }

    /// Opens the sockets anew if another interface of the same name has taken the place of the
    /// old one.
    fn reopen(&mut self) -> bool {
        match self.interfaces.index_of(&self.place.name) {
            Ok(Some(index)) if index != self.place.index => {
                self.place.index = index;
                self.mtu = self.interfaces.mtu_of(&self.place.name).unwrap_or(0) as usize;
                self.open_sockets().is_ok()
            }
            _ => false,
        }
    }

    /// Without an interface, or with one that is down, the kernel speaks of missing routes.
    fn explain(&self, errno: i32) -> Error {
        let kind = match self.interfaces.index_of(&self.place.name) {
            Ok(None) => ErrorKind::DeviceGone,
            _ if !self.interfaces.is_running(&self.place.name) => ErrorKind::LinkDown,
            _ => return Error::os("sendmmsg", errno),
        };
        Error { kind, op: "sendmmsg", errno }
    }
}

/// Errors that may be about an earlier datagram: ICMP brings them back to the socket.
fn is_report(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
    )
}

/// Waits for room in the send buffer.
fn drains(fd: BorrowedFd<'_>, wait_ms: libc::c_int) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd that outlives the call.
    wait_ms > 0 && unsafe { libc::poll(&mut poll, 1, wait_ms) } > 0
}

/// Is there a device behind the interface, with a cable of its own?
fn is_card(name: &str) -> bool {
    std::path::Path::new(&format!("/sys/class/net/{name}/device")).exists()
}

/// A sending socket that uses the one interface.
fn socket(
    place: &Place,
    options: &Options,
    v6: bool,
    source: Option<Ipv4Addr>,
) -> Result<OwnedFd, SetupError> {
    let fail = |e| error::socket(e, &place.name);
    let socket = sys::udp_socket(v6).map_err(fail)?;
    let fd = socket.as_fd();
    let set = |op, level, option, value: libc::c_int| sys::set(fd, op, level, option, &value);
    let (ip, ip6) = (libc::IPPROTO_IP, libc::IPPROTO_IPV6);
    let ttl = libc::c_int::from(options.multicast_ttl);
    let looped = libc::c_int::from(options.multicast_loop);
    if v6 {
        set("IPV6_V6ONLY", ip6, libc::IPV6_V6ONLY, 1).map_err(fail)?;
        set("IPV6_MULTICAST_IF", ip6, libc::IPV6_MULTICAST_IF, place.index as libc::c_int)
            .map_err(fail)?;
        set("IPV6_MULTICAST_HOPS", ip6, libc::IPV6_MULTICAST_HOPS, ttl).map_err(fail)?;
        set("IPV6_MULTICAST_LOOP", ip6, libc::IPV6_MULTICAST_LOOP, looped).map_err(fail)?;
        needed(set("IPV6_RECVERR", ip6, libc::IPV6_RECVERR, 1)).map_err(fail)?;
    } else {
        let mreqn = libc::ip_mreqn {
            imr_multiaddr: libc::in_addr { s_addr: 0 },
            // The sender's address; without one the kernel would take another interface's on lo.
            imr_address: libc::in_addr {
                s_addr: source.map_or(0, |a| u32::from_ne_bytes(a.octets())),
            },
            imr_ifindex: place.index as libc::c_int,
        };
        sys::set(fd, "IP_MULTICAST_IF", ip, libc::IP_MULTICAST_IF, &mreqn).map_err(fail)?;
        set("IP_MULTICAST_TTL", ip, libc::IP_MULTICAST_TTL, ttl).map_err(fail)?;
        // exasock refuses to loop, and does not.
        needed(set("IP_MULTICAST_LOOP", ip, libc::IP_MULTICAST_LOOP, looped)).map_err(fail)?;
        // Without it the kernel does not say when the device's queue threw a datagram away.
        needed(set("IP_RECVERR", ip, libc::IP_RECVERR, 1)).map_err(fail)?;
    }
    // Unicast too goes by this interface. An old kernel that asks for a right leaves unicast to
    // the routing table.
    let _ = sys::bind_to_interface(fd, &place.name).map_err(fail)?;
    needed(set("SO_BROADCAST", libc::SOL_SOCKET, libc::SO_BROADCAST, 1)).map_err(fail)?;
    if options.send_buffer_bytes > 0 {
        let bytes =
            libc::c_int::try_from(options.send_buffer_bytes).unwrap_or(libc::c_int::MAX / 2);
        if set("SO_SNDBUFFORCE", libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
            let _ = set("SO_SNDBUF", libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
        }
    }
    if options.source_port != 0 {
        let any: std::net::IpAddr = if v6 { [0u16; 8].into() } else { [0u8; 4].into() };
        let addr = (any, options.source_port).into();
        sys::enable(fd, "SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR).map_err(fail)?;
        sys::name("bind", fd, addr, place.index)
            .map_err(|e| error::address(e, &place.name, addr))?;
    }
    Ok(socket)
}

impl FrameTx for UdpTx {
    fn max_len(&self) -> usize {
        self.outbox.max_len()
    }

    #[inline]
    fn room(&self) -> usize {
        self.outbox.room()
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        if len == 0 || len > self.outbox.max_len() {
            return None;
        }
        self.outbox.rewind();
        if self.outbox.room() == 0 {
            self.retry();
            if self.outbox.room() == 0 {
                return None;
            }
        }
        self.reserved = len;
        Some(self.outbox.tail_mut(len))
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        assert!(self.reserved > 0, "commit without a reservation");
        assert!(len <= self.reserved, "commit of {len} bytes, {} reserved", self.reserved);
        self.reserved = 0;
        if len == 0 {
            return;
        }
        match strip::datagram(self.outbox.tail_mut(len)) {
            Some((to, payload)) => {
                let raw = RawAddr::new(to, self.place.index);
                self.outbox.seal(raw, to.is_ipv6(), payload, len);
            }
            None => self.stats.refused += 1,
        }
    }

    fn kick(&mut self) -> Result<(), Error> {
        self.outbox.kick();
        self.flush(DRAIN_MS)
    }

    fn reap(&mut self) -> usize {
        self.retry();
        let done = self.stats.completed + self.stats.lost();
        let back = done - self.reaped;
        self.reaped = done;
        back as usize
    }

    fn stats(&mut self) -> TxStats {
        self.stats
    }
}

impl std::fmt::Debug for UdpTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpTx")
            .field("interface", &self.place.name)
            .field("waiting", &self.outbox.waiting())
            .field("gso", &self.gso)
            .finish_non_exhaustive()
    }
}
