//! Rules about the other capabilities: time, waking up, steering.

use std::thread;
use std::time::{Duration, Instant};

use super::link::{Checked, Entry, Link, Verdict, ensure, not_supported};
use super::rig::Rig;
use crate::clock::{ClockDomain, ClockInfo, now_ns};
use crate::error::ErrorKind;
use crate::frame::{RxFlags, RxMeta};
use crate::rx::FrameRx;
use crate::steer::RuleId;
use crate::tx::{FrameTx, TxStamp};
use crate::wait::wait_readable;

/// Clock steps, and the granularity of stamps: far below the 37 s between TAI and UTC.
const SLACK_NS: u64 = 2_000_000_000;

pub(super) fn rules<R: Rig>() -> Vec<Entry<R>> {
    vec![
        (
            "stamps_have_a_source",
            "a stamp says whether hardware or software took it",
            stamps_source,
        ),
        ("stamps_are_plausible", "stamps are UTC as far as the clock claims to know", plausible),
        ("no_lost_wake_up", "poll, arm, poll, wait: no frame is slept through", no_lost_wake_up),
        ("wake_ups_are_spent", "arming takes back what the last wake-up left behind", spent),
        (
            "tx_stamps_in_order",
            "each sent frame is reported once, in order, with a source",
            tx_stamps,
        ),
        ("steer_and_unsteer", "a rule lets its flow through, and can be removed once", steer),
    ]
}

/// Sends some frames one by one and hands out the metadata of each with the time before and
/// after.
fn metas<R: Rig>(
    link: &mut Link<'_, R>,
    mut check: impl FnMut(RxMeta, u64, u64) -> Checked,
) -> Checked {
    for seq in 0..20 {
        let before = now_ns();
        link.send_all(seq..seq + 1)?;
        let mut came = None;
        link.wait_for(|link| {
            let n = link.rx.acquire(64)?;
            for i in 0..n {
                if link.read(link.rx.frame(i))?.is_some() {
                    came = Some(link.rx.frame(i).meta);
                }
            }
            link.rx.release();
            Ok(came.is_some())
        })?;
        let Some(meta) = came else { return ensure(false, || format!("frame {seq} is missing")) };
        check(meta, before, now_ns())?;
    }
    Ok(())
}

fn clock<R: Rig>(link: &Link<'_, R>) -> Result<ClockInfo, Verdict> {
    match link.rig.rx_clock(&link.rx) {
        Some(clock) => Ok(clock),
        None => not_supported("the receiver is not Clocked"),
    }
}

fn source(what: &str, ts_ns: Option<u64>, flags: RxFlags) -> Checked {
    let (hw, sw) = (flags.contains(RxFlags::TS_HW), flags.contains(RxFlags::TS_SW));
    match ts_ns {
        Some(_) => ensure(hw != sw, || format!("{what}: a stamp with the flags {flags:?}")),
        None => ensure(!hw && !sw, || format!("{what}: no stamp, yet the flags {flags:?}")),
    }
}

fn stamps_source<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let clock = clock(link)?;
    ensure(clock.resolution_ns >= 1, || "a resolution of 0 ns".into())?;
    metas(link, |meta, _, _| {
        source("a received frame", meta.timestamp(), meta.flags)?;
        let (stamped, hw) = (meta.timestamp().is_some(), meta.flags.contains(RxFlags::TS_HW));
        ensure(!stamped || clock.domain != ClockDomain::None, || {
            "a stamp from a queue whose clock is None".into()
        })?;
        ensure(!hw || clock.domain != ClockDomain::Realtime, || {
            "a hardware stamp from a queue whose clock is the kernel's".into()
        })
    })
}

fn plausible<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let clock = clock(link)?;
    let known = match clock.domain {
        ClockDomain::Realtime => true,
        ClockDomain::None | ClockDomain::Recorded => false,
        _ => clock.synced == Some(true),
    };
    if !known {
        return not_supported("the queue does not claim to know UTC");
    }
    metas(link, |meta, before, after| {
        let Some(ts) = meta.timestamp() else { return Ok(()) };
        if meta.flags.contains(RxFlags::TS_UNSYNCED) {
            return Ok(());
        }
        let near = ts + SLACK_NS >= before && ts <= after + SLACK_NS;
        ensure(near, || format!("received between {before} and {after}, stamped {ts}"))
    })
}

/// One round of the order that `Waitable` prescribes. `true`: the wait ended with a wake-up.
fn arm_and_wait<R: Rig>(
    link: &mut Link<'_, R>,
    got: &mut Vec<u32>,
    timeout: Duration,
) -> Result<bool, Verdict> {
    got.extend(link.window(64)?);
    link.rx.release();
    let Some(w) = link.rx.waitable() else {
        return not_supported("the receiver cannot be waited on");
    };
    w.arm()?;
    let before = got.len();
    got.extend(link.window(64)?);
    link.rx.release();
    if got.len() > before {
        return Ok(true);
    }
    let Some(w) = link.rx.waitable() else {
        return not_supported("the receiver cannot be waited on");
    };
    Ok(wait_readable(w.fd(), Some(timeout))?)
}

fn no_lost_wake_up<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    const COUNT: u32 = 50;
    if link.rx.waitable().is_none() {
        return not_supported("the receiver cannot be waited on");
    }
    let len = link.min_len();
    let frames: Vec<_> = (0..COUNT).map(|seq| link.build(seq, len)).collect();
    let patience = link.wire.patience;
    // The sender runs beside us, so that frames arrive between any two of our steps. It sends
    // the next one only when the last was received: a lost wake-up is not healed by the next.
    let (go, next) = std::sync::mpsc::channel::<u32>();
    let Link { rig, tx, rx, wire, tag } = link;
    let (rig, wire, tag) = (&mut **rig, &*wire, *tag);
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(seq) = next.recv() {
                for _ in 0..seq % 7 {
                    thread::yield_now();
                }
                let sent = tx.send(&frames[seq as usize]).is_ok_and(|sent| sent);
                if !sent || tx.kick().is_err() {
                    return;
                }
                tx.reap();
            }
        });
        for seq in 0..COUNT {
            if go.send(seq).is_err() {
                return ensure(false, || format!("frame {} was not sent", seq.saturating_sub(1)));
            }
            let start = Instant::now();
            let mut came = false;
            let mut armed = false;
            while !came {
                let n = rx.acquire(64)?;
                for i in 0..n {
                    came |= super::link::read(rig, wire, tag, rx.frame(i))? == Some(seq);
                }
                rx.release();
                if came || n > 0 {
                    armed = false;
                    continue;
                }
                let late = start.elapsed() > patience;
                ensure(!late, || format!("frame {seq} never arrived"))?;
                if !armed {
                    let Some(w) = rx.waitable() else { return lost_waitable() };
                    w.arm()?;
                    armed = true;
                    continue;
                }
                // Far longer than any delivery takes: if a frame is there afterwards although
                // nothing woke us, its wake-up was lost. In slices, so that a simulated card
                // can work meanwhile.
                let asleep = Instant::now();
                let mut woken = false;
                while !woken && asleep.elapsed() < patience {
                    rig.pump();
                    let Some(w) = rx.waitable() else { return lost_waitable() };
                    woken = wait_readable(w.fd(), Some(Duration::from_millis(20)))?;
                }
                armed = false;
                if !woken {
                    let n = rx.acquire(64)?;
                    rx.release();
                    ensure(n == 0, || format!("slept {patience:?} beside {n} waiting frames"))?;
                }
            }
        }
        drop(go);
        Ok(())
    })
}

fn lost_waitable() -> Checked {
    ensure(false, || "waitable() gives None after having given Some".into())
}

fn spent<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    if link.rx.waitable().is_none() {
        return not_supported("the receiver cannot be waited on");
    }
    let mut got = Vec::new();
    for seq in 0..3 {
        link.send_all(seq..seq + 1)?;
        link.wait_for(|link| {
            arm_and_wait(link, &mut got, Duration::from_millis(1))?;
            Ok(got.contains(&seq))
        })?;
        ensure(got.contains(&seq), || format!("frame {seq} is missing"))?;
        // Others may send here, and one wake-up may be left over. A descriptor that stays
        // readable would make a blocking loop spin.
        let asleep = link.wait_for(|link| Ok(!arm_and_wait(link, &mut got, Duration::ZERO)?))?;
        ensure(asleep, || "the descriptor stays readable although nothing is there".into())?;
    }
    Ok(())
}

fn tx_stamps<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    if link.rig.tx_stamps(&mut link.tx).is_none() {
        return not_supported("the sender has no TxStamps");
    }
    let step = link.burst(8) as u32;
    let before = now_ns();
    let mut stamps: Vec<TxStamp> = Vec::new();
    for first in (0..8).map(|n| n * step) {
        for seq in first..first + step {
            let frame = link.build(seq, link.min_len());
            ensure(link.tx.send(&frame)?, || format!("no room for frame {seq}"))?;
        }
        link.tx.kick()?;
        link.expect(first..first + step)?;
        let want = (first + step) as usize;
        link.wait_for(|link| {
            if let Some(tx) = link.rig.tx_stamps(&mut link.tx) {
                let had = stamps.len();
                let n = tx.reap_with(&mut |stamp| stamps.push(stamp));
                let showed = stamps.len() - had;
                ensure(n >= showed, || format!("reap_with returned {n} and showed {showed}"))?;
            }
            Ok(stamps.len() >= want)
        })?;
        ensure(stamps.len() == want, || format!("{want} sent, {} reported", stamps.len()))?;
    }
    let after = now_ns();
    for (seq, stamp) in (0..).zip(&stamps) {
        ensure(stamp.seq == seq, || format!("stamp {seq} is for frame {}", stamp.seq))?;
        let ts = Some(stamp.ts_ns).filter(|ts| *ts != crate::NO_TS);
        source("a sent frame", ts, stamp.flags)?;
        if let (Some(ts), true) = (ts, stamp.flags.contains(RxFlags::TS_SW)) {
            let near = ts + SLACK_NS >= before && ts <= after + SLACK_NS;
            ensure(near, || format!("sent between {before} and {after}, stamped {ts}"))?;
        }
    }
    Ok(())
}

fn steer<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let flow = link.rig.flow();
    let fail = |what: &str, e: crate::SetupError| Verdict::Fail(format!("{what} {flow:?}: {e}"));
    let Some(rx) = link.rig.steer(&mut link.rx) else {
        return not_supported("the receiver is no Steer");
    };
    let added = rx.add(&flow);
    if let Err(e) = &added
        && e.kind() == ErrorKind::Unsupported
    {
        return not_supported(&e.to_string());
    }
    let rule = added.map_err(|e| fail("adding", e))?;
    link.send_all(0..4)?;
    link.expect(0..4)?;
    let Some(rx) = link.rig.steer(&mut link.rx) else { return not_supported("steer() went away") };
    let unknown = RuleId(rule.0.wrapping_add(1000));
    ensure(rx.remove(unknown).is_err(), || "a rule that does not exist was removed".into())?;
    rx.remove(rule).map_err(|e| fail("removing", e))?;
    ensure(rx.remove(rule).is_err(), || "a rule was removed twice".into())
}
