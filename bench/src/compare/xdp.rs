//! Frames made and counted in the kernel.
//!
//! A program in user space sends less than a million frames a second over a veth pair, and then all
//! receivers look alike. The kernel's test runs with live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`)
//! push several millions through a program that redirects them into the pair, and at the far end
//! a program that drops them counts faster than any reader.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;
const LINK_CREATE: u32 = 28;

const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const LIVE_FRAMES: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where a frame carries its number: behind Ethernet, IPv4 and UDP.
pub const NUMBER_AT: usize = 42;

/// Lengths of the mix, without check sequence: 7 : 4 : 1 of 64, 594 and 1518 bytes with it.
pub const IMIX: [(u32, usize); 3] = [(7, 60), (4, 590), (1, 1514)];

/// One instruction: operation, registers, offset, immediate.
const fn op(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

const fn mov(dst: u8, src: u8) -> u64 {
    op(0xbf, dst, src, 0, 0)
}
const fn set(dst: u8, imm: i32) -> u64 {
    op(0xb7, dst, 0, 0, imm)
}
const fn add(dst: u8, imm: i32) -> u64 {
    op(0x07, dst, 0, 0, imm)
}
const fn load64(dst: u8, src: u8, off: i16) -> u64 {
    op(0x79, dst, src, off, 0)
}
const fn load32(dst: u8, src: u8, off: i16) -> u64 {
    op(0x61, dst, src, off, 0)
}
const fn store64(dst: u8, off: i16, src: u8) -> u64 {
    op(0x7b, dst, src, off, 0)
}
const fn call(helper: i32) -> u64 {
    op(0x85, 0, 0, 0, helper)
}
const fn shift_left(dst: u8, imm: i32) -> u64 {
    op(0x67, dst, 0, 0, imm)
}
const fn store16(dst: u8, off: i16, src: u8) -> u64 {
    op(0x6b, dst, src, off, 0)
}
const EXIT: u64 = op(0x95, 0, 0, 0, 0);
const LOOKUP: i32 = 1;
const KTIME: i32 = 5;
const REDIRECT: i32 = 23;
const ADJUST_TAIL: i32 = 65;

/// `bpf(2)` with the attributes laid out by the caller.
///
/// # Safety
///
/// `attr` is laid out as the kernel's `union bpf_attr` for `command`, and the pointers in it are
/// valid for what the command does.
unsafe fn bpf<T>(command: u32, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the caller vouches for the attributes; the size is theirs.
    let rc = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>() as u32)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as RawFd) }
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: only called with the new descriptor that a command has just returned.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// An array of one element of `N` words.
#[derive(Debug)]
struct Cell<const N: usize>(OwnedFd);

impl<const N: usize> Cell<N> {
    fn new() -> io::Result<Self> {
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

    fn get(&self) -> io::Result<[u64; N]> {
        let mut value = [0; N];
        self.element(MAP_LOOKUP_ELEM, &mut value)?;
        Ok(value)
    }

    fn set(&self, mut value: [u64; N]) -> io::Result<()> {
        self.element(MAP_UPDATE_ELEM, &mut value)
    }

    /// Loads the cell's address into r0, or ends the program with `verdict`. Uses r1 to r5.
    fn lookup(&self, verdict: i32) -> [u64; 9] {
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

fn load(program: &[u64]) -> io::Result<OwnedFd> {
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

/// What changes in the headers of a UDP frame that is cut to `bytes`: length and checksum in IP's,
/// length in UDP's, as they lie in memory.
fn lengths_of(frame: &[u8], bytes: usize) -> [u16; 3] {
    let mut ip = [0; 20];
    ip.copy_from_slice(&frame[14..34]);
    let length = (bytes - 14) as u16;
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    ip[10..12].fill(0);
    let sum = linerate_common::packet::internet_checksum(&ip);
    [length, sum, length - 20].map(u16::to_be)
}

/// The index of an interface in the calling thread's namespace.
///
/// # Errors
///
/// There is no such interface.
pub fn index_of(interface: &str) -> io::Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: a string that ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Drops every frame that an interface receives, and counts them. Ends when dropped.
#[derive(Debug)]
pub struct Counter {
    cell: Cell<2>,
    _link: OwnedFd,
}

impl Counter {
    /// On an interface of the calling thread's namespace. One receive queue only: nothing is
    /// added atomically.
    ///
    /// # Errors
    ///
    /// The kernel refuses the program, or has one there already.
    pub fn attach(interface: &str) -> io::Result<Self> {
        const DROP: i32 = 1;
        let cell = Cell::new()?;
        let mut program: Vec<u64> = vec![mov(6, 1)];
        program.extend(cell.lookup(DROP));
        program.extend([
            load64(1, 0, 0),
            add(1, 1),
            store64(0, 0, 1),
            // Bytes: data_end - data.
            load32(2, 6, 4),
            load32(3, 6, 0),
            op(0x1f, 2, 3, 0, 0),
            load64(1, 0, 8),
            op(0x0f, 1, 2, 0, 0),
            store64(0, 8, 1),
            set(0, DROP),
            EXIT,
        ]);
        let program = load(&program)?;
        let mut attr =
            [program.as_raw_fd() as u32, index_of(interface)?, ATTACH_XDP, XDP_FLAGS_DRV_MODE];
        // SAFETY: program, interface, type and flags, as BPF_LINK_CREATE wants them.
        let link = own(unsafe { bpf(LINK_CREATE, &mut attr) }?);
        Ok(Self { cell, _link: link })
    }

    /// Frames and bytes so far.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read the map; it has no reason to.
    pub fn read(&self) -> io::Result<(u64, u64)> {
        self.cell.get().map(|[frames, bytes]| (frames, bytes))
    }
}

/// Bytes of frames, without check sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// All alike.
    Each(usize),
    /// [`IMIX`].
    Mix,
}

/// What a generator has sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Frames given to the interface.
    pub frames: u64,
    /// Frames a second, between the first and (nearly) the last.
    pub rate: f64,
    /// Time from the first to the last frame, in seconds.
    pub seconds: f64,
}

/// Frames of a paced generator that may follow one another at once.
pub const CATCH_UP: i32 = 128;

/// A program that numbers the frames of a test run and redirects them into an interface.
#[derive(Debug)]
pub struct Generator {
    /// Frames so far, time of the first, time of a late one, number of that one, and when the next
    /// is due, in 256ths of a ns.
    cell: Cell<5>,
    program: OwnedFd,
    frame: Vec<u8>,
}

impl Generator {
    /// Sends copies of `frame` into `interface`. With [`Bytes::Mix`] it must be as long as the
    /// longest of the mix. `pps`: not more than so many a second; what was missed for want of the
    /// CPU is made up for by at most [`CATCH_UP`] frames.
    ///
    /// # Errors
    ///
    /// No such interface, or the kernel refuses the program.
    pub fn new(
        interface: &str,
        frame: Vec<u8>,
        bytes: Bytes,
        pps: Option<f64>,
    ) -> io::Result<Self> {
        const ABORTED: i32 = 0;
        let cell = Cell::new()?;
        // r6: context, r7: cell, r8: number of the frame.
        let mut program = vec![mov(6, 1)];
        program.extend(cell.lookup(ABORTED));
        program.push(mov(7, 0));
        if let Some(pps) = pps {
            const DROP: i32 = 1;
            let gap = (256e9 / pps).clamp(1.0, 256e6) as i32;
            program.extend([
                call(KTIME),
                shift_left(0, 8),
                load64(1, 7, 32),
                // Due? Otherwise the frame is none.
                op(0xbd, 1, 0, 2, 0),
                set(0, DROP),
                EXIT,
                mov(2, 0),
                add(2, -gap.saturating_mul(CATCH_UP)),
                add(1, gap),
                op(0x3d, 1, 2, 1, 0),
                mov(1, 2),
                store64(7, 32, 1),
            ]);
        }
        program.extend([load64(8, 7, 0), mov(1, 8), add(1, 1), store64(7, 0, 1)]);
        // The clock costs more than the rest: read every 4096th frame.
        program.extend([
            mov(1, 8),
            op(0x57, 1, 0, 0, 0xfff),
            op(0x55, 1, 0, 5, 0),
            call(KTIME),
            op(0x55, 8, 0, 1, 0),
            store64(7, 8, 0),
            store64(7, 16, 0),
            store64(7, 24, 8),
        ]);
        if bytes == Bytes::Mix {
            let [(a, short), (b, middle), (c, long)] = IMIX;
            // As the kernel's IP and UDP see to it that lengths are true: what to take off the
            // frame in r2, length and checksum of IP in r4 and r5, length of UDP in r9.
            let lengths = |bytes: usize| {
                let [length, sum, udp] = lengths_of(&frame, bytes).map(i32::from);
                [set(2, bytes as i32 - long as i32), set(4, length), set(5, sum), set(9, udp)]
            };
            program.extend([mov(3, 8), op(0x97, 3, 0, 0, (a + b + c) as i32)]);
            program.extend(lengths(short));
            program.push(op(0xa5, 3, 0, 9, a as i32));
            program.extend(lengths(middle));
            program.push(op(0xa5, 3, 0, 4, (a + b) as i32));
            program.extend(lengths(long));
            program.extend([
                load32(0, 6, 4),
                load32(1, 6, 0),
                mov(3, 1),
                add(3, NUMBER_AT as i32),
                op(0x2d, 3, 0, 3, 0),
                store16(1, 16, 4),
                store16(1, 24, 5),
                store16(1, 38, 9),
                mov(1, 6),
                call(ADJUST_TAIL),
            ]);
        }
        program.extend([
            load32(3, 6, 0),
            load32(4, 6, 4),
            mov(5, 3),
            add(5, NUMBER_AT as i32 + 8),
            op(0x2d, 5, 4, 1, 0),
            store64(3, NUMBER_AT as i16, 8),
            set(1, index_of(interface)? as i32),
            set(2, 0),
            call(REDIRECT),
            EXIT,
        ]);
        let program = load(&program)?;
        Ok(Self { cell, program, frame })
    }

    /// Sends as fast as the kernel can, until a signal comes.
    ///
    /// # Errors
    ///
    /// The kernel cannot do live frames (it can from Linux 5.18).
    pub fn run(&self) -> io::Result<Sent> {
        #[repr(C)]
        struct Attr {
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
            rest: u32,
        }
        self.cell.set([0; 5])?;
        let bytes = self.frame.len() as u32;
        let context: [u32; 6] = [0, bytes, 0, 0, 0, 0];
        let mut attr = Attr {
            prog_fd: self.program.as_raw_fd() as u32,
            retval: 0,
            data_size_in: bytes,
            data_size_out: 0,
            data_in: self.frame.as_ptr() as u64,
            data_out: 0,
            // Beginning and ending a run takes tens of ms: one run, ended by a signal.
            repeat: i32::MAX as u32,
            duration: 0,
            ctx_size_in: size_of_val(&context) as u32,
            ctx_size_out: 0,
            ctx_in: context.as_ptr() as u64,
            ctx_out: 0,
            flags: LIVE_FRAMES,
            cpu: 0,
            batch_size: 64,
            rest: 0,
        };
        // SAFETY: the layout is BPF_PROG_TEST_RUN's; frame and context outlive the call and are
        // as long as said.
        match unsafe { bpf(PROG_TEST_RUN, &mut attr) } {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        let [frames, first, late, number, _] = self.cell.get()?;
        let rate = number as f64 * 1e9 / late.saturating_sub(first).max(1) as f64;
        Ok(Sent { frames, rate, seconds: frames as f64 / rate.max(1.0) })
    }
}
