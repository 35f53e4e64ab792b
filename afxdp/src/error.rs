//! What setup can fail with, and what to do about it.

use linerate_common::SetupError;

/// The rights that opening a port takes.
pub(crate) const RIGHTS: &str = "run as root, or: sudo setcap \
     cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep PROGRAM";

/// A failed bpf(2) command.
pub(crate) fn bpf(op: &'static str, errno: i32) -> SetupError {
    let remedy = match errno {
        libc::EPERM | libc::EACCES => format!(
            "{RIGHTS} (before Linux 5.8: cap_sys_admin; before 5.11 also: ulimit -l unlimited)"
        ),
        libc::ENOSYS => "use a kernel with CONFIG_BPF_SYSCALL".to_owned(),
        libc::ENOMEM => "free memory, or raise the control group's limit".to_owned(),
        _ => return SetupError::os(op, errno),
    };
    SetupError::os(op, errno).remedy(remedy)
}

/// A failed socket call.
pub(crate) fn socket(op: &'static str, errno: i32) -> SetupError {
    let e = SetupError::os(op, errno);
    match errno {
        libc::EPERM | libc::EACCES => e.remedy(RIGHTS),
        libc::EAFNOSUPPORT => e.remedy(
            "use a kernel with CONFIG_XDP_SOCKETS (Linux 4.18 and newer), or afpacket: instead",
        ),
        libc::ENOBUFS => e.remedy(
            "raise the limit of locked memory (ulimit -l unlimited, LimitMEMLOCK=infinity in a \
             unit), or grant cap_ipc_lock",
        ),
        libc::ENOMEM => e.remedy("free memory, or ask for smaller rings"),
        _ => e,
    }
}

/// A failed bind(2) of a socket to a queue.
pub(crate) fn bind(errno: i32, interface: &str, queue: u32) -> SetupError {
    let e = SetupError::os("bind(AF_XDP)", errno);
    match errno {
        libc::EBUSY => e.remedy(format!(
            "receive queue {queue} has another AF_XDP socket: close it (ss --xdp -p shows whose \
             it is), or take another queue: ?queue=N"
        )),
        libc::ENETDOWN => e.remedy(format!("bring it up: ip link set {interface} up")),
        libc::EINVAL => e.remedy(format!(
            "queue {queue} must exist (ethtool -l {interface}), and rings be no larger than the \
             driver takes"
        )),
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT => {
            e.remedy("the driver cannot do this mode: use ?mode=auto, which falls back and says so")
        }
        _ => socket("bind(AF_XDP)", errno),
    }
}

/// There is no such interface.
pub(crate) fn no_interface(errno: i32) -> SetupError {
    SetupError::os("if_nametoindex", errno).remedy("list them: ip -br link")
}
