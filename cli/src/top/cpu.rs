//! CPU time of a thread of this process.

use std::fs;
use std::time::Duration;

/// The kernel counts CPU time for programs in hundredths of a second, whatever it runs on.
const TICKS_A_SECOND: u64 = 100;

/// CPU time that the thread of this name has used, and the CPU it ran on last.
pub(super) fn of_thread(name: &str) -> Option<(Duration, u32)> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let stats = tasks.flatten().map(|task| fs::read_to_string(task.path().join("stat")));
    stats.flatten().find_map(|stat| parse(&stat, name))
}

/// `tid (name) state …`; times are the 14th and 15th field, the CPU is the 39th.
fn parse(stat: &str, name: &str) -> Option<(Duration, u32)> {
    let (head, rest) = stat.rsplit_once(')')?;
    if head.split_once('(')?.1 != name {
        return None;
    }
    let field = |n: usize| rest.split_whitespace().nth(n - 3);
    let ticks = field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?;
    let cpu = field(39)?.parse().ok()?;
    Some((Duration::from_millis(ticks * 1000 / TICKS_A_SECOND), cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_finds_itself() {
        let row = "12 (a) b) R 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 \
                   0 17 3 0 0";
        assert_eq!(parse(row, "a) b"), Some((Duration::from_secs(2), 3)));
        assert_eq!(parse(row, "other"), None);
        let spawned = std::thread::Builder::new().name("top-test".into());
        let found = spawned.spawn(|| of_thread("top-test")).unwrap().join().unwrap();
        assert!(found.is_some());
    }
}
