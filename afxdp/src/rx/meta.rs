//! What a frame comes with: its time and its mark.

use linerate_common::clock::{PhcScale, now_ns};
use linerate_common::{ClockInfo, Clocked, RxFlags, RxMeta};

use super::XdpRx;
use crate::clock::to_utc;
use crate::view::View;

/// Which stamps frames get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamping {
    pub(crate) hardware: Option<PhcScale>,
    pub(crate) software: bool,
}

/// What all frames of a burst come with, where they bring nothing of their own.
#[inline]
pub(super) fn meta_of_burst(stamps: Stamping) -> RxMeta {
    if stamps.software { stamped() } else { RxMeta::plain(0) }
}

#[inline(never)]
fn stamped() -> RxMeta {
    RxMeta { ts_ns: now_ns(), flags: RxFlags::TS_SW, ..RxMeta::plain(0) }
}

/// Metadata of the frame at `at`. `now` is the time of the burst, read when first needed.
#[inline(never)]
pub(super) fn meta_of(
    view: View,
    stamps: Stamping,
    at: usize,
    len: u32,
    now: &mut Option<u64>,
) -> RxMeta {
    let mut meta = RxMeta::plain(len as usize);
    if view.has_meta() {
        // SAFETY: the caller checked that the frame is lent to us and came back from the
        // kernel; no slice of it has been handed out yet.
        if let Some(found) = unsafe { view.take_meta(at) } {
            meta.mark = found.mark;
            if let Some(clock) = stamps.hardware.filter(|_| found.has_ts != 0)
                && let Some(ts_ns) = to_utc(clock, found.ts_ns)
            {
                meta.ts_ns = ts_ns;
                meta.flags |= clock.flags;
                return meta;
            }
        }
    }
    if stamps.software {
        meta.ts_ns = *now.get_or_insert_with(now_ns);
        meta.flags |= RxFlags::TS_SW;
    }
    meta
}

impl Clocked for XdpRx {
    fn clock(&self) -> ClockInfo {
        match self.stamps {
            Stamping { hardware: Some(clock), .. } => clock.info,
            Stamping { software: true, .. } => ClockInfo::KERNEL,
            Stamping { .. } => ClockInfo::NONE,
        }
    }
}
