//! What the loops have in common: they say `ready`, run until SIGTERM, and print what they did, as
//! our own do.

#![allow(dead_code, reason = "each program uses a part of it")]

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// The time stamp counter.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 has this instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Turns are sorted by their ticks a frame, in halves of one.
const PLACES: usize = 1 << 14;

/// Time of those turns that did something.
pub struct Meter {
    start: (Instant, u64),
    costs: Box<[u64; PLACES]>,
    ticks: u64,
    turns: u64,
    frames: u64,
    words: u64,
}

impl Meter {
    pub fn start() -> Self {
        // SAFETY: the handler only stores to an atomic.
        unsafe {
            libc::signal(libc::SIGTERM, on_signal as extern "C" fn(libc::c_int) as usize);
            libc::signal(libc::SIGALRM, on_signal as extern "C" fn(libc::c_int) as usize);
            libc::alarm(120);
        }
        let costs = Box::new([0; PLACES]);
        println!("ready");
        Self { start: (Instant::now(), ticks()), costs, ticks: 0, turns: 0, frames: 0, words: 0 }
    }

    #[inline(always)]
    pub fn goes_on(&self) -> bool {
        !STOP.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn turn(&mut self, start: u64, frames: usize) {
        if frames > 0 {
            let took = ticks() - start;
            let halves = took * 2 / frames as u64;
            self.costs[(halves as usize).min(PLACES - 1)] += frames as u64;
            self.ticks += took;
            self.turns += 1;
            self.frames += frames as u64;
        }
    }

    /// Length and first word.
    #[inline(always)]
    pub fn see(&mut self, frame: &[u8]) {
        if let Some(word) = frame.first_chunk::<8>() {
            self.words = self.words.wrapping_add(u64::from_ne_bytes(*word));
        }
        self.words = self.words.wrapping_add(frame.len() as u64);
    }

    pub fn report(&self) {
        let (instant, tick) = self.start;
        let ns = instant.elapsed().as_nanos() as f64 / ticks().wrapping_sub(tick) as f64;
        let mut below = 0;
        let middle = self.costs.iter().position(|n| {
            below += n;
            below * 2 > self.frames
        });
        let middle = middle.map_or(0.0, |halves| (halves as f64 + 0.5) / 2.0 * ns);
        let mean = self.ticks as f64 * ns / self.frames.max(1) as f64;
        println!("frames={} turns={} words={}", self.frames, self.turns, self.words);
        println!("frame_ns={middle:.2} mean_ns={mean:.2}");
    }
}

pub fn index_of(interface: &str) -> u32 {
    let name = CString::new(interface).expect("a name");
    // SAFETY: a string that ends in NUL.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Lengths of the frames to send, one after another.
pub fn lengths(word: &str) -> Vec<usize> {
    match word {
        "imix" => (0..12).map(|i| [60, 590, 1514][(i >= 7) as usize + (i >= 11) as usize]).collect(),
        number => vec![number.parse().expect("BYTES or imix")],
    }
}

/// The frame that the C loops send too.
pub fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0x10, 2, 2, 0, 0, 0, 0x10, 1]);
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame
}

fn bpf(command: i32, attr: &mut [u32; 32]) -> i32 {
    // SAFETY: the callers below lay the attributes out as the kernel wants them, and what they
    // point to outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    assert!(rc >= 0, "bpf command {command}: {}", std::io::Error::last_os_error());
    rc as i32
}

fn pointer(to: *const impl Sized) -> [u32; 2] {
    [to as u64 as u32, (to as u64 >> 32) as u32]
}

/// Redirects what queue 0 of an interface receives to a socket, in native mode. Until the end of
/// the process.
pub fn attach(interface: &str, socket: i32) {
    let attr = |words: &[u32]| {
        let mut all = [0; 32];
        all[..words.len()].copy_from_slice(words);
        all
    };
    let map = bpf(0, &mut attr(&[17, 4, 4, 1])) as u32;
    let (key, value) = (0u32, socket);
    let ([k0, k1], [v0, v1]) = (pointer(&key), pointer(&value));
    bpf(2, &mut attr(&[map, 0, k0, k1, v0, v1]));
    // r2 = the queue; r1 = the map; r3 = XDP_PASS; call bpf_redirect_map; exit
    let program: [u64; 6] = [
        0x10_1261,
        u64::from(map) << 32 | 0x1118,
        0,
        2 << 32 | 0x3b7,
        51 << 32 | 0x85,
        0x95,
    ];
    let ([p0, p1], [l0, l1]) = (pointer(program.as_ptr()), pointer(c"GPL".as_ptr()));
    let mut load = attr(&[6, program.len() as u32, p0, p1, l0, l1]);
    load[17] = 37;
    let program = bpf(5, &mut load) as u32;
    bpf(28, &mut attr(&[program, index_of(interface), 37, 4]));
}
