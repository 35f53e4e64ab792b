//! What the card and its driver say about themselves.

use std::ffi::{CStr, CString};

use libc::{c_int, c_uint};
use linerate_common::SetupError;
use linerate_efvi_sys::{EF_VI_ARCH_EF10, EF_VI_ARCH_EF10CT, EF_VI_ARCH_EFCT};

use super::Session;
use crate::caps::Caps;
use crate::error::{checked, unsupported};

/// How a card receives and sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    /// Posted buffers and descriptor rings (SFN7000, SFN8000, X2, X4 full-feature).
    Ring,
    /// Packet references and CTPIO only (X3, X4 low-latency).
    Shared,
}

impl Session {
    /// How this card works.
    pub(crate) fn arch(&self) -> Result<Arch, SetupError> {
        // SAFETY: the VI was allocated and checked.
        let arch = unsafe { self.lib.nic_type(self.vi()) }.arch;
        match arch {
            EF_VI_ARCH_EF10 => Ok(Arch::Ring),
            EF_VI_ARCH_EFCT | EF_VI_ARCH_EF10CT => Ok(Arch::Shared),
            other => Err(unsupported("ef_vi_alloc_from_pd", format!("card architecture {other}"))
                .remedy("use the afxdp backend on this interface")),
        }
    }

    /// What the card can do.
    pub(crate) fn caps(&self) -> Caps {
        Caps::query(self)
    }

    /// A capability of the datapath that the protection domain is on. `None`: not there, or this
    /// pair of library and driver cannot tell.
    pub(crate) fn capability(&self, cap: c_uint) -> Option<u64> {
        let mut value = 0;
        let name = CString::new(self.name.as_str()).ok()?;
        // SAFETY: live handle and domain; a NUL-terminated name; a long to write to.
        let rc = unsafe {
            match self.lib.sometimes.pd_capabilities_get {
                Some(get) => get(self.dh, self.pd(), self.dh, cap, &mut value),
                None => {
                    let index = libc::if_nametoindex(name.as_ptr()) as c_int;
                    (self.lib.vi_capabilities_get)(self.dh, index, cap, &mut value)
                }
            }
        };
        (rc == 0).then_some(value)
    }

    /// The interface's MAC address.
    pub(crate) fn mac(&self) -> Result<[u8; 6], SetupError> {
        let mut mac = [0; 6];
        // SAFETY: a live VI and six bytes to write to.
        let rc = unsafe { (self.lib.vi_get_mac)(self.vi(), self.dh, mac.as_mut_ptr().cast()) };
        checked("ef_vi_get_mac", rc)?;
        Ok(mac)
    }

    /// Longest frame without check sequence, in bytes.
    pub(crate) fn max_frame(&self) -> usize {
        // SAFETY: a live VI.
        unsafe { (self.lib.vi_mtu)(self.vi(), self.dh) as usize }
    }

    /// Is the VI one of a cluster, whose daemon owns the filters?
    pub(crate) fn is_in_cluster(&self) -> bool {
        // SAFETY: our own ef_pd, written when it was allocated.
        unsafe { !(*self.pd()).pd_cluster_name.is_null() }
    }

    /// Versions of the library and of the driver interface it was made for.
    pub(crate) fn versions(&self) -> (String, String) {
        // SAFETY: both give static strings.
        unsafe {
            let text = |p| CStr::from_ptr(p).to_string_lossy().trim().to_owned();
            (text((self.lib.vi_version_str)()), text((self.lib.vi_driver_interface_str)()))
        }
    }
}
