//! bpf(2), one function a command.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use linerate_common::last_errno;

const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_GET_FD_BY_ID: u32 = 30;
const BPF_LINK_GET_NEXT_ID: u32 = 31;
const BPF_LINK_DETACH: u32 = 34;

const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_LINK_TYPE_XDP: u32 = 6;

/// The program may see frames that span several buffers (Linux 5.18).
pub(super) const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// The program belongs to one device and may call its driver's metadata functions (Linux 6.3).
pub(super) const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

/// Runs one command. `Err` is the positive errno.
///
/// # Safety
///
/// `attr` is laid out as the kernel's `union bpf_attr` for `command`, and every pointer in it is
/// valid for what the command does.
pub(super) unsafe fn bpf<T>(command: u32, attr: &mut T) -> Result<RawFd, i32> {
    // SAFETY: the caller vouches for the attributes; the size is theirs, and the kernel takes
    // shorter attributes than its own as zero-filled.
    let rc = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>() as u32)
    };
    if rc < 0 { Err(last_errno()) } else { Ok(rc as RawFd) }
}

/// Takes over a descriptor that a command has just returned.
pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: only called with what a successful command returned: a new descriptor, ours alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Why a program was not loaded: errno, and the last lines of the verifier's log.
#[derive(Debug, Clone)]
pub(crate) struct LoadError {
    pub(crate) errno: i32,
    pub(crate) log: String,
}

/// Loads an XDP program. `ifindex` is 0 unless it is bound to a device.
pub(super) fn load_xdp(
    insns: &[u64],
    license: &CStr,
    name: &str,
    flags: u32,
    ifindex: u32,
) -> Result<OwnedFd, LoadError> {
    let mut prog_name = [0; 16];
    for (to, from) in prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: license.as_ptr() as u64,
        prog_flags: flags,
        prog_name,
        prog_ifindex: ifindex,
        expected_attach_type: BPF_XDP,
        ..ProgLoad::default()
    };
    // SAFETY: the layout is bpf_attr's for BPF_PROG_LOAD; instructions and licence outlive it.
    let first = match unsafe { bpf(BPF_PROG_LOAD, &mut attr) } {
        Ok(fd) => return Ok(own(fd)),
        Err(errno) => errno,
    };
    // Once more for the log, which costs too much to ask for at once.
    let mut log = vec![0u8; 64 << 10];
    attr.log_level = 1;
    attr.log_size = log.len() as u32;
    attr.log_buf = log.as_mut_ptr() as u64;
    // SAFETY: as above, and the log buffer is as long as said.
    if let Ok(fd) = unsafe { bpf(BPF_PROG_LOAD, &mut attr) } {
        return Ok(own(fd));
    }
    let text = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("processed ")).collect();
    let tail = lines[lines.len().saturating_sub(2)..].join("; ");
    Err(LoadError { errno: first, log: tail })
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 2],
}

/// An attached program. It goes when the last descriptor of the link is closed: a killed process
/// leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches `program` to the interface, with `XDP_FLAGS_*` in `flags`.
    pub(crate) fn attach(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> Result<Self, i32> {
        let mut attr = LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags,
            ..LinkCreate::default()
        };
        // SAFETY: the layout is bpf_attr's for BPF_LINK_CREATE; it holds no pointer.
        unsafe { bpf(BPF_LINK_CREATE, &mut attr) }.map(|fd| Self(own(fd)))
    }

    /// Takes the program off the interface, whoever else holds the link.
    pub(crate) fn detach(&self) -> Result<(), i32> {
        let mut attr = [self.0.as_raw_fd() as u32, 0];
        // SAFETY: the layout is bpf_attr's for BPF_LINK_DETACH: a descriptor.
        unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(|_| ())
    }

    pub(crate) fn info(&self) -> Result<LinkInfo, i32> {
        let mut info = [0u32; 24];
        object_info(self.0.as_fd(), &mut info)?;
        // type, id, prog_id, then (aligned to 8) what depends on the type: an ifindex for XDP.
        Ok(LinkInfo { is_xdp: info[0] == BPF_LINK_TYPE_XDP, program: info[2], ifindex: info[4] })
    }
}

/// What the kernel says about a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkInfo {
    pub(crate) is_xdp: bool,
    /// Id of its program.
    pub(crate) program: u32,
    /// The interface of an XDP link; 0 when that has gone.
    pub(crate) ifindex: u32,
}

/// The link that holds `program` on the interface. Needs `CAP_SYS_ADMIN`.
pub(crate) fn find_xdp_link(program: u32, ifindex: u32) -> Result<Option<Link>, i32> {
    let mut id = 0;
    loop {
        let mut attr = [id, 0, 0, 0];
        // SAFETY: the layout is bpf_attr's for BPF_LINK_GET_NEXT_ID: start_id, next_id.
        match unsafe { bpf(BPF_LINK_GET_NEXT_ID, &mut attr) } {
            Ok(_) => id = attr[1],
            Err(libc::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let mut attr = [id, 0, 0, 0];
        // SAFETY: the layout is bpf_attr's for BPF_LINK_GET_FD_BY_ID: an id.
        let Ok(fd) = (unsafe { bpf(BPF_LINK_GET_FD_BY_ID, &mut attr) }) else { continue };
        let link = Link(own(fd));
        if link.info().is_ok_and(|i| i.is_xdp && i.program == program && i.ifindex == ifindex) {
            return Ok(Some(link));
        }
    }
}

/// Name of a loaded program, as far as the caller may ask.
pub(crate) fn program_name(id: u32) -> Option<String> {
    let mut attr = [id, 0, 0, 0];
    // SAFETY: the layout is bpf_attr's for BPF_PROG_GET_FD_BY_ID: an id.
    let fd = own(unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) }.ok()?);
    // struct bpf_prog_info: the name is 16 bytes at offset 64.
    let mut info = [0u32; 20];
    object_info(fd.as_fd(), &mut info).ok()?;
    let name: Vec<u8> = info[16..20].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

fn object_info(fd: BorrowedFd<'_>, info: &mut [u32]) -> Result<(), i32> {
    #[repr(C)]
    struct Info {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut attr = Info {
        fd: fd.as_raw_fd() as u32,
        len: size_of_val(info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the layout is bpf_attr's for BPF_OBJ_GET_INFO_BY_FD; the buffer is as long as said.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(|_| ())
}

/// Loads a program of a few instructions.
#[cfg(test)]
pub(crate) fn load_for_test(insns: &[u64], name: &str) -> Result<OwnedFd, LoadError> {
    load_xdp(insns, c"GPL", name, 0, 0)
}

/// Runs an XDP program on a frame and gives its verdict.
#[cfg(test)]
pub(crate) fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> Result<u32, i32> {
    #[repr(C)]
    #[derive(Default)]
    struct TestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        pad: u32,
    }
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ..TestRun::default()
    };
    // SAFETY: the layout is bpf_attr's for BPF_PROG_TEST_RUN; the frame is as long as said.
    unsafe { bpf(10, &mut attr) }.map(|_| attr.retval)
}
