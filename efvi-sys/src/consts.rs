//! Constants of the public headers, by their C names.

use libc::c_int;

/// Hardware architectures, [`ef_vi_nic_type::arch`](crate::ef_vi_nic_type).
pub const EF_VI_ARCH_EF10: u8 = 1;
/// Alveo SN1000.
pub const EF_VI_ARCH_EF100: u8 = 2;
/// X3.
pub const EF_VI_ARCH_EFCT: u8 = 3;
/// `AF_XDP` under ef_vi; not usable from this API.
pub const EF_VI_ARCH_AF_XDP: u8 = 4;
/// X4 low-latency.
pub const EF_VI_ARCH_EF10CT: u8 = 5;

/// The least event array `ef_eventq_poll` takes.
pub const EF_VI_EVENT_POLL_MIN_EVS: usize = 2;
/// Most ids one merged receive event stands for.
pub const EF_VI_RECEIVE_BATCH: usize = 15;
/// Most ids one transmit event stands for.
pub const EF_VI_TRANSMIT_BATCH: usize = 64;
/// Most VIs on one event queue.
pub const EF_VI_MAX_QS: usize = 32;
/// Alignment of receive DMA addresses.
pub const EF_VI_DMA_ALIGN: usize = 64;
/// Bytes that `efct_vi_rx_future_peek` guarantees.
pub const EFCT_FUTURE_VALID_BYTES: usize = 62;
/// CTPIO threshold that asks for store and forward.
pub const EF_VI_CTPIO_CT_THRESHOLD_SNF: u32 = 0xffff;
/// Any VLAN, for `ef_filter_spec_set_eth_local`.
pub const EF_FILTER_VLAN_ID_ANY: c_int = -1;

/// Before 9.0 there was one more event type, after `RESET`.
const ONE_MORE: u32 = cfg!(ef_event_memcpy) as u32;

/// A frame was received into a posted buffer.
pub const EF_EVENT_TYPE_RX: u32 = 0;
/// Frames were sent.
pub const EF_EVENT_TYPE_TX: u32 = 1;
/// A bad frame was received into a posted buffer.
pub const EF_EVENT_TYPE_RX_DISCARD: u32 = 2;
/// A frame could not be sent.
pub const EF_EVENT_TYPE_TX_ERROR: u32 = 3;
/// A frame was cut off: descriptors ran out in its middle.
pub const EF_EVENT_TYPE_RX_NO_DESC_TRUNC: u32 = 4;
/// Put there by software.
pub const EF_EVENT_TYPE_SW: u32 = 5;
/// The event queue overflowed; it cannot be used any more.
pub const EF_EVENT_TYPE_OFLOW: u32 = 6;
/// A frame was sent at a stated time.
pub const EF_EVENT_TYPE_TX_WITH_TIMESTAMP: u32 = 7;
/// A packed-stream buffer has frames.
pub const EF_EVENT_TYPE_RX_PACKED_STREAM: u32 = 8;
/// Up to [`EF_VI_RECEIVE_BATCH`] descriptors were filled.
pub const EF_EVENT_TYPE_RX_MULTI: u32 = 9;
/// A transmit alternative was sent.
pub const EF_EVENT_TYPE_TX_ALT: u32 = 10;
/// As `RX_MULTI`, for bad frames.
pub const EF_EVENT_TYPE_RX_MULTI_DISCARD: u32 = 11;
/// The card was reset; the VI is gone.
pub const EF_EVENT_TYPE_RESET: u32 = 12;
/// Several frames, counted in frames.
pub const EF_EVENT_TYPE_RX_MULTI_PKTS: u32 = 13 + ONE_MORE;
/// A frame in the card's shared buffers.
pub const EF_EVENT_TYPE_RX_REF: u32 = 14 + ONE_MORE;
/// A bad frame in the card's shared buffers.
pub const EF_EVENT_TYPE_RX_REF_DISCARD: u32 = 15 + ONE_MORE;

/// First buffer of a frame.
pub const EF_EVENT_FLAG_SOP: u32 = 1;
/// The frame goes on in the next buffer.
pub const EF_EVENT_FLAG_CONT: u32 = 2;
/// Received by a multicast filter.
pub const EF_EVENT_FLAG_MULTICAST: u32 = 8;
/// A transmit event's frames went out by CTPIO.
pub const EF_EVENT_FLAG_CTPIO: u32 = 1;

/// Discard: wrong IP, TCP or UDP checksum.
pub const EF_EVENT_RX_DISCARD_CSUM_BAD: u32 = 0;
/// Discard: multicast that no filter asked for.
pub const EF_EVENT_RX_DISCARD_MCAST_MISMATCH: u32 = 1;
/// Discard: wrong frame check sequence.
pub const EF_EVENT_RX_DISCARD_CRC_BAD: u32 = 2;
/// Discard: cut off or of wrong length.
pub const EF_EVENT_RX_DISCARD_TRUNC: u32 = 3;
/// Discard: the buffer was not ours.
pub const EF_EVENT_RX_DISCARD_RIGHTS: u32 = 4;
/// Discard: the event did not match the ring.
pub const EF_EVENT_RX_DISCARD_EV_ERROR: u32 = 5;
/// Discard: anything else.
pub const EF_EVENT_RX_DISCARD_OTHER: u32 = 6;
/// Discard: wrong checksum within a tunnel.
pub const EF_EVENT_RX_DISCARD_INNER_CSUM_BAD: u32 = 7;

/// Send error: the buffer was not ours.
pub const EF_EVENT_TX_ERROR_RIGHTS: u32 = 0;
/// Send error: the ring overflowed.
pub const EF_EVENT_TX_ERROR_OFLOW: u32 = 1;
/// Send error: the frame is too long.
pub const EF_EVENT_TX_ERROR_2BIG: u32 = 2;
/// Send error: bus error.
pub const EF_EVENT_TX_ERROR_BUS: u32 = 3;

/// Discard mask: wrong L4 checksum.
pub const EF_VI_DISCARD_RX_L4_CSUM_ERR: u32 = 0x1;
/// Discard mask: wrong IPv4 header checksum.
pub const EF_VI_DISCARD_RX_L3_CSUM_ERR: u32 = 0x2;
/// Discard mask: wrong frame check sequence.
pub const EF_VI_DISCARD_RX_ETH_FCS_ERR: u32 = 0x4;
/// Discard mask: wrong length.
pub const EF_VI_DISCARD_RX_ETH_LEN_ERR: u32 = 0x8;
/// Discard mask: to be discarded, in merged events.
pub const EF_VI_DISCARD_RX_TOBE_DISC: u32 = 0x10;
/// Discard mask: wrong L4 checksum within a tunnel.
pub const EF_VI_DISCARD_RX_INNER_L4_CSUM_ERR: u32 = 0x20;
/// Discard mask: wrong L3 checksum within a tunnel.
pub const EF_VI_DISCARD_RX_INNER_L3_CSUM_ERR: u32 = 0x40;
/// Discard mask: unknown L2 class.
pub const EF_VI_DISCARD_RX_L2_CLASS_OTHER: u32 = 0x80;
/// Discard mask: unknown L3 class.
pub const EF_VI_DISCARD_RX_L3_CLASS_OTHER: u32 = 0x100;
/// Discard mask: unknown L4 class.
pub const EF_VI_DISCARD_RX_L4_CLASS_OTHER: u32 = 0x200;

/// VI flag: send descriptors are pushed never.
pub const EF_VI_TX_PUSH_DISABLE: u64 = 0x4000;
/// VI flag: send descriptors are pushed always.
pub const EF_VI_TX_PUSH_ALWAYS: u64 = 0x8000;
/// VI flag: receive timestamps.
pub const EF_VI_RX_TIMESTAMPS: u64 = 0x1_0000;
/// VI flag: send timestamps.
pub const EF_VI_TX_TIMESTAMPS: u64 = 0x2_0000;
/// VI flag: merged receive events.
pub const EF_VI_RX_EVENT_MERGE: u64 = 0x20_0000;
/// VI flag: transmit alternatives.
pub const EF_VI_TX_ALT: u64 = 0x40_0000;
/// VI flag: send through the CTPIO aperture.
pub const EF_VI_TX_CTPIO: u64 = 0x100_0000;
/// VI flag: CTPIO never lets a damaged frame out.
pub const EF_VI_TX_CTPIO_NO_POISON: u64 = 0x200_0000;
/// VI flag: own the receive queue (X3).
pub const EF_VI_RX_EXCLUSIVE: u64 = 0x2000_0000;
/// VI flag: received frames name their filter (9.1 and later).
pub const EF_VI_RX_FILTER_ID: u64 = 0x1_0000_0000;
/// VI out-flag: the clock's synchronisation is reported.
pub const EF_VI_OUT_CLOCK_SYNC_STATUS: u32 = 1;

/// PD flag: physical addresses instead of the card's own mapping.
pub const EF_PD_PHYS_MODE: u32 = 0x2;
/// PD flag: hear other programs' multicast on this host.
pub const EF_PD_MCAST_LOOP: u32 = 0x10;
/// PD flag: the low-latency datapath of an X4.
pub const EF_PD_EXPRESS: u32 = 0x80;

/// Filter flag: hear this host's own multicast.
pub const EF_FILTER_FLAG_MCAST_LOOP_RECEIVE: u32 = 0x2;
/// Filter flag: a receive queue of one's own.
pub const EF_FILTER_FLAG_EXCLUSIVE_RXQ: u32 = 0x4;
/// Filter flag: a receive queue shared with other programs.
pub const EF_FILTER_FLAG_SHARED_RXQ: u32 = 0x8;
/// Filter flag: interrupts for sleeping readers (9.1 and later, X4).
pub const EF_FILTER_FLAG_REQUEST_WAKEUPS: u32 = 0x10;

/// The clock was set.
pub const EF_VI_SYNC_FLAG_CLOCK_SET: u32 = 1;
/// The clock is synchronised.
pub const EF_VI_SYNC_FLAG_CLOCK_IN_SYNC: u32 = 2;

/// Layout entry: the frame begins here.
pub const EF_VI_LAYOUT_FRAME: u32 = 0;
/// Layout entry: raw timestamp.
pub const EF_VI_LAYOUT_MINOR_TICKS: u32 = 1;
/// Layout entry: length of the frame, 16 bits, little endian.
pub const EF_VI_LAYOUT_PACKET_LENGTH: u32 = 2;

/// Capability: programmed I/O.
pub const EF_VI_CAP_PIO: u32 = 0;
/// Capability: bytes of one PIO region.
pub const EF_VI_CAP_PIO_BUFFER_SIZE: u32 = 1;
/// Capability: PIO regions.
pub const EF_VI_CAP_PIO_BUFFER_COUNT: u32 = 2;
/// Capability: several VIs get the same multicast.
pub const EF_VI_CAP_HW_MULTICAST_REPLICATION: u32 = 4;
/// Capability: receive timestamps.
pub const EF_VI_CAP_HW_RX_TIMESTAMPING: u32 = 5;
/// Capability: send timestamps.
pub const EF_VI_CAP_HW_TX_TIMESTAMPING: u32 = 6;
/// Capability: receive ring sizes, a bit mask.
pub const EF_VI_CAP_RXQ_SIZES: u32 = 34;
/// Capability: send ring sizes, a bit mask.
pub const EF_VI_CAP_TXQ_SIZES: u32 = 35;
/// Capability: event queue sizes, a bit mask.
pub const EF_VI_CAP_EVQ_SIZES: u32 = 36;
/// Capability: merged receive events.
pub const EF_VI_CAP_RX_MERGE: u32 = 40;
/// Capability: transmit alternatives.
pub const EF_VI_CAP_TX_ALTERNATIVES: u32 = 41;
/// Capability: CTPIO.
pub const EF_VI_CAP_CTPIO: u32 = 46;
/// Capability: least page size, in bytes, of registered memory.
pub const EF_VI_CAP_MIN_BUFFER_MODE_SIZE: u32 = 49;
/// Capability: CTPIO is the only way to send.
pub const EF_VI_CAP_CTPIO_ONLY: u32 = 50;
/// Capability: receive queues are shared with other programs.
pub const EF_VI_CAP_RX_SHARED: u32 = 51;
/// Capability: datapaths besides the default one.
pub const EF_VI_CAP_EXTRA_DATAPATHS: u32 = 56;
