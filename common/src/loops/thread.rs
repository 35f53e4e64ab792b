//! Preparing the thread that a loop runs on.

use std::ffi::CString;
use std::fs;

use crate::error::{ErrorKind, SetupError, last_errno};

/// Room for 8192 CPUs, the kernel's own limit; `cpu_set_t` ends at 1024.
type CpuMask = [u64; 128];

/// Binds the calling thread to one CPU (`sched_setaffinity`).
///
/// # Errors
///
/// The CPU does not exist, is offline, or is outside this process's cpuset: the message says
/// which of the three, and the remedy what to do.
pub fn pin_to_cpu(cpu: u32) -> Result<(), SetupError> {
    let mut mask: CpuMask = [0; 128];
    let index = cpu as usize;
    if let Some(word) = mask.get_mut(index / 64) {
        *word |= 1 << (index % 64);
        // SAFETY: the kernel reads `size_of::<CpuMask>()` bytes of a bit mask in native words; 0
        // is the calling thread.
        let rc = unsafe { libc::sched_setaffinity(0, size_of::<CpuMask>(), mask.as_ptr().cast()) };
        if rc == 0 {
            return Ok(());
        }
    }
    Err(why_not(cpu, last_errno()))
}

fn why_not(cpu: u32, errno: i32) -> SetupError {
    let read = |what: &str| {
        let path = format!("/sys/devices/system/cpu/{what}");
        fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    };
    let (present, online) = (read("present"), read("online"));
    let e = |detail| SetupError::new(ErrorKind::BadArgument, "sched_setaffinity", detail);
    if !present.is_empty() && !list_contains(&present, cpu) {
        return e(format!("there is no CPU {cpu}"))
            .remedy(format!("this machine has the CPUs {present}"));
    }
    if !online.is_empty() && !list_contains(&online, cpu) {
        return e(format!("CPU {cpu} is offline")).remedy(format!(
            "choose one of {online}, or: echo 1 > /sys/devices/system/cpu/cpu{cpu}/online"
        ));
    }
    if errno == libc::EINVAL {
        return e(format!("CPU {cpu} is outside the cpuset of this process")).remedy(
            "choose one that /proc/self/status lists as Cpus_allowed, or widen the cpuset",
        );
    }
    SetupError::os("sched_setaffinity", errno)
}

/// Is `cpu` in a kernel CPU list such as `0-3,8`?
fn list_contains(list: &str, cpu: u32) -> bool {
    list.split(',').any(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        matches!((from.parse::<u32>(), to.parse::<u32>()), (Ok(a), Ok(b)) if (a..=b).contains(&cpu))
    })
}

/// The CPUs that the calling thread may run on now (`sched_getaffinity`).
///
/// # Errors
///
/// The kernel refused, which it has no reason to.
pub fn allowed_cpus() -> Result<Vec<u32>, SetupError> {
    let mut mask: CpuMask = [0; 128];
    // SAFETY: the kernel writes at most `size_of::<CpuMask>()` bytes.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<CpuMask>(), mask.as_mut_ptr().cast()) };
    if rc < 0 {
        return Err(SetupError::last_os("sched_getaffinity"));
    }
    Ok((0..8192_u32).filter(|c| mask[*c as usize / 64] >> (c % 64) & 1 == 1).collect())
}

/// The CPU that the calling thread is on. No system call where glibc registers restartable
/// sequences (2.35) or the vDSO knows the CPU (x86-64).
#[must_use]
pub fn current_cpu() -> Option<u32> {
    // SAFETY: no arguments, no preconditions.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Names the calling thread, for `top -H` and `perf` (`prctl(PR_SET_NAME)`). The kernel keeps 15
/// bytes; the rest is cut off, and so is everything from the first NUL on.
pub fn name_thread(name: &str) {
    let mut bytes: Vec<u8> = name.bytes().take_while(|b| *b != 0).collect();
    bytes.truncate(15);
    let name = CString::new(bytes).unwrap_or_default();
    // SAFETY: a NUL-terminated string that outlives the call. It fails only on a bad pointer.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Keeps every page of the process in memory, now and in future (`mlockall`), so that no page
/// fault hits a running loop.
///
/// # Errors
///
/// The limit on locked memory is too low and the process lacks `CAP_IPC_LOCK`.
pub fn lock_memory() -> Result<(), SetupError> {
    // SAFETY: takes flags only.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } == 0 {
        return Ok(());
    }
    Err(SetupError::last_os("mlockall")
        .remedy("raise the limit: ulimit -l unlimited, or: sudo setcap cap_ipc_lock+ep PROGRAM"))
}

/// Notices when the scheduler moves the thread.
#[derive(Debug, Default)]
pub(super) struct CpuWatch {
    cpu: Option<u32>,
}

impl CpuWatch {
    /// Forgets where the thread was: the next run may be on another one.
    pub(super) fn restart(&mut self) {
        self.cpu = current_cpu();
    }

    /// Has the thread moved since the last look?
    pub(super) fn moved(&mut self) -> bool {
        let now = current_cpu();
        let moved = now.is_some() && self.cpu.is_some() && now != self.cpu;
        self.cpu = now;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// On a thread of its own, so that no other test inherits the pinning.
    fn aside<T: Send>(f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|s| s.spawn(f).join().unwrap())
    }

    #[test]
    fn pinning_moves_the_thread_and_is_noticed() {
        aside(|| {
            let cpus = allowed_cpus().unwrap();
            let mut watch = CpuWatch::default();
            pin_to_cpu(cpus[0]).unwrap();
            watch.restart();
            assert_eq!(current_cpu(), Some(cpus[0]));
            assert_eq!(allowed_cpus().unwrap(), [cpus[0]]);
            assert!(!watch.moved());
            if let Some(&other) = cpus.get(1) {
                pin_to_cpu(other).unwrap();
                assert!(watch.moved());
                assert!(!watch.moved());
            }
        });
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        for cpu in [8191, 8192, u32::MAX] {
            let e = aside(|| pin_to_cpu(cpu)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::BadArgument);
            assert!(e.to_string().contains(&format!("there is no CPU {cpu}")), "{e}");
            assert!(e.remedy_text().contains("this machine has the CPUs"), "{e}");
        }
    }

    #[test]
    fn kernel_cpu_lists_are_read() {
        assert!(list_contains("0-3,8", 2) && list_contains("0-3,8", 8));
        assert!(!list_contains("0-3,8", 4) && !list_contains("", 0) && !list_contains("x-y", 0));
    }

    #[test]
    fn long_names_are_cut_at_fifteen_bytes() {
        let name = aside(|| {
            name_thread("receiver-of-line-A");
            fs::read_to_string("/proc/thread-self/comm").unwrap()
        });
        assert_eq!(name.trim(), "receiver-of-lin");
    }
}
