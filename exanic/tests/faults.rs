//! Every call of the vendor's library fails once: the first, the second, … the last of a session
//! that opens a port, steers, receives, sends and closes. What cannot be opened names the call and
//! the port; an open queue goes on; and nothing is left: no handle, no ring, no transmit memory,
//! no rule.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod rig;

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use linerate_common::{FlowSpec, FrameRx, FrameTx, Steer};
use linerate_exanic::{Api, Options, open_with};
use linerate_exanic_sys::*;
use linerate_sim::exanic::Card;
use rig::{drain, frame, options, until};

/// What fails when.
#[derive(Default)]
struct Plan {
    /// Calls to go before one fails; `None`: none does.
    to_go: Option<usize>,
    failed: Option<&'static str>,
    /// Rings and pieces of transmit memory that were acquired and not released.
    alive: [isize; 2],
}

static PLAN: Mutex<Plan> = Mutex::new(Plan { to_go: None, failed: None, alive: [0; 2] });

fn plan() -> MutexGuard<'static, Plan> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn real() -> &'static Api {
    Card::api()
}

/// Is this the call that fails?
fn fails(name: &'static str) -> bool {
    let mut plan = plan();
    let Some(left) = plan.to_go else { return false };
    plan.to_go = left.checked_sub(1);
    if left == 0 {
        plan.failed = Some(name);
    }
    left == 0
}

unsafe extern "C" fn get_last_error() -> *const c_char {
    match plan().failed {
        Some(_) => c"injected: Cannot allocate memory".as_ptr(),
        // SAFETY: no arguments.
        None => unsafe { (real().get_last_error)() },
    }
}

macro_rules! failing {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty, $bad:expr $(, $alive:literal)?;)*) => { $(
        unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            if fails(stringify!($name)) {
                return $bad;
            }
            // SAFETY: the caller's promise, passed on.
            let made = unsafe { (real().$name)($($arg),*) };
            $(plan().alive[$alive] += isize::from(!made.is_null());)?
            made
        }
    )* };
}

type Handle = *mut exanic_t;

failing! {
    acquire_handle(name: *const c_char) -> Handle, std::ptr::null_mut();
    check_supported(card: Handle) -> c_int, -1;
    acquire_rx_buffer(card: Handle, port: c_int, n: c_int) -> *mut exanic_rx_t,
        std::ptr::null_mut(), 0;
    acquire_unused_filter_buffer(card: Handle, port: c_int) -> *mut exanic_rx_t,
        std::ptr::null_mut(), 0;
    enable_flow_hashing(card: Handle, port: c_int, n: c_int, mode: c_int) -> c_int, -1;
    acquire_tx_buffer(card: Handle, port: c_int, bytes: usize) -> *mut exanic_tx_t,
        std::ptr::null_mut(), 1;
    filter_add_ip(card: Handle, rx: *const exanic_rx_t, f: *const exanic_ip_filter_t) -> c_int, -1;
    filter_add_mac(card: Handle, rx: *const exanic_rx_t, f: *const exanic_mac_filter_t) -> c_int, -1;
    filter_remove_ip(card: Handle, port: c_int, id: c_int) -> c_int, -1;
    filter_remove_mac(card: Handle, port: c_int, id: c_int) -> c_int, -1;
    get_mac_addr(card: Handle, port: c_int, mac: *mut u8) -> c_int, -1;
    get_port_stats(card: Handle, port: c_int, stats: *mut exanic_port_stats_t) -> c_int, -1;
    get_interface_name(card: Handle, port: c_int, name: *mut c_char, len: usize) -> c_int, -1;
    find_port_by_interface_name(name: *const c_char, dev: *mut c_char, len: usize, port: *mut c_int)
        -> c_int, -1;
    get_all_ports(ports: *mut exanic_port_info_t, bytes: usize) -> isize, -1;
}

unsafe extern "C" fn release_rx_buffer(rx: *mut exanic_rx_t) {
    plan().alive[0] -= 1;
    // SAFETY: the caller's promise, passed on.
    unsafe { (real().release_rx_buffer)(rx) }
}

unsafe extern "C" fn release_tx_buffer(tx: *mut exanic_tx_t) {
    plan().alive[1] -= 1;
    // SAFETY: the caller's promise, passed on.
    unsafe { (real().release_tx_buffer)(tx) }
}

unsafe extern "C" fn set_promiscuous(card: Handle, port: c_int, on: c_int) -> c_int {
    // Switching off is not refused: what is to be done about it when a port closes?
    if on != 0 && fails("set_promiscuous") {
        return -1;
    }
    match real().hooks.set_promiscuous {
        // SAFETY: the caller's promise, passed on.
        Some(set) => unsafe { set(card, port, on) },
        None => 0,
    }
}

fn failing_api() -> &'static Api {
    static API: OnceLock<Api> = OnceLock::new();
    API.get_or_init(|| {
        let mut api = Api {
            get_last_error,
            acquire_handle,
            check_supported,
            acquire_rx_buffer,
            acquire_unused_filter_buffer,
            enable_flow_hashing,
            acquire_tx_buffer,
            filter_add_ip,
            filter_add_mac,
            filter_remove_ip,
            filter_remove_mac,
            get_mac_addr,
            get_port_stats,
            get_interface_name,
            find_port_by_interface_name,
            get_all_ports,
            release_rx_buffer,
            release_tx_buffer,
            ..*real()
        };
        api.hooks.set_promiscuous = Some(set_promiscuous);
        api
    })
}

/// Opens by whatever name, uses everything, closes. The first error of opening ends it, later
/// ones are gathered.
fn session(card: &Card, name: &str, options: &Options) -> Result<Vec<String>, String> {
    let text = |e: linerate_common::SetupError| e.to_string();
    let port = open_with(failing_api(), name, options).map_err(text)?;
    let mut errors = Vec::new();
    errors.extend(port.status().err().map(text));
    errors.extend(port.device().counters(0).err().map(text));
    errors.extend(port.device().interface(0).err().map(text));
    let mut rx = port.rx().map_err(text)?;
    let mut tx = port.tx().map_err(text)?;
    let cut = port.cut_through().map_err(text)?;
    let orders = port.preloaded(2, 100).map_err(text)?;
    drop((cut, orders));
    if !options.flows.is_empty() {
        let flows: [FlowSpec; 2] =
            ["239.1.1.1:5000".parse().unwrap(), "mac:02:00:00:00:00:01".parse().unwrap()];
        for flow in flows {
            let Ok(rule) = rx.add(&flow).map_err(|e| errors.push(e.to_string())) else { continue };
            if let Err(e) = rx.remove(rule) {
                errors.push(e.to_string());
                // It is there still, and can be removed again.
                rx.remove(rule).unwrap();
            }
        }
    }
    for n in 0..5 {
        card.inject(0, &frame(60, n));
    }
    let mut got = 0;
    until("the frames", || {
        got += drain(&mut rx).len();
        (got + rx.stats().lost() as usize >= 5).then_some(())
    });
    for n in 0..5 {
        until("room", || tx.send(&frame(60, n)).unwrap().then_some(()));
        tx.kick().unwrap();
    }
    until("the completions", || {
        tx.reap();
        (tx.stats().completed == 5).then_some(())
    });
    Ok(errors)
}

/// Each call fails in turn.
fn sweep(interface: &str, options: &Options) -> (usize, BTreeSet<&'static str>) {
    let card = Card::builder().interface(0, interface).build();
    *plan() = Plan::default();
    assert_eq!(session(&card, interface, options).unwrap(), [""; 0], "without a failure");
    let (mut wishes, mut problems) = (BTreeSet::new(), Vec::new());
    for n in 0.. {
        *plan() = Plan { to_go: Some(n), ..Plan::default() };
        let outcome = session(&card, interface, options);
        let done = std::mem::take(&mut *plan());
        let Some(failed) = done.failed else {
            assert!(problems.is_empty(), "{}", problems.join("\n"));
            return (n, wishes);
        };
        let told = format!("{failed} (call {n}): {outcome:?}");
        let names = |text: &str| {
            let is_hook = failed == "set_promiscuous" && text.contains(failed);
            (is_hook || text.contains(&format!("exanic_{failed}"))) && !text.contains('\n')
        };
        match &outcome {
            Err(text) if names(text) && text.starts_with("exanic:") => {}
            Ok(errors) if errors.is_empty() => {
                wishes.insert(failed);
            }
            Ok(errors) if errors.len() == 1 && names(&errors[0]) => {}
            _ => problems.push(told.clone()),
        }
        if done.alive != [0; 2] {
            problems.push(format!("left behind: {:?} by {told}", done.alive));
        }
        let left = (card.handle_count(), card.rules(0), card.tx_resources_in_use());
        if left != (0, 0, (0, 0)) {
            problems.push(format!("left behind: {left:?} by {told}"));
        }
    }
    unreachable!()
}

#[test]
fn every_call_may_fail_and_nothing_is_left_behind() {
    let flows = options(|o| {
        o.flows = vec!["ether:0x88b5".parse().unwrap(), "239.1.1.1:5001".parse().unwrap()];
    });
    let everything = options(|o| o.promiscuous = true);
    let (with_flows, wishes) = sweep("simfault0", &flows);
    let (with_all, more) = sweep("simfault1", &everything);
    println!("{with_flows} {wishes:?}, {with_all} {more:?}");
    assert!(with_flows >= 15 && with_all >= 9, "{with_flows}, {with_all} calls");
    // Rules go with their buffer, whether or not each is taken out before. Less transmit memory
    // will do. A clock of which nothing is known counts as not synchronised.
    let known = ["filter_remove_ip", "filter_remove_mac", "acquire_tx_buffer", "get_mac_addr"];
    let unknown: Vec<_> = wishes.union(&more).filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "nobody noticed that {unknown:?} failed");
}
