//! Programs for the kernel, written out: their instructions, maps of one element, and how both are
//! loaded.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const PROG_LOAD: u32 = 5;
const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_XDP: u32 = 6;
pub(super) const ATTACH_XDP: u32 = 37;

/// One instruction: operation, registers, offset, immediate.
pub(super) const fn op(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

pub(super) const fn mov(dst: u8, src: u8) -> u64 {
    op(0xbf, dst, src, 0, 0)
}
pub(super) const fn set(dst: u8, imm: i32) -> u64 {
    op(0xb7, dst, 0, 0, imm)
}
pub(super) const fn add(dst: u8, imm: i32) -> u64 {
    op(0x07, dst, 0, 0, imm)
}
pub(super) const fn load64(dst: u8, src: u8, off: i16) -> u64 {
    op(0x79, dst, src, off, 0)
}
pub(super) const fn load32(dst: u8, src: u8, off: i16) -> u64 {
    op(0x61, dst, src, off, 0)
}
pub(super) const fn store64(dst: u8, off: i16, src: u8) -> u64 {
    op(0x7b, dst, src, off, 0)
}
pub(super) const fn call(helper: i32) -> u64 {
    op(0x85, 0, 0, 0, helper)
}
pub(super) const fn shift_left(dst: u8, imm: i32) -> u64 {
    op(0x67, dst, 0, 0, imm)
}
pub(super) const fn store16(dst: u8, off: i16, src: u8) -> u64 {
    op(0x6b, dst, src, off, 0)
}
pub(super) const EXIT: u64 = op(0x95, 0, 0, 0, 0);
pub(super) const LOOKUP: i32 = 1;
pub(super) const KTIME: i32 = 5;
pub(super) const REDIRECT: i32 = 23;
pub(super) const ADJUST_TAIL: i32 = 65;

/// `bpf(2)` with the attributes laid out by the caller.
///
/// # Safety
///
/// `attr` is laid out as the kernel's `union bpf_attr` for `command`, and the pointers in it are
/// valid for what the command does.
pub(super) unsafe fn bpf<T>(command: u32, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the caller vouches for the attributes; the size is theirs.
    let rc = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>() as u32)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as RawFd) }
}

pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: only called with the new descriptor that a command has just returned.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// An array of one element of `N` words.
#[derive(Debug)]
pub(super) struct Cell<const N: usize>(OwnedFd);

impl<const N: usize> Cell<N> {
    pub(super) fn new() -> io::Result<Self> {
        let mut attr = [MAP_TYPE_ARRAY, 4, 8 * N as u32, 1];
        // SAFETY: type, key size, value size and entries, as BPF_MAP_CREATE wants them.
        Ok(Self(own(unsafe { bpf(MAP_CREATE, &mut attr) }?)))
    }

    fn element(&self, command: u32, value: &mut [u64; N]) -> io::Result<()> {
        let key = 0u32;
        let mut attr = [
            self.0.as_raw_fd() as u64,
            std::ptr::from_ref(&key) as u64,
            value.as_mut_ptr() as u64,
            0,
        ];
        // SAFETY: descriptor, key and value, as the element commands want them; both live until
        // the call returns and have the map's sizes.
        unsafe { bpf(command, &mut attr) }.map(drop)
    }

    pub(super) fn get(&self) -> io::Result<[u64; N]> {
        let mut value = [0; N];
        self.element(MAP_LOOKUP_ELEM, &mut value)?;
        Ok(value)
    }

    pub(super) fn set(&self, mut value: [u64; N]) -> io::Result<()> {
        self.element(MAP_UPDATE_ELEM, &mut value)
    }

    /// Loads the cell's address into r0, or ends the program with `verdict`. Uses r1 to r5.
    pub(super) fn lookup(&self, verdict: i32) -> [u64; 9] {
        [
            op(0x62, 10, 0, -4, 0),
            op(0x18, 1, 1, 0, self.0.as_raw_fd()),
            0,
            mov(2, 10),
            add(2, -4),
            call(LOOKUP),
            op(0x55, 0, 0, 2, 0),
            set(0, verdict),
            EXIT,
        ]
    }
}

pub(super) fn load(program: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
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
    let mut log = vec![0u8; 1 << 16];
    let mut attr = Attr {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log_buf: log.as_mut_ptr() as u64,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"linerate_bench\0\0",
        prog_ifindex: 0,
        expected_attach_type: ATTACH_XDP,
    };
    // SAFETY: the layout is BPF_PROG_LOAD's; program, licence and log outlive the call.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(own).map_err(|e| {
        let text = String::from_utf8_lossy(&log);
        let text = text.trim_end_matches('\0').trim_end();
        io::Error::new(e.kind(), format!("{e}: {}", text.lines().last().unwrap_or_default()))
    })
}
