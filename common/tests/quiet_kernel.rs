//! The spinning strategies make no system call: they run here in a child process under a seccomp
//! filter that allows none.

#![allow(clippy::unwrap_used)] // A test that cannot go on may say so.

use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use linerate_common::FrameTx;
use linerate_common::loopback::{self, LoopTx, Options};
use linerate_common::loops::{EventLoop, Every, StopHandle, Strategy};

const CASE: &str = "LINERATE_QUIET_CASE";
/// The child's way to say that seccomp cannot be had here, and that a system call was made.
const NO_SECCOMP: i32 = 78;
const SYSTEM_CALL: i32 = 77;

/// Runs one case in a child. `Ok`: it spun without a system call; `Err`: it made one, and which.
/// `None`: no seccomp here.
fn in_child(case: &str) -> Option<Result<(), String>> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) if said.ends_with("spun") => Some(Ok(())),
        Some(NO_SECCOMP) => None,
        Some(SYSTEM_CALL) => Some(Err(said)),
        code => panic!("{case}: exit {code:?}, signal {:?}: {said}", output.status.signal()),
    }
}

#[test]
fn spinning_makes_no_system_call() {
    for case in ["low-latency", "throughput", "adaptive"] {
        match in_child(case) {
            Some(result) => assert_eq!(result, Ok(()), "{case}"),
            None => return linerate_lab::skip("spinning_makes_no_system_call", "no seccomp here"),
        }
    }
}

#[test]
fn a_system_call_would_be_noticed() {
    // A hook that asks for its process id, and the strategy that sleeps.
    for case in ["getppid", "blocking"] {
        match in_child(case) {
            Some(result) => {
                let said = result.unwrap_err();
                assert!(said.contains("system call"), "{case}: {said}");
            }
            None => return linerate_lab::skip("a_system_call_would_be_noticed", "no seccomp here"),
        }
    }
}

/// What the child runs; nothing unless `in_child` has started it.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let strategy = match case.as_str() {
        "throughput" => Strategy::throughput(),
        // Never idle long enough to sleep.
        "adaptive" => Strategy::adaptive().with_spin(Duration::from_secs(3600)),
        "blocking" => Strategy::blocking().with_max_sleep(Duration::from_millis(1)),
        _ => Strategy::low_latency(),
    };
    let stop = StopHandle::new().unwrap();
    let mut events = EventLoop::new(strategy, &stop);
    let mut senders: Vec<LoopTx> = Vec::new();
    for queue in 0..2 {
        // Without stamps: `CLOCK_REALTIME` is a system call on some machines.
        let (tx, rx) = loopback::pair(&Options { stamps: false, ..Options::default() }).unwrap();
        events.add(rx, queue).unwrap();
        senders.push(tx);
    }
    let mut every = Every::new(Duration::from_millis(1));
    let (mut frames, mut due) = (0_u64, 0_u64);
    // The first turns fault in code and stacks and measure the counter's rate; from then on
    // nothing may enter the kernel.
    let mut closed = false;
    let ended = events.run_with(
        |_, _| frames += 1,
        |turn| {
            if turn.number == 100 {
                forbid_system_calls();
                closed = true;
            }
            if closed && case == "getppid" {
                // SAFETY: no arguments.
                unsafe { libc::getppid() };
            }
            due += u64::from(every.is_due(turn));
            let count = [64, 0, 0, 1, 0, 0, 0, 0, 0, 0][turn.number as usize % 10];
            for tx in &mut senders {
                for _ in 0..count {
                    if tx.send(&[1; 60]) != Ok(true) {
                        break;
                    }
                }
                if tx.kick().is_err() {
                    return ControlFlow::Break(());
                }
                tx.reap();
            }
            if turn.number < 10_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        },
    );
    let good = ended.is_ok() && frames > 5000;
    leave(if good { b"spun\n" } else { b"did not spin\n" }, if good { 0 } else { 1 });
}

/// Writes to stderr and ends the process without any clean-up: both calls are allowed.
fn leave(what: &[u8], code: i32) -> ! {
    // SAFETY: valid bytes.
    unsafe {
        libc::write(2, what.as_ptr().cast(), what.len());
        libc::syscall(libc::SYS_exit_group, code);
    }
    unreachable!()
}

/// Makes every system call of this thread raise SIGSYS, but for `exit_group` and for `write` to
/// stderr (and to nothing else: a needless wake-up is a `write` too).
fn forbid_system_calls() {
    /// Loads the 32 bits at this offset of `seccomp_data`.
    const fn load(offset: u32) -> libc::sock_filter {
        let code = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        libc::sock_filter { code, jt: 0, jf: 0, k: offset }
    }
    /// Skips as many instructions when the value is `k`, or when it is not.
    const fn skip_if(k: u32, equal: u8, otherwise: u8) -> libc::sock_filter {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        libc::sock_filter { code, jt: equal, jf: otherwise, k }
    }
    const fn end(verdict: u32) -> libc::sock_filter {
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: verdict }
    }
    const NUMBER: u32 = 0;
    /// The low half of the first argument.
    const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let mut filter = [
        load(NUMBER),
        skip_if(libc::SYS_exit_group as u32, 4, 0),
        skip_if(libc::SYS_write as u32, 0, 2),
        load(FIRST_ARGUMENT),
        skip_if(2, 1, 0),
        end(libc::SECCOMP_RET_TRAP),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a handler that only makes async-signal-safe calls; a valid program.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tell_which as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        if libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) != 0
            || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
        {
            leave(b"no seccomp\n", NO_SECCOMP);
        }
    }
}

extern "C" fn tell_which(_: libc::c_int, info: *const libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: for SIGSYS the kernel fills `si_call_addr` at byte 16 and `si_syscall` at 24.
    let mut number = unsafe { info.cast::<u8>().add(24).cast::<i32>().read() }.unsigned_abs();
    let mut text = *b"system call number ....\n";
    for digit in text[19..23].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    leave(&text, SYSTEM_CALL);
}
