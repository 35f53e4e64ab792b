//! Bursts, or what is left of them, whose frames are not in their places: each descriptor is
//! checked by itself.

use linerate_common::{RxFrame, RxMeta};

use super::meta::meta_of;
use super::run::{Odd, run};
use super::{Slot, XdpRx};

impl XdpRx {
    /// The rest of a poll: descriptors from `read` on, at least one of which is not in its place,
    /// or all of them where no slot has to name a frame that is lent. Returns how many frames were
    /// shown, and their bytes.
    #[inline(never)]
    pub(super) fn run_anywhere<F: FnMut(RxFrame<'_>)>(
        &mut self,
        mut read: u32,
        meta: RxMeta,
        f: &mut F,
    ) -> (u32, u64) {
        let n = self.open;
        let (descs, fill) = (self.rx.slots(), self.fill.slots());
        let (view, lent) = (self.view, self.frames.lent_bits());
        let mut odd = Odd::default();
        let (mut written, mut shown, mut bytes) = (read, 0, 0);
        while read < n {
            if !view.has_meta() && odd.in_parts == 0 {
                let (from, to) =
                    (descs.stretch(read, n - read), fill.stretch(written, n - written));
                let most = from.len.min(to.len);
                // SAFETY: as many slots as both rings have in one piece from there: of the
                // descriptors those that wait, of the fill ring those that are free, as each
                // frame that came has left one. The kernel touches neither until `finish`.
                let (plain, len) = unsafe { run(view, lent, from.slots, to.slots, most, meta, f) };
                (read, written, shown) = (read + plain, written + plain, shown + plain);
                bytes += len;
                if plain == most {
                    continue;
                }
            }
            let desc = descs.read(read);
            read += 1;
            let Some(start) = view.lent_start(desc.addr, desc.len, lent) else {
                self.stats.malformed += 1;
                continue;
            };
            if desc.options | odd.in_parts == 0 || odd.is_whole(desc) {
                let at = desc.addr as usize;
                let meta = if view.has_meta() {
                    meta_of(view, self.stamps, at, desc.len, &mut odd.now)
                } else {
                    RxMeta { wire_len: desc.len, ..meta }
                };
                shown += 1;
                bytes += u64::from(desc.len);
                // SAFETY: checked above; the kernel gets the frame again only below.
                f(RxFrame { bytes: unsafe { view.bytes(at, desc.len as usize) }, meta });
            }
            fill.write(written, start);
            written += 1;
        }
        self.stats.truncated += odd.truncated;
        self.settle(written);
        self.finish(written);
        (shown, bytes)
    }

    /// A window whose first descriptors are in `self.window` already, and the others anywhere.
    #[inline(never)]
    pub(super) fn acquire_anywhere(&mut self, read: u32) {
        let mut odd = Odd::default();
        for i in read..self.open {
            let desc = self.rx.read(i);
            if self.check(desc).is_none() {
                self.stats.malformed += 1;
                continue;
            }
            if desc.options | odd.in_parts != 0 && !odd.is_whole(desc) {
                continue;
            }
            self.window[self.len] = Slot { at: desc.addr as usize, len: desc.len };
            self.len += 1;
            self.stats.bytes += u64::from(desc.len);
        }
        self.stats.truncated += odd.truncated;
    }
}
