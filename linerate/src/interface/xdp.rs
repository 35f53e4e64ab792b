//! The AF_XDP sockets of this network namespace, whoever owns them.

use super::sys;

/// What the kernel counts for one AF_XDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct XdpSocket {
    /// Inode of the socket: which process has it open is in `/proc/PID/fd`.
    pub inode: u32,
    /// Kernel index of the interface, 0 while the socket is not bound.
    pub interface_index: u32,
    /// The receive queue it is bound to.
    pub queue: u32,
    /// Frames lost for other reasons than the ones below.
    pub rx_dropped: u64,
    /// Frames lost because the receive ring was full: its reader was slow.
    pub rx_ring_full: u64,
    /// Times that a frame found no buffer in the fill ring.
    pub fill_ring_empty: u64,
    /// Descriptors of the fill ring that made no sense.
    pub rx_invalid: u64,
    /// Descriptors of the transmit ring that made no sense.
    pub tx_invalid: u64,
}

/// Every AF_XDP socket of this network namespace (sock_diag). Needs no rights. `None` where the
/// kernel cannot tell: before 5.9, or without its `xsk_diag` module.
#[must_use]
pub fn xdp_sockets() -> Option<Vec<XdpSocket>> {
    sys::xdp_sockets()
}
