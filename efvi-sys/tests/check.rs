//! The layout check accepts what fits and refuses what does not.

use std::mem::MaybeUninit;

use libc::{c_int, c_void};
use linerate_efvi_sys::check::{self, Mismatch};
use linerate_efvi_sys::inject::{Setup, make_vi, unmake_vi};
use linerate_efvi_sys::*;

/// `ef_vi_init` of a library whose `struct ef_vi` has `N` bytes.
unsafe extern "C" fn init<const N: usize>(
    vi: *mut ef_vi,
    _: c_int,
    _: c_int,
    _: c_int,
    _: u64,
    _: u8,
    _: *mut ef_vi_state,
) -> c_int {
    // SAFETY: the probe passes far more than any N of these tests.
    unsafe { vi.cast::<u8>().write_bytes(0, N) };
    -libc::EINVAL
}

/// A table of which only `vi_init` may be called.
fn api(
    vi_init: unsafe extern "C" fn(
        *mut ef_vi,
        c_int,
        c_int,
        c_int,
        u64,
        u8,
        *mut ef_vi_state,
    ) -> c_int,
) -> Api {
    extern "C" fn trap() {
        unreachable!("only vi_init is called here");
    }
    let mut api = MaybeUninit::<Api>::uninit();
    // SAFETY: an Api is function pointers only, and `trap` is one; the options are function
    // pointers too. Nothing but `vi_init` is called through this table.
    unsafe {
        let slots = api.as_mut_ptr().cast::<extern "C" fn()>();
        for i in 0..size_of::<Api>() / size_of::<extern "C" fn()>() {
            slots.add(i).write(trap);
        }
        let mut api = api.assume_init();
        api.vi_init = vi_init;
        api
    }
}

unsafe extern "C" fn nop(_: *mut ef_vi) {}
unsafe extern "C" fn poll(_: *mut ef_vi, _: *mut ef_event, _: c_int) -> c_int {
    0
}
unsafe extern "C" fn post(_: *mut ef_vi, _: ef_addr, _: ef_request_id) -> c_int {
    0
}
unsafe extern "C" fn send(_: *mut ef_vi, _: ef_addr, _: c_int, _: ef_request_id) -> c_int {
    0
}
unsafe extern "C" fn sendv(_: *mut ef_vi, _: *const ef_iovec, _: c_int, _: ef_request_id) -> c_int {
    0
}
unsafe extern "C" fn ctpio(_: *mut ef_vi, _: usize, _: *const libc::iovec, _: c_int, _: u32) {}
unsafe extern "C" fn fallback(_: *mut ef_vi, _: ef_addr, _: usize, _: ef_request_id) -> c_int {
    0
}
unsafe extern "C" fn stamp(_: *mut ef_vi, _: *const c_void, _: *mut ef_precisetime) -> c_int {
    0
}
unsafe extern "C" fn many(_: *const ef_vi, _: c_int) -> c_int {
    0
}

fn setup() -> Setup {
    Setup {
        dh: 7,
        resource_id: 1,
        instance: 2,
        nic_type: ef_vi_nic_type { arch: EF_VI_ARCH_EF10, ..Default::default() },
        flags: EF_VI_RX_TIMESTAMPS,
        out_flags: 0,
        rxq_mask: 511,
        txq_mask: 0,
        ct_fifo_bytes: 0,
        rx_prefix_len: 14,
        rx_buffer_len: 1792,
        evq_mask: 1023,
        ctpio: std::ptr::null_mut(),
        context: std::ptr::null_mut(),
        ops: Ops {
            eventq_poll: Some(poll),
            receive_init: Some(post),
            receive_push: Some(nop),
            transmit: Some(send),
            transmitv_init: Some(sendv),
            transmit_push: Some(nop),
            receive_get_timestamp: Some(stamp),
            transmitv_ctpio: Some(ctpio),
            transmit_ctpio_fallback: Some(fallback),
            eventq_has_many_events: Some(many),
            ..Default::default()
        },
    }
}

/// What the check says about a VI made by `setup` and then changed by `spoil`.
fn verdict(spoil: impl FnOnce(&mut Setup)) -> Result<(), Mismatch> {
    let api = api(init::<{ size_of::<ef_vi>() }>);
    let mut s = setup();
    spoil(&mut s);
    let mut vi = Box::<ef_vi>::new_uninit();
    // SAFETY: room for one, made and unmade once.
    unsafe {
        make_vi(vi.as_mut_ptr(), &s);
        let verdict = check::vi(&api, vi.as_ptr(), 7);
        unmake_vi(vi.as_mut_ptr());
        verdict
    }
}

#[test]
fn a_library_with_another_struct_is_refused() {
    assert_eq!(check::size_of_vi(&api(init::<{ size_of::<ef_vi>() }>)), Ok(()));
    let headers = size_of::<ef_vi>();
    for library in [1136, 1232] {
        if library == headers {
            continue;
        }
        let api = if library == 1136 { api(init::<1136>) } else { api(init::<1232>) };
        assert_eq!(check::size_of_vi(&api), Err(Mismatch::Size { headers, library }));
    }
}

#[test]
fn a_vi_whose_fields_are_elsewhere_is_refused() {
    assert_eq!(verdict(|_| ()), Ok(()));
    assert_eq!(verdict(|s| s.dh = 8), Err(Mismatch::Field("dh")));
    assert_eq!(verdict(|s| s.rxq_mask = 500), Err(Mismatch::Field("vi_rxq.mask")));
    assert_eq!(verdict(|s| s.txq_mask = 0x1_0000), Err(Mismatch::Field("vi_txq.mask")));
    assert_eq!(verdict(|s| s.nic_type.arch = 9), Err(Mismatch::Field("nic_type")));
    let refused = verdict(|s| s.ops.receive_get_timestamp = None);
    assert_eq!(refused, Err(Mismatch::Field("ops.receive_get_timestamp")));
    assert_eq!(verdict(|s| s.ops.eventq_poll = None), Err(Mismatch::Field("ops.eventq_poll")));
}

#[test]
fn the_linked_library_fits_its_headers() {
    match Library::linked() {
        Ok(library) => assert_eq!(check::size_of_vi(&library), Ok(())),
        Err(missing) => {
            assert!(!SDK.missing.is_empty(), "no SDK, and no word why");
            assert!(missing.to_string().contains(SDK.missing));
        }
    }
}
