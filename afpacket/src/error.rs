//! Setup errors and what to do about them.

use std::borrow::Cow;

use linerate_common::{ErrorKind, SetupError};

/// An option that makes no sense.
pub(crate) fn refuse(detail: impl Into<Cow<'static, str>>) -> SetupError {
    SetupError::new(ErrorKind::BadArgument, "Options", detail)
}

/// Adds the remedy for a failed call, where one is known.
pub(crate) fn explain(e: SetupError) -> SetupError {
    match (e.op(), e.errno()) {
        ("socket(AF_PACKET)", libc::EPERM | libc::EACCES) => {
            let program = std::env::current_exe();
            let program = program.map_or("PROGRAM".into(), |p| p.display().to_string());
            e.remedy(format!(
                "raw sockets need CAP_NET_RAW: run as root or: sudo setcap cap_net_raw+ep {program}"
            ))
        }
        ("socket(AF_PACKET)", libc::EAFNOSUPPORT) => e.remedy("sudo modprobe af_packet"),
        ("socket(AF_PACKET)", libc::EMFILE) => e.remedy("raise the limit: ulimit -n 65536"),
        ("PACKET_RX_RING" | "mmap", libc::ENOMEM) => {
            e.remedy("the ring finds no memory: ask for a smaller one")
        }
        _ => e,
    }
}
