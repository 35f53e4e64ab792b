//! `ef_event`: one event, decoded by shifts.
//!
//! The C type is a union of bit-fields whose positions have not moved since 8.1, but for a send
//! timestamp's flags. Reading four words and shifting is what a compiler makes of the bit-fields,
//! and needs no generated code.

/// One event of an event queue.
#[repr(C, align(4))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ef_event {
    /// The 128 bits, lowest first.
    pub words: [u32; 4],
}

const _: () = assert!(size_of::<ef_event>() == 16 && align_of::<ef_event>() == 4);

macro_rules! field {
    ($(#[$doc:meta])* $name:ident = $lo:literal, $bits:literal) => {
        $(#[$doc])*
        #[inline]
        #[must_use]
        pub const fn $name(&self) -> u32 {
            self.bits($lo, $bits)
        }
    };
}

impl ef_event {
    /// Bits `lo..lo + width`; a field never has more than 32 and may straddle two words.
    #[inline]
    const fn bits(&self, lo: usize, width: u32) -> u32 {
        let w = lo / 32;
        let low = self.words[w] as u64;
        let high = if w < 3 { self.words[w + 1] as u64 } else { 0 };
        (((high << 32 | low) >> (lo % 32)) & ((1u64 << width) - 1)) as u32
    }

    /// The event with bits `lo..lo + width` set to `value`: for simulators.
    #[inline]
    #[must_use]
    pub const fn with(mut self, lo: usize, width: u32, value: u32) -> Self {
        let mut i = 0;
        while i < width as usize {
            let at = lo + i;
            let bit = (value >> i) & 1;
            self.words[at / 32] = (self.words[at / 32] & !(1 << (at % 32))) | (bit << (at % 32));
            i += 1;
        }
        self
    }

    /// An event of this type from this queue, everything else 0: for simulators.
    #[inline]
    #[must_use]
    pub const fn new(kind: u32, q_id: u32) -> Self {
        Self { words: [kind | (q_id << 16), 0, 0, 0] }
    }

    field! {
        /// `EF_EVENT_TYPE_*`.
        kind = 0, 16
    }
    field! {
        /// Label of the queue; not in `RX_REF` events.
        q_id = 16, 8
    }
    field! {
        /// `RX`, `RX_DISCARD`, `TX_WITH_TIMESTAMP`: the buffer's token.
        rq_id = 32, 32
    }
    field! {
        /// `RX`, `RX_DISCARD`: bytes so far, with the prefix.
        rx_len = 64, 16
    }
    field! {
        /// `RX`, `RX_DISCARD`: `EF_EVENT_FLAG_*`.
        rx_flags = 80, 16
    }
    field! {
        /// `RX_DISCARD`: `EF_EVENT_RX_DISCARD_*`.
        rx_discard_subtype = 96, 16
    }
    field! {
        /// `RX_MULTI`, `RX_MULTI_DISCARD`: descriptors it stands for.
        rx_multi_n_descs = 32, 16
    }
    field! {
        /// `RX_MULTI`, `RX_MULTI_DISCARD`: `EF_EVENT_FLAG_*`.
        rx_multi_flags = 48, 16
    }
    field! {
        /// `RX_MULTI_DISCARD`: `EF_EVENT_RX_DISCARD_*`.
        rx_multi_discard_subtype = 64, 16
    }
    field! {
        /// `RX_REF`, `RX_REF_DISCARD`: length of the frame.
        rx_ref_len = 16, 16
    }
    field! {
        /// `RX_REF`, `RX_REF_DISCARD`: names the frame.
        rx_ref_pkt_id = 32, 32
    }
    field! {
        /// `RX_REF`, `RX_REF_DISCARD`: label of the queue.
        rx_ref_q_id = 64, 8
    }
    field! {
        /// `RX_REF`: id of the filter that selected it.
        rx_ref_filter_id = 72, 16
    }
    field! {
        /// `RX_REF_DISCARD`: `EF_VI_DISCARD_RX_*`.
        rx_ref_discard_flags = 96, 16
    }
    field! {
        /// `TX`, `TX_ERROR`, `TX_WITH_TIMESTAMP`: [`EF_EVENT_FLAG_CTPIO`](crate::EF_EVENT_FLAG_CTPIO).
        tx_flags = 24, 4
    }
    field! {
        /// `TX`, `TX_ERROR`: last descriptor it stands for.
        tx_desc_id = 32, 16
    }
    field! {
        /// `TX_ERROR`: `EF_EVENT_TX_ERROR_*`.
        tx_error_subtype = 64, 16
    }
    field! {
        /// `TX_WITH_TIMESTAMP`: seconds.
        tx_ts_sec = 64, 32
    }
    /// `TX_WITH_TIMESTAMP`: nanoseconds.
    #[inline]
    #[must_use]
    pub const fn tx_ts_nsec(&self) -> u32 {
        if cfg!(ef_event_ts_flags) { self.bits(96, 30) } else { self.words[3] & !3 }
    }

    /// `TX_WITH_TIMESTAMP`: `EF_VI_SYNC_FLAG_*`.
    #[inline]
    #[must_use]
    pub const fn tx_ts_flags(&self) -> u32 {
        if cfg!(ef_event_ts_flags) { self.bits(126, 2) } else { self.words[3] & 3 }
    }

    /// The event with this send timestamp: for simulators.
    #[inline]
    #[must_use]
    pub const fn with_tx_ts(mut self, sec: u32, nsec: u32, flags: u32) -> Self {
        self.words[2] = sec;
        self.words[3] =
            if cfg!(ef_event_ts_flags) { nsec | flags << 30 } else { nsec & !3 | flags & 3 };
        self
    }

    field! {
        /// `TX_ALT`: which alternative.
        tx_alt_id = 32, 16
    }
    field! {
        /// `SW`: what was put in.
        sw_data = 32, 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consts::*;

    #[test]
    fn the_unaligned_filter_id_reads_back() {
        let ev = ef_event::new(EF_EVENT_TYPE_RX_REF, 0)
            .with(16, 16, 1514)
            .with(32, 32, 0xdead_beef)
            .with(64, 8, 7)
            .with(72, 16, 0xabcd);
        assert_eq!(ev.kind(), EF_EVENT_TYPE_RX_REF);
        assert_eq!(ev.rx_ref_len(), 1514);
        assert_eq!(ev.rx_ref_pkt_id(), 0xdead_beef);
        assert_eq!(ev.rx_ref_q_id(), 7);
        assert_eq!(ev.rx_ref_filter_id(), 0xabcd);
    }

    #[test]
    fn the_last_word_reads_without_a_fifth() {
        let ev = ef_event::new(EF_EVENT_TYPE_TX_WITH_TIMESTAMP, 0).with_tx_ts(7, 999_999_996, 3);
        assert_eq!((ev.tx_ts_sec(), ev.tx_ts_nsec(), ev.tx_ts_flags()), (7, 999_999_996, 3));
    }
}
