//! Rules about sending: reservations, back-pressure, completions.

use super::link::{Checked, Entry, Link, ensure, not_supported, same};
use super::quiet;
use super::rig::Rig;
use crate::error::ErrorKind;
use crate::rx::FrameRx;
use crate::tx::FrameTx;

pub(super) fn rules<R: Rig>() -> Vec<Entry<R>> {
    vec![
        ("bad_length", "empty and oversize frames are refused as BadLength", bad_length),
        ("longest_frame", "a frame of max_len() bytes is taken", longest_frame),
        ("reserve_again_cancels", "reserving twice sends one frame", reserve_again),
        ("commit_zero_cancels", "commit(0) sends nothing", commit_zero),
        ("commit_less", "commit sends as many bytes as it says", commit_less),
        ("commit_unreserved_panics", "commit without a reservation panics", commit_unreserved),
        ("commit_beyond_panics", "commit of more than was reserved panics", commit_beyond),
        ("kick_with_nothing", "kick with nothing committed is fine", kick_nothing),
        ("reservation_is_not_sent", "what was reserved but not committed is never sent", not_sent),
        ("group_with_one_kick", "one kick sends everything committed, in order", group),
        ("back_pressure", "a full queue refuses frames, loses none, and recovers", back_pressure),
        ("room", "room() is above 0 while nothing is in the way", room),
        ("completions", "every committed frame completes or is a named loss", completions),
    ]
}

fn bad_length<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let max = link.tx.max_len();
    for len in [0, max + 1, max + 1000, 1 << 20] {
        let frame = vec![0; len];
        let kind = link.tx.send(&frame).map_err(|e| e.kind);
        ensure(kind == Err(ErrorKind::BadLength), || format!("send of {len} bytes: {kind:?}"))?;
        ensure(link.tx.reserve(len).is_none(), || format!("{len} bytes were reserved"))?;
    }
    ensure(link.tx.reserve(usize::MAX).is_none(), || "usize::MAX bytes were reserved".into())?;
    link.expect_nothing_before(0)
}

fn longest_frame<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let max = link.tx.max_len();
    for _ in 0..3 {
        let slot = link.tx.reserve(max).map(|slot| slot.len());
        ensure(slot == Some(max), || format!("reserving max_len() = {max} gave {slot:?}"))?;
    }
    link.tx.commit(0);
    link.expect_nothing_before(0)
}

fn reserve_again<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let (short, long) = (link.build(1, link.min_len()), link.build(2, link.min_len() + 1));
    for _ in 0..1000 {
        // If each cost a slot, no queue would have this many.
        let slot = link.tx.reserve(long.len());
        ensure(slot.is_some(), || "reserving again costs slots".into())?;
    }
    let Some(slot) = link.tx.reserve(short.len()) else { return no_slot() };
    slot.fill(0xee);
    let Some(slot) = link.tx.reserve(long.len()) else { return no_slot() };
    ensure(slot.len() == long.len(), || format!("{} bytes reserved", slot.len()))?;
    slot.copy_from_slice(&long);
    link.tx.commit(long.len());
    link.tx.kick()?;
    link.expect(2..3)?;
    link.expect_nothing_before(3)
}

fn no_slot() -> Checked {
    ensure(false, || "no slot in an empty queue".into())
}

fn commit_zero<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let frame = link.build(9, link.min_len());
    let before = link.tx.stats().frames;
    for _ in 0..1000 {
        let Some(slot) = link.tx.reserve(frame.len()) else { return no_slot() };
        slot.copy_from_slice(&frame);
        link.tx.commit(0);
    }
    link.tx.kick()?;
    ensure(link.tx.stats().frames == before, || "commit(0) was counted as a frame".into())?;
    link.expect_nothing_before(0)
}

fn commit_less<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let frame = link.build(0, link.min_len());
    let Some(slot) = link.tx.reserve(link.max_len()) else { return no_slot() };
    slot.fill(0xee);
    slot[..frame.len()].copy_from_slice(&frame);
    link.tx.commit(frame.len());
    link.tx.kick()?;
    link.expect(0..1)
}

fn commit_unreserved<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let len = link.min_len();
    let panics = quiet::catch(|| link.tx.commit(len)).is_err();
    ensure(panics, || "a commit without any reservation was taken".into())?;
    link.send_all(0..1)?;
    let panics = quiet::catch(|| link.tx.commit(len)).is_err();
    ensure(panics, || "one reservation was committed twice".into())?;
    link.expect(0..1)?;
    link.expect_nothing_before(1)
}

fn commit_beyond<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let len = link.min_len();
    for beyond in [len + 1, usize::MAX] {
        if link.tx.reserve(len).is_none() {
            return no_slot();
        }
        let panics = quiet::catch(|| link.tx.commit(beyond)).is_err();
        ensure(panics, || format!("commit({beyond}) of {len} reserved bytes was taken"))?;
    }
    link.expect_nothing_before(0)
}

fn kick_nothing<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    for _ in 0..100 {
        link.tx.kick()?;
        link.tx.reap();
    }
    link.expect_nothing_before(0)
}

fn not_sent<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let frame = link.build(9, link.min_len());
    let Some(slot) = link.tx.reserve(frame.len()) else { return no_slot() };
    slot.copy_from_slice(&frame);
    link.tx.kick()?;
    link.expect_nothing_before(0)
}

fn group<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let wanted = link.burst(16) as u32;
    let mut count = 0;
    while count < wanted && link.tx.send(&link.build(count, link.min_len()))? {
        count += 1;
    }
    ensure(count > 1, || "no room for two frames in an empty queue".into())?;
    link.tx.kick()?;
    link.expect(0..count)
}

fn back_pressure<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    const ENOUGH: u32 = 20_000;
    let frame = link.build(0, link.min_len());
    // Before the first frame: a queue may send, and a receiver lose, before the kick.
    let before = link.rx.stats().lost() + link.tx.stats().lost();
    let mut taken = 0_u32;
    while taken < ENOUGH && link.tx.send(&frame)? {
        taken += 1;
    }
    let empty = link.tx.send(&[]).map_err(|e| e.kind);
    ensure(empty == Err(ErrorKind::BadLength), || {
        format!("an empty frame, queue full: {empty:?}")
    })?;
    link.tx.kick()?;
    let mut got = Vec::new();
    let all = link.wait_for(|link| {
        got.extend(link.window(64)?);
        link.rx.release();
        link.tx.reap();
        link.tx.kick()?;
        let lost = link.rx.stats().lost() + link.tx.stats().lost();
        Ok(got.len() as u64 + lost.saturating_sub(before) >= u64::from(taken))
    })?;
    ensure(all || !link.wire.names_losses, || {
        format!("the queue had taken {taken} frames, {} arrived", got.len())
    })?;
    if taken == ENOUGH {
        return not_supported("the queue took 20000 frames without a kick: it sends on commit");
    }
    link.send_all(1..3)?;
    let got = link.receive(2)?;
    // Frames that were on the way may still come in between.
    let late: Vec<_> = got.into_iter().filter(|seq| *seq > 0).collect();
    if late.len() < 2 { link.expect(1 + late.len() as u32..3) } else { same(&late, 1..3) }
}

fn room<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    // `forward` takes no more frames than this: 0 would stall it.
    for seq in 0..500 {
        let has_room = link.wait_for(|link| {
            link.tx.reap();
            Ok(link.tx.room() > 0)
        })?;
        ensure(has_room, || format!("room() stays 0 after {seq} frames, all received"))?;
        link.send_all(seq..seq + 1)?;
        link.expect(seq..seq + 1)?;
    }
    Ok(())
}

fn completions<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let step = link.burst(32) as u32;
    let mut reaped = 0_u64;
    for first in (0..20).map(|n| n * step) {
        for seq in first..first + step {
            let frame = link.build(seq, link.min_len());
            let sent = link.wait_for(|link| {
                if link.tx.send(&frame)? {
                    return Ok(true);
                }
                link.tx.kick()?;
                reaped += link.tx.reap() as u64;
                Ok(false)
            })?;
            ensure(sent, || format!("no room for frame {seq}"))?;
        }
        link.tx.kick()?;
        link.expect(first..first + step)?;
    }
    let sent = u64::from(20 * step);
    let mut stats = link.tx.stats();
    let done = link.wait_for(|link| {
        reaped += link.tx.reap() as u64;
        stats = link.tx.stats();
        Ok(stats.completed + stats.lost() >= sent)
    })?;
    ensure(done && stats.completed + stats.lost() == sent, || {
        format!("sent {sent}, completed {}, lost {}", stats.completed, stats.lost())
    })?;
    // `send` and `reserve` may reap on their own, so our count is a lower bound.
    ensure(reaped <= sent, || format!("reap returned {reaped} slots for {sent} frames"))
}
