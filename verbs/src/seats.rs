//! The places of a receive queue: a buffer each, with its request prepared once.
//!
//! A completion names its place. The frame in it is shown, and the same buffer goes back to the
//! card by linking the place's request behind the last one: no request is written anew, and no
//! buffer travels through the pool, unless one was taken out of its place.
//!
//! # Who has a buffer
//!
//! Completions are input: a card or library that is confused must not put one buffer into two
//! hands, or one request into a list twice. So each place carries the *turn* in which its request
//! was last posted, and every posting ends a turn. A completion is believed if its place exists
//! and was posted in an earlier turn. A place that is empty, in a window, or linked in this turn
//! and not posted yet has a turn that never lies in the past.

use std::ptr::{self, NonNull, null_mut};

use linerate_ibverbs_sys as sys;

/// In place of a turn: the card does not have it.
const NOT_POSTED: u64 = u64::MAX;

/// One place, on a cache line of its own: all that a turn of its buffer reads and writes.
#[derive(Debug)]
#[repr(C, align(64))]
struct Seat {
    request: sys::ibv_recv_wr,
    piece: sys::ibv_sge,
    /// The frame in its buffer, behind what the card puts in front of it. Null: no buffer.
    frame: *mut u8,
    turn: u64,
}

const _: () = assert!(size_of::<Seat>() == 64);

/// All places of a queue.
#[derive(Debug)]
pub(crate) struct Seats {
    /// `count` seats, and behind them the head of the list that is being made. The requests point
    /// to pieces and to each other, so all is reached through this pointer and never as a slice.
    first: NonNull<Seat>,
    count: usize,
    /// Last of the list.
    last: NonNull<Seat>,
    turn: u64,
    /// Places without a buffer.
    empty: Vec<u32>,
    /// Where frames begin in the pool's region, how far apart, and in what.
    base: *mut u8,
    frame_bytes: usize,
    write_at: usize,
    prefix: usize,
}

/// A place whose completion was believed: it is ours until it is linked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    seat: NonNull<Seat>,
}

/// Where buffers lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The pool's region, which holds every frame.
    pub(crate) base: *mut u8,
    pub(crate) frame_bytes: usize,
    /// Where in a frame the card begins to write, and how much of that is not the frame's.
    pub(crate) write_at: usize,
    pub(crate) prefix: usize,
    pub(crate) lkey: u32,
}

impl Seats {
    /// `count` empty places.
    pub(crate) fn new(count: u32, layout: Layout) -> Self {
        let seat = |i: u64| Seat {
            request: sys::ibv_recv_wr {
                wr_id: i,
                next: null_mut(),
                sg_list: null_mut(),
                num_sge: 1,
            },
            piece: sys::ibv_sge {
                addr: 0,
                length: (layout.frame_bytes - layout.write_at) as u32,
                lkey: layout.lkey,
            },
            frame: null_mut(),
            turn: NOT_POSTED,
        };
        let all: Box<[Seat]> = (0..=u64::from(count)).map(seat).collect();
        // SAFETY: a box is never null.
        let first = unsafe { NonNull::new_unchecked(Box::into_raw(all).cast::<Seat>()) };
        let count = count as usize;
        for i in 0..count {
            // SAFETY: one of the seats just made.
            unsafe {
                let seat = first.add(i).as_ptr();
                (*seat).request.sg_list = &raw mut (*seat).piece;
            }
        }
        Self {
            first,
            count,
            // SAFETY: the head, one behind the `count` seats.
            last: unsafe { first.add(count) },
            turn: 1,
            empty: (0..count as u32).rev().collect(),
            base: layout.base,
            frame_bytes: layout.frame_bytes,
            write_at: layout.write_at,
            prefix: layout.prefix,
        }
    }

    /// Are there places without a buffer?
    #[inline]
    pub(crate) fn has_empty(&self) -> bool {
        !self.empty.is_empty()
    }

    /// The place that a completion names; `None`: it is not with the card.
    #[inline(always)]
    pub(crate) fn completed(&mut self, wr_id: u64) -> Option<Taken> {
        if wr_id >= self.count as u64 {
            return None;
        }
        // SAFETY: below `count`.
        let seat = unsafe { self.first.add(wr_id as usize) };
        // SAFETY: a seat of ours, which nobody else refers to: a library reads requests only
        // while they are being posted.
        if unsafe { (*seat.as_ptr()).turn } >= self.turn {
            return None;
        }
        Some(Taken { seat })
    }

    /// The frame's first byte in the place's buffer.
    #[inline(always)]
    pub(crate) fn frame(&self, taken: Taken) -> *const u8 {
        // SAFETY: a `Taken` is made of a seat.
        unsafe { (*taken.seat.as_ptr()).frame }
    }

    /// The place is ours until further notice: another completion for it is not believed.
    #[inline(always)]
    pub(crate) fn hold(&mut self, taken: Taken) {
        // SAFETY: as above.
        unsafe { (*taken.seat.as_ptr()).turn = NOT_POSTED }
    }

    /// Puts the place's request at the end of the list.
    #[inline(always)]
    pub(crate) fn link(&mut self, taken: Taken) {
        // SAFETY: seats of ours. A request is in the list once only: linking gives its place
        // this turn, in which no completion for it is believed, and what is held is linked by
        // its one holder.
        unsafe {
            let seat = taken.seat.as_ptr();
            (*self.last.as_ptr()).request.next = &raw mut (*seat).request;
            (*seat).turn = self.turn;
        }
        self.last = taken.seat;
    }

    /// Takes the buffer out of its place: the number of the frame.
    pub(crate) fn vacate(&mut self, taken: Taken) -> Option<u32> {
        // SAFETY: a seat of ours.
        let seat = unsafe { &mut *taken.seat.as_ptr() };
        let frame = std::mem::replace(&mut seat.frame, null_mut());
        seat.turn = NOT_POSTED;
        if frame.is_null() {
            return None;
        }
        self.empty.push(seat.request.wr_id as u32);
        Some(self.id_of(frame))
    }

    /// Has the place a buffer?
    #[inline]
    pub(crate) fn has_buffer(&self, taken: Taken) -> bool {
        !self.frame(taken).is_null()
    }

    /// The frame in whose bytes `frame` lies.
    fn id_of(&self, frame: *const u8) -> u32 {
        ((frame as usize - self.base as usize) / self.frame_bytes) as u32
    }

    /// The frame in the place's buffer.
    pub(crate) fn id(&self, taken: Taken) -> Option<u32> {
        let frame = self.frame(taken);
        (!frame.is_null()).then(|| self.id_of(frame))
    }

    /// Puts frame `id` into an empty place and links that. `false`: no place is empty.
    ///
    /// # Safety
    ///
    /// The frame is one of the pool's and nobody else's.
    pub(crate) unsafe fn fill(&mut self, id: u32) -> bool {
        let Some(place) = self.empty.pop() else { return false };
        let offset = id as usize * self.frame_bytes + self.write_at;
        // SAFETY: places in `empty` are below `count`; the frame lies in the region, by the
        // caller's promise.
        let seat = unsafe {
            let seat = self.first.add(place as usize);
            (*seat.as_ptr()).piece.addr = self.base as u64 + offset as u64;
            (*seat.as_ptr()).frame = self.base.add(offset + self.prefix);
            seat
        };
        self.link(Taken { seat });
        true
    }

    /// Hands the list over by `post`, which gives an errno and, with it, the first request that was
    /// not taken. Buffers of requests that were not taken go to `refused`.
    #[inline(always)]
    pub(crate) fn post(
        &mut self,
        post: impl FnOnce(*mut sys::ibv_recv_wr, &mut *mut sys::ibv_recv_wr) -> i32,
        refused: impl FnMut(u32),
    ) -> i32 {
        // SAFETY: the head is behind the `count` seats.
        let head = unsafe { self.first.add(self.count) };
        if self.last == head {
            return 0;
        }
        // SAFETY: seats of ours, the head among them.
        let list = unsafe {
            (*self.last.as_ptr()).request.next = null_mut();
            (*head.as_ptr()).request.next
        };
        self.last = head;
        let mut bad = null_mut();
        let rc = post(list, &mut bad);
        if rc != 0 {
            self.refused(list, bad, refused);
        }
        self.turn += 1;
        rc.abs()
    }

    /// Of a list that fails, all before the bad one are posted; none, if the bad one is not of it.
    #[cold]
    fn refused(
        &mut self,
        list: *mut sys::ibv_recv_wr,
        bad: *mut sys::ibv_recv_wr,
        mut refused: impl FnMut(u32),
    ) {
        let next = |request: *mut sys::ibv_recv_wr| {
            // SAFETY: requests of the list that was just made, which ends in null.
            (!request.is_null()).then(|| unsafe { (*request).next })
        };
        let all =
            || std::iter::successors(Some(list), move |r| next(*r)).take_while(|r| !r.is_null());
        let from = if all().any(|r| ptr::eq(r, bad)) { bad } else { list };
        let lost: Vec<_> = all().skip_while(|r| !ptr::eq(*r, from)).collect();
        for request in lost {
            // SAFETY: a request is the first field of its seat.
            let seat = unsafe { NonNull::new_unchecked(request.cast::<Seat>()) };
            if let Some(id) = self.vacate(Taken { seat }) {
                refused(id);
            }
        }
    }

    /// The card has let go of all buffers: every place is empty.
    pub(crate) fn clear(&mut self) {
        for i in 0..self.count {
            // SAFETY: below `count`.
            let seat = unsafe { &mut *self.first.add(i).as_ptr() };
            (seat.frame, seat.turn) = (null_mut(), NOT_POSTED);
        }
        self.empty.clear();
        self.empty.extend((0..self.count as u32).rev());
        // SAFETY: the head, one behind the `count` seats.
        self.last = unsafe { self.first.add(self.count) };
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        let all = ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.count + 1);
        // SAFETY: the box of `new`, given back once.
        drop(unsafe { Box::from_raw(all) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region of 8 frames of 2 KiB, and places for 4 of them.
    struct Bench {
        _region: Box<[u8]>,
        seats: Seats,
    }

    fn bench() -> Bench {
        let mut region = vec![0; 8 * 2048].into_boxed_slice();
        let base = region.as_mut_ptr();
        let layout = Layout { base, frame_bytes: 2048, write_at: 64, prefix: 40, lkey: 7 };
        Bench { _region: region, seats: Seats::new(4, layout) }
    }

    impl Bench {
        /// Posts the list and says which places it names; the `nth` request is refused.
        fn post_but(&mut self, nth: Option<usize>) -> (Vec<u64>, Vec<u32>) {
            let (mut posted, mut refused) = (Vec::new(), Vec::new());
            let post = |mut at: *mut sys::ibv_recv_wr, bad: &mut *mut sys::ibv_recv_wr| {
                while !at.is_null() {
                    if nth == Some(posted.len()) {
                        *bad = at;
                        return libc::ENOMEM;
                    }
                    // SAFETY: a list of requests that are not written meanwhile.
                    let request = unsafe { &*at };
                    posted.push(request.wr_id);
                    at = request.next;
                }
                0
            };
            self.seats.post(post, |id| refused.push(id));
            (posted, refused)
        }

        fn post(&mut self) -> Vec<u64> {
            self.post_but(None).0
        }

        /// Fills all places with the frames 4 to 7 and posts them.
        fn full() -> Self {
            let mut bench = bench();
            for id in 4..8 {
                // SAFETY: frames of the region, each once.
                assert!(unsafe { bench.seats.fill(id) });
            }
            assert_eq!(bench.post(), [0, 1, 2, 3]);
            bench
        }
    }

    #[test]
    fn only_what_the_card_has_is_believed() {
        let mut bench = bench();
        assert!(bench.seats.completed(0).is_none(), "an empty place");
        // SAFETY: a frame of the region.
        assert!(unsafe { bench.seats.fill(5) });
        assert!(bench.seats.completed(0).is_none(), "linked and not posted");
        assert_eq!(bench.post(), [0]);
        for wr_id in [1, 4, 5, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            assert!(bench.seats.completed(wr_id).is_none(), "{wr_id}");
        }
        let taken = bench.seats.completed(0).expect("it is posted");
        bench.seats.hold(taken);
        assert!(bench.seats.completed(0).is_none(), "in a window");
        bench.seats.link(taken);
        assert!(bench.seats.completed(0).is_none(), "a second completion in one burst");
        assert_eq!(bench.post(), [0]);
        assert!(bench.seats.completed(0).is_some());
    }

    #[test]
    fn buffers_go_back_in_the_order_of_their_completions() {
        let mut bench = Bench::full();
        for wr_id in [2, 0, 3] {
            let taken = bench.seats.completed(wr_id).unwrap();
            let offset = bench.seats.frame(taken) as usize - bench.seats.base as usize;
            assert_eq!(offset, (4 + wr_id as usize) * 2048 + 104);
            bench.seats.link(taken);
        }
        assert_eq!(bench.post(), [2, 0, 3]);
        assert_eq!(bench.post(), [0_u64; 0], "nothing is linked");
        let taken = bench.seats.completed(1).unwrap();
        bench.seats.link(taken);
        assert_eq!(bench.post(), [1]);
    }

    #[test]
    fn a_place_without_its_buffer_takes_another() {
        let mut bench = Bench::full();
        // SAFETY: the frame is not used.
        assert!(!unsafe { bench.seats.fill(0) }, "no place is empty");
        let taken = bench.seats.completed(1).unwrap();
        assert_eq!(bench.seats.id(taken), Some(5));
        assert_eq!(bench.seats.vacate(taken), Some(5));
        assert_eq!(bench.seats.vacate(taken), None, "it went before");
        assert!(!bench.seats.has_buffer(taken) && bench.seats.has_empty());
        // SAFETY: a frame of the region that nobody has.
        assert!(unsafe { bench.seats.fill(0) });
        assert_eq!(bench.post(), [1]);
        let taken = bench.seats.completed(1).unwrap();
        assert_eq!(bench.seats.id(taken), Some(0));
    }

    #[test]
    fn of_a_list_that_fails_the_rest_comes_back() {
        let mut bench = Bench::full();
        for wr_id in 0..4 {
            let taken = bench.seats.completed(wr_id).unwrap();
            bench.seats.link(taken);
        }
        assert_eq!(bench.post_but(Some(2)), (vec![0, 1], vec![6, 7]));
        assert!(bench.seats.completed(1).is_some() && bench.seats.completed(2).is_none());
        // They are empty and can be filled and posted again.
        for id in [1, 2] {
            // SAFETY: frames of the region that nobody has.
            assert!(unsafe { bench.seats.fill(id) });
        }
        assert_eq!(bench.post().len(), 2);
        assert!(bench.seats.completed(2).is_some() && bench.seats.completed(3).is_some());
    }

    #[test]
    fn after_a_reset_every_place_is_empty() {
        let mut bench = Bench::full();
        let taken = bench.seats.completed(3).unwrap();
        bench.seats.link(taken);
        bench.seats.clear();
        assert_eq!(bench.post(), [0_u64; 0], "the list is forgotten");
        assert!((0..4).all(|i| bench.seats.completed(i).is_none()));
        for id in 0..4 {
            // SAFETY: frames of the region, each once.
            assert!(unsafe { bench.seats.fill(id) });
        }
        assert_eq!(bench.post(), [0, 1, 2, 3]);
    }
}
