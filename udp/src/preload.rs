//! Socket stacks that take the place of the kernel's when they are preloaded.

use std::sync::OnceLock;

use linerate_common::Error;

/// Their libraries, as they appear among a process's mappings, and their names.
const STACKS: [(&str, &str); 4] = [
    ("/libonload", "Onload"),
    ("/libvma.", "VMA"),
    ("/libxlio.", "XLIO"),
    ("/libexasock", "exasock"),
];

/// The socket stack that is preloaded into this process: `"Onload"`, `"VMA"`, `"XLIO"` or
/// `"exasock"`. `None`: sockets are the kernel's.
#[must_use]
pub fn stack() -> Option<&'static str> {
    static STACK: OnceLock<Option<&'static str>> = OnceLock::new();
    // LD_PRELOAD is not the only way in: /etc/ld.so.preload is another. Neither is open later on.
    *STACK.get_or_init(|| find(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default()))
}

/// What came of setting an option that a preloaded stack may not know and does without. The kernel
/// knows it, and without it something would be missing in silence.
pub(crate) fn needed(result: Result<(), Error>) -> Result<(), Error> {
    result.or_else(|e| if stack().is_some() { Ok(()) } else { Err(e) })
}

fn find(maps: &str) -> Option<&'static str> {
    STACKS.iter().find(|(library, _)| maps.contains(library)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_known_by_its_library() {
        let line = |path: &str| format!("7f00-7f01 r-xp 00000000 fe:00 1 {path}\n");
        assert_eq!(find(&line("/usr/lib64/libonload.so")), Some("Onload"));
        assert_eq!(find(&line("/usr/lib64/libvma.so.9.8.51")), Some("VMA"));
        assert_eq!(find(&line("/usr/lib64/libxlio.so.3")), Some("XLIO"));
        assert_eq!(find(&line("/opt/lib/exasock/libexasock_preload.so")), Some("exasock"));
        assert_eq!(find(&line("/usr/lib/libvmalloc.so")), None);
        assert_eq!(stack(), None);
    }
}
