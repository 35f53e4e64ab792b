//! What a failed call of libibverbs means for the person who made it.

use linerate_common::{SetupError, last_errno};

/// The error of a call that answers NULL or -1 and leaves the reason in `errno`. Old providers
/// leave none: then it is an I/O error, never a success.
pub(crate) fn last(op: &'static str) -> SetupError {
    explain(op, last_errno())
}

/// The error of a call that answers with an errno value, which old libraries negate.
pub(crate) fn check(op: &'static str, rc: i32) -> Result<(), SetupError> {
    if rc == 0 { Ok(()) } else { Err(explain(op, rc.checked_abs().unwrap_or(libc::EIO))) }
}

fn explain(op: &'static str, errno: i32) -> SetupError {
    let error = SetupError::os(op, errno);
    match (op, errno) {
        ("ibv_get_device_list", libc::ENOSYS) => {
            error.remedy("this kernel has no RDMA: modprobe ib_uverbs and the card's driver (mlx5_ib)")
        }
        ("ibv_open_device", libc::EACCES | libc::EPERM) => {
            error.remedy("give yourself read and write rights on /dev/infiniband/uverbs*")
        }
        ("ibv_create_qp" | "ibv_create_flow", libc::EPERM | libc::EACCES) => error.remedy(
            "raw packets need CAP_NET_RAW in the initial user namespace: sudo setcap \
             cap_net_raw+ep PROGRAM",
        ),
        ("ibv_reg_mr" | "ibv_create_cq" | "ibv_create_qp", libc::ENOMEM) => error.remedy(
            "the locked-memory limit is too small: ulimit -l unlimited (LimitMEMLOCK=infinity in \
             a unit), or grant CAP_IPC_LOCK; or ask for smaller rings",
        ),
        ("ibv_create_qp", libc::EOPNOTSUPP | libc::EINVAL) => error.remedy(
            "this driver has no raw packet queue pairs (mlx5, mlx4 and mana have); check that the \
             port's link layer is Ethernet",
        ),
        ("ibv_create_flow", libc::EOPNOTSUPP | libc::EINVAL) => error.remedy(
            "the card does not steer this flow; mlx4 needs the module option log_num_mgm_entry_size=-1",
        ),
        ("ibv_create_flow", libc::EEXIST) => {
            error.remedy("the same flow is steered already, by this or another program")
        }
        ("ibv_create_flow", libc::ENOMEM | libc::ENOSPC) => {
            error.remedy("the card's flow table is full: ask for fewer flows")
        }
        _ => error,
    }
}
