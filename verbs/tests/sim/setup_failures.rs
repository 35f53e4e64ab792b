//! Every call that opening a port makes fails once, the first, the second, … the last: each time
//! with a clear error, and with nothing left behind.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use linerate_common::FlowSpec;
use linerate_common::pool::{Huge, Pool};
use linerate_ibverbs_sys::*;
use linerate_sim::verbs::api;
use linerate_verbs::{Context, Library, Options, open_on};

/// Calls to go before one fails.
static TO_GO: AtomicI64 = AtomicI64::new(i64::MAX);
static REAL: OnceLock<Api> = OnceLock::new();

fn real() -> &'static Api {
    REAL.get().unwrap()
}

/// Is this the call that fails?
fn fails() -> bool {
    let unlucky = TO_GO.fetch_sub(1, Ordering::Relaxed) == 0;
    if unlucky {
        // SAFETY: errno is this thread's own.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
    }
    unlucky
}

/// The real call behind one that may fail with NULL.
macro_rules! may_give_null {
    ($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty) => {
        unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            if fails() {
                return null_mut();
            }
            // SAFETY: the caller's promise, passed on.
            unsafe { (real().$name)($($arg),*) }
        }
    };
}

may_give_null!(ibv_open_device(device: *mut ibv_device) -> *mut ibv_context);
may_give_null!(ibv_alloc_pd(context: *mut ibv_context) -> *mut ibv_pd);
may_give_null!(
    ibv_reg_mr(pd: *mut ibv_pd, addr: *mut c_void, length: usize, access: c_int) -> *mut ibv_mr
);
may_give_null!(ibv_create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel);
may_give_null!(ibv_create_qp(pd: *mut ibv_pd, attr: *mut ibv_qp_init_attr) -> *mut ibv_qp);
may_give_null!(ibv_create_cq(
    context: *mut ibv_context, entries: c_int, cookie: *mut c_void,
    channel: *mut ibv_comp_channel, vector: c_int
) -> *mut ibv_cq);

unsafe extern "C" fn ibv_modify_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int {
    // Only the way up may fail here: what becomes of a pair that cannot be stopped is another
    // test's.
    // SAFETY: the caller's attributes.
    let down = matches!(unsafe { (*attr).qp_state }, IBV_QPS_ERR | IBV_QPS_RESET);
    if !down && fails() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise, passed on.
    unsafe { (real().ibv_modify_qp)(qp, attr, mask) }
}

/// The same from below: what the provider is asked for, through whatever table, fails.
#[test]
fn every_object_may_be_refused_and_nothing_is_left_behind() {
    let pair = pair_or_skip!();
    let pool = Pool::builder().frames(256).huge(Huge::Never).lock(false).build().unwrap();
    let mut options = Options::default();
    (options.rx_slots, options.tx_slots, options.inline_bytes) = (32, 32, 0);
    options.flows = vec![FlowSpec::ALL, "239.1.1.1:5000".parse().unwrap()];
    options.pool = Some(pool.clone());
    for (queues, least) in [(1, 13), (3, 20)] {
        options.queues = queues;
        let mut n = 0;
        loop {
            pair.a.faults().fail_call(n);
            // SAFETY: a simulated device is valid for as long as the process lives.
            let context = unsafe { Context::from_device(pair.library, pair.a.raw()) };
            let opened = context.and_then(|context| open_on(&context, 1, &options));
            let failed = pair.a.faults().call_failed();
            match opened {
                Ok(port) => {
                    assert!(!failed, "call {n} failed and nobody noticed");
                    drop(port);
                }
                Err(e) => {
                    assert_eq!(e.errno(), libc::ENOMEM, "{e}");
                    assert!(e.to_string().contains("simv0"), "{e}");
                }
            }
            assert_eq!(pair.a.live_objects(), 0, "left behind when call {n} failed");
            assert_eq!((pool.outstanding(), pool.free_frames()), (0, 256));
            if !failed {
                break;
            }
            n += 1;
        }
        assert!(n >= least, "only {n} calls could fail");
    }
}

#[test]
fn every_call_may_fail_and_nothing_is_left_behind() {
    let pair = pair_or_skip!();
    REAL.get_or_init(|| api().unwrap());
    // Basic completion queues: their creation goes through the table, and so can fail here.
    pair.a.faults().refuse_extended_cq();
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    let failing = Api {
        ibv_open_device,
        ibv_alloc_pd,
        ibv_reg_mr,
        ibv_create_comp_channel,
        ibv_create_cq,
        ibv_create_qp,
        ibv_modify_qp,
        ..*real()
    };
    let library = *LIBRARY.get_or_init(|| Library::injected(failing));
    let pool = Pool::builder().frames(256).huge(Huge::Never).lock(false).build().unwrap();
    let mut options = Options::default();
    (options.rx_slots, options.tx_slots, options.inline_bytes) = (32, 32, 0);
    options.flows = vec![FlowSpec::ALL];
    options.pool = Some(pool.clone());

    let (mut failures, mut n) = (0, 0);
    loop {
        TO_GO.store(n, Ordering::Relaxed);
        // SAFETY: a simulated device is valid for as long as the process lives.
        let context = unsafe { Context::from_device(library, pair.a.raw()) };
        let opened = context.and_then(|context| open_on(&context, 1, &options));
        let reached = TO_GO.load(Ordering::Relaxed) < 0;
        match opened {
            Ok(port) => {
                // A completion channel is a wish: the port opens without and says so.
                assert!(!reached || port.notices().iter().any(|n| n.contains("blocking")));
            }
            Err(e) => {
                failures += 1;
                assert_eq!(e.errno(), libc::ENOMEM, "{e}");
                assert!(e.to_string().contains("simv0"), "{e}");
            }
        }
        assert_eq!(pair.a.live_objects(), 0, "left behind when call {n} failed");
        assert_eq!((pool.outstanding(), pool.free_frames()), (0, 256));
        if !reached {
            break;
        }
        n += 1;
    }
    assert!(failures >= 11, "only {failures} calls could fail");
}
