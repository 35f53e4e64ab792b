//! Rules about windows: what `acquire` opens, shows and gives back.

use std::mem;
use std::panic::resume_unwind;

use super::link::{Checked, Entry, Link, ensure, not_supported, same};
use super::quiet;
use super::rig::Rig;
use crate::frame::MAX_BURST;
use crate::rx::{FrameRx, FrameRxExt};

pub(super) fn rules<R: Rig>() -> Vec<Entry<R>> {
    vec![
        (
            "empty_is_zero",
            "an empty queue gives Ok(0), and releasing nothing is fine",
            empty_is_zero,
        ),
        ("window_shows_what_came", "len() is what acquire returned; release empties it", shows),
        ("window_of_at_most_64", "a window never holds more than MAX_BURST frames", at_most_64),
        ("window_respects_max", "a window never holds more than was asked for", respects_max),
        (
            "acquire_closes_the_window",
            "acquire releases a window that is still open",
            acquire_closes,
        ),
        ("release_twice", "a second release does nothing", release_twice),
        ("several_frames_at_once", "all frames of a window are readable together", several),
        ("frame_out_of_range_panics", "frame(i) with i >= len() panics", out_of_range),
        ("forgotten_guard", "a forgotten guard only delays the release", forgotten_guard),
        ("poll_respects_max", "poll shows at most max frames and says how many", poll_respects_max),
        (
            "panic_in_the_handler",
            "frames of a handler that panicked are recycled, not shown again",
            panic_in_handler,
        ),
        ("panic_in_the_window", "unwinding past a guard releases the window", panic_in_window),
    ]
}

fn empty_is_zero<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    for _ in 0..100 {
        let ours = link.window(64)?;
        ensure(ours.is_empty(), || format!("frames {ours:?} before any was sent"))?;
        link.rx.release();
        ensure(link.rx.len() == 0 && link.rx.is_empty(), || "a window after release".into())?;
    }
    link.rx.release();
    let mut shown = 0;
    let n = link.rx.poll(64, |_| shown += 1)?;
    ensure(n == shown, || format!("poll returned {n} and showed {shown}"))
}

fn shows<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    link.send_all(0..4)?;
    let mut got = Vec::new();
    link.wait_for(|link| {
        let n = link.rx.acquire(64)?;
        ensure(link.rx.len() == n, || format!("acquire said {n}, len() {}", link.rx.len()))?;
        ensure(link.rx.is_empty() == (n == 0), || "is_empty() disagrees with len()".into())?;
        for i in 0..n {
            got.extend(link.read(link.rx.frame(i))?);
            // A second look shows the same.
            let (a, b) = (link.rx.frame(i), link.rx.frame(i));
            ensure(a.bytes == b.bytes && a.meta == b.meta, || "frame(i) changes".into())?;
        }
        link.rx.release();
        ensure(link.rx.len() == 0, || format!("{} frames after release", link.rx.len()))?;
        Ok(got.len() >= 4)
    })?;
    same(&got, 0..4)
}

fn at_most_64<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let count = link.burst(2 * MAX_BURST + 10) as u32;
    link.send_all(0..count)?;
    let mut got = Vec::new();
    link.wait_for(|link| {
        got.extend(link.window(usize::MAX)?);
        ensure(link.rx.len() <= MAX_BURST, || format!("a window of {}", link.rx.len()))?;
        Ok(got.len() >= count as usize)
    })?;
    same(&got, 0..count)
}

fn respects_max<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let count = link.burst(10) as u32;
    link.send_all(0..count)?;
    let mut got = Vec::new();
    let mut max = 0;
    link.wait_for(|link| {
        max = (max + 1) % 4;
        got.extend(link.window(max)?);
        ensure(link.rx.len() <= max, || format!("{} frames, asked for {max}", link.rx.len()))?;
        Ok(got.len() >= count as usize)
    })?;
    same(&got, 0..count)
}

fn acquire_closes<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    // Never a release: more frames than any ring holds, so an acquire that forgot the frames of
    // the window before runs dry.
    let step = link.burst(32) as u32;
    for first in (0..2048 / step).map(|n| n * step) {
        link.send_all(first..first + step)?;
        let mut got = Vec::new();
        link.wait_for(|link| {
            got.extend(link.window(8)?);
            Ok(got.len() >= step as usize)
        })?;
        same(&got, first..first + step)?;
    }
    Ok(())
}

fn release_twice<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    for seq in 0..512 {
        link.send_all(seq..seq + 1)?;
        link.expect(seq..seq + 1)?;
        // `expect` has released already.
        link.rx.release();
        link.rx.release();
    }
    link.expect_nothing_before(512)
}

fn several<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let want = link.burst(4);
    let Some(seqs) = link.window_of(0, want)? else {
        return not_supported("frames never arrived together");
    };
    let frames: Vec<_> = (0..link.rx.len()).map(|i| link.rx.frame(i)).collect();
    let mut again = Vec::new();
    for frame in frames.iter().rev() {
        again.extend(link.read(*frame)?);
    }
    again.reverse();
    ensure(again == seqs, || format!("read {seqs:?} one by one, {again:?} together"))
}

fn out_of_range<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    link.send_all(0..1)?;
    let came = link.wait_for(|link| Ok(!link.window(64)?.is_empty()))?;
    ensure(came, || "frame 0 did not arrive".into())?;
    let n = link.rx.len();
    for i in [n, n + 1, MAX_BURST, usize::MAX] {
        let panics = quiet::catch(|| link.rx.frame(i).bytes.len()).is_err();
        ensure(panics, || format!("frame({i}) of a window of {n} gave a frame"))?;
    }
    link.rx.release();
    let panics = quiet::catch(|| link.rx.frame(0).bytes.len()).is_err();
    ensure(panics, || "frame(0) without a window gave a frame".into())?;
    link.expect_nothing_before(1)
}

fn forgotten_guard<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let step = link.burst(16) as u32;
    for first in (0..1024 / step).map(|n| n * step) {
        link.send_all(first..first + step)?;
        let mut got = Vec::new();
        link.wait_for(|link| {
            let burst = link.rx.burst(64)?;
            let (rig, wire, tag) = (&*link.rig, &link.wire, link.tag);
            for frame in burst.iter() {
                got.extend(super::link::read(rig, wire, tag, frame)?);
            }
            mem::forget(burst);
            Ok(got.len() >= step as usize)
        })?;
        same(&got, first..first + step)?;
    }
    Ok(())
}

fn poll_respects_max<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let count = link.burst(100) as u32;
    link.send_all(0..count)?;
    let mut got = Vec::new();
    let mut max = 0;
    link.wait_for(|link| {
        max = (max + 1) % 8;
        let mut shown = 0;
        let mut wrong = None;
        let (rig, wire, tag) = (&*link.rig, &link.wire, link.tag);
        let n = link.rx.poll(max, |frame| {
            shown += 1;
            match super::link::read(rig, wire, tag, frame) {
                Ok(seq) => got.extend(seq),
                Err(verdict) => wrong = Some(verdict),
            }
        })?;
        if let Some(verdict) = wrong {
            return Err(verdict);
        }
        ensure(n == shown, || format!("poll returned {n} and showed {shown}"))?;
        ensure(n <= max, || format!("poll({max}) showed {n}"))?;
        ensure(link.rx.len() == 0, || "poll left its window open".into())?;
        Ok(got.len() >= count as usize)
    })?;
    same(&got, 0..count)
}

fn panic_in_handler<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    // Small bursts: what waits behind the one that the handler panics on must still come, and
    // of that one nothing may come again. Enough rounds to run dry if its buffers leaked.
    let step = link.burst(8) as u32;
    let max = if step > 4 { 4 } else { 1 };
    let mut panics = 0;
    for first in (0..1024 / step).map(|n| n * (step + 1)) {
        link.send_all(first..first + step + 1)?;
        let (marker, mut seen) = (first + step, vec![0_u8; step as usize + 1]);
        let mut panicked = false;
        let came = link.wait_for(|link| {
            let mut wrong = None;
            let (rig, wire, tag) = (&*link.rig, &link.wire, link.tag);
            let result = quiet::catch(|| {
                link.rx.poll(max, |frame| {
                    let seq = match super::link::read(rig, wire, tag, frame) {
                        Ok(Some(seq)) => seq,
                        Ok(None) => return,
                        Err(verdict) => return wrong = Some(verdict),
                    };
                    if let Some(count) = seen.get_mut(seq.wrapping_sub(first) as usize) {
                        *count += 1;
                    }
                    if seq == first + 1 && !std::mem::replace(&mut panicked, true) {
                        // Unlike `panic!`, this runs no panic hook: nothing on the terminal.
                        resume_unwind(Box::new("on purpose"));
                    }
                })
            });
            match (wrong, result) {
                (Some(verdict), _) => return Err(verdict),
                (None, Ok(polled)) => _ = polled?,
                (None, Err(_)) => panics += 1,
            }
            // The last frame is outside of the burst that the panic took along.
            Ok(seen[(marker - first) as usize] > 0)
        })?;
        ensure(came, || format!("frame {marker} never came, in a burst after one that panicked"))?;
        let twice = seen.iter().filter(|count| **count > 1).count();
        ensure(twice == 0, || format!("{twice} frames were shown again after a panic"))?;
        let gone = seen.iter().filter(|count| **count == 0).count();
        ensure(gone < max, || format!("a panic in a burst of {max} took {gone} frames along"))?;
    }
    ensure(panics > 0, || "no frame arrived in a handler".into())
}

fn panic_in_window<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    for seq in 0..512 {
        link.send_all(seq..seq + 1)?;
        let mut got = Vec::new();
        let came = link.wait_for(|link| {
            let (rig, wire, tag) = (&*link.rig, &link.wire, link.tag);
            let result = quiet::catch(|| -> Checked {
                let burst = link.rx.burst(64)?;
                for frame in burst.iter() {
                    got.extend(super::link::read(rig, wire, tag, frame)?);
                }
                if !burst.is_empty() {
                    resume_unwind(Box::new("on purpose"));
                }
                Ok(())
            });
            if let Ok(checked) = result {
                checked?;
            }
            ensure(link.rx.len() == 0, || "the guard did not release while unwinding".into())?;
            Ok(!got.is_empty())
        })?;
        ensure(came && got == [seq], || format!("expected frame {seq}, got {got:?}"))?;
    }
    Ok(())
}
