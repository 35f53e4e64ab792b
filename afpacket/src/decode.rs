//! One frame of the ring, as the kernel described it: checked, its VLAN tag put back.

use linerate_common::{NO_TS, RxFlags, RxFrame, RxMeta};

use crate::sys::TP_STATUS_GSO_TCP;

/// The fields that both ring versions have, read once from shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    pub(crate) sec: u32,
    pub(crate) nsec: u32,
    pub(crate) snaplen: u32,
    pub(crate) len: u32,
    pub(crate) status: u32,
    pub(crate) mac: u16,
    pub(crate) vlan_tci: u16,
    pub(crate) vlan_tpid: u16,
}

/// Where a frame lies in the ring, and what is known about it.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// Offset from the frame's header.
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) meta: RxMeta,
}

impl Seen {
    /// The frame whose header is at `header`.
    ///
    /// # Safety
    ///
    /// `self` came from [`Decoder::decode`] for this header, and the kernel does not get the
    /// memory back while the frame lives.
    #[inline(always)]
    pub(crate) unsafe fn frame<'a>(&self, header: *const u8) -> RxFrame<'a> {
        // SAFETY: `decode` found `at + len` to be within what belongs to this frame.
        let bytes = unsafe { std::slice::from_raw_parts(header.add(self.at), self.len) };
        RxFrame { bytes, meta: self.meta }
    }
}

/// What the queue's options say about decoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder {
    /// Length of the ring's frame header. A `sockaddr_ll` follows it.
    pub(crate) header: usize,
    pub(crate) snaplen: usize,
    /// A longer frame was merged by the kernel.
    pub(crate) max_frame: u32,
    /// Look for this host's own frames?
    pub(crate) outgoing: bool,
    /// What to take off a hardware stamp to have UTC.
    pub(crate) hardware_ahead_ns: u64,
    /// The flags of a hardware stamp.
    pub(crate) hardware_flags: RxFlags,
}

/// Bytes that putting a VLAN tag back needs before the frame (`PACKET_RESERVE`).
pub(crate) const VLAN_ROOM: u32 = 4;

impl Decoder {
    /// Puts the VLAN tag back and gives what is at hand of the frame; `None` when the header
    /// points out of the `room` bytes that there are for header and frame.
    ///
    /// Must be called once for each frame: a second call would put the tag in a second time.
    ///
    /// # Safety
    ///
    /// `header` points to `room` bytes that the kernel has handed over.
    #[inline(always)]
    pub(crate) unsafe fn decode(&self, raw: Raw, header: *mut u8, room: usize) -> Option<Seen> {
        let mut at = usize::from(raw.mac);
        let mut len = raw.snaplen as usize;
        let before = self.header + size_of::<libc::sockaddr_ll>() + VLAN_ROOM as usize;
        if at < before || at + len > room {
            return None;
        }
        let mut wire_len = raw.len;
        let mut flags = RxFlags::NONE;
        let mut ts_ns = u64::from(raw.sec) * 1_000_000_000 + u64::from(raw.nsec);
        if raw.status & libc::TP_STATUS_TS_RAW_HARDWARE != 0 {
            flags |= self.hardware_flags;
            ts_ns = ts_ns.saturating_sub(self.hardware_ahead_ns);
        } else if ts_ns != 0 {
            flags |= RxFlags::TS_SW;
        } else {
            ts_ns = NO_TS;
        }
        if raw.status & libc::TP_STATUS_VLAN_VALID != 0 && len >= 12 {
            let tpid = match raw.status & libc::TP_STATUS_VLAN_TPID_VALID {
                0 => libc::ETH_P_8021Q as u16,
                _ => raw.vlan_tpid,
            };
            // SAFETY: both addresses precede the tag's place by 12 bytes, of which `at` leaves
            // four before itself and `len` twelve behind.
            unsafe {
                let frame = header.add(at);
                std::ptr::copy(frame, frame.sub(4), 12);
                let tag = u32::from(tpid) << 16 | u32::from(raw.vlan_tci);
                frame.add(8).cast::<[u8; 4]>().write(tag.to_be_bytes());
            }
            at -= 4;
            len += 4;
            wire_len = wire_len.saturating_add(4);
            flags |= RxFlags::VLAN_RESTORED;
        }
        len = len.min(self.snaplen);
        if (len as u64) < u64::from(wire_len) {
            flags |= RxFlags::TRUNCATED;
        }
        if raw.status & libc::TP_STATUS_CSUM_VALID != 0 {
            flags |= RxFlags::CSUM_OK;
        }
        if raw.status & libc::TP_STATUS_CSUMNOTREADY != 0 {
            flags |= RxFlags::CSUM_PARTIAL;
        }
        if raw.status & TP_STATUS_GSO_TCP != 0 || wire_len > self.max_frame {
            flags |= RxFlags::MERGED;
        }
        if self.outgoing {
            // SAFETY: a sockaddr_ll follows the header, as checked above.
            let address =
                unsafe { header.add(self.header).cast::<libc::sockaddr_ll>().read_unaligned() };
            if address.sll_pkttype == libc::PACKET_OUTGOING {
                flags |= RxFlags::OUTGOING;
            }
        }
        Some(Seen { at, len, meta: RxMeta { ts_ns, wire_len, flags, mark: 0 } })
    }
}
