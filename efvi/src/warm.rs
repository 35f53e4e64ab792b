//! Keeping the send path warm.

use std::fmt;
use std::ptr;

use linerate_efvi_sys::ef_vi_tx_warm_state;

use crate::tx::EfviTx;

/// As much as a CTPIO aperture has, and aligned like one.
#[repr(C, align(4096))]
struct Aperture([u8; 16384]);

/// While this lives, what is sent through it runs the queue's send path up to the doorbell and no
/// further: see [`EfviTx::warm`]. Dropping it makes the queue send again.
pub struct Warming<'a> {
    tx: &'a mut EfviTx,
    saved: Box<ef_vi_tx_warm_state>,
    /// Where CTPIO writes meanwhile.
    _aperture: Box<Aperture>,
}

impl<'a> Warming<'a> {
    pub(crate) fn start(tx: &'a mut EfviTx) -> Option<Self> {
        let mut saved =
            Box::new(ef_vi_tx_warm_state { removed: 0, vi_ctpio_mmap_ptr: ptr::null_mut() });
        let mut aperture = Box::new(Aperture([0; 16384]));
        let dummy = aperture.0.as_mut_ptr().cast();
        // SAFETY: a live VI with nothing unpushed; the state and the dummy aperture stay in
        // place until `drop` ends the warming.
        let started = unsafe { tx.lib.start_transmit_warm(tx.vi, &mut *saved, dummy) };
        started.then_some(Self { tx, saved, _aperture: aperture })
    }

    /// Runs the send path with `frame`, which goes nowhere. `false`: the frame is too long or
    /// there is no buffer for it.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.tx.warm_send(frame)
    }
}

impl Drop for Warming<'_> {
    fn drop(&mut self) {
        // SAFETY: a live VI that is being warmed with this very state.
        unsafe { self.tx.lib.stop_transmit_warm(self.tx.vi, &mut *self.saved) };
    }
}

impl fmt::Debug for Warming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warming").finish_non_exhaustive()
    }
}
