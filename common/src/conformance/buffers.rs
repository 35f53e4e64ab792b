//! Rules about owned buffers: `take` and `push`.

use super::link::{Checked, Entry, Link, Verdict, ensure, not_supported, same};
use super::quiet;
use super::rig::Rig;
use crate::buf::Buf;
use crate::frame::MAX_BURST;
use crate::pool::{Huge, Pool};
use crate::rx::FrameRx;
use crate::tx::FrameTx;

pub(super) fn rules<R: Rig>() -> Vec<Entry<R>> {
    vec![
        ("take_twice", "a frame can be taken once, and shows no bytes then", take_twice),
        ("take_out_of_range_panics", "take(i) with i >= len() panics", take_out_of_range),
        ("taken_survives", "a taken frame keeps its bytes while others come and go", survives),
        ("taken_is_not_recycled", "release leaves taken frames alone", not_recycled),
        ("buffers_accounted", "the pool knows of every taken buffer", accounted),
        ("push_what_was_taken", "a taken frame can be sent on", push_taken),
        ("push_own", "a buffer of the pool can be written and sent", push_own),
        (
            "push_beside_a_reservation",
            "a push between reserve and commit overfills nothing",
            push_beside,
        ),
        ("push_foreign", "a buffer of another pool is refused and handed back", push_foreign),
        ("push_bad_length", "an empty or oversize buffer is refused and handed back", push_bad),
    ]
}

/// Receives frame `seq` and takes it.
fn take_one<R: Rig>(link: &mut Link<'_, R>, seq: u32, len: usize) -> Result<Buf, Verdict> {
    link.send(seq, len)?;
    let mut taken = None;
    link.wait_for(|link| {
        let n = link.rx.acquire(64)?;
        for i in 0..n {
            if link.read(link.rx.frame(i))? == Some(seq) {
                taken = link.rig.buf_rx(&mut link.rx).and_then(|rx| rx.take(i));
            }
        }
        Ok(taken.is_some())
    })?;
    link.rx.release();
    taken.ok_or_else(|| Verdict::Fail(format!("frame {seq} could not be taken")))
}

/// The receiver's pool, when it can take.
fn pool<R: Rig>(link: &mut Link<'_, R>) -> Result<Pool, Verdict> {
    if link.rig.buf_rx(&mut link.rx).is_none() {
        return not_supported("the receiver is no BufRx");
    }
    link.rig.rx_pool(&link.rx).ok_or_else(|| Verdict::NotSupported("the rig names no pool".into()))
}

/// The sender's pool, when it can push.
fn push_pool<R: Rig>(link: &mut Link<'_, R>) -> Result<Pool, Verdict> {
    if link.rig.buf_tx(&mut link.tx).is_none() {
        return not_supported("the sender is no BufTx");
    }
    link.rig.tx_pool(&link.tx).ok_or_else(|| Verdict::NotSupported("the rig names no pool".into()))
}

/// How many frames to keep: the queues' own stocks may be most of a pool.
fn few(pool: &Pool) -> u32 {
    (pool.frames() / 16).clamp(1, 16)
}

fn push<R: Rig>(link: &mut Link<'_, R>, buf: Buf) -> Result<(), Buf> {
    match link.rig.buf_tx(&mut link.tx) {
        Some(tx) => tx.push(buf),
        None => Err(buf),
    }
}

fn give_back(pool: &Pool, buf: Buf) -> Checked {
    pool.free(buf).map_err(|_| Verdict::Fail("the pool does not know its own buffer".into()))
}

fn take_twice<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = pool(link)?;
    link.send_all(0..1)?;
    let mut first = None;
    let mut again = None;
    let mut shown = 0;
    link.wait_for(|link| {
        let n = link.rx.acquire(64)?;
        for i in 0..n {
            if link.read(link.rx.frame(i))?.is_some()
                && let Some(rx) = link.rig.buf_rx(&mut link.rx)
            {
                first = rx.take(i);
                again = rx.take(i);
                shown = link.rx.frame(i).bytes.len();
            }
        }
        Ok(first.is_some())
    })?;
    link.rx.release();
    let twice = again.is_some();
    if let Some(buf) = again {
        drop(pool.free(buf));
    }
    let Some(buf) = first else { return ensure(false, || "the frame could not be taken".into()) };
    give_back(&pool, buf)?;
    ensure(!twice, || "one frame was taken twice".into())?;
    // Safe code may write the buffer from now on: a slice of it would be a data race.
    ensure(shown == 0, || format!("a taken frame still shows {shown} bytes"))
}

fn take_out_of_range<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    pool(link)?;
    for i in [0, 1, MAX_BURST, usize::MAX] {
        let rx = link.rig.buf_rx(&mut link.rx);
        let panics = quiet::catch(|| rx.and_then(|rx| rx.take(i))).is_err();
        ensure(panics, || format!("take({i}) without a window did not panic"))?;
    }
    link.expect_nothing_before(0)
}

fn survives<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = pool(link)?;
    let len = link.max_len().min(200);
    let mut kept = Vec::new();
    for seq in 0..few(&pool) {
        let buf = take_one(link, seq, len)?;
        kept.push((buf, link.build(seq, len)));
    }
    // Enough traffic to use every buffer again.
    let step = link.burst(64) as u32;
    let rounds = (2 * pool.frames().min(8192)) / step + 1;
    for first in (0..rounds).map(|n| 100 + n * step) {
        link.send_all(first..first + step)?;
        link.expect(first..first + step)?;
    }
    for (seq, (buf, sent)) in kept.into_iter().enumerate() {
        let bytes = pool.bytes(&buf).unwrap_or_default();
        let rewritten = link.wire.rewrites_headers;
        let from = if rewritten { link.rig.header_len() } else { 0 };
        let payload = if rewritten { link.rig.payload(bytes) } else { Some(bytes) };
        let intact = payload.is_some_and(|p| p.starts_with(&sent[from..]));
        give_back(&pool, buf)?;
        ensure(intact, || format!("the taken frame {seq} changed after release"))?;
    }
    Ok(())
}

fn not_recycled<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = pool(link)?;
    let mut kept = Vec::new();
    for seq in 0..few(&pool) {
        kept.push(take_one(link, seq, link.min_len())?);
    }
    let mut ids: Vec<_> = kept.iter().map(Buf::id).collect();
    ids.sort_unstable();
    ids.dedup();
    let distinct = ids.len() == kept.len();
    kept.into_iter().try_for_each(|buf| give_back(&pool, buf))?;
    ensure(distinct, || "two taken frames share a buffer".into())
}

fn accounted<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = pool(link)?;
    let before = pool.outstanding();
    let mut kept = Vec::new();
    for seq in 0..few(&pool) {
        kept.push(take_one(link, seq, link.min_len())?);
        let held = pool.outstanding().wrapping_sub(before);
        ensure(held as usize == kept.len(), || {
            format!("{} taken, {held} outstanding", kept.len())
        })?;
    }
    kept.into_iter().try_for_each(|buf| give_back(&pool, buf))?;
    let left = pool.outstanding().wrapping_sub(before);
    ensure(left == 0, || format!("{left} buffers outstanding although all came back"))
}

fn push_taken<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let (rx_pool, tx_pool) = (pool(link)?, push_pool(link)?);
    if rx_pool.tag() != tx_pool.tag() {
        return not_supported("the two ends work on different pools");
    }
    if link.wire.rewrites_headers {
        return not_supported("a frame does not arrive as it was sent");
    }
    let before = rx_pool.outstanding();
    // More often than any ring has slots: buffers must come back to the pool after sending.
    for seq in 0..2000 {
        let buf = take_one(link, seq, link.min_len())?;
        if let Err(buf) = push(link, buf) {
            give_back(&rx_pool, buf)?;
            return ensure(false, || format!("frame {seq} was not taken for sending"));
        }
        link.tx.kick()?;
        link.expect(seq..seq + 1)?;
        link.tx.reap();
    }
    let left = rx_pool.outstanding().wrapping_sub(before);
    ensure(left == 0, || format!("{left} buffers outstanding although all were sent"))
}

fn push_own<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = push_pool(link)?;
    let frame = link.build(0, link.min_len());
    let Some(mut buf) = pool.alloc(frame.len()) else {
        return ensure(false, || "the pool is empty although nothing is in use".into());
    };
    if let Some(bytes) = pool.bytes_mut(&mut buf) {
        bytes.copy_from_slice(&frame);
    }
    if let Err(buf) = push(link, buf) {
        give_back(&pool, buf)?;
        return ensure(false, || "an empty queue refused a buffer of its pool".into());
    }
    link.tx.kick()?;
    let got = link.receive(1)?;
    same(&got, 0..1)
}

fn push_beside<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = push_pool(link)?;
    // Slots come in twos here, and most rings hold an even number: so once more from the odd.
    (0..2).try_for_each(|lead| fill_in_twos(link, &pool, lead))
}

/// Fills the queue, first with `lead` frames, then with one pushed beside an open reservation
/// and the one reserved; and receives what it took.
fn fill_in_twos<R: Rig>(link: &mut Link<'_, R>, pool: &Pool, lead: u32) -> Checked {
    let len = link.min_len();
    let before = link.rx.stats().lost() + link.tx.stats().lost();
    let mut taken = 0;
    for seq in 0..lead {
        taken += u32::from(link.tx.send(&link.build(seq, len))?);
    }
    for seq in (lead..20_000).step_by(2) {
        let (first, second) = (link.build(seq, len), link.build(seq + 1, len));
        // A pool that runs dry ends this as well as a queue that is full.
        let Some(mut buf) = pool.alloc(len) else { break };
        if let Some(bytes) = pool.bytes_mut(&mut buf) {
            bytes.copy_from_slice(&first);
        }
        let Some(slot) = link.tx.reserve(len) else {
            give_back(pool, buf)?;
            break;
        };
        slot.copy_from_slice(&second);
        match push(link, buf) {
            Ok(()) => taken += 1,
            Err(buf) => give_back(pool, buf)?,
        }
        // It may panic: the push may have cancelled the reservation.
        taken += u32::from(quiet::catch(|| link.tx.commit(len)).is_ok());
    }
    link.tx.kick()?;
    let mut got = Vec::new();
    let mut lost = 0;
    link.wait_for(|link| {
        got.extend(link.window(64)?);
        link.rx.release();
        link.tx.reap();
        link.tx.kick()?;
        lost = (link.rx.stats().lost() + link.tx.stats().lost()).saturating_sub(before);
        Ok(got.len() as u64 + lost >= u64::from(taken))
    })?;
    ensure(got.is_sorted_by(|a, b| a < b), || "frames came twice or out of order".into())?;
    let accounted = got.len() as u64 + lost;
    ensure(accounted == u64::from(taken) || !link.wire.names_losses, || {
        format!("{taken} frames were taken, {} arrived and {lost} are named losses", got.len())
    })
}

fn push_foreign<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    push_pool(link)?;
    let other = Pool::builder().frames(4).huge(Huge::Never).lock(false).build();
    let other = other.map_err(|e| Verdict::NotSupported(e.to_string()))?;
    let Some(buf) = other.alloc(link.min_len()) else { return not_supported("no second pool") };
    let id = buf.id();
    let Err(buf) = push(link, buf) else {
        return ensure(false, || "a buffer of a foreign pool was taken".into());
    };
    let same = buf.id() == id && buf.pool_tag() == other.tag();
    give_back(&other, buf)?;
    ensure(same, || "another buffer came back".into())?;
    link.expect_nothing_before(0)
}

fn push_bad<R: Rig>(link: &mut Link<'_, R>) -> Checked {
    let pool = push_pool(link)?;
    for len in [0, link.tx.max_len() + 1] {
        // A pool whose buffers cannot hold more than `max_len` has nothing too long to offer.
        let Some(buf) = pool.alloc(len) else { continue };
        match push(link, buf) {
            Err(buf) => give_back(&pool, buf)?,
            Ok(()) => return ensure(false, || format!("a buffer of {len} bytes was taken")),
        }
    }
    link.expect_nothing_before(0)
}
