//! What this thread may do, asked without trying it.

use std::fs;

use linerate_common::SetupError;

use crate::interface;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Raw frames. Asked by opening a socket that receives nothing.
pub(crate) fn may_open_raw() -> Result<(), String> {
    match interface::may_open_packet_socket() {
        Ok(()) => Ok(()),
        Err(libc::EPERM | libc::EACCES) => {
            Err("needs CAP_NET_RAW: run as root or: sudo setcap cap_net_raw+ep PROGRAM".into())
        }
        Err(errno) => Err(SetupError::os("socket(AF_PACKET)", errno).to_string()),
    }
}

/// An XDP program on an interface.
pub(crate) fn may_load_xdp() -> Result<(), String> {
    let Some(caps) = effective() else { return Ok(()) };
    let has = |cap: u32| caps >> cap & 1 == 1;
    if has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_NET_ADMIN)) {
        return Ok(());
    }
    Err("needs CAP_BPF and CAP_NET_ADMIN: run as root or: \
         sudo setcap cap_net_admin,cap_net_raw,cap_bpf+ep PROGRAM"
        .into())
}

/// The thread's effective capabilities, one bit each. `None` without /proc: then trying tells.
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
