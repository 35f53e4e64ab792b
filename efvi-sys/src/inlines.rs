//! What the C headers define inline or as macros, as methods of [`Api`].
//!
//! # Safety of all of these
//!
//! `vi` was allocated by this very `Api` and has not been freed, [`check::vi`](crate::check::vi)
//! accepted it, the calling thread is the only one inside the VI, and pointers are valid for what
//! the C function of the same name does with them.

use libc::{c_int, c_uint, c_void, iovec, size_t};

use crate::api::Api;
use crate::event::ef_event;
use crate::types::ef_vi_tx_warm_state;
use crate::types::{ef_addr, ef_iovec, ef_precisetime, ef_request_id, ef_vi_nic_type};
use crate::vi::ef_vi;

/// Calls operation `$op` of a VI, which [`check::vi`](crate::check::vi) found to be there.
macro_rules! call {
    ($vi:expr, $op:ident $(, $arg:expr)*) => {{
        let vi = $vi;
        // SAFETY: the caller vouches for the VI; its table was complete when it was opened and
        // nobody writes it afterwards.
        unsafe { (*vi).ops.$op.unwrap_unchecked()(vi $(, $arg)*) }
    }};
}

/// Calls operation `$op`, or gives `$none` where this kind of card leaves it out.
macro_rules! call_or {
    ($none:expr, $vi:expr, $op:ident $(, $arg:expr)*) => {{
        let vi = $vi;
        // SAFETY: the caller vouches for the VI.
        match unsafe { (*vi).ops.$op } {
            // SAFETY: as above, and for the arguments.
            Some(op) => unsafe { op(vi $(, $arg)*) },
            None => $none,
        }
    }};
}

#[allow(clippy::missing_safety_doc, reason = "one contract for all, in the module's docs")]
impl Api {
    /// `ef_eventq_poll`: fills `evs`, returns how many. Some members of the events stay unwritten.
    #[inline]
    pub unsafe fn eventq_poll(&self, vi: *mut ef_vi, evs: *mut ef_event, n: c_int) -> c_int {
        call!(vi, eventq_poll, evs, n)
    }

    /// `ef_eventq_has_many_events`: are there strictly more than `n` events? On EFCT it sees the
    /// send events only.
    #[inline]
    pub unsafe fn eventq_has_many_events(&self, vi: *const ef_vi, n: c_int) -> bool {
        #[cfg(ef_ops_has_many)]
        // SAFETY: the module's contract.
        let many = unsafe { (*vi).ops.eventq_has_many_events.unwrap_unchecked()(vi, n) };
        #[cfg(not(ef_ops_has_many))]
        let many = match self.sometimes.eventq_has_many_events {
            // SAFETY: the module's contract.
            Some(many) => unsafe { many(vi, n) },
            None => 1,
        };
        many != 0
    }

    /// `ef_eventq_current`: the position that `eventq_wait` and `vi_prime` want.
    #[inline]
    pub unsafe fn eventq_current(&self, vi: *const ef_vi) -> c_uint {
        // SAFETY: the module's contract; a VI has its state as long as it lives.
        unsafe { (*(*vi).ep_state).evq.evq_ptr as c_uint }
    }

    /// `ef_vi_receive_init`: posts one buffer, to be handed over by the next push.
    #[inline]
    pub unsafe fn receive_init(&self, vi: *mut ef_vi, addr: ef_addr, id: ef_request_id) -> c_int {
        call!(vi, receive_init, addr, id)
    }

    /// `ef_vi_receive_push`: hands posted buffers to the card, on EF10 in multiples of eight.
    #[inline]
    pub unsafe fn receive_push(&self, vi: *mut ef_vi) {
        call!(vi, receive_push);
    }

    /// `ef_vi_receive_get_precise_timestamp`, or its forerunner before 9.0.
    ///
    /// `pkt` is the start of the DMA area (EF10), or the frame of `pkt_id` (EFCT).
    #[inline]
    pub unsafe fn receive_get_timestamp(
        &self,
        vi: *mut ef_vi,
        pkt: *const c_void,
        pkt_id: Option<u32>,
        ts: &mut ef_precisetime,
    ) -> c_int {
        #[cfg(ef_ops_timestamp)]
        {
            let _ = pkt_id;
            call!(vi, receive_get_timestamp, pkt, ts)
        }
        #[cfg(not(ef_ops_timestamp))]
        {
            let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let mut flags = 0;
            // SAFETY: the module's contract.
            let rc = unsafe {
                match (pkt_id, self.sometimes.efct_vi_rxpkt_get_timestamp) {
                    (Some(id), Some(get)) => get(vi, id, &mut spec, &mut flags),
                    (Some(_), None) => -libc::EOPNOTSUPP,
                    (None, _) => (self.vi_receive_get_timestamp_with_sync_flags)(
                        vi, pkt, &mut spec, &mut flags,
                    ),
                }
            };
            ts.tv_sec = spec.tv_sec;
            ts.tv_nsec = spec.tv_nsec as u32;
            ts.tv_nsec_frac = 0;
            ts.tv_flags = flags as u16;
            rc
        }
    }

    /// `ef_vi_receive_set_discards`.
    #[inline]
    pub unsafe fn receive_set_discards(&self, vi: *mut ef_vi, mask: c_uint) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, receive_set_discards, mask)
    }

    /// `ef_vi_receive_get_discards`.
    #[inline]
    #[allow(clippy::unnecessary_cast, reason = "narrower in older releases")]
    pub unsafe fn receive_get_discards(&self, vi: *mut ef_vi) -> Option<u64> {
        // SAFETY: the module's contract. Left out under AF_XDP, and `int` before 9.1.
        unsafe { (*vi).ops.receive_get_discards.map(|get| get(vi) as u64) }
    }

    /// `ef_vi_receive_prefix_len`: metadata bytes in front of a frame.
    #[inline]
    pub unsafe fn receive_prefix_len(&self, vi: *const ef_vi) -> usize {
        // SAFETY: the module's contract.
        unsafe { (*vi).rx_prefix_len as usize }
    }

    /// `ef_vi_receive_buffer_len`: bytes the card may write into a posted buffer.
    #[inline]
    pub unsafe fn receive_buffer_len(&self, vi: *const ef_vi) -> usize {
        // SAFETY: the module's contract.
        unsafe { (*vi).rx_buffer_len as usize }
    }

    /// `ef_vi_receive_set_buffer_len`: before any buffer is posted.
    #[inline]
    pub unsafe fn receive_set_buffer_len(&self, vi: *mut ef_vi, len: c_uint) {
        // SAFETY: the module's contract.
        unsafe { (*vi).rx_buffer_len = len }
    }

    /// `ef_vi_receive_capacity`: buffers the ring holds.
    #[inline]
    pub unsafe fn receive_capacity(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { (*vi).vi_rxq.mask }
    }

    /// `ef_vi_receive_fill_level`: buffers posted.
    #[inline]
    pub unsafe fn receive_fill_level(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe {
            let rxq = &raw const (*(*vi).ep_state).rxq;
            (*rxq).added.wrapping_sub((*rxq).removed)
        }
    }

    /// `ef_vi_receive_space`: buffers that can be posted.
    #[inline]
    pub unsafe fn receive_space(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { self.receive_capacity(vi).wrapping_sub(self.receive_fill_level(vi)) }
    }

    /// `ef_vi_transmitv_init`.
    #[inline]
    pub unsafe fn transmitv_init(
        &self,
        vi: *mut ef_vi,
        iov: *const ef_iovec,
        n: c_int,
        id: ef_request_id,
    ) -> c_int {
        call!(vi, transmitv_init, iov, n, id)
    }

    /// `ef_vi_transmit_push`: everything initialised goes out.
    #[inline]
    pub unsafe fn transmit_push(&self, vi: *mut ef_vi) {
        call!(vi, transmit_push);
    }

    /// `ef_vi_transmit`: init and push of one frame.
    #[inline]
    pub unsafe fn transmit(
        &self,
        vi: *mut ef_vi,
        addr: ef_addr,
        len: c_int,
        id: ef_request_id,
    ) -> c_int {
        call!(vi, transmit, addr, len, id)
    }

    /// `ef_vi_transmit_ctpio`: writes a frame through the aperture. Must be followed by
    /// [`transmit_ctpio_fallback`](Self::transmit_ctpio_fallback) before anything else is sent,
    /// and may only be called when the VI's flags have `EF_VI_TX_CTPIO`.
    #[inline]
    pub unsafe fn transmit_ctpio(
        &self,
        vi: *mut ef_vi,
        frame: *const c_void,
        len: size_t,
        threshold: c_uint,
    ) {
        let iov = iovec { iov_base: frame.cast_mut(), iov_len: len };
        call!(vi, transmitv_ctpio, len, &raw const iov, 1, threshold);
    }

    /// `ef_vi_transmit_ctpio_fallback`.
    #[inline]
    pub unsafe fn transmit_ctpio_fallback(
        &self,
        vi: *mut ef_vi,
        addr: ef_addr,
        len: size_t,
        id: ef_request_id,
    ) -> c_int {
        call!(vi, transmit_ctpio_fallback, addr, len, id)
    }

    /// `ef_vi_transmit_pio`: sends what `pio_memcpy` put at `offset`.
    #[inline]
    pub unsafe fn transmit_pio(
        &self,
        vi: *mut ef_vi,
        offset: c_int,
        len: c_int,
        id: ef_request_id,
    ) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_pio, offset, len, id)
    }

    /// `ef_vi_transmit_copy_pio`: copies into the region and sends.
    #[inline]
    pub unsafe fn transmit_copy_pio(
        &self,
        vi: *mut ef_vi,
        offset: c_int,
        frame: *const c_void,
        len: c_int,
        id: ef_request_id,
    ) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_copy_pio, offset, frame, len, id)
    }

    /// `ef_vi_transmit_alt_select`: later sends go into an alternative.
    #[inline]
    pub unsafe fn transmit_alt_select(&self, vi: *mut ef_vi, alt: c_uint) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_alt_select, alt)
    }

    /// `ef_vi_transmit_alt_select_normal`: later sends go to the wire.
    #[inline]
    pub unsafe fn transmit_alt_select_normal(&self, vi: *mut ef_vi) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_alt_select_default)
    }

    /// `ef_vi_transmit_alt_stop`: the alternative holds what it is sent.
    #[inline]
    pub unsafe fn transmit_alt_stop(&self, vi: *mut ef_vi, alt: c_uint) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_alt_stop, alt)
    }

    /// `ef_vi_transmit_alt_go`: what the alternative holds goes to the wire.
    #[inline]
    pub unsafe fn transmit_alt_go(&self, vi: *mut ef_vi, alt: c_uint) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_alt_go, alt)
    }

    /// `ef_vi_transmit_alt_discard`: what the alternative holds is thrown away.
    #[inline]
    pub unsafe fn transmit_alt_discard(&self, vi: *mut ef_vi, alt: c_uint) -> c_int {
        call_or!(-libc::EOPNOTSUPP, vi, transmit_alt_discard, alt)
    }

    /// `ef_vi_start_transmit_warm`; `false` before 9.0, which has none.
    #[inline]
    pub unsafe fn start_transmit_warm(
        &self,
        vi: *mut ef_vi,
        saved: *mut ef_vi_tx_warm_state,
        aperture: *mut libc::c_char,
    ) -> bool {
        #[cfg(ef_ops_warm)]
        {
            call_or!(return false, vi, start_transmit_warm, saved, aperture);
            true
        }
        #[cfg(not(ef_ops_warm))]
        {
            let _ = (vi, saved, aperture);
            false
        }
    }

    /// `ef_vi_stop_transmit_warm`.
    #[inline]
    pub unsafe fn stop_transmit_warm(&self, vi: *mut ef_vi, saved: *mut ef_vi_tx_warm_state) {
        #[cfg(ef_ops_warm)]
        call_or!((), vi, stop_transmit_warm, saved);
        #[cfg(not(ef_ops_warm))]
        let _ = (vi, saved);
    }

    /// `ef_vi_transmit_capacity`: frames the send ring holds.
    #[inline]
    pub unsafe fn transmit_capacity(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { (*vi).vi_txq.mask }
    }

    /// `ef_vi_transmit_fill_level`: descriptors not yet unbundled.
    #[inline]
    pub unsafe fn transmit_fill_level(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe {
            let txq = &raw const (*(*vi).ep_state).txq;
            (*txq).added.wrapping_sub((*txq).removed)
        }
    }

    /// `ef_vi_transmit_space`: descriptors that can be added.
    #[inline]
    pub unsafe fn transmit_space(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { self.transmit_capacity(vi).wrapping_sub(self.transmit_fill_level(vi)) }
    }

    /// `ef_vi_transmit_space_bytes`: room in the card's send FIFO, on cards that count bytes.
    #[inline]
    pub unsafe fn transmit_space_bytes(&self, vi: *const ef_vi) -> usize {
        // SAFETY: the module's contract.
        unsafe {
            #[cfg(ef_evq_slots)]
            if (*(*(*vi).evq_vi).ep_state).evq.min_unused_evq_slots <= 0 {
                return 0;
            }
            let txq = &raw const (*(*vi).ep_state).txq;
            let used = (*txq).ct_added.wrapping_sub((*txq).ct_removed);
            (*vi).vi_txq.ct_fifo_bytes.saturating_sub(used) as usize
        }
    }

    /// `ef_vi_flags`: what the VI really has, after the library's own mind and environment.
    #[inline]
    #[allow(clippy::useless_conversion, reason = "32 bits wide before 9.1")]
    pub unsafe fn flags(&self, vi: *const ef_vi) -> u64 {
        // SAFETY: the module's contract.
        unsafe { u64::from((*vi).vi_flags) }
    }

    /// Flags the driver gave back.
    #[inline]
    pub unsafe fn out_flags(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { (*vi).vi_out_flags }
    }

    /// `ef_vi_instance`: the card's number of this VI.
    #[inline]
    pub unsafe fn instance(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { (*vi).vi_i }
    }

    /// Which kind of card the VI is on.
    #[inline]
    pub unsafe fn nic_type(&self, vi: *const ef_vi) -> ef_vi_nic_type {
        // SAFETY: the module's contract. Four bytes in every release; read as bytes because the
        // headers' own type stands here in builds with an SDK.
        unsafe { (&raw const (*vi).nic_type).cast::<ef_vi_nic_type>().read() }
    }

    /// Is the CTPIO aperture mapped?
    #[inline]
    pub unsafe fn has_ctpio(&self, vi: *const ef_vi) -> bool {
        // SAFETY: the module's contract.
        unsafe { !(*vi).vi_ctpio_mmap_ptr.is_null() }
    }

    /// Alternatives allocated.
    #[inline]
    pub unsafe fn alternatives(&self, vi: *const ef_vi) -> u32 {
        // SAFETY: the module's contract.
        unsafe { (*vi).tx_alt_num }
    }

    /// What the library itself counted: lost events, descriptor indices and queue labels out of
    /// range, and gaps in an event queue.
    #[inline]
    pub unsafe fn library_errors(&self, vi: *const ef_vi) -> [u32; 4] {
        // SAFETY: the module's contract; the library allows for no counters at all.
        unsafe {
            let s = (*vi).vi_stats;
            if s.is_null() {
                return [0; 4];
            }
            [(*s).rx_ev_lost, (*s).rx_ev_bad_desc_i, (*s).rx_ev_bad_q_label, (*s).evq_gap]
        }
    }
}
