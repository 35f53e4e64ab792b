//! Rights that a thread of the library's own does without.

/// Gives up the capabilities of the calling thread. A thread has those of its maker, and an
/// application which gives its own up once everything is open cannot reach those of a thread
/// that the library has started before. Whether it works is not reported: without, the thread
/// runs on as before.
pub fn give_up_rights() {
    const VERSION_3: u32 = 0x2008_0522;
    // Version and thread (0: this one); then effective, permitted and inheritable, twice 32 bits.
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: reads two words and six, as the version says.
    unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
}

#[cfg(test)]
mod tests {
    fn permitted() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("CapPrm:")).unwrap().to_owned()
    }

    #[test]
    fn only_the_calling_thread_loses_its_capabilities() {
        let before = permitted();
        let after = std::thread::spawn(|| {
            super::give_up_rights();
            permitted()
        });
        assert!(after.join().unwrap().ends_with("\t0000000000000000"));
        assert_eq!(permitted(), before);
    }
}
