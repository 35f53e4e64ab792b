//! Every call of the vendor's library fails once: the first, the second, … the last of a session
//! that opens both queues, steers, receives, sends, waits and closes. What cannot be opened names
//! the call and the port; an open queue goes on and gives frames their names; and nothing is left:
//! no descriptor, no object of the card, no buffer.

#![allow(clippy::unwrap_used)]

mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bench::{Bench, FLOW, frame, seq, until};
use libc::{c_char, c_int, c_uint, c_ulong, c_void, timeval};
use linerate_common::{FlowSpec, FrameRx, FrameTx, Steer, TxStamps, wait_readable};
use linerate_efvi::{EfviRx, EfviTx, Options, Port, SendPath, open, open_set};
use linerate_efvi_sys::*;
use linerate_sim::efvi::{Kind, Settings, library};

type Dh = ef_driver_handle;

/// What fails when, and what is alive.
#[derive(Default)]
struct Plan {
    /// Calls to go before one fails; `None`: none does.
    to_go: Option<usize>,
    errno: c_int,
    /// The one that failed.
    failed: Option<&'static str>,
    /// Objects that were made and not given back, by the call that made them.
    alive: BTreeMap<&'static str, isize>,
}

static PLAN: Mutex<Plan> =
    Mutex::new(Plan { to_go: None, errno: 0, failed: None, alive: BTreeMap::new() });

fn plan() -> std::sync::MutexGuard<'static, Plan> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn real() -> &'static Api {
    static REAL: OnceLock<Library> = OnceLock::new();
    REAL.get_or_init(library)
}

/// Is this the call that fails? Its `-errno` then.
fn fails(name: &'static str) -> Option<c_int> {
    let mut plan = plan();
    let left = plan.to_go?;
    plan.to_go = left.checked_sub(1);
    if left > 0 {
        return None;
    }
    plan.failed = Some(name);
    // As the library leaves it.
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = plan.errno };
    Some(-plan.errno)
}

fn count(name: &'static str, by: isize) {
    *plan().alive.entry(name).or_default() += by;
}

/// Calls that fail before they do anything. `makes`: one object more when they succeed.
macro_rules! failing {
    ($($name:ident($($arg:ident: $ty:ty),*) $(makes $object:literal)?;)*) => { $(
        unsafe extern "C" fn $name($($arg: $ty),*) -> c_int {
            if let Some(rc) = fails(stringify!($name)) {
                return rc;
            }
            // SAFETY: the caller's promise, passed on.
            let rc = unsafe { (real().$name)($($arg),*) };
            $(if rc >= 0 { count($object, 1); })?
            rc
        }
    )* };
}

/// Calls that give an object back, do that, and then say that they failed.
macro_rules! failing_late {
    ($($name:ident($($arg:ident: $ty:ty),*) ends $object:literal;)*) => { $(
        unsafe extern "C" fn $name($($arg: $ty),*) -> c_int {
            // SAFETY: the caller's promise, passed on.
            let rc = unsafe { (real().$name)($($arg),*) };
            count($object, -1);
            fails(stringify!($name)).unwrap_or(rc)
        }
    )* };
}

type Spec = *mut ef_filter_spec;
type Vi = *mut ef_vi;

failing! {
    driver_open(dh: *mut Dh) makes "driver";
    pd_alloc_by_name(pd: *mut ef_pd, dh: Dh, name: *const c_char, flags: c_uint) makes "domain";
    vi_alloc_from_pd(
        vi: Vi, dh: Dh, pd: *mut ef_pd, pd_dh: Dh, evq: c_int, rxq: c_int, txq: c_int, evq_vi: Vi,
        evq_dh: Dh, flags: u64
    ) makes "vi";
    vi_get_mac(vi: Vi, dh: Dh, mac: *mut c_void);
    vi_set_alloc_from_pd(set: *mut ef_vi_set, dh: Dh, pd: *mut ef_pd, pd_dh: Dh, n: c_int)
        makes "set";
    vi_alloc_from_set(
        vi: Vi, dh: Dh, set: *mut ef_vi_set, set_dh: Dh, index: c_int, evq: c_int, rxq: c_int,
        txq: c_int, evq_vi: Vi, evq_dh: Dh, flags: u64
    ) makes "vi";
    memreg_alloc(
        mr: *mut ef_memreg, dh: Dh, pd: *mut ef_pd, pd_dh: Dh, start: *mut c_void, len: usize
    ) makes "memreg";
    filter_spec_set_ip4_local(spec: Spec, proto: c_int, ip: c_uint, port: c_int);
    filter_spec_set_eth_type(spec: Spec, ether: u16);
    filter_spec_set_port_sniff(spec: Spec, promiscuous: c_int);
    vi_filter_add(vi: Vi, dh: Dh, spec: *const ef_filter_spec, cookie: *mut ef_filter_cookie);
    vi_filter_del(vi: Vi, dh: Dh, cookie: *mut ef_filter_cookie);
    vi_set_filter_add(
        set: *mut ef_vi_set, dh: Dh, spec: *const ef_filter_spec, cookie: *mut ef_filter_cookie
    );
    vi_set_filter_del(set: *mut ef_vi_set, dh: Dh, cookie: *mut ef_filter_cookie);
    vi_receive_query_layout(vi: Vi, entries: *mut *const ef_vi_layout_entry, n: *mut c_int);
    pio_alloc(pio: *mut ef_pio, dh: Dh, pd: *mut ef_pd, n: c_uint, pd_dh: Dh) makes "pio";
    pio_link_vi(pio: *mut ef_pio, dh: Dh, vi: Vi, vi_dh: Dh);
    vi_transmit_alt_alloc(vi: Vi, dh: Dh, n: c_int, bytes: usize);
    vi_transmit_alt_query_overhead(vi: Vi, overhead: *mut ef_vi_transmit_alt_overhead);
    eventq_wait(vi: Vi, dh: Dh, at: c_uint, limit: *const timeval);
    vi_prime(vi: Vi, dh: Dh, at: c_uint);
    vi_capabilities_get(dh: Dh, index: c_int, cap: c_uint, value: *mut c_ulong);
    vi_stats_query_layout(vi: Vi, layout: *mut *const ef_vi_stats_layout);
    vi_stats_query(vi: Vi, dh: Dh, data: *mut c_void, reset: c_int);
    vi_transmit_init(vi: Vi, addr: ef_addr, len: c_int, id: ef_request_id);
}

failing_late! {
    driver_close(dh: Dh) ends "driver";
    pd_free(pd: *mut ef_pd, dh: Dh) ends "domain";
    vi_free(vi: Vi, dh: Dh) ends "vi";
    vi_set_free(set: *mut ef_vi_set, dh: Dh) ends "set";
    memreg_free(mr: *mut ef_memreg, dh: Dh) ends "memreg";
    pio_free(pio: *mut ef_pio, dh: Dh) ends "pio";
}

unsafe extern "C" fn pd_capabilities_get(
    dh: Dh,
    pd: *mut ef_pd,
    pd_dh: Dh,
    cap: c_uint,
    value: *mut c_ulong,
) -> c_int {
    match (fails("pd_capabilities_get"), real().sometimes.pd_capabilities_get) {
        // SAFETY: the caller's promise, passed on.
        (None, Some(get)) => unsafe { get(dh, pd, pd_dh, cap, value) },
        (failed, _) => failed.unwrap_or(-libc::EOPNOTSUPP),
    }
}

fn failing_library() -> Library {
    static API: OnceLock<Api> = OnceLock::new();
    let api = API.get_or_init(|| {
        let mut api = Api {
            driver_open,
            pd_alloc_by_name,
            vi_alloc_from_pd,
            vi_get_mac,
            vi_set_alloc_from_pd,
            vi_alloc_from_set,
            memreg_alloc,
            filter_spec_set_ip4_local,
            filter_spec_set_eth_type,
            filter_spec_set_port_sniff,
            vi_filter_add,
            vi_filter_del,
            vi_set_filter_add,
            vi_set_filter_del,
            vi_receive_query_layout,
            pio_alloc,
            pio_link_vi,
            vi_transmit_alt_alloc,
            vi_transmit_alt_query_overhead,
            eventq_wait,
            vi_prime,
            vi_capabilities_get,
            vi_stats_query_layout,
            vi_stats_query,
            vi_transmit_init,
            driver_close,
            pd_free,
            vi_free,
            vi_set_free,
            memreg_free,
            pio_free,
            ..*real()
        };
        api.sometimes.pd_capabilities_get = Some(pd_capabilities_get);
        api
    });
    // SAFETY: the simulator's functions, or ones that pass on to them.
    unsafe { Library::injected(api) }
}

/// What a session came to: the error of opening, or those of the open queues.
type Outcome = Result<Vec<String>, String>;

fn steer(rx: &mut EfviRx, errors: &mut Vec<String>) {
    let flows: [FlowSpec; 2] = ["239.1.1.1:5000".parse().unwrap(), FlowSpec::ALL];
    for flow in flows {
        // A rule that could not be removed is still there, and can be removed again.
        let Ok(rule) = rx.add(&flow).map_err(|e| errors.push(e.to_string())) else { continue };
        if let Err(e) = rx.remove(rule) {
            errors.push(e.to_string());
            rx.remove(rule).unwrap();
        }
    }
}

fn exchange(
    bench: &Bench,
    rx: &mut EfviRx,
    tx: &mut EfviTx,
    stamps: bool,
    errors: &mut Vec<String>,
) {
    // Twice: after the failure it must work.
    let mut n = 0;
    for _ in 0..2 {
        let before = (tx.stats(), rx.stats());
        for _ in 0..20 {
            n += 1;
            match tx.send(&frame(n, 60 + n as usize)) {
                Ok(sent) => assert!(sent, "no room"),
                Err(e) => errors.push(e.to_string()),
            }
            if let Err(e) = tx.kick() {
                errors.push(e.to_string());
            }
        }
        let offered = |stats: linerate_common::TxStats| stats.frames + stats.lost();
        assert!(offered(tx.stats()) - offered(before.0) >= 20, "{:?}", tx.stats());
        let sent = tx.stats().frames - before.0.frames;
        let mut got = 0;
        until(|| {
            bench.step();
            if stamps {
                tx.reap_with(&mut |_| ());
            } else {
                tx.reap();
            }
            let polled = rx.poll(64, |f| {
                seq(f.bytes);
                got += 1;
            });
            if let Err(e) = polled {
                errors.push(e.to_string());
            }
            let lost = rx.stats().lost() - before.1.lost();
            got + lost >= sent && tx.stats().completed == tx.stats().frames
        });
    }
    if let Some(queue) = rx.waitable() {
        let slept = queue.arm().and_then(|()| wait_readable(queue.fd(), Some(Duration::ZERO)));
        errors.extend(slept.err().map(|e| e.to_string()));
    }
    if let Err(e) = rx.wait(Some(Duration::from_millis(1))) {
        errors.push(e.to_string());
    }
}

/// One port, both directions.
fn session(bench: &Bench, options: &Options) -> Outcome {
    let port = open(bench.b.interface(), options).map_err(|e| e.to_string())?;
    let mut errors = Vec::new();
    if let Err(e) = port.info() {
        errors.push(e.to_string());
    }
    let (mut rx, unused) = Port::split(port);
    drop(unused);
    let mut tx = match linerate_efvi::open_tx(bench.a.interface(), options) {
        Ok(tx) => tx,
        Err(e) => return Err(e.to_string()),
    };
    steer(&mut rx, &mut errors);
    if let Err(e) = rx.add(&FLOW) {
        errors.push(e.to_string());
        rx.add(&FLOW).unwrap();
    }
    exchange(bench, &mut rx, &mut tx, options.tx_timestamps, &mut errors);
    Ok(errors)
}

/// A set of queues.
fn set_session(bench: &Bench, options: &Options) -> Outcome {
    let mut queues = open_set(bench.b.interface(), 3, options).map_err(|e| e.to_string())?;
    let mut errors = Vec::new();
    steer(&mut queues[1], &mut errors);
    for queue in &mut queues {
        queue.poll(64, |_| ()).unwrap();
        queue.stats();
    }
    Ok(errors)
}

/// Descriptors of this process that are none of the test harness's.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Is it this call that the message is about? (The library's setters for the two versions of IP
/// go by one name. A card that does not tell what it can do counts as one that cannot.)
fn names(text: &str, call: &str) -> bool {
    if call == "pd_capabilities_get" {
        return text.contains("the card has no ");
    }
    text.contains(&format!("ef_{}", call.replace("ip4", "ip").replace("ip6", "ip")))
}

/// Each call fails in turn. Gives the number of calls and what the port opens without.
fn sweep(bench: &Bench, run: impl Fn() -> Outcome) -> (usize, BTreeSet<&'static str>) {
    *plan() = Plan::default();
    assert_eq!(run().unwrap(), [""; 0], "without a failure");
    let before = descriptors();
    let (mut wishes, mut problems) = (BTreeSet::new(), Vec::new());
    for n in 0.. {
        // In turn what the driver gives most.
        let errno = [libc::ENOMEM, libc::EBUSY, libc::EPERM][n % 3];
        *plan() = Plan { to_go: Some(n), errno, ..Plan::default() };
        let outcome = run();
        let done = std::mem::take(&mut *plan());
        let Some(failed) = done.failed else {
            assert!(n > 10, "only {n} calls");
            assert!(problems.is_empty(), "{}", problems.join("\n"));
            return (n, wishes);
        };
        let told = format!("{failed} (call {n}, errno {errno}): {outcome:?}");
        match outcome {
            Err(text) => {
                assert!(text.starts_with("efvi:simef") && !text.contains('\n'), "{told}");
                if !names(&text, failed) {
                    problems.push(told.clone());
                }
            }
            Ok(errors) if errors.is_empty() => {
                wishes.insert(failed);
            }
            Ok(errors) => {
                let text = errors.join("\n");
                if errors.len() != 1 || !names(&text, failed) {
                    problems.push(told.clone());
                }
            }
        }
        let alive: Vec<_> = done.alive.iter().filter(|(_, n)| **n != 0).collect();
        if !alive.is_empty() {
            problems.push(format!("left behind: {alive:?} by {told}"));
        }
        assert_eq!(descriptors(), before, "descriptors are left by {told}");
        assert_eq!((bench.a.open_queues(), bench.b.open_queues()), (0, 0), "{told}");
        bench.is_clean();
        assert_eq!(bench.pool.free_frames(), bench.pool.frames(), "{told}");
    }
    unreachable!()
}

/// All in one test: descriptors are the process's.
#[test]
fn every_call_may_fail_and_nothing_is_left_behind() {
    let mut told = Vec::new();
    for (kind, alternatives, stamps, path) in [
        (Kind::Ring, 0, false, SendPath::Auto),
        (Kind::Ring, 0, true, SendPath::Pio),
        (Kind::Ring, 2, false, SendPath::Dma),
        (Kind::Shared, 0, false, SendPath::Auto),
    ] {
        let mut settings = Settings::default();
        settings.manual = true;
        let bench = Bench::with(kind, settings);
        let mut options = bench.options();
        options.library = Some(failing_library());
        (options.alternatives, options.tx_timestamps, options.path) = (alternatives, stamps, path);
        told.push(sweep(&bench, || session(&bench, &options)));
    }
    let bench = Bench::manual(Kind::Ring);
    let mut options = bench.options();
    options.library = Some(failing_library());
    told.push(sweep(&bench, || set_session(&bench, &options)));
    println!("{told:?}");
    for (_, wishes) in told {
        // What a port does without: capabilities (a notice), counters, lengths in front of frames
        // where events carry them, and what is said at close. A frame that the library does not
        // take is counted.
        let known = [
            "vi_transmit_init",
            "vi_receive_query_layout",
            "pd_capabilities_get",
            "vi_stats_query",
            "vi_stats_query_layout",
            "driver_close",
            "pd_free",
            "vi_free",
            "vi_set_free",
            "memreg_free",
            "pio_free",
        ];
        let unknown: Vec<_> = wishes.iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "nobody noticed that {unknown:?} failed");
    }
}
