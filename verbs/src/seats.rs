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
