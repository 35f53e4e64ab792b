//! Rights that a command was started with and does not need to the end.
//!
//! A port takes CAP_NET_RAW or more to open; receiving from it takes nothing. So the commands give
//! their rights up between the two, before the first frame of a stranger is looked at.
//! Capabilities belong to threads, and a new thread has those of its maker: this must come before
//! the command starts its own. `selftest`, which opens ports to its end, and `doctor`, which looks
//! at no frame, keep theirs.

use std::io;

use linerate::Backend;
use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use crate::output::Output;

/// What a command goes on needing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: everything it uses is open.
    Nothing,
    /// It creates files while it runs, and root may do so in anybody's directory.
    NewFiles,
    /// It opens a file again that it has read, which may be anybody's.
    OldFiles,
}

/// Does this process act with rights that its user may not have? Root counts: a file name that
/// somebody else prepared must not lead root to write elsewhere.
pub(crate) fn is_elevated() -> bool {
    capabilities(None).is_ok_and(|sets| !sets.effective.is_empty())
}

/// Gives up all that is not needed, for this thread and those it will start.
pub(crate) fn give_up(backends: &[Backend], need: Need, out: &Output) {
    let files = match need {
        Need::Nothing => CapabilitySet::empty(),
        Need::NewFiles => CapabilitySet::DAC_OVERRIDE,
        Need::OldFiles => CapabilitySet::DAC_READ_SEARCH,
    };
    let kept = backends.iter().fold(files, |kept, backend| kept | to_the_end(*backend));
    match drop_all_but(kept) {
        Ok(false) => {}
        Ok(true) => out.detail("capabilities given up: everything is open"),
        // It runs on as it was started: less safe, not wrong.
        Err(e) => out.detail(&format!("cannot give up capabilities: {e}")),
    }
}

/// The same for a thread that needs nothing at all and was started before the others' rights go.
pub(crate) fn give_up_here() {
    // As above; this thread has nowhere to say it.
    let _ = drop_all_but(CapabilitySet::empty());
}

/// What a port needs after it was opened.
fn to_the_end(backend: Backend) -> CapabilitySet {
    match backend {
        // Before Linux 5.19 even reading a map that is open, or closing a link, was for the
        // privileged (before 5.8 that was one capability for everything).
        Backend::Afxdp if kernel() < (5, 8) => CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN,
        Backend::Afxdp if kernel() < (5, 19) => CapabilitySet::NET_ADMIN | CapabilitySet::BPF,
        // What the vendors' libraries and drivers ask for when they change filters, restore a
        // queue or give memory back is theirs to know: at most these.
        Backend::Efvi | Backend::Verbs | Backend::Exanic => {
            CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::IPC_LOCK
        }
        // Open sockets need nothing.
        _ => CapabilitySet::empty(),
    }
}

/// The kernel's major and minor version; 0.0 when it does not say.
fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// `false`: there was nothing to give up.
fn drop_all_but(kept: CapabilitySet) -> io::Result<bool> {
    let mut sets = capabilities(None)?;
    if sets.permitted.is_empty() {
        return Ok(false);
    }
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable &= kept;
    // A program that root starts gets everything back, unless this says no.
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    set_capabilities(None, sets)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_gone_in_this_thread_and_in_those_it_starts() {
        // On a thread of its own: the other tests keep their rights.
        let test = || {
            let before = capabilities(None).unwrap().permitted;
            assert_eq!(is_elevated(), !before.is_empty());
            assert_eq!(drop_all_but(CapabilitySet::DAC_OVERRIDE).unwrap(), !before.is_empty());
            let left = before & CapabilitySet::DAC_OVERRIDE;
            assert_eq!(capabilities(None).unwrap().permitted, left);
            assert_eq!(drop_all_but(CapabilitySet::empty()).unwrap(), !left.is_empty());
            assert!(!drop_all_but(CapabilitySet::empty()).unwrap(), "nothing is left to give up");
            let child = || capabilities(None).unwrap();
            let sets = std::thread::spawn(child).join().unwrap();
            assert!(sets.effective.is_empty() && sets.permitted.is_empty());
        };
        std::thread::spawn(test).join().unwrap();
    }
}
