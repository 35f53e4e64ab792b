//! Frames made and counted in the kernel.
//!
//! A program in user space sends less than a million frames a second over a veth pair, and then all
//! receivers look alike. The kernel's test runs with live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`)
//! push several millions through a program that redirects them into the pair, and at the far end
//! a program that drops them counts faster than any reader.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::bpf::{
    ADJUST_TAIL, ATTACH_XDP, Cell, EXIT, KTIME, REDIRECT, add, bpf, call, load, load32, load64,
    mov, op, own, set, shift_left, store16, store64,
};

const PROG_TEST_RUN: u32 = 10;
const LINK_CREATE: u32 = 28;
const LIVE_FRAMES: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where a frame carries its number: behind Ethernet, IPv4 and UDP.
pub const NUMBER_AT: usize = 42;

/// Lengths of the mix, without check sequence: 7 : 4 : 1 of 64, 594 and 1518 bytes with it.
pub const IMIX: [(u32, usize); 3] = [(7, 60), (4, 590), (1, 1514)];

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
