//! Buffers for the card: posted at the start, and again as frames have been shown.

use linerate_common::{MAX_BURST, SetupError};

use super::VerbsRx;

impl VerbsRx {
    /// Buffers, and ready.
    pub(super) fn start(&mut self) -> Result<(), SetupError> {
        self.queue.to_init()?;
        let (refused, posted) = self.top_up();
        if posted == 0 {
            return Err(if refused != 0 {
                SetupError::os("ibv_post_recv", refused)
            } else {
                SetupError::os("ibv_post_recv", libc::ENOMEM)
                    .remedy("give the port a pool with free frames")
            });
        }
        self.queue.to_ready()
    }

    /// Puts fresh buffers into empty places, as far as the pool has any. Gives the card's errno
    /// and how many it took.
    #[cold]
    pub(super) fn top_up(&mut self) -> (i32, usize) {
        let mut taken = 0;
        loop {
            let mut n = 0;
            while n < MAX_BURST && self.seats.has_empty() {
                let Some(id) = self.cache.alloc() else { break };
                // SAFETY: the cache just lent it to us.
                unsafe { self.seats.fill(id) };
                n += 1;
            }
            let before = self.cache.lent();
            let errno = self.post();
            taken += n - (before - self.cache.lent()) as usize;
            if n < MAX_BURST || errno != 0 {
                return (errno, taken);
            }
        }
    }

    /// Posts the list of linked requests with one doorbell; their buffers are lent. Those that the
    /// card does not take go back to the cache.
    #[inline(always)]
    pub(super) fn post(&mut self) -> i32 {
        let Self { seats, queue, cache, .. } = self;
        // SAFETY: a live queue; a list of requests, each of one piece inside registered memory
        // that is lent to the card until its completion.
        let post = |list, bad: &mut _| unsafe { queue.post(list, bad) };
        seats.post(post, |id| _ = cache.free(id))
    }
}
