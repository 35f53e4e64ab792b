//! Ctrl-C, SIGTERM and a closed terminal: the first signal ends the run in order, the second ends
//! the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::failure::Failure;

/// Has the user asked for an end?
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over for the rest of the process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(SIGHUP) {
                continue; // started by nohup: outlive the terminal
            }
            // In this order the first signal finds the flag still down and only raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&asked)))
                .map_err(|e| Failure::new(format!("cannot handle signal {signal}: {e}")))?;
        }
        // A file at its limit (`ulimit -f`) is an error of the write, and no reason to die of.
        flag::register(SIGXFSZ, Arc::default())
            .map_err(|e| Failure::new(format!("cannot handle signal {SIGXFSZ}: {e}")))?;
        Ok(Self(asked))
    }

    /// Was there a signal?
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Was the process started with this signal ignored?
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}
