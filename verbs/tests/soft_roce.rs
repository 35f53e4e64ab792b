//! Over the kernel's own RDMA stack: Soft-RoCE devices rxe0 and rxe1 at the two ends of a veth
//! pair. `ci.sh guest` boots a virtual machine that has them (`tests/guest/run.sh`); anywhere
//! else these tests skip. They run one at a time: they share the devices, and one of them takes
//! a link down.

#![allow(clippy::unwrap_used)]

use std::ffi::c_int;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use linerate_common::pool::{Huge, PageSize, Pool};
use linerate_common::{ErrorKind, FrameRx, FrameTx, wait_readable};
use linerate_ibverbs_sys::{Api, ibv_context, ibv_cq, ibv_mr, ibv_pd, ibv_qp};
use linerate_sim::{Plug, WireState};
use linerate_verbs::{
    Context, Library, Options, VerbsRx, VerbsTx, devices, interface_of_port, open,
    port_of_interface, ud,
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held while a test runs; the reason why not here.
fn guest() -> Result<std::sync::MutexGuard<'static, ()>, String> {
    let there = |name| std::path::Path::new("/sys/class/infiniband").join(name).exists();
    if there("rxe0") && there("rxe1") {
        return Ok(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    }
    assert!(std::env::var_os("LINERATE_GUEST").is_none(), "the guest has no rxe0 and rxe1");
    Err("no Soft-RoCE devices rxe0 and rxe1 (run: ./ci.sh guest)".into())
}

macro_rules! guest_or_skip {
    ($name:expr) => {
        match guest() {
            Ok(held) => held,
            Err(why) => return linerate_lab::skip($name, &why),
        }
    };
}

/// Calls that ended an object and were refused.
static REFUSED: AtomicU32 = AtomicU32::new(0);
static REAL: OnceLock<Api> = OnceLock::new();

macro_rules! watched {
    ($($name:ident($ty:ty)),+) => {$(
        unsafe extern "C" fn $name(object: *mut $ty) -> c_int {
            // SAFETY: the caller's promise, passed on.
            let rc = unsafe { (REAL.get().unwrap().$name)(object) };
            if rc != 0 {
                REFUSED.fetch_add(1, Ordering::Relaxed);
                eprintln!("{}: {rc}", stringify!($name));
            }
            rc
        }
    )+};
}
watched!(
    ibv_close_device(ibv_context),
    ibv_dealloc_pd(ibv_pd),
    ibv_dereg_mr(ibv_mr),
    ibv_destroy_cq(ibv_cq),
    ibv_destroy_qp(ibv_qp)
);

/// The real library, with every refused ending counted.
fn library() -> Library {
    let real = *REAL.get_or_init(|| Api::load().unwrap());
    Library::injected(Api {
        ibv_close_device,
        ibv_dealloc_pd,
        ibv_dereg_mr,
        ibv_destroy_cq,
        ibv_destroy_qp,
        ..real
    })
}

fn context(name: &str) -> Arc<Context> {
    Context::open(library(), name).unwrap()
}

fn port(name: &str, options: &ud::Options) -> ud::Port {
    ud::open_on(&context(name), 1, options).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < limit, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Datagram `n`: its number, then bytes that follow from it.
fn datagram(n: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i as u32 ^ n) as u8).collect();
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn send(tx: &mut VerbsTx, n: u32, len: usize) {
    until("room to send", || tx.send(&datagram(n, len)).unwrap());
    tx.kick().unwrap();
}

/// Receives datagrams `from..to` in order, each as it was sent.
fn expect(rx: &mut VerbsRx, from: u32, to: u32) {
    let mut next = from;
    until("the datagrams", || {
        rx.poll(64, |frame| {
            assert_eq!(frame.bytes, datagram(next, frame.bytes.len()));
            next += 1;
        })
        .unwrap();
        next >= to
    });
    assert_eq!(next, to);
}

#[test]
fn devices_and_interfaces_are_found() {
    let _guest = guest_or_skip!("devices_and_interfaces_are_found");
    let names = devices(library()).unwrap();
    assert!(names.iter().any(|n| n == "rxe0") && names.iter().any(|n| n == "rxe1"), "{names:?}");
    assert_eq!(port_of_interface("veth1"), Some(("rxe1".into(), 1)));
    assert_eq!(interface_of_port("rxe0", 1).as_deref(), Some("veth0"));
    assert_eq!(port_of_interface("lo"), None);
    let context = context("rxe0");
    let state = context.port(1).unwrap();
    assert!(state.up && state.ethernet, "{state:?}");
    assert!(context.caps().unwrap().max_qp_wr > 0);
    let missing = Context::open(library(), "mlx5_7").unwrap_err();
    assert!(missing.remedy_text().contains("rxe0"), "{missing}");
}

#[test]
fn everything_opened_is_closed_in_an_order_the_kernel_accepts() {
    let _guest = guest_or_skip!("everything_opened_is_closed_in_an_order_the_kernel_accepts");
    let pool = Pool::builder().frames(2048).huge(Huge::Never).build().unwrap();
    let mut options = ud::Options::default();
    options.pool = Some(pool.clone());
    let there = port("rxe1", &options);
    let before = REFUSED.load(Ordering::Relaxed);
    for n in 0..20 {
        let here = port("rxe0", &options);
        here.join("239.1.2.3".parse().unwrap()).unwrap();
        let mut tx = here.sender(&there.address()).unwrap();
        // Dropped with datagrams on their way, the sender before its port and after.
        send(&mut tx, n, 100);
        if n % 2 == 0 {
            drop(here);
        }
    }
    drop(there);
    assert_eq!(REFUSED.load(Ordering::Relaxed), before, "the kernel refused to end an object");
    assert_eq!((pool.outstanding(), pool.free_frames()), (0, 2048));
}

#[test]
fn datagrams_cross_in_both_directions() {
    let _guest = guest_or_skip!("datagrams_cross_in_both_directions");
    let options = ud::Options::default();
    let (a, b) = (port("rxe0", &options), port("rxe1", &options));
    assert_eq!(a.address().to_string().split('/').next(), Some("::ffff:10.66.0.1"));
    let mut to_b = a.sender(&b.address().to_string().parse().unwrap()).unwrap();
    let mut to_a = b.sender(&a.address()).unwrap();
    let longest = a.max_len();
    let (mut on_a, mut on_b) = (a.into_rx(), b.into_rx());
    for round in 0..50 {
        let first = round * 20;
        for n in first..first + 20 {
            send(&mut to_b, n, 4 + n as usize * 7 % (longest - 3));
            send(&mut to_a, n, longest);
        }
        expect(&mut on_b, first, first + 20);
        expect(&mut on_a, first, first + 20);
    }
    until("all completions", || {
        to_b.reap();
        to_b.stats().completed == 1000
    });
    let (sent, got) = (to_b.stats(), on_b.stats());
    assert_eq!((sent.frames, sent.failed, sent.refused), (1000, 0, 0));
    assert_eq!((got.frames, got.bytes, got.lost()), (1000, sent.bytes, 0));
    assert!(to_b.send(&vec![0; longest + 1]).is_err());
}

#[test]
fn short_datagrams_go_inline_where_the_device_can() {
    let _guest = guest_or_skip!("short_datagrams_go_inline_where_the_device_can");
    let mut options = ud::Options::default();
    options.inline_bytes = 64;
    let (a, b) = (port("rxe0", &options), port("rxe1", &options));
    let mut tx = a.sender(&b.address()).unwrap();
    let mut rx = b.into_rx();
    for (n, len) in (0..).zip([4, 63, 64, 65, 200]) {
        send(&mut tx, n, len);
        expect(&mut rx, n, n + 1);
    }
}

#[test]
fn the_completion_channel_wakes_and_is_spent() {
    let _guest = guest_or_skip!("the_completion_channel_wakes_and_is_spent");
    let options = ud::Options::default();
    let (a, b) = (port("rxe0", &options), port("rxe1", &options));
    let mut tx = a.sender(&b.address()).unwrap();
    let mut rx = b.into_rx();
    for n in 0..50 {
        let queue = rx.waitable().unwrap();
        queue.arm().unwrap();
        assert_eq!(rx.acquire(64).unwrap(), 0);
        send(&mut tx, n, 100);
        let queue = rx.waitable().unwrap();
        assert!(wait_readable(queue.fd(), Some(Duration::from_secs(30))).unwrap(), "round {n}");
        expect(&mut rx, n, n + 1);
    }
    let queue = rx.waitable().unwrap();
    queue.arm().unwrap();
    assert!(!wait_readable(queue.fd(), Some(Duration::from_millis(20))).unwrap());
}

#[test]
fn a_link_that_goes_down_and_comes_back_is_told() {
    let _guest = guest_or_skip!("a_link_that_goes_down_and_comes_back_is_told");
    let options = ud::Options::default();
    let mut rx = port("rxe0", &options).into_rx();
    let link = |state| {
        assert!(
            Command::new("ip").args(["link", "set", "veth0", state]).status().unwrap().success()
        );
    };
    rx.waitable().unwrap().arm().unwrap();
    link("down");
    until("the link to be down", || rx.waitable().unwrap().arm().is_err());
    let error = rx.waitable().unwrap().arm().unwrap_err();
    assert_eq!(error.kind, ErrorKind::LinkDown);
    assert_eq!(rx.acquire(64).unwrap_err().kind, ErrorKind::LinkDown);
    link("up");
    until("the link to be up", || rx.acquire(64).is_ok());
    rx.waitable().unwrap().arm().unwrap();
    // What the kernel forgot with the link.
    let peer = std::fs::read_to_string("/sys/class/net/veth1/address").unwrap();
    for args in [
        vec![
            "route",
            "replace",
            "10.66.0.2/32",
            "dev",
            "veth0",
            "src",
            "10.66.0.1",
            "table",
            "200",
        ],
        vec![
            "neigh",
            "replace",
            "10.66.0.2",
            "lladdr",
            peer.trim(),
            "dev",
            "veth0",
            "nud",
            "permanent",
        ],
    ] {
        assert!(Command::new("ip").args(args).status().unwrap().success());
    }
    until("the port to be active", || context("rxe0").port(1).unwrap().up);
}

#[test]
fn memory_on_huge_pages_can_be_registered() {
    let _guest = guest_or_skip!("memory_on_huge_pages_can_be_registered");
    let huge = Huge::Require(PageSize::TwoMiB);
    let pool = Pool::builder().frames(2048).huge(huge).build().unwrap();
    assert_eq!(pool.region().page_size(), PageSize::TwoMiB);
    let mut options = ud::Options::default();
    options.pool = Some(pool);
    let (a, b) = (port("rxe0", &options), port("rxe1", &options));
    let mut tx = a.sender(&b.address()).unwrap();
    let mut rx = b.into_rx();
    for n in 0..20 {
        send(&mut tx, n, 1000);
    }
    expect(&mut rx, 0, 20);
}

/// rxe takes the group, and sending to it completes. Delivery is not asked for: rxe listens on
/// the MAC address of an IPv6 group even when the group is an IPv4 one.
#[test]
fn groups_are_joined_and_sent_to() {
    let _guest = guest_or_skip!("groups_are_joined_and_sent_to");
    let options = ud::Options::default();
    let (a, b) = (port("rxe0", &options), port("rxe1", &options));
    let group = "239.1.2.3".parse().unwrap();
    b.join(group).unwrap();
    assert_eq!(b.join("10.0.0.1".parse().unwrap()).unwrap_err().kind(), ErrorKind::BadArgument);
    let mut tx = a.sender(&ud::Address::group(group, options.qkey)).unwrap();
    send(&mut tx, 0, 100);
    until("the completion", || tx.reap() == 1);
    assert_eq!(tx.stats().failed, 0);
}

#[test]
fn a_device_without_raw_packets_says_so() {
    let _guest = guest_or_skip!("a_device_without_raw_packets_says_so");
    for name in ["rxe0", "rxe0/1", "veth0"] {
        let error = open(name, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("no raw packet queue pairs"), "{error}");
    }
    assert_eq!(open("rxe0/2", &Options::default()).unwrap_err().errno(), libc::EINVAL);
    let mut rx = port("rxe0", &ud::Options::default()).into_rx();
    let flow = linerate_common::Steer::add(&mut rx, &"239.1.1.1:5000".parse().unwrap());
    assert_eq!(flow.unwrap_err().kind(), ErrorKind::Unsupported);
}

/// The test below is run by this one, as a user without any right.
#[test]
fn an_ordinary_user_is_told_which_right_is_missing() {
    let _guest = guest_or_skip!("an_ordinary_user_is_told_which_right_is_missing");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "as_an_ordinary_user", "--nocapture"]).env(AS_NOBODY, "1");
    // SAFETY: only a system call between fork and exec.
    unsafe {
        child.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 8 << 20, rlim_max: 8 << 20 };
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit);
            Ok(())
        });
    }
    let output = child.uid(65534).gid(65534).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The simulated card as a driver over the kernel's devices: libibverbs finds them by itself, opens
/// them with a real descriptor, and raw frames cross to the other end of the veth pair.
#[test]
fn a_driver_for_the_kernels_devices_gives_raw_frames() {
    let test = "a_driver_for_the_kernels_devices_gives_raw_frames";
    let _guest = guest_or_skip!(test);
    let Some(driver) = std::env::var_os("LINERATE_SIM_DRIVER") else {
        return linerate_lab::skip(test, "LINERATE_SIM_DRIVER names no driver");
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "over_the_simulated_driver", "--nocapture"])
        .env(OVER_DRIVER, "1")
        .env("RDMAV_DRIVERS", driver)
        .env("LINERATE_SIM_PEER", "veth0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

const OVER_DRIVER: &str = "LINERATE_OVER_DRIVER";

#[test]
fn over_the_simulated_driver() {
    if std::env::var_os(OVER_DRIVER).is_none() {
        return; // not called from the test above
    }
    let far_end = Plug::veth("veth1").unwrap();
    let mut options = Options::default();
    options.flows = vec!["ether:0x88b5".parse().unwrap()];
    let (mut rx, mut tx) = open("rxe0/1", &options).unwrap().split();
    let frame = |n: u32| {
        let mut bytes = datagram(n, 100);
        bytes.splice(..0, [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        bytes
    };
    for n in 0..50 {
        assert!(far_end.send(&frame(n), WireState::Good));
        until("the frame from the far end", || {
            rx.poll(64, |f| assert_eq!(f.bytes, frame(n))).unwrap() == 1
        });
        assert!(tx.send(&frame(n)).unwrap());
        tx.kick().unwrap();
        // The kernel has things to say on this wire too.
        until("the frame at the far end", || far_end.recv().is_some_and(|f| f.bytes == frame(n)));
    }
}

const AS_NOBODY: &str = "LINERATE_AS_NOBODY";

#[test]
fn as_an_ordinary_user() {
    if std::env::var_os(AS_NOBODY).is_none() {
        return; // not called from the test above
    }
    // Raw packets need a capability, and the kernel asks for it before it asks the driver.
    let small = Pool::builder().frames(512).huge(Huge::Never).lock(false).build().unwrap();
    let mut options = Options::default();
    (options.rx_slots, options.tx_slots, options.pool) = (64, 64, Some(small.clone()));
    let error = open("rxe0/1", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.remedy_text().contains("cap_net_raw"), "{error}");

    // 64 MiB do not fit a limit of 8.
    let large = Pool::builder().frames(32_768).huge(Huge::Never).lock(false).build().unwrap();
    let context = Context::open(Library::load().unwrap(), "rxe0").unwrap();
    let mut options = ud::Options::default();
    options.pool = Some(large);
    let error = ud::open_on(&context, 1, &options).unwrap_err();
    assert_eq!((error.op(), error.errno()), ("ibv_reg_mr", libc::ENOMEM), "{error}");
    assert!(error.remedy_text().contains("ulimit -l"), "{error}");

    // Datagrams need no capability.
    options.pool = Some(small);
    ud::open_on(&context, 1, &options).unwrap();
}
