//! Rules about the frames themselves: order, content, and that each is accounted for.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use super::link::{Checked, Entry, Link, Verdict, build, ensure, read, same};
use super::rig::Rig;
use crate::rx::{FrameRx, FrameRxExt};
use crate::stats::{RxStats, TxStats};
use crate::tx::FrameTx;

pub(super) fn rules<R: Rig>() -> Vec<Entry<R>> {
    vec![
        ("order_kept", "frames arrive in the order in which they were sent", order_kept),
        ("contents_intact", "frames of every length arrive unchanged", contents_intact),
        ("buffers_come_back", "released windows can be filled again for ever", buffers_come_back),
        ("dyn_and_static_agree", "dyn FrameRx shows the same frames", dyn_agrees),
        ("two_threads", "the ends work on threads of their own", two_threads),
        ("stats_monotonic", "counters only grow, and count what was delivered", stats_monotonic),
        ("losses_named", "sent = delivered + named losses", losses_named),
    ]
}

fn order_kept<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let step = link.burst(100) as u32;
    for first in (0..1000 / step).map(|n| n * step) {
        link.send_all(first..first + step)?;
        link.expect(first..first + step)?;
    }
    Ok(())
}

fn contents_intact<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let (min, max) = (link.min_len(), link.max_len());
    ensure(min <= max, || format!("the shortest frame has {min} bytes, the longest {max}"))?;
    // Every length near the ends and near powers of two, and each 13th in between.
    let near = |len: usize| len < min + 70 || max - len < 70 || len % 64 < 2 || len % 64 > 62;
    let lengths: Vec<_> = (min..=max).filter(|len| near(*len) || len % 13 == 0).collect();
    let mut seq = 0;
    for some in lengths.chunks(link.burst(16)) {
        let first = seq;
        for len in some {
            link.send(seq, *len)?;
            seq += 1;
        }
        // Reading compares every byte and the length.
        link.expect(first..seq)?;
    }
    Ok(())
}

fn buffers_come_back<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    // More frames than the rings and pools of most cards have buffers.
    let step = link.burst(64) as u32;
    let (mut first, total) = (0, 10_000);
    while first < total {
        link.send_all(first..first + step)?;
        let mut got = Vec::new();
        let mut by_poll = first % 3 == 0;
        link.wait_for(|link| {
            by_poll = !by_poll;
            if by_poll {
                let (rig, wire, tag) = (&*link.rig, &link.wire, link.tag);
                link.rx.poll(64, |f| got.extend(read(rig, wire, tag, f).unwrap_or(None)))?;
            } else {
                got.extend(link.window(64)?);
                link.rx.release();
            }
            Ok(got.len() >= step as usize)
        })?;
        same(&got, first..first + step)?;
        first += step;
    }
    Ok(())
}

fn dyn_agrees<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let count = link.burst(32) as u32;
    link.send_all(0..count)?;
    let mut got = Vec::new();
    link.wait_for(|link| {
        let (rig, wire, tag) = (&*link.rig, &link.wire, link.tag);
        let rx: &mut dyn FrameRx = &mut link.rx;
        for frame in rx.burst(8)?.iter() {
            got.extend(read(rig, wire, tag, frame)?);
        }
        ensure(rx.is_empty(), || "a dropped guard left its window open".into())?;
        Ok(got.len() >= count as usize)
    })?;
    same(&got, 0..count)
}

fn two_threads<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    const COUNT: u32 = 2000;
    let (len, tag, ahead) = (link.min_len(), link.tag, link.wire.in_flight as u32);
    let frames: Vec<_> = (0..COUNT).map(|seq| build(&*link.rig, tag, seq, len)).collect();
    let received = AtomicU32::new(0);
    let over = AtomicBool::new(false);
    let (tx, rx, wire) = (&mut link.tx, &mut link.rx, &link.wire);
    let rig = &mut *link.rig;
    let got = thread::scope(|scope| {
        let (received, over) = (&received, &over);
        let sender = scope.spawn(move || -> Result<(), crate::Error> {
            for (seq, frame) in (0..).zip(&frames) {
                // No further ahead of the reader than the wire can hold.
                while seq >= received.load(Ordering::Acquire) + ahead || !tx.send(frame)? {
                    tx.kick()?;
                    tx.reap();
                    if over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    thread::yield_now();
                }
                if seq % 7 == 0 {
                    tx.kick()?;
                }
            }
            tx.kick()
        });
        let mut got = Vec::new();
        let mut wrong = None;
        let mut last_news = Instant::now();
        while got.len() < COUNT as usize && last_news.elapsed() < wire.patience && wrong.is_none() {
            let before = got.len();
            let polled = rx.poll(64, |frame| match read(rig, wire, tag, frame) {
                Ok(seq) => got.extend(seq),
                Err(verdict) => wrong = Some(verdict),
            });
            if let Err(e) = polled {
                wrong = Some(e.into());
            }
            received.store(got.len() as u32, Ordering::Release);
            if got.len() > before {
                last_news = Instant::now();
            } else {
                rig.pump();
                thread::yield_now();
            }
        }
        over.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap_or(Ok(()));
        match wrong {
            Some(verdict) => Err(verdict),
            None => sent.map_err(Verdict::from).map(|()| got),
        }
    })?;
    same(&got, 0..COUNT)
}

fn stats_monotonic<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let (len, step) = (link.min_len(), link.burst(20) as u32);
    let (mut rx, mut tx) = (link.rx.stats(), link.tx.stats());
    for first in (0..10).map(|n| n * step) {
        link.send_all(first..first + step)?;
        link.expect(first..first + step)?;
        let (rx_now, tx_now) = (link.rx.stats(), link.tx.stats());
        let grew = |name, was, is| ensure(is >= was, || format!("{name} fell from {was} to {is}"));
        for ((name, was), (_, is)) in rx_counters(&rx).zip(rx_counters(&rx_now)) {
            grew(name, was, is)?;
        }
        for ((name, was), (_, is)) in tx_counters(&tx).zip(tx_counters(&tx_now)) {
            grew(name, was, is)?;
        }
        let (frames, bytes) = (rx_now.frames - rx.frames, rx_now.bytes - rx.bytes);
        let (want_frames, want_bytes) = (u64::from(step), u64::from(step) * len as u64);
        let exact = link.wire.quiet && !link.wire.pads && !link.wire.rewrites_headers;
        let right = |is, want| if exact { is == want } else { is >= want };
        ensure(right(frames, want_frames), || {
            format!("delivered {want_frames}, counted {frames}")
        })?;
        let fewer_bytes = link.wire.rewrites_headers;
        ensure(fewer_bytes || right(bytes, want_bytes), || {
            format!("delivered {want_bytes} bytes, counted {bytes}")
        })?;
        let sent = tx_now.frames - tx.frames;
        ensure(sent == want_frames, || format!("sent {want_frames}, counted {sent}"))?;
        (rx, tx) = (rx_now, tx_now);
    }
    Ok(())
}

fn rx_counters(s: &RxStats) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    [("frames", s.frames), ("bytes", s.bytes), ("flagged", s.flagged)].into_iter().chain(s.losses())
}

fn tx_counters(s: &TxStats) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    let own = [("frames", s.frames), ("bytes", s.bytes), ("completed", s.completed)];
    own.into_iter().chain(s.losses())
}

fn losses_named<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    if !link.wire.names_losses {
        return super::link::not_supported("the rig says that not every loss has a name here");
    }
    // Nobody reads while these are sent, so some may be lost; whatever is must have a name.
    let frame = link.build(0, link.min_len());
    let (rx, tx) = (link.rx.stats(), link.tx.stats());
    let mut sent = 0_u64;
    for _ in 0..4096 {
        if !link.tx.send(&frame)? {
            link.tx.kick()?;
            link.tx.reap();
            continue;
        }
        sent += 1;
        link.tx.kick()?;
        link.rig.pump();
    }
    let mut ours = 0;
    let mut accounted = 0;
    let complete = link.wait_for(|link| {
        ours += link.window(64)?.len() as u64;
        link.rx.release();
        link.tx.kick()?;
        link.tx.reap();
        let lost = (link.rx.stats().lost() - rx.lost()) + (link.tx.stats().lost() - tx.lost());
        accounted = ours + lost;
        Ok(accounted >= sent)
    })?;
    ensure(complete && (accounted == sent || !link.wire.quiet), || {
        format!("sent {sent}, delivered {ours}, accounted for {accounted}")
    })
}
