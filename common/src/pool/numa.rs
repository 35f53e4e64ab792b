//! NUMA nodes: which one a card sits on, and asking for memory there.

use std::fs;

use crate::error::last_errno;

/// Where the memory should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Numa {
    /// Wherever the thread that maps it runs.
    #[default]
    Any,
    /// On this node.
    Node(u32),
    /// On the node of the card behind this interface, if it says.
    OfInterface(String),
}

impl Numa {
    pub(super) fn node(&self) -> Option<u32> {
        match self {
            Self::Any => None,
            Self::Node(node) => Some(*node),
            Self::OfInterface(name) => node_of_interface(name),
        }
    }
}

/// The NUMA node of the card behind a network interface. `None` for virtual interfaces and on
/// machines with one node.
#[must_use]
pub fn node_of_interface(name: &str) -> Option<u32> {
    let path = format!("/sys/class/net/{name}/device/numa_node");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Prefers `node` for pages of the range that are not faulted in yet. Preferring does not fail
/// when the node is full; [`node_of_page`] tells what came of it.
///
/// # Errors
///
/// The errno of mbind.
pub(super) fn prefer(start: *mut u8, len: usize, node: u32) -> Result<(), i32> {
    let mut mask = [0_u64; 16];
    let Some(word) = mask.get_mut(node as usize / 64) else { return Err(libc::EINVAL) };
    *word = 1 << (node % 64);
    // SAFETY: mbind reads the mask of the given number of bits (one more than it uses, by its
    // own convention) and sets a policy on a mapping that is ours.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            len,
            libc::MPOL_PREFERRED,
            mask.as_ptr(),
            mask.len() * 64 + 1,
            0,
        )
    };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The node that holds a page which is faulted in.
pub(super) fn node_of_page(page: *mut u8) -> Option<u32> {
    const MPOL_F_NODE: libc::c_ulong = 1;
    const MPOL_F_ADDR: libc::c_ulong = 2;
    let mut node: libc::c_int = -1;
    // SAFETY: with these flags the call writes one int and looks the address up.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            std::ptr::null::<u64>(),
            0_usize,
            page,
            MPOL_F_NODE | MPOL_F_ADDR,
        )
    };
    if rc == 0 { u32::try_from(node).ok() } else { None }
}
