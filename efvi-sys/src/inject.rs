//! For simulators: making a VI in whatever layout this build uses.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use libc::c_char;

use crate::ops::Ops;
use crate::types::{ef_driver_handle, ef_vi_nic_type};
use crate::vi::{ef_vi, ef_vi_state, ef_vi_stats};

/// What a simulator says about a VI it makes.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The driver handle it was allocated on.
    pub dh: ef_driver_handle,
    /// Its number on that handle.
    pub resource_id: u32,
    /// Its number on the card.
    pub instance: u32,
    /// Which kind of card.
    pub nic_type: ef_vi_nic_type,
    /// `EF_VI_*` as granted.
    pub flags: u64,
    /// `EF_VI_OUT_*`.
    pub out_flags: u32,
    /// Receive ring slots less one, or 0 for no ring.
    pub rxq_mask: u32,
    /// Send ring slots less one, or 0 for no ring.
    pub txq_mask: u32,
    /// Bytes of the send FIFO, on cards that count bytes.
    pub ct_fifo_bytes: u32,
    /// Metadata bytes in front of a frame.
    pub rx_prefix_len: u32,
    /// Bytes that may be written into a posted buffer.
    pub rx_buffer_len: u32,
    /// Event queue slots less one.
    pub evq_mask: u32,
    /// Is there a CTPIO aperture? Its address; nobody writes through it.
    pub ctpio: *mut c_char,
    /// The simulator's own pointer, kept where a card's event queue would begin.
    pub context: *mut c_char,
    /// The operations.
    pub ops: Ops,
}

/// Fills `vi`, with fresh zeroed ring state.
///
/// # Safety
///
/// `vi` has room for one `ef_vi` and no state from an earlier call.
pub unsafe fn make_vi(vi: *mut ef_vi, s: &Setup) {
    // SAFETY: the caller vouches for `vi`; all types involved are plain data, for which zero is
    // a value.
    unsafe {
        vi.write_bytes(0, 1);
        (*vi).inited = 3;
        (*vi).vi_resource_id = s.resource_id;
        (*vi).vi_i = s.instance;
        (*vi).dh = s.dh;
        (*vi).rx_buffer_len = s.rx_buffer_len;
        (*vi).rx_prefix_len = s.rx_prefix_len;
        (*vi).vi_ctpio_mmap_ptr = s.ctpio;
        (*vi).evq_base = s.context;
        (*vi).evq_mask = s.evq_mask;
        (*vi).vi_txq.mask = s.txq_mask;
        (*vi).vi_txq.ct_fifo_bytes = s.ct_fifo_bytes;
        (*vi).vi_rxq.mask = s.rxq_mask;
        (*vi).ep_state = zeroed();
        (*vi).vi_stats = zeroed::<ef_vi_stats>();
        #[cfg(ef_evq_slots)]
        {
            (*(*vi).ep_state).evq.min_unused_evq_slots = 1;
        }
        (*vi).vi_flags = s.flags as _;
        (*vi).vi_out_flags = s.out_flags as _;
        #[cfg(ef_evq_vi)]
        {
            (*vi).evq_vi = vi;
        }
        (*vi).vi_qs[0] = vi;
        (*vi).vi_qs_n = 1;
        (&raw mut (*vi).nic_type).cast::<ef_vi_nic_type>().write(s.nic_type);
    }
    // SAFETY: as above.
    unsafe { install_ops(vi, &s.ops) }
}

/// Frees what [`make_vi`] allocated.
///
/// # Safety
///
/// `vi` was filled by [`make_vi`] and nothing uses it any more.
pub unsafe fn unmake_vi(vi: *mut ef_vi) {
    // SAFETY: the caller vouches for it.
    unsafe {
        dealloc((*vi).ep_state.cast(), Layout::new::<ef_vi_state>());
        dealloc((*vi).vi_stats.cast(), Layout::new::<ef_vi_stats>());
        (*vi).ep_state = std::ptr::null_mut();
        (*vi).vi_stats = std::ptr::null_mut();
    }
}

/// Installs the operations that this build's release has.
///
/// # Safety
///
/// `vi` is valid for writes, and `ops` behave as their C namesakes.
pub unsafe fn install_ops(vi: *mut ef_vi, ops: &Ops) {
    macro_rules! install {
        ($($op:ident),* $(,)?) => {
            // SAFETY: the caller vouches for the VI.
            unsafe { $((*vi).ops.$op = ops.$op;)* }
        };
    }
    install!(
        transmit,
        transmitv,
        transmitv_init,
        transmit_push,
        transmit_pio,
        transmit_copy_pio,
        transmitv_ctpio,
        transmit_alt_select,
        transmit_alt_select_default,
        transmit_alt_stop,
        transmit_alt_go,
        transmit_alt_discard,
        receive_set_discards,
        receive_init,
        receive_push,
        eventq_poll,
        transmit_ctpio_fallback,
    );
    #[cfg(ef_ops_warm)]
    install!(start_transmit_warm, stop_transmit_warm);
    #[cfg(ef_ops_timestamp)]
    install!(receive_get_timestamp);
    #[cfg(ef_ops_has_many)]
    install!(eventq_has_event, eventq_has_many_events);
}

/// The simulator's own pointer of a VI.
///
/// # Safety
///
/// `vi` was filled by [`make_vi`].
#[inline]
pub unsafe fn context(vi: *const ef_vi) -> *mut c_char {
    // SAFETY: the caller vouches for the VI.
    unsafe { (*vi).evq_base }
}

/// Indices of a VI's rings that the C inlines read: a simulator keeps them up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Indices {
    /// Receive buffers posted since the start.
    pub rx_added: u32,
    /// Receive buffers filled since the start.
    pub rx_removed: u32,
    /// Send descriptors added since the start.
    pub tx_added: u32,
    /// Send descriptors unbundled since the start.
    pub tx_removed: u32,
    /// Bytes put into the send FIFO since the start.
    pub ct_added: u32,
    /// Bytes that left the send FIFO since the start.
    pub ct_removed: u32,
    /// Position in the event queue, in bytes.
    pub evq_ptr: u32,
}

/// Publishes the indices.
///
/// # Safety
///
/// `vi` was filled by [`make_vi`], and the caller is the only thread inside it.
pub unsafe fn set_indices(vi: *mut ef_vi, i: &Indices) {
    // SAFETY: the caller vouches for the VI.
    unsafe {
        let state = (*vi).ep_state;
        (*state).rxq.added = i.rx_added;
        (*state).rxq.removed = i.rx_removed;
        (*state).txq.added = i.tx_added;
        (*state).txq.removed = i.tx_removed;
        (*state).txq.ct_added = i.ct_added;
        (*state).txq.ct_removed = i.ct_removed;
        (*state).evq.evq_ptr = i.evq_ptr as _;
    }
}

/// Sets how many alternatives the VI has.
///
/// # Safety
///
/// As [`set_indices`].
pub unsafe fn set_alternatives(vi: *mut ef_vi, n: u32) {
    // SAFETY: the caller vouches for the VI.
    unsafe { (*vi).tx_alt_num = n }
}

/// One `T` of zero bytes on the heap.
fn zeroed<T>() -> *mut T {
    let layout = Layout::new::<T>();
    // SAFETY: neither of the two types this is called with is empty.
    let p = unsafe { alloc_zeroed(layout) };
    if p.is_null() {
        handle_alloc_error(layout);
    }
    p.cast()
}
