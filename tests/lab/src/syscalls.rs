//! System calls that fail on purpose.
//!
//! [`judged`] runs a closure on a thread of its own under a seccomp filter that puts the system
//! calls of that thread, of those it starts and of the programs it runs before the caller, who
//! lets each pass or makes it fail with an error of its choice. Nothing else of the process
//! notices. Left alone is what no program can do without: memory for the heap, locks, `close`.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use crate::Skip;

/// A system call that may be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The system call's name.
    pub name: &'static str,
    /// Its arguments.
    pub args: [u64; 6],
    /// The thread that makes it.
    pub thread: u32,
    /// Whose it is: a thread of this process, or a program that the closure has started?
    pub ours: bool,
}

macro_rules! watched {
    ($($name:ident)*) => { [$((concat!(stringify!($name)), libc::$name)),*] };
}

/// What is watched; the names lose their `SYS_`.
const WATCHED: [(&str, libc::c_long); 57] = watched![
    SYS_socket SYS_setsockopt SYS_getsockopt SYS_bind SYS_connect SYS_getsockname SYS_listen
    SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_socketpair
    SYS_ioctl SYS_fcntl SYS_bpf SYS_mmap SYS_madvise SYS_mlock SYS_mlock2 SYS_mbind SYS_move_pages
    SYS_get_mempolicy SYS_openat SYS_read SYS_pread64 SYS_readv SYS_readlinkat SYS_write SYS_pwrite64
    SYS_writev SYS_ppoll SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_eventfd2
    SYS_timerfd_create SYS_timerfd_settime SYS_inotify_init1 SYS_inotify_add_watch SYS_pipe2
    SYS_clone SYS_clone3 SYS_statx SYS_fstat SYS_getdents64 SYS_lseek SYS_adjtimex
    SYS_sched_getaffinity SYS_sched_setaffinity SYS_prctl SYS_dup3 SYS_ftruncate SYS_fsync
    SYS_fallocate SYS_execve
];

/// The same calls under the names they have on this architecture only.
#[cfg(target_arch = "x86_64")]
const MORE: [(&str, libc::c_long); 8] = watched![
    SYS_poll SYS_open SYS_stat SYS_readlink SYS_epoll_wait SYS_pipe SYS_access SYS_newfstatat
];
#[cfg(not(target_arch = "x86_64"))]
const MORE: [(&str, libc::c_long); 0] = [];

impl Call {
    /// Name of the thread that makes it, cut to 15 bytes.
    #[must_use]
    pub fn thread_name(&self) -> String {
        let name = std::fs::read_to_string(format!("/proc/self/task/{}/comm", self.thread));
        name.unwrap_or_default().trim().to_owned()
    }

    /// May this call be made to fail? Not memory of the heap and of stacks: without it a program
    /// ends, whatever it is. Memory of `region_bytes` that no file is behind is somebody's pool.
    #[must_use]
    pub fn may_fail(&self, region_bytes: u64) -> bool {
        let [_, len, _, flags, fd, _] = self.args;
        match self.name {
            // An eventfd's wake-up: it has always room for one.
            "write" => self.args[2] != 8,
            // The standard library's checks of descriptors in debug builds, and of CPUs before a
            // thread is made.
            "fcntl" => len as i32 != libc::F_GETFD,
            "sched_getaffinity" => false,
            "mmap" => {
                fd as i32 >= 0 || flags as i32 & libc::MAP_HUGETLB != 0 || len == region_bytes
            }
            // glibc's own are about stacks and arenas.
            "madvise" => len == region_bytes,
            _ => true,
        }
    }
}

/// Of the calls that may fail, the `n`-th does.
#[derive(Debug, Clone)]
pub struct Nth {
    /// Which one fails, from 0.
    pub n: usize,
    /// With what.
    pub errno: i32,
    /// How many there have been.
    pub seen: usize,
    /// The one that failed.
    pub failed: Option<Call>,
}

impl Nth {
    /// The `n`-th call from now fails with `errno`.
    #[must_use]
    pub fn new(n: usize, errno: i32) -> Self {
        Self { n, errno, seen: 0, failed: None }
    }

    /// Counts a call and says whether it is the one: its errno, or 0.
    pub fn judge(&mut self, call: &Call) -> i32 {
        self.seen += 1;
        if self.seen - 1 != self.n {
            return 0;
        }
        self.failed = Some(*call);
        self.errno
    }
}

/// Runs `f` on a thread of its own, each watched system call of which `judge` lets pass (0) or
/// makes fail (a positive errno). A panic of `f` is passed on.
///
/// # Errors
///
/// The kernel has no such filters (Linux 5.5), or does not let this process have one.
pub fn judged<T: Send>(
    mut judge: impl FnMut(&Call) -> i32,
    f: impl FnOnce() -> T + Send,
) -> Result<T, Skip> {
    const NOT_YET: i32 = -1_000;
    let listener = AtomicI32::new(NOT_YET);
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, || {
            let fd = filter();
            // No memory is asked for between here and `f`: nobody listens yet.
            listener.store(fd, Ordering::Release);
            if fd < 0 { None } else { Some(f()) }
        });
        let thread = thread.expect("a thread can be spawned");
        while listener.load(Ordering::Acquire) == NOT_YET {
            thread::yield_now();
        }
        let raw = listener.load(Ordering::Acquire);
        if raw < 0 {
            let e = std::io::Error::from_raw_os_error(-raw);
            return Err(format!("no seccomp filter that asks: {e}"));
        }
        // SAFETY: a new descriptor, ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        while !thread.is_finished() {
            answer(raw, &mut judge);
        }
        // What still runs under the filter gets ENOSYS from here on.
        drop(fd);
        match thread.join() {
            Ok(value) => value.ok_or_else(|| unreachable!("it had a filter")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Installs the filter on the calling thread. Its listener's descriptor, or `-errno`.
fn filter() -> i32 {
    let insn =
        |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [insn(0, 0, 0, 0); WATCHED.len() + MORE.len() + 3];
    // The number is the first word of what a filter sees.
    program[0] = insn(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let calls = WATCHED.len() + MORE.len();
    for (i, (_, nr)) in WATCHED.iter().chain(&MORE).enumerate() {
        let to_ask = (calls - i) as u8;
        program[1 + i] = insn(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_ask, 0, *nr as u32);
    }
    program[calls + 1] = insn(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW);
    program[calls + 2] = insn(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a valid program that outlives the calls; both concern this thread only.
    let fd = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if fd < 0 {
        -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
    } else {
        fd as i32
    }
}

/// Answers one call, if one waits.
fn answer(listener: i32, judge: &mut impl FnMut(&Call) -> i32) {
    const RECV: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    const CONTINUE: u32 = 1;
    let mut wait = libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor to wait for. The timeout is for a thread that ends without a call.
    if unsafe { libc::poll(&raw mut wait, 1, 20) } <= 0 || wait.revents & libc::POLLIN == 0 {
        return;
    }
    // SAFETY: plain data, and the kernel wants zeroes.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: room for what the kernel writes.
    if unsafe { libc::ioctl(listener, RECV as _, &raw mut asked) } != 0 {
        return; // The asking thread was killed meanwhile.
    }
    let nr = libc::c_long::from(asked.data.nr);
    let name = WATCHED.iter().chain(&MORE).find(|(_, known)| *known == nr).map_or("?", |c| c.0);
    let ours = std::path::Path::new(&format!("/proc/self/task/{}", asked.pid)).exists();
    let name = name.strip_prefix("SYS_").unwrap_or(name);
    let errno = judge(&Call { name, args: asked.data.args, thread: asked.pid, ours });
    let mut reply = libc::seccomp_notif_resp {
        id: asked.id,
        val: 0,
        error: -errno,
        flags: if errno == 0 { CONTINUE } else { 0 },
    };
    // SAFETY: a reply to what was just received. It fails when the asking thread was killed.
    unsafe { libc::ioctl(listener, SEND as _, &raw mut reply) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_asked_for_fails_and_no_other() {
        let open = || std::fs::read("/proc/self/status").map(|text| text.len());
        let mut calls = Vec::new();
        let all = judged(
            |call| {
                calls.push(call.name);
                0
            },
            open,
        );
        let Ok(all) = all else {
            return crate::skip("the_call_asked_for_fails_and_no_other", &all.unwrap_err());
        };
        assert!(all.unwrap() > 100);
        let nth = calls.iter().position(|name| *name == "openat").unwrap();
        let mut plan = Nth::new(nth, libc::EMFILE);
        let none = judged(|call| plan.judge(call), open).unwrap();
        assert_eq!(none.unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert!(plan.failed.is_some_and(|call| call.name == "openat" && call.ours));
        assert!(open().is_ok(), "other threads are left alone");
    }

    #[test]
    fn programs_that_are_started_are_judged_too() {
        let run = || std::process::Command::new("cat").arg("/etc/hostname").output();
        let mut theirs = 0;
        let judge = |call: &Call| {
            theirs += usize::from(!call.ours);
            0
        };
        match judged(judge, run) {
            Ok(out) => assert!(out.unwrap().status.success() && theirs > 3, "{theirs}"),
            Err(why) => crate::skip("programs_that_are_started_are_judged_too", &why),
        }
    }
}
