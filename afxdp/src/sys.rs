//! AF_XDP's socket options and structures, as in `linux/if_xdp.h`.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use linerate_common::last_errno;

pub(crate) const SOL_XDP: i32 = 283;
pub(crate) const XDP_MMAP_OFFSETS: i32 = 1;
pub(crate) const XDP_RX_RING: i32 = 2;
pub(crate) const XDP_TX_RING: i32 = 3;
pub(crate) const XDP_UMEM_REG: i32 = 4;
pub(crate) const XDP_UMEM_FILL_RING: i32 = 5;
pub(crate) const XDP_UMEM_COMPLETION_RING: i32 = 6;
pub(crate) const XDP_STATISTICS: i32 = 7;
pub(crate) const XDP_OPTIONS: i32 = 8;
/// Frames that one `sendto` sends in copy mode (Linux 6.17).
pub(crate) const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

pub(crate) const XDP_SHARED_UMEM: u16 = 1 << 0;
pub(crate) const XDP_COPY: u16 = 1 << 1;
pub(crate) const XDP_ZEROCOPY: u16 = 1 << 2;
pub(crate) const XDP_USE_NEED_WAKEUP: u16 = 1 << 3;

/// `tx_metadata_len` of the region's registration counts (Linux 6.8).
pub(crate) const XDP_UMEM_TX_METADATA_LEN: u32 = 1 << 2;
/// In a transmit descriptor: metadata lies in front of the frame.
pub(crate) const XDP_TX_METADATA: u32 = 1 << 1;
/// In a receive descriptor: the frame goes on in the next one.
pub(crate) const XDP_PKT_CONTD: u32 = 1 << 0;
/// In transmit metadata: report when the frame was sent.
pub(crate) const XDP_TXMD_FLAGS_TIMESTAMP: u64 = 1 << 0;

pub(crate) const XDP_OPTIONS_ZEROCOPY: u32 = 1 << 0;

/// What the kernel keeps free in front of a received frame for programs to grow it into.
pub(crate) const XDP_PACKET_HEADROOM: usize = 256;

pub(crate) const SO_PREFER_BUSY_POLL: i32 = 69;
pub(crate) const SO_BUSY_POLL_BUDGET: i32 = 70;

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UmemReg {
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) chunk_size: u32,
    pub(crate) headroom: u32,
    pub(crate) flags: u32,
    pub(crate) tx_metadata_len: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RingOffset {
    pub(crate) producer: u64,
    pub(crate) consumer: u64,
    pub(crate) desc: u64,
    pub(crate) flags: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MmapOffsets {
    pub(crate) rx: RingOffset,
    pub(crate) tx: RingOffset,
    pub(crate) fill: RingOffset,
    pub(crate) completion: RingOffset,
}

/// In front of a frame to send (`struct xsk_tx_metadata`, as far as we use it).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TxMetadata {
    pub(crate) flags: u64,
    /// Written on completion; what else may lie here is asked for by flags that we do not set.
    pub(crate) tx_timestamp: u64,
    pub(crate) launch_time: u64,
}

/// The kernel's counters of one socket, raw. Which of them are losses depends on the mode:
/// [`RxStats`](linerate_common::RxStats) has them sorted out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdpStatistics {
    /// Frames dropped before they reached the receive ring: too long for a buffer, or (in copy
    /// mode) no buffer in the fill ring.
    pub rx_dropped: u64,
    /// Buffers that we posted and the kernel refused.
    pub rx_invalid_descs: u64,
    /// Frames that we sent and the kernel refused.
    pub tx_invalid_descs: u64,
    /// Frames dropped because the receive ring was full (Linux 5.9 and newer).
    pub rx_ring_full: u64,
    /// Times that the fill ring was found empty (5.9). In zero-copy mode that costs no frame
    /// while the card still has buffers of its own.
    pub rx_fill_ring_empty_descs: u64,
    /// Times that the transmit ring was found empty (5.9): no loss.
    pub tx_ring_empty_descs: u64,
}

/// Sets one option. `Err` is the positive errno.
pub(crate) fn set<T: Copy>(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &T,
) -> Result<(), i32> {
    let len = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the value is plain data of the length given.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Reads one XDP option. What an older kernel does not fill in stays zero.
pub(crate) fn get<T: Copy + Default>(fd: BorrowedFd<'_>, option: i32) -> Result<T, i32> {
    get_at(fd, SOL_XDP, option)
}

/// Reads one option: `T` is a number or one of the structures above.
pub(crate) fn get_at<T: Copy + Default>(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
) -> Result<T, i32> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    let to = std::ptr::from_mut(&mut value).cast();
    // SAFETY: numbers and structures of numbers, for which any bytes are valid, of the length said.
    match unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, to, &mut len) } {
        0 => Ok(value),
        _ => Err(last_errno()),
    }
}

/// Binds to one queue.
pub(crate) fn bind(
    fd: BorrowedFd<'_>,
    ifindex: u32,
    queue: u32,
    flags: u16,
    shared_with: Option<BorrowedFd<'_>>,
) -> Result<(), i32> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared_with.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: a sockaddr_xdp of the length given.
    match unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Wakes the kernel for the transmit ring. `Err` is the positive errno.
pub(crate) fn wake_tx(fd: BorrowedFd<'_>) -> Result<(), i32> {
    let none = std::ptr::null();
    // SAFETY: no data and no address.
    let rc = unsafe { libc::sendto(fd.as_raw_fd(), none, 0, libc::MSG_DONTWAIT, none.cast(), 0) };
    if rc < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Wakes the kernel for the fill ring, or lets it poll the card in this thread.
pub(crate) fn wake_rx(fd: BorrowedFd<'_>) -> Result<(), i32> {
    let mut nothing = MaybeUninit::<[u8; 0]>::uninit();
    let to = nothing.as_mut_ptr().cast();
    let none = std::ptr::null_mut();
    // SAFETY: a buffer of no length and no address.
    let rc = unsafe {
        libc::recvfrom(fd.as_raw_fd(), to, 0, libc::MSG_DONTWAIT, none, std::ptr::null_mut())
    };
    if rc < 0 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Desc;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<UmemReg>(), 32);
        assert_eq!(size_of::<MmapOffsets>(), 128);
        assert_eq!(size_of::<XdpStatistics>(), 48);
        assert_eq!(size_of::<TxMetadata>(), 24);
        assert_eq!(size_of::<Desc>(), 16);
        assert_eq!(std::mem::offset_of!(TxMetadata, tx_timestamp), 8);
    }
}
