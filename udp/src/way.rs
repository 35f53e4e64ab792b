//! A sending socket, and whether it is connected.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, RawAddr};

/// Datagrams to one address, one after the other, that make a connection worth its system call.
const STEADY: u32 = 64;

/// A socket that sends to anybody, and is connected while everything goes to one address: then
/// the kernel looks no route up for each datagram, which is a sixth of its work.
///
/// The connection goes as soon as something is to be sent elsewhere, since with it the kernel
/// keeps the source address that suits the one peer. The source port stays.
pub(crate) struct Way {
    socket: OwnedFd,
    /// May it be connected?
    able: bool,
    peer: Option<RawAddr>,
    last: RawAddr,
    /// Datagrams to `last` since anything else.
    steady: u32,
}

impl Way {
    pub(crate) fn new(socket: OwnedFd, able: bool) -> Self {
        Self { socket, able, peer: None, last: RawAddr::EMPTY, steady: 0 }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// To whom it is connected.
    pub(crate) fn peer(&self) -> Option<&RawAddr> {
        self.peer.as_ref()
    }

    /// Something is to be sent to `to`: connects or parts if that is due.
    #[inline]
    pub(crate) fn turn_to(&mut self, to: &RawAddr) {
        match &self.peer {
            Some(peer) if peer.is_same(to) => {}
            Some(_) => {
                self.part();
            }
            None if self.steady >= STEADY && self.able && self.last.is_same(to) => self.connect(),
            None => {}
        }
    }

    /// A datagram went to `to`.
    #[inline]
    pub(crate) fn sent(&mut self, to: &RawAddr) {
        if self.peer.is_none() {
            if !self.last.is_same(to) {
                self.last = *to;
                self.steady = 0;
            }
            self.steady = self.steady.saturating_add(1);
        }
    }

    fn connect(&mut self) {
        // A refusal, such as no route, is told by the next send.
        match sys::connect(self.fd(), Some(&self.last)) {
            Ok(()) => self.peer = Some(self.last),
            Err(_) => self.steady = 0,
        }
    }

    /// Undoes the connection; `false` when there was none.
    pub(crate) fn part(&mut self) -> bool {
        if self.peer.take().is_none() {
            return false;
        }
        self.steady = 0;
        let port = sys::any_at_port_of(self.fd());
        // A kernel that does not part would send to the right address all the same.
        let parted = sys::connect(self.fd(), None);
        if let (Ok(()), Some(port)) = (parted, port) {
            // Parting gives back a port that the kernel chose. A socket that still has its own,
            // because it was bound to it, says EINVAL.
            let _ = sys::name("bind", self.fd(), port, 0);
        }
        true
    }
}
