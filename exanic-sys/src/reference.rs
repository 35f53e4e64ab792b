//! The public structs of libexanic 2.7.2 to 2.7.6 on 64-bit Linux, written by hand for builds
//! without the SDK. Field names are the vendor's; sizes and offsets are asserted below.

use std::ffi::{c_char, c_int, c_uint};

/// Number of entries in [`exanic_t::if_index`].
pub const EXANIC_MAX_PORTS: usize = 16;

/// A card, shared by everything in this process that opened it.
#[derive(Debug)]
#[repr(C)]
pub struct exanic {
    /// Owners in this process; a plain int, changed without a lock.
    pub ref_count: c_int,
    /// The library's global list of open cards.
    pub next: *mut exanic,
    /// Registers: two pages of 32-bit words, read and written in one access each.
    pub registers: *mut u32,
    /// A page kept by the driver, or null with old drivers.
    pub info_page: *mut exanic_info_page,
    /// Registers of customer logic (FDK).
    pub devkit_regs_region: *mut u32,
    /// Memory of customer logic (FDK).
    pub devkit_mem_region: *mut c_char,
    /// Extended registers of customer logic (FDK).
    pub devkit_regs_ex_region: *mut u32,
    /// Extended memory of customer logic (FDK).
    pub devkit_mem_ex_region: *mut c_char,
    /// One u16 per feedback slot, written by the card.
    pub tx_feedback_slots: *mut u16,
    /// Transmit memory on the card. Write only.
    pub tx_buffer: *mut c_char,
    /// Its size in bytes, all ports together.
    pub tx_buffer_size: usize,
    /// Filter registers.
    pub filters: *mut u32,
    /// Their size in bytes.
    pub filters_size: usize,
    /// Bytes at `devkit_regs_region`.
    pub devkit_regs_size: usize,
    /// Bytes at `devkit_mem_region`.
    pub devkit_mem_size: usize,
    /// Bytes at `devkit_regs_ex_region`.
    pub devkit_regs_ex_size: usize,
    /// Bytes at `devkit_mem_ex_region`.
    pub devkit_mem_ex_size: usize,
    /// Ticks per second; 0 when timestamps cannot be expanded.
    pub tick_hz: u32,
    /// Capability bits.
    pub caps: u32,
    /// The open device file.
    pub fd: c_int,
    /// Device name without `/dev/`.
    pub name: [c_char; 16],
    /// Filter buffers per port.
    pub max_filter_buffers: c_uint,
    /// Network interfaces of the card.
    pub num_ports: c_uint,
    /// Interface index by port.
    pub if_index: [c_int; EXANIC_MAX_PORTS],
    /// Entry of the vendor's table of products.
    pub hw_info: exanic_hw_info,
}

/// See [`exanic`].
pub type exanic_t = exanic;

/// A model in the vendor's table of products.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct exanic_hw_info {
    /// Hardware id register.
    pub hwid: i32,
    /// Prefix of firmware file names.
    pub bitstream_prf: *const c_char,
    /// Physical ports.
    pub nports: c_uint,
    /// I2C bus of the EEPROM.
    pub eep_bus: c_uint,
    /// I2C address of the EEPROM.
    pub eep_addr: u8,
    /// Firmware flash.
    pub flash_info: *const u8,
    /// Form factor of the ports.
    pub port_ff: c_uint,
    /// FPGA family.
    pub dev_family: c_uint,
    /// Feature bits.
    pub flags: u64,
}

/// The page that the driver keeps for every program.
#[derive(Debug)]
#[repr(C)]
pub struct exanic_info_page {
    /// The card's time in ticks, at most a quarter of a 32-bit period off; 0 when not kept.
    pub hw_time: u64,
}

/// A reader of one receive ring.
#[derive(Debug)]
#[repr(C)]
pub struct exanic_rx {
    /// The card.
    pub exanic: *mut exanic_t,
    /// Port number.
    pub port_number: c_int,
    /// 0: the port's default ring; from 1: filter buffers.
    pub buffer_number: c_int,
    /// The ring: see [`crate::rx`].
    pub buffer: *mut rx_chunk,
    /// Index of the next chunk.
    pub next_chunk: u32,
    /// Generation that the next chunk will carry.
    pub generation: u8,
    /// The chunk before the ones handed out (since 2.7.2).
    pub sentinel_chunk: u32,
    /// Its generation (since 2.7.2).
    pub sentinel_chunk_generation: u32,
}

/// See [`exanic_rx`].
pub type exanic_rx_t = exanic_rx;

/// One chunk of a receive ring. Read it through [`crate::rx::Chunk`]: the card keeps writing it.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct rx_chunk {
    /// Bytes of the frame.
    pub payload: [u8; 120],
    /// Metadata, written last.
    pub info: u64,
}

/// A sender on one port.
#[derive(Debug)]
#[repr(C)]
pub struct exanic_tx {
    /// The card.
    pub exanic: *mut exanic_t,
    /// Port number.
    pub port_number: c_int,
    /// Index of this sender's feedback slot.
    pub feedback_slot: c_int,
    /// The slot, in host memory.
    pub feedback: *mut u16,
    /// This sender's part of the card's transmit memory.
    pub buffer: *mut c_char,
    /// Where it begins in the transmit region.
    pub buffer_offset: u32,
    /// Its size in bytes.
    pub buffer_size: u32,
    /// Where the library would write next.
    pub next_offset: u32,
    /// Last sequence number fed back.
    pub feedback_seq: u16,
    /// Last sequence number for which feedback was asked.
    pub request_seq: u16,
    /// Sequence number at the last wrap.
    pub rollover_seq: u16,
    /// Next sequence number.
    pub next_seq: u16,
    /// Commands that may be in flight.
    pub queue_len: c_int,
    /// End offset by sequence number.
    pub feedback_offsets: *mut u32,
    /// Chunk between begin and end.
    pub prepared_chunk: *mut tx_chunk,
    /// Its size.
    pub prepared_chunk_size: usize,
    /// Ask for feedback with the prepared chunk (since 2.2.1).
    pub need_feedback: bool,
}

/// See [`exanic_tx`].
pub type exanic_tx_t = exanic_tx;

/// Header of a chunk in transmit memory; the payload follows.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct tx_chunk {
    /// What the card writes into the feedback slot.
    pub feedback_id: u16,
    /// Which slot; bit 15: none.
    pub feedback_slot_index: u16,
    /// Bytes that follow, padding included.
    pub length: u16,
    /// 1: a raw frame.
    pub type_: u8,
    /// 0.
    pub flags: u8,
}

/// What an IP rule selects. Network byte order; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct exanic_ip_filter {
    /// Source address.
    pub src_addr: u32,
    /// Destination address.
    pub dst_addr: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// IPPROTO_UDP or IPPROTO_TCP.
    pub protocol: u8,
}

/// See [`exanic_ip_filter`].
pub type exanic_ip_filter_t = exanic_ip_filter;

/// What a MAC rule selects; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct exanic_mac_filter {
    /// Destination.
    pub dst_mac: [u8; 6],
    /// Network byte order.
    pub ethertype: u16,
    /// Host byte order, in spite of the vendor's guide.
    pub vlan: u16,
    /// One of [`crate::ids::vlan_match`].
    pub vlan_match_method: c_int,
}

/// See [`exanic_mac_filter`].
pub type exanic_mac_filter_t = exanic_mac_filter;

/// Counters of a port; each wraps at 32 bits.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct exanic_port_stats {
    /// Frames sent, by everybody.
    pub tx_count: u32,
    /// Good frames delivered.
    pub rx_count: u32,
    /// Good frames for other MAC addresses.
    pub rx_ignored_count: u32,
    /// Bad frames.
    pub rx_error_count: u32,
    /// Frames the card dropped.
    pub rx_dropped_count: u32,
}

/// See [`exanic_port_stats`].
pub type exanic_port_stats_t = exanic_port_stats;

/// A port found on this host.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct exanic_port_info {
    /// Device name.
    pub device: [c_char; 16],
    /// Port number.
    pub port_number: c_int,
}

/// See [`exanic_port_info`].
pub type exanic_port_info_t = exanic_port_info;

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<exanic_t>() == 296);
    assert!(offset_of!(exanic_t, registers) == 16);
    assert!(offset_of!(exanic_t, info_page) == 24);
    assert!(offset_of!(exanic_t, tx_feedback_slots) == 64);
    assert!(offset_of!(exanic_t, tx_buffer) == 72);
    assert!(offset_of!(exanic_t, filters) == 88);
    assert!(offset_of!(exanic_t, tick_hz) == 136);
    assert!(offset_of!(exanic_t, caps) == 140);
    assert!(offset_of!(exanic_t, fd) == 144);
    assert!(offset_of!(exanic_t, name) == 148);
    assert!(offset_of!(exanic_t, max_filter_buffers) == 164);
    assert!(offset_of!(exanic_t, num_ports) == 168);
    assert!(offset_of!(exanic_t, if_index) == 172);
    assert!(offset_of!(exanic_t, hw_info) == 240);
    assert!(size_of::<exanic_hw_info>() == 56);
    assert!(offset_of!(exanic_hw_info, bitstream_prf) == 8);
    assert!(offset_of!(exanic_hw_info, eep_addr) == 24);
    assert!(offset_of!(exanic_hw_info, flash_info) == 32);
    assert!(offset_of!(exanic_hw_info, flags) == 48);
    assert!(size_of::<exanic_rx_t>() == 40);
    assert!(offset_of!(exanic_rx_t, port_number) == 8);
    assert!(offset_of!(exanic_rx_t, buffer_number) == 12);
    assert!(offset_of!(exanic_rx_t, buffer) == 16);
    assert!(offset_of!(exanic_rx_t, next_chunk) == 24);
    assert!(offset_of!(exanic_rx_t, generation) == 28);
    assert!(offset_of!(exanic_rx_t, sentinel_chunk) == 32);
    assert!(offset_of!(exanic_rx_t, sentinel_chunk_generation) == 36);
    assert!(size_of::<rx_chunk>() == 128 && offset_of!(rx_chunk, info) == 120);
    assert!(size_of::<exanic_tx_t>() == 88);
    assert!(offset_of!(exanic_tx_t, port_number) == 8);
    assert!(offset_of!(exanic_tx_t, feedback_slot) == 12);
    assert!(offset_of!(exanic_tx_t, feedback) == 16);
    assert!(offset_of!(exanic_tx_t, buffer) == 24);
    assert!(offset_of!(exanic_tx_t, buffer_offset) == 32);
    assert!(offset_of!(exanic_tx_t, buffer_size) == 36);
    assert!(offset_of!(exanic_tx_t, next_offset) == 40);
    assert!(offset_of!(exanic_tx_t, feedback_seq) == 44);
    assert!(offset_of!(exanic_tx_t, next_seq) == 50);
    assert!(offset_of!(exanic_tx_t, queue_len) == 52);
    assert!(offset_of!(exanic_tx_t, feedback_offsets) == 56);
    assert!(offset_of!(exanic_tx_t, prepared_chunk) == 64);
    assert!(offset_of!(exanic_tx_t, prepared_chunk_size) == 72);
    assert!(offset_of!(exanic_tx_t, need_feedback) == 80);
    assert!(size_of::<tx_chunk>() == 8 && offset_of!(tx_chunk, length) == 4);
    assert!(size_of::<exanic_ip_filter_t>() == 16);
    assert!(offset_of!(exanic_ip_filter_t, protocol) == 12);
    assert!(size_of::<exanic_mac_filter_t>() == 16);
    assert!(offset_of!(exanic_mac_filter_t, vlan) == 8);
    assert!(offset_of!(exanic_mac_filter_t, vlan_match_method) == 12);
    assert!(size_of::<exanic_port_stats_t>() == 20);
    assert!(size_of::<exanic_port_info_t>() == 20);
};
