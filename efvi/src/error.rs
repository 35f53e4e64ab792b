//! Setup errors: which call failed on which interface, and what to do about it.

use libc::c_int;
use linerate_common::{ErrorKind, SetupError};
use linerate_efvi_sys::check::Mismatch;
use linerate_efvi_sys::{NoSdk, SDK};

/// The C convention: 0 or more is a result, less is `-errno`.
pub(crate) fn checked(op: &'static str, rc: c_int) -> Result<c_int, SetupError> {
    if rc >= 0 { Ok(rc) } else { Err(failed(op, -rc)) }
}

/// A failed call, with the remedy that its errno suggests.
pub(crate) fn failed(op: &'static str, errno: c_int) -> SetupError {
    let error = SetupError::os(op, errno);
    match remedy(op, errno) {
        "" => error,
        text => error.remedy(text),
    }
}

fn remedy(op: &str, errno: c_int) -> &'static str {
    match (op, errno) {
        ("ef_driver_open", libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            "load Onload's drivers (modprobe sfc_char); in a container pass --device /dev/sfc_char"
        }
        ("ef_driver_open", libc::EACCES | libc::EPERM) => {
            "give the user access to /dev/sfc_char (chgrp and chmod g+rw, or a udev rule)"
        }
        (_, libc::ELIBACC) => {
            "the kernel driver does not know this libciul: install the Onload release whose \
             headers this program was built with, and reload its drivers (onload_tool reload)"
        }
        ("ef_pd_alloc_by_name", libc::ENODEV | libc::ENXIO) => {
            "name the physical interface (no VLAN, bond or macvlan) of a Solarflare or AMD card \
             whose sfc driver is bound: ethtool -i INTERFACE; cards without ef_vi need an \
             activation key"
        }
        ("ef_pd_alloc_by_name", libc::EPERM | libc::EACCES) => {
            "ef_vi may be disabled for the interface: see \
             /proc/driver/sfc_resource/INTERFACE/enable, and for physical addresses the \
             parameter phys_mode_gid of sfc_char"
        }
        ("ef_vi_alloc_from_pd" | "ef_vi_alloc_from_set", libc::EBUSY | libc::ENOSPC) => {
            "the card has no virtual interface left: stop other users (onload_stackdump), open \
             fewer queues, or raise the number of VIs the driver reserves"
        }
        ("ef_vi_alloc_from_pd" | "ef_vi_alloc_from_set", libc::EINVAL) => {
            "the card does not take these ring sizes: see `linerate info`, and the EF_VI_RXQ_SIZE, \
             EF_VI_TXQ_SIZE and EF_VI_EVQ_SIZE variables of the environment"
        }
        ("ef_vi_alloc_from_pd" | "ef_vi_alloc_from_set", libc::EOPNOTSUPP) => {
            "the card or its firmware lacks a feature that was asked for: timestamps, merged \
             events, CTPIO or alternatives"
        }
        ("ef_memreg_alloc", libc::ENOMEM | libc::EPERM | libc::EAGAIN) => {
            "raise the limit on locked memory (ulimit -l unlimited), or use a smaller pool on \
             hugepages"
        }
        ("ef_vi_filter_add" | "ef_vi_set_filter_add", libc::EPERM | libc::EACCES) => {
            "this kind of filter needs CAP_NET_ADMIN (setcap cap_net_admin+ep PROGRAM), or for \
             MAC and ethertype filters the parameter mac_filters_gid of sfc_char"
        }
        ("ef_vi_filter_add" | "ef_vi_set_filter_add", libc::EEXIST | libc::EBUSY) => {
            "another queue of this card already takes this flow and the card does not replicate it"
        }
        ("ef_vi_filter_add" | "ef_vi_set_filter_add", libc::ENOSPC) => {
            "the card's filter table is full: use fewer or wider flows"
        }
        (_, libc::ENOSPC) => "the card has no more of this resource: close other users",
        _ => "",
    }
}

/// This build has no vendor library.
pub(crate) fn no_sdk(missing: NoSdk) -> SetupError {
    SetupError::new(ErrorKind::Unsupported, "ef_driver_open", missing.to_string())
        .remedy(NoSdk::REMEDY)
}

/// The running library is not the one of the headers.
pub(crate) fn mismatch(m: Mismatch) -> SetupError {
    SetupError::new(ErrorKind::Unsupported, "ef_vi", m.to_string()).remedy(format!(
        "rebuild against the headers of the libciul that runs (this build: {} and {})",
        SDK.include_dir, SDK.library
    ))
}

/// The card cannot do what was asked.
pub(crate) fn unsupported(op: &'static str, what: impl Into<String>) -> SetupError {
    SetupError::new(ErrorKind::Unsupported, op, what.into())
}

/// An option is out of range.
pub(crate) fn bad_argument(op: &'static str, what: impl Into<String>) -> SetupError {
    SetupError::new(ErrorKind::BadArgument, op, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_card_and_a_missing_driver_are_told_apart() {
        let e = failed("ef_vi_alloc_from_pd", libc::EBUSY).on("efvi:eth2").to_string();
        assert!(e.contains("no virtual interface left"), "{e}");
        let e = failed("ef_driver_open", libc::ENOENT).to_string();
        assert!(e.contains("modprobe sfc_char"), "{e}");
        assert!(checked("ef_vi_alloc_from_pd", 3).is_ok_and(|label| label == 3));
    }
}
