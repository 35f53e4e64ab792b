//! Back to work after an error completion.

use linerate_common::{Error, ErrorKind, SetupError};
use linerate_ibverbs_sys as sys;

use super::VerbsTx;
use super::completions::Show;
use crate::cq::Completion;

impl VerbsTx {
    /// After an error completion: back to work, or the error for the next kick.
    #[cold]
    pub(super) fn mend(&mut self, show: &mut Show<'_>) -> usize {
        self.watch.drain();
        let error = match self.watch.error() {
            Err(e) if e.kind != ErrorKind::LinkDown => e,
            _ if !self.recover_by_itself => Error::new(ErrorKind::QueueLost, "ibv_poll_cq"),
            _ => match self.reset(show) {
                Ok(freed) => return freed,
                Err(e) => e,
            },
        };
        self.broken = Some(error);
        0
    }

    /// RESET, ready. What was in flight and has not completed counts as failed.
    fn reset(&mut self, show: &mut Show<'_>) -> Result<usize, Error> {
        let lost = |_: SetupError| Error::new(ErrorKind::QueueLost, "ibv_modify_qp");
        // What has completed by now is told apart from what has not.
        let (mut freed, _) = self.collect(show);
        self.qp.to_reset().map_err(lost)?;
        while self.qp.cq().poll(&mut self.done[..])? > 0 {}
        while self.head < self.posted {
            let flushed = Completion {
                wr_id: self.head,
                status: sys::IBV_WC_WR_FLUSH_ERR,
                ..Completion::default()
            };
            freed += self.complete(flushed, show);
        }
        self.watch.recovered();
        self.qp.to_init().and_then(|()| self.qp.to_ready()).map_err(lost)?;
        self.broken = None;
        Ok(freed)
    }

    /// Brings the queue pair back from the error state: RESET, ready. What was in flight counts
    /// as failed; what was committed and not kicked is still there.
    ///
    /// # Errors
    ///
    /// The card refuses: open the port anew.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.reset(&mut None).map(|_| ())
    }
}
