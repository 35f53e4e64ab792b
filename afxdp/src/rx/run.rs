//! The loop over a burst: what every frame costs, and what few frames cost.

use std::ptr::NonNull;

use linerate_common::{RxFrame, RxMeta};

use crate::ring::Desc;
use crate::sys::XDP_PKT_CONTD;
use crate::view::View;

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
