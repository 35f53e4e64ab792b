//! The packet socket and its system calls.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, sock_filter};
use linerate_common::{Error, ErrorKind, last_errno};

/// The status bit of a frame that the kernel made of several TCP segments (Linux 6.0).
pub(crate) const TP_STATUS_GSO_TCP: u32 = 1 << 8;

/// An AF_PACKET socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A raw packet socket that receives nothing yet: it is bound to no protocol.
    pub(crate) fn open() -> Result<Self, Error> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check("socket(AF_PACKET)", fd)?;
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// A socket that is no packet socket, for tests that only need to have one.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn fake() -> Self {
        Self(std::os::unix::net::UnixDatagram::unbound().expect("a socket").into())
    }

    pub(crate) fn set<T: Copy>(
        &self,
        op: &'static str,
        level: c_int,
        option: c_int,
        value: T,
    ) -> Result<(), Error> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` is plain data of `len` bytes that outlives the call.
        let rc =
            unsafe { libc::setsockopt(self.raw(), level, option, (&raw const value).cast(), len) };
        check(op, rc)
    }

    /// An option of level SOL_PACKET.
    pub(crate) fn set_packet<T: Copy>(
        &self,
        op: &'static str,
        option: c_int,
        value: T,
    ) -> Result<(), Error> {
        self.set(op, libc::SOL_PACKET, option, value)
    }

    /// Replaces the socket's filter at once: each frame meets the old one or the new one.
    pub(crate) fn attach(&self, program: &[sock_filter]) -> Result<(), Error> {
        let len = u16::try_from(program.len())
            .map_err(|_| Error::new(ErrorKind::BadArgument, "SO_ATTACH_FILTER"))?;
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        self.set("SO_ATTACH_FILTER", libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
    }

    fn get<T: Copy>(&self, op: &'static str, level: c_int, option: c_int) -> Result<T, Error> {
        let mut value = MaybeUninit::<T>::zeroed();
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `value`. All callers ask for structs of
        // integers, which zeroes are a value of where the kernel wrote less.
        unsafe {
            let rc =
                libc::getsockopt(self.raw(), level, option, value.as_mut_ptr().cast(), &mut len);
            check(op, rc)?;
            Ok(value.assume_init())
        }
    }

    /// Frames that the filter took and the ring had no room for, since the last call.
    pub(crate) fn take_drops(&self) -> Result<u64, Error> {
        // A TPACKET_V3 socket has one more counter; `len` tells the kernel what we want.
        let stats: libc::tpacket_stats_v3 =
            self.get("PACKET_STATISTICS", libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
        Ok(stats.tp_drops.into())
    }

    /// The socket's fanout group, as the kernel numbered it.
    pub(crate) fn fanout_id(&self) -> Result<u16, Error> {
        let id: u32 = self.get("PACKET_FANOUT", libc::SOL_PACKET, libc::PACKET_FANOUT)?;
        Ok(id as u16)
    }

    /// The error that happened to the socket since the last call, 0 for none.
    pub(crate) fn take_error(&self) -> Result<c_int, Error> {
        self.get("SO_ERROR", libc::SOL_SOCKET, libc::SO_ERROR)
    }

    /// Binds to an interface. Protocol 0 is for sending only.
    pub(crate) fn bind(&self, index: c_int, protocol: c_int) -> Result<(), Error> {
        // SAFETY: sockaddr_ll is plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = index;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: a sockaddr_ll of `len` bytes that outlives the call.
        let rc = unsafe { libc::bind(self.raw(), (&raw const address).cast(), len) };
        check("bind", rc)
    }

    /// The index of the interface the socket is bound to, -1 when that is gone.
    pub(crate) fn bound_to(&self) -> Result<c_int, Error> {
        // SAFETY: sockaddr_ll is plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes.
        let rc = unsafe { libc::getsockname(self.raw(), (&raw mut address).cast(), &mut len) };
        check("getsockname", rc)?;
        Ok(address.sll_ifindex)
    }

    /// An ioctl on the interface that `request` names; the answer comes back in `request`.
    pub(crate) fn interface_ioctl(
        &self,
        op: &'static str,
        code: libc::c_ulong,
        request: &mut libc::ifreq,
    ) -> Result<(), Error> {
        // SAFETY: `code` is one that takes an ifreq; what its data pointer points to (if the code
        // has one) is kept alive by the caller.
        let rc = unsafe { libc::ioctl(self.raw(), code as _, std::ptr::from_mut(request)) };
        check(op, rc)
    }

    /// Sleeps until the kernel takes frames again, or the time is over.
    pub(crate) fn wait_writable(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.raw(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one pollfd that outlives the call. Whatever it returns, the caller looks again.
        unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as c_int) };
    }

    pub(crate) fn raw(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(op: &'static str, rc: c_int) -> Result<(), Error> {
    if rc < 0 { Err(Error::os(op, last_errno())) } else { Ok(()) }
}

/// An ifreq for the interface of this name, `None` when no interface can have it.
pub(crate) fn request_for(name: &str) -> Option<libc::ifreq> {
    let name = CString::new(name).ok()?;
    let bytes = name.as_bytes_with_nul();
    // SAFETY: ifreq is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if bytes.len() < 2 || bytes.len() > request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Some(request)
}
