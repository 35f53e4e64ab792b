//! The loops over a burst: what every frame costs, and what few frames cost.
//!
//! # Frames in their places
//!
//! The kernel hands frames back in the order in which they were lent, and a queue has as many lent
//! as the fill ring has slots. So the slot in which a frame is to be lent again names that frame
//! already: there is nothing to write, and to compare the descriptor with it shows that the frame
//! is one of ours, without a look at its bit. The fill ring's cache lines then stay with both CPUs.
//!
//! What the comparison is worth depends on the slots: each must name a frame that is lent. Only we
//! write them, and only with such frames; a frame that the application takes ends that, until all
//! slots were written again ([`XdpRx::settled`](super::XdpRx)). Frames in any other order
//! are no error, and go through [`run`].

use std::ptr::NonNull;

use linerate_common::{RxFrame, RxMeta};

use crate::ring::Desc;
use crate::sys::{XDP_PACKET_HEADROOM, XDP_PKT_CONTD};
use crate::view::View;

/// Goes through descriptors as long as each names the frame of the slot beside it, in whole, without
/// options, and with the kernel's usual room in front. Shows their places and lengths; returns how
/// many they were, and their bytes.
///
/// # Safety
///
/// `from` and `to` are `n` slots each, which nobody writes meanwhile, and each of `to` names a frame
/// of `view`.
#[inline(always)]
pub(super) unsafe fn in_place(
    view: View,
    from: NonNull<Desc>,
    to: NonNull<u64>,
    n: u32,
    mut show: impl FnMut(usize, u32),
) -> (u32, u64) {
    const IN_FRONT: u64 = XDP_PACKET_HEADROOM as u64;
    let room = view.frame_bytes() as u64 - IN_FRONT;
    let (mut desc, mut slot, mut bytes) = (from.cast::<[u64; 2]>(), to, 0);
    // SAFETY: the end of what the caller vouches for.
    let end = unsafe { desc.add(n as usize) };
    while desc != end {
        // SAFETY: below `n`, as the caller vouches; a descriptor is as large as two words, and as
        // much aligned.
        let ([addr, rest], start) = unsafe { (desc.read(), slot.read()) };
        // Length and options: these are wrong at any length, so one comparison does for both.
        let rest = if cfg!(target_endian = "little") { rest } else { rest.rotate_left(32) };
        if addr.wrapping_sub(IN_FRONT) != start || rest > room {
            break;
        }
        bytes += rest;
        show(addr as usize, rest as u32);
        // SAFETY: at most the ends.
        (desc, slot) = unsafe { (desc.add(1), slot.add(1)) };
    }
    // SAFETY: both in the same slots.
    let done = unsafe { desc.offset_from_unsigned(from.cast()) };
    (done as u32, bytes)
}

/// Shows frames in whole, each in a descriptor without options, and gives them back, as long as
/// the next one is such. Returns how many those were and their bytes. Kept to itself, so that the
/// few things that it works with stay in registers wherever `poll` is used.
///
/// # Safety
///
/// `from` and `to` are `most` slots each, which nobody else reads or writes meanwhile, and the
/// frames that `lent` has a bit for were given to the caller if a descriptor names them.
#[inline(never)]
pub(super) unsafe fn run<F: FnMut(RxFrame<'_>)>(
    view: View,
    lent: &[u64],
    from: NonNull<Desc>,
    to: NonNull<u64>,
    most: u32,
    meta: RxMeta,
    f: &mut F,
) -> (u32, u64) {
    let mut bytes = 0;
    // The frames' first lines are in the cache of the CPU that the kernel ran on. Asked for
    // together, they come together.
    for i in 0..most {
        // SAFETY: below `most`, as the caller vouches.
        view.prefetch(unsafe { from.add(i as usize).read() }.addr);
    }
    for i in 0..most {
        // SAFETY: below `most`, as the caller vouches.
        let (desc, to) = unsafe { (from.add(i as usize).read(), to.add(i as usize)) };
        match view.lent_start(desc.addr, desc.len, lent) {
            Some(start) if desc.options == 0 => {
                bytes += u64::from(desc.len);
                // SAFETY: a frame that was lent and has come back; the kernel gets it again only
                // when the fill ring is submitted.
                let frame = unsafe { view.bytes(desc.addr as usize, desc.len as usize) };
                f(RxFrame { bytes: frame, meta: RxMeta { wire_len: desc.len, ..meta } });
                // SAFETY: as above.
                unsafe { to.write(start) };
            }
            _ => return (i, bytes),
        }
    }
    (most, bytes)
}

/// What happens to few frames of a burst.
#[derive(Default)]
pub(super) struct Odd {
    /// The time, once a frame has asked for it.
    pub(super) now: Option<u64>,
    /// [`XDP_PKT_CONTD`] after a descriptor of a frame that goes on.
    pub(super) in_parts: u32,
    /// Frames in parts.
    pub(super) truncated: u64,
}

impl Odd {
    /// Counts a descriptor whose options are not 0, or which follows such a one. A frame in parts
    /// did not fit a buffer: sockets that did not ask for such frames get none, so this is for a
    /// kernel that thinks otherwise.
    #[cold]
    #[inline(never)]
    pub(super) fn is_whole(&mut self, desc: Desc) -> bool {
        let goes_on = desc.options & XDP_PKT_CONTD;
        let is_part = goes_on | self.in_parts != 0;
        self.truncated += u64::from(is_part && goes_on == 0);
        self.in_parts = goes_on;
        !is_part
    }
}
