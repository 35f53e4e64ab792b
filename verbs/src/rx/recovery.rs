//! What can go wrong with a receive queue, and its way back to work.

use linerate_common::{Error, ErrorKind};
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

    pub(super) fn discard_completions(&mut self) -> Result<(), Error> {
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
}
