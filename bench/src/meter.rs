//! How the measured loops count their work and say what they did.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGALRM, SIGTERM};

/// Turns are sorted by their ticks a frame, in halves of one, up to 8192.
const PLACES: usize = 1 << 14;

/// Time of those turns of a loop that did something, by the CPU's counter.
#[derive(Debug)]
pub struct Meter {
    stop: Arc<AtomicBool>,
    start: (Instant, u64),
    /// Frames of the turns that did something, by what each cost.
    costs: Box<[u64; PLACES]>,
    /// Of the turns that did something.
    ticks: u64,
    turns: u64,
    frames: u64,
}

/// The time stamp counter. Where there is none, ns.
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has this instruction, and user space may use it on Linux.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    linerate_common::clock::now_ns()
}

impl Meter {
    /// Says `ready`, and starts. SIGTERM ends it; so do two minutes.
    ///
    /// # Errors
    ///
    /// The signals cannot be taken over.
    pub fn start() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGALRM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        // SAFETY: no preconditions; the signal is handled.
        unsafe { libc::alarm(120) };
        let costs = Box::new([0; PLACES]);
        println!("ready");
        Ok(Self { stop, start: (Instant::now(), ticks()), costs, ticks: 0, turns: 0, frames: 0 })
    }

    /// Is there more to do?
    #[inline(always)]
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A turn which began at `start` and moved so many frames.
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

    /// Says what was done, and what a frame cost: the one in the middle, and the mean. Interrupts, and
    /// a host that runs something else on the CPU, fall on few turns and make those long; the mean
    /// has them, and is for comparison with programs that tell nothing else.
    pub fn report(&self) {
        let (instant, tick) = self.start;
        let ns = instant.elapsed().as_nanos() as f64 / ticks().wrapping_sub(tick) as f64;
        let (frames, turns) = (self.frames, self.turns);
        let mut below = 0;
        let middle = self.costs.iter().position(|n| {
            below += n;
            below * 2 > frames
        });
        let middle = middle.map_or(0.0, |halves| (halves as f64 + 0.5) / 2.0 * ns);
        let mean = self.ticks as f64 * ns / frames.max(1) as f64;
        println!("frames={frames} turns={turns} frame_ns={middle:.2} mean_ns={mean:.2}");
    }
}
