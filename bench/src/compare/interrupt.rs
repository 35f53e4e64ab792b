//! Ctrl-C: the run ends in order, and cleans up.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The error of what was interrupted.
pub const WORD: &str = "interrupted";

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Takes the signals over.
///
/// # Errors
///
/// The system refuses.
pub fn install() -> io::Result<()> {
    let flag = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Was there a signal?
#[must_use]
pub fn asked() -> bool {
    ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
