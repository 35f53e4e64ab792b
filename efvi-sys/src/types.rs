//! The C types whose layout no release from 8.1 to 9.2 has changed.
//!
//! With an SDK at build time each size, offset and constant here is compared with the headers
//! that were found, so a future release that does change one fails to compile.

use libc::{c_char, c_int, c_uint, c_void};

/// A descriptor of the character device; `poll` and `epoll` take it.
pub type ef_driver_handle = c_int;
/// An address as the card sees it.
pub type ef_addr = u64;
/// The caller's token of one buffer. Keep it within `0..=i32::MAX`: -1 is the library's mark of
/// an empty slot.
pub type ef_request_id = c_int;

/// A piece of a frame in registered memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ef_iovec {
    /// Where it begins, as the card sees it.
    pub iov_base: u64,
    /// Its length in bytes.
    pub iov_len: c_uint,
}

/// A hardware timestamp.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ef_precisetime {
    /// Seconds since the UNIX epoch.
    pub tv_sec: i64,
    /// Nanoseconds within the second.
    pub tv_nsec: u32,
    /// Fraction of a nanosecond in units of 2^-16 ns.
    pub tv_nsec_frac: u16,
    /// `EF_VI_SYNC_FLAG_*`.
    pub tv_flags: u16,
}

/// A protection domain: the right to use one interface.
#[repr(C)]
#[derive(Debug)]
pub struct ef_pd {
    /// `EF_PD_*` as granted.
    pub pd_flags: c_uint,
    /// The driver's number for it.
    pub pd_resource_id: c_uint,
    /// Name of the interface, owned by the library.
    pub pd_intf_name: *mut c_char,
    /// Name of the cluster it belongs to, or null.
    pub pd_cluster_name: *mut c_char,
    /// Socket to the cluster daemon, or -1.
    pub pd_cluster_sock: c_int,
    /// The cluster's own driver handle.
    pub pd_cluster_dh: ef_driver_handle,
    /// The cluster's VI set.
    pub pd_cluster_viset_resource_id: c_uint,
    /// Our index in it.
    pub pd_cluster_viset_index: c_int,
}

/// Registered memory: one card address per 4 KiB page.
#[repr(C)]
#[derive(Debug)]
pub struct ef_memreg {
    /// First address of the table, aligned.
    pub mr_dma_addrs: *mut ef_addr,
    /// What the library allocated.
    pub mr_dma_addrs_base: *mut ef_addr,
}

/// A region of the card's memory for programmed I/O.
#[repr(C)]
#[derive(Debug)]
pub struct ef_pio {
    /// Shadow copy in host memory.
    pub pio_buffer: *mut u8,
    /// The card's memory.
    pub pio_io: *mut u8,
    /// The driver's number for it.
    pub pio_resource_id: c_uint,
    /// Its length in bytes.
    pub pio_len: c_uint,
}

/// A filter under construction. The content belongs to the library's setters.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ef_filter_spec {
    /// Which fields are set, encoded by the library.
    pub r#type: c_uint,
    /// `EF_FILTER_FLAG_*`.
    pub flags: c_uint,
    /// Addresses and ports, encoded by the library.
    pub data: [c_uint; 12],
}

/// Names an installed filter.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ef_filter_cookie {
    /// The driver's id; -1 for the kinds that cannot be deleted.
    pub filter_id: c_int,
    /// Its kind.
    pub filter_type: c_int,
}

/// Several VIs that share filters, for receive-side scaling.
#[repr(C)]
#[derive(Debug)]
pub struct ef_vi_set {
    /// The driver's number for it.
    pub vis_res_id: c_uint,
    /// The protection domain it was made from.
    pub vis_pd: *mut ef_pd,
}

/// One field of the metadata in front of a received frame.
#[repr(C)]
#[derive(Debug)]
pub struct ef_vi_layout_entry {
    /// `EF_VI_LAYOUT_*`.
    pub evle_type: c_uint,
    /// Offset from the start of the DMA area.
    pub evle_offset: c_int,
    /// What it is, in words.
    pub evle_description: *const c_char,
}

/// One counter of [`ef_vi_stats_layout`].
#[repr(C)]
#[derive(Debug)]
pub struct ef_vi_stats_field_layout {
    /// Its name.
    pub evsfl_name: *mut c_char,
    /// Where in the buffer of `ef_vi_stats_query` it is.
    pub evsfl_offset: c_int,
    /// Its size in bytes.
    pub evsfl_size: c_int,
}

/// Which counters `ef_vi_stats_query` gives. `evsl_fields_num` entries follow the header.
#[repr(C)]
#[derive(Debug)]
pub struct ef_vi_stats_layout {
    /// Size of the buffer to pass.
    pub evsl_data_size: c_int,
    /// Entries in `evsl_fields`.
    pub evsl_fields_num: c_int,
    /// The entries.
    pub evsl_fields: [ef_vi_stats_field_layout; 0],
}

/// How much of the card's buffer a frame takes that is stored in a transmit alternative.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ef_vi_transmit_alt_overhead {
    /// Added before rounding.
    pub pre_round: u32,
    /// Mask that rounds.
    pub mask: u32,
    /// Added after rounding.
    pub post_round: u32,
}

impl ef_vi_transmit_alt_overhead {
    /// Bytes of the card's buffer that a frame of `len` bytes takes.
    #[inline]
    #[must_use]
    pub const fn usage(&self, len: u32) -> u32 {
        (len.wrapping_add(self.pre_round) & self.mask).wrapping_add(self.post_round)
    }
}

/// Where the library keeps a queue's state while the send path is being warmed.
#[repr(C)]
#[derive(Debug)]
pub struct ef_vi_tx_warm_state {
    /// Saved ring state.
    pub removed: c_uint,
    /// Saved aperture.
    pub vi_ctpio_mmap_ptr: *mut c_char,
}

/// Which card a VI is on.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ef_vi_nic_type {
    /// `EF_VI_ARCH_*`.
    pub arch: u8,
    /// Variant letter.
    pub variant: c_char,
    /// Revision.
    pub revision: u8,
    /// Flags of the driver.
    pub nic_flags: u8,
}

/// The same address in memory that a CPU and a card use: `offset` bytes into a registration.
///
/// # Safety
///
/// `mr` was filled by `ef_memreg_alloc` for more than `offset` bytes.
#[inline]
#[must_use]
pub unsafe fn memreg_dma_addr(mr: *const ef_memreg, offset: usize) -> ef_addr {
    // SAFETY: by the contract the table has an entry for every 4 KiB page up to `offset`.
    unsafe { *(*mr).mr_dma_addrs.add(offset >> 12) | (offset & 0xfff) as u64 }
}

const _: () = {
    assert!(size_of::<ef_iovec>() == 16 && align_of::<ef_iovec>() == 8);
    assert!(size_of::<ef_precisetime>() == 16 && align_of::<ef_precisetime>() == 8);
    assert!(size_of::<ef_pd>() == 40 && align_of::<ef_pd>() == 8);
    assert!(size_of::<ef_memreg>() == 16);
    assert!(size_of::<ef_pio>() == 24);
    assert!(size_of::<ef_filter_spec>() == 56 && align_of::<ef_filter_spec>() == 4);
    assert!(size_of::<ef_filter_cookie>() == 8);
    assert!(size_of::<ef_vi_set>() == 16);
    assert!(size_of::<ef_vi_layout_entry>() == 16);
    assert!(size_of::<ef_vi_stats_field_layout>() == 16);
    assert!(size_of::<ef_vi_stats_layout>() == 8);
    assert!(size_of::<ef_vi_transmit_alt_overhead>() == 12);
    assert!(size_of::<ef_vi_tx_warm_state>() == 16);
    assert!(size_of::<ef_vi_nic_type>() == 4);
    assert!(size_of::<*const c_void>() == 8);
};
