//! What can go wrong with a receive queue, and its way back to work.

use linerate_common::{Error, ErrorKind, FrameRx, SetupError};
use linerate_ibverbs_sys as sys;

use super::VerbsRx;

impl VerbsRx {
    /// A completion that is of no frame: one that failed, which stops the queue, one of an
    /// impossible length, and one for a buffer that is not posted.
    #[cold]
    pub(super) fn unusable(&mut self, wr_id: u64, status: u32) {
        let lost = Some(Error::new(ErrorKind::QueueLost, "ibv_poll_cq"));
        let Some(taken) = self.seats.completed(wr_id) else {
            // Or the second for one that was: the card or its library is confused.
            self.failed = lost;
            return;
        };
        if let Some(id) = self.seats.vacate(taken) {
            self.cache.free(id);
        }
        match status {
            sys::IBV_WC_LOC_LEN_ERR => self.stats.truncated += 1,
            sys::IBV_WC_WR_FLUSH_ERR => {}
            _ => self.stats.malformed += 1,
        }
        if status != sys::IBV_WC_SUCCESS {
            self.failed = lost;
        }
    }

    /// What the last burst met.
    #[cold]
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.failed.take().map_or(Ok(()), |error| self.recover_or_tell(error))
    }

    /// Nothing was there: what else may have happened?
    #[inline(always)]
    pub(super) fn nothing(&mut self) -> Result<(), Error> {
        if self.failed.is_some() {
            return Ok(()); // told, or mended, by the next call
        }
        if self.seats.has_empty() {
            self.top_up(); // the pool was dry before
        }
        if self.watch.is_quiet() { Ok(()) } else { self.trouble() }
    }

    /// Puts a queue that fell into the error state back to work: RESET, fresh buffers, ready.
    /// Frames that had arrived and were not read are lost (`ring_lapped`), and so are those that
    /// come meanwhile (the card counts them).
    ///
    /// With [`Options::recover`](crate::Options::recover) (the default) the queue does this by
    /// itself.
    ///
    /// # Errors
    ///
    /// The card refuses: open the port anew.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.release();
        let lost = |_: SetupError| Error::new(ErrorKind::QueueLost, "ibv_modify_qp");
        // In ERR nothing new is received; the providers throw away what is left in the
        // completion queue at RESET, so it is counted before.
        self.queue.to_error().map_err(lost)?;
        self.discard_completions()?;
        self.queue.to_reset().map_err(lost)?;
        self.discard_completions()?;
        self.watch.recovered();
        // In RESET the card has let go of every buffer, completed or not.
        self.cache.reclaim();
        self.seats.clear();
        self.failed = None;
        self.start().map_err(lost)
    }

    fn discard_completions(&mut self) -> Result<(), Error> {
        loop {
            let n = self.queue.cq().poll(&mut self.done[..])?;
            for done in &self.done[..n] {
                match done.status {
                    sys::IBV_WC_SUCCESS => self.stats.ring_lapped += 1,
                    sys::IBV_WC_LOC_LEN_ERR => self.stats.truncated += 1,
                    sys::IBV_WC_WR_FLUSH_ERR => {}
                    _ => self.stats.malformed += 1,
                }
            }
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// What to do about a queue that fell into the error state.
    #[cold]
    fn recover_or_tell(&mut self, error: Error) -> Result<(), Error> {
        self.watch.drain();
        match self.watch.error() {
            Err(e) if e.kind != ErrorKind::LinkDown => return Err(e),
            _ => {}
        }
        if self.recover_by_itself {
            self.recover()
        } else {
            self.failed = Some(error);
            Err(error)
        }
    }

    /// An event was noted: reads the rest, and acts.
    #[cold]
    fn trouble(&mut self) -> Result<(), Error> {
        self.watch.drain();
        if self.watch.failed() {
            self.recover_or_tell(Error::new(ErrorKind::QueueLost, "ibv_get_async_event"))?;
        }
        self.watch.error()
    }
}
