//! Rights that a command was started with and does not need to the end.
//!
//! A port takes CAP_NET_RAW or more to open; receiving from it takes nothing. So the long-running
//! commands give their rights up between the two, before the first frame of a stranger is looked
//! at. Capabilities belong to threads, and a new thread has those of its maker: this must come
//! before the command starts its own.

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
}

/// Does this process act with rights that its user may not have? Root counts: a file name that
/// somebody else prepared must not lead root to write elsewhere.
pub(crate) fn is_elevated() -> bool {
    capabilities(None).is_ok_and(|sets| !sets.effective.is_empty())
}

/// Gives up all that is not needed, for this thread and those it will start.
///
/// Only with the backends that live on sockets alone: AF_XDP looks into BPF maps and takes its
/// program off the interface in the end, and what vendors' libraries need in the end is theirs to
/// know.
pub(crate) fn give_up(backend: Backend, need: Need, out: &Output) {
    if !matches!(backend, Backend::Afpacket | Backend::Udp | Backend::Pcap) {
        return;
    }
    match drop_all_but(need) {
        Ok(false) => {}
        Ok(true) => out.detail("capabilities given up: everything is open"),
        // It runs on as it was started: less safe, not wrong.
        Err(e) => out.detail(&format!("cannot give up capabilities: {e}")),
    }
}

/// `false`: there was nothing to give up.
fn drop_all_but(need: Need) -> io::Result<bool> {
    let mut sets = capabilities(None)?;
    if sets.permitted.is_empty() {
        return Ok(false);
    }
    let kept = match need {
        Need::Nothing => CapabilitySet::empty(),
        Need::NewFiles => CapabilitySet::DAC_OVERRIDE,
    };
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
            assert_eq!(drop_all_but(Need::NewFiles).unwrap(), !before.is_empty());
            let left = before & CapabilitySet::DAC_OVERRIDE;
            assert_eq!(capabilities(None).unwrap().permitted, left);
            assert_eq!(drop_all_but(Need::Nothing).unwrap(), !left.is_empty());
            assert!(!drop_all_but(Need::Nothing).unwrap(), "nothing is left to give up");
            let child = || capabilities(None).unwrap();
            let sets = std::thread::spawn(child).join().unwrap();
            assert!(sets.effective.is_empty() && sets.permitted.is_empty());
        };
        std::thread::spawn(test).join().unwrap();
    }
}
