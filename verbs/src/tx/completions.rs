//! Completions: slots and frames come back, stamps are shown.

use std::ops::ControlFlow;

use linerate_common::{Error, MAX_BURST, NO_TS, RxFlags, TxStamp};
use linerate_ibverbs_sys as sys;

use super::VerbsTx;
use crate::cq::Completion;

/// Who wants to see stamps, if anybody does.
pub(super) type Show<'a> = Option<&'a mut dyn FnMut(TxStamp)>;

impl VerbsTx {
    /// Takes back the frames up to and including the request numbered by `done`, and shows each
    /// with its stamp.
    #[inline(always)]
    pub(super) fn complete(&mut self, done: Completion, show: &mut Show<'_>) -> usize {
        let last = done.wr_id;
        if last.wrapping_sub(self.head) >= self.posted - self.head {
            return 0; // not a number of ours that is in flight
        }
        let failed = done.status != sys::IBV_WC_SUCCESS;
        let n = last + 1 - self.head;
        self.stats.completed += n;
        self.stats.failed += u64::from(failed);
        match show {
            None => self.take_back(n as usize),
            Some(show) => {
                while self.head <= last {
                    let number = self.head;
                    let id = *self.in_flight(number);
                    self.give_back(id);
                    // Before it is shown: a handler that panics does not see it again.
                    self.head += 1;
                    let stamped = number == last && !failed;
                    let (ts_ns, flags) =
                        if stamped { self.stamp(done.stamp) } else { (NO_TS, RxFlags::NONE) };
                    show(TxStamp { seq: self.seq(number), ts_ns, flags });
                }
            }
        }
        if self.shifts.len() > 1 {
            self.forget_shifts();
        }
        self.set_limit();
        n as usize
    }

    /// Takes back the frames of the oldest `n` requests.
    #[inline(always)]
    fn take_back(&mut self, n: usize) {
        let first = self.head as usize & (self.in_flight.len() - 1);
        self.head += n as u64;
        let all = self.in_flight.get(first..first + n);
        match all.filter(|all| all.len() <= self.spare.capacity() - self.spare.len()) {
            Some(all) => self.spare.extend_from_slice(all),
            None => self.take_back_singly(n as u64),
        }
    }

    /// The same around the ring's end, or when there are more spare frames than are kept.
    #[cold]
    fn take_back_singly(&mut self, n: u64) {
        for number in self.head - n..self.head {
            let id = *self.in_flight(number);
            self.give_back(id);
        }
    }

    #[cold]
    fn stamp(&mut self, raw: u64) -> (u64, RxFlags) {
        self.clock.utc_at(raw, self.qp.context())
    }

    /// Reads all completions. The second value says whether one was an error.
    #[inline(always)]
    pub(super) fn collect(&mut self, show: &mut Show<'_>) -> (usize, bool) {
        let (mut freed, mut error) = (0, false);
        let read = match &self.reader {
            // SAFETY: the queue holds its completion queue, and owns it.
            Some(reader) => match unsafe { reader.begin() } {
                Ok(None) => Ok(()),
                Ok(Some(reading)) => {
                    reading.each_sent(|done| {
                        error |= done.status != sys::IBV_WC_SUCCESS;
                        freed += self.complete(done, show);
                        ControlFlow::Continue(())
                    });
                    Ok(())
                }
                Err(e) => Err(e),
            },
            None => self.collect_basic(&mut freed, &mut error, show),
        };
        if let Err(e) = read {
            self.broken = Some(e);
            error = false;
        }
        (freed, error)
    }

    /// The same from a completion queue of the basic kind.
    #[cold]
    fn collect_basic(
        &mut self,
        freed: &mut usize,
        error: &mut bool,
        show: &mut Show<'_>,
    ) -> Result<(), Error> {
        loop {
            let n = self.qp.cq().poll(&mut self.done[..])?;
            for i in 0..n {
                let done = self.done[i];
                *error |= done.status != sys::IBV_WC_SUCCESS;
                *freed += self.complete(done, show);
            }
            if n < MAX_BURST {
                return Ok(());
            }
        }
    }

    #[inline(always)]
    pub(super) fn reap_and_show(&mut self, mut show: Show<'_>) -> usize {
        let (freed, error) = self.collect(&mut show);
        if error { freed + self.mend(&mut show) } else { freed }
    }
}
