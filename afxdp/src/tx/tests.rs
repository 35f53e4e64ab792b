//! What a queue believes of a kernel that is played.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use linerate_common::clock::{PhcReading, PhcWatch};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, ClockDomain, Clocked, FrameRx, FrameTx, RxFlags, TxStamps};

use crate::clock::TxClock;
use crate::played::Kernel;
use crate::ring::Desc;
use crate::sys::TxMetadata;

use super::XdpTx;
use super::stamps::StampLog;

const SLOTS: u32 = 64;
const LAST: u64 = 2047;

/// Sends frames that begin with these bytes, with one kick.
fn send(tx: &mut XdpTx, frames: impl IntoIterator<Item = u8>) {
    for first in frames {
        assert!(tx.send(&[first; 60]).unwrap());
    }
    tx.kick().unwrap();
}

/// Takes all that was sent.
fn taken(kernel: &Kernel) -> Vec<Desc> {
    std::iter::from_fn(|| kernel.tx.take()).collect()
}

fn complete(kernel: &Kernel, places: impl IntoIterator<Item = u64>) {
    places.into_iter().for_each(|place| kernel.completion.give(place));
}

fn first_byte(kernel: &Kernel, desc: Desc) -> u8 {
    // SAFETY: of a frame that is the kernel's, which we play.
    unsafe { kernel.memory().add(desc.addr as usize).read() }
}

/// All slots are free, and each has a frame of its own.
fn whole(kernel: &Kernel, tx: &mut XdpTx) {
    tx.reap();
    assert_eq!(tx.room(), SLOTS as usize);
    send(tx, (0..SLOTS).map(|i| i as u8));
    assert!(!tx.send(&[1; 60]).unwrap(), "there is room for more than the ring holds");
    let descs = taken(kernel);
    for (i, desc) in descs.iter().enumerate() {
        assert_eq!(first_byte(kernel, *desc), i as u8);
        assert_eq!((desc.len, desc.options), (60, 0));
        assert_eq!((desc.addr & LAST) as usize, tx.pool().headroom(), "a frame has lost room");
    }
    let frames: HashSet<u64> = descs.iter().map(|desc| desc.addr >> 11).collect();
    assert_eq!(frames.len(), SLOTS as usize, "a frame is in two slots");
    complete(kernel, descs.iter().map(|desc| desc.addr));
    assert_eq!(tx.reap(), SLOTS as usize);
}

#[test]
fn frames_that_come_back_in_order_are_sent_again() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    let (mut on_their_way, mut number) = (Vec::new(), 0u32);
    // Groups of all sizes, of which as many come back, so that rings end anywhere in them.
    for size in (1..=SLOTS / 2).chain([SLOTS / 2; 9]) {
        send(&mut tx, (0..size).map(|i| (number + i) as u8));
        for (i, desc) in taken(&kernel).into_iter().enumerate() {
            assert_eq!(first_byte(&kernel, desc), (number + i as u32) as u8);
            assert!(!on_their_way.contains(&desc.addr), "sent twice at once");
            on_their_way.push(desc.addr);
        }
        number += size;
        let back = on_their_way.len().saturating_sub(7);
        complete(&kernel, on_their_way.drain(..back));
        assert_eq!(tx.reap(), back);
        assert_eq!(tx.room(), SLOTS as usize - on_their_way.len());
    }
    complete(&kernel, on_their_way);
    whole(&kernel, &mut tx);
    let stats = tx.stats();
    assert_eq!((stats.frames, stats.completed), (u64::from(number + SLOTS), stats.frames));
    assert_eq!(tx.false_completions(), 0);
}

#[test]
fn the_last_frame_back_is_the_next_to_go_out() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    let mut places = HashSet::new();
    for i in 0..200 {
        send(&mut tx, [i]);
        let place = taken(&kernel)[0].addr;
        places.insert(place);
        complete(&kernel, [place]);
        assert_eq!(tx.reap(), 1);
    }
    assert_eq!(places.len(), 1, "frames go cold");
}

#[test]
fn frames_that_come_back_in_another_order_are_believed() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    let mut random = 1u32;
    for turn in 0..50 {
        send(&mut tx, 0..40);
        let mut places: Vec<u64> = taken(&kernel).iter().map(|desc| desc.addr).collect();
        if turn % 3 == 0 {
            places.reverse();
        } else {
            for i in (1..places.len()).rev() {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                places.swap(i, (random >> 16) as usize % (i + 1));
            }
        }
        let (some, others) = places.split_at(turn % 40);
        complete(&kernel, some.iter().copied());
        tx.reap();
        assert_eq!(tx.room(), SLOTS as usize - others.len());
        complete(&kernel, others.iter().copied());
        assert_eq!(tx.reap(), others.len());
    }
    assert_eq!(tx.false_completions(), 0);
    whole(&kernel, &mut tx);
}

/// The start of the frame will do: what it is, is said by the queue's own memory.
#[test]
fn a_place_elsewhere_in_the_frame_is_as_good() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    send(&mut tx, 0..9);
    complete(&kernel, taken(&kernel).iter().map(|desc| desc.addr & !LAST));
    assert_eq!(tx.reap(), 9);
    assert_eq!(tx.false_completions(), 0);
    whole(&kernel, &mut tx);
}

#[test]
fn false_completions_are_counted_and_change_nothing() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    send(&mut tx, 0..8);
    let sent = taken(&kernel);
    complete(&kernel, sent[..4].iter().map(|desc| desc.addr));
    assert_eq!(tx.reap(), 4);
    // Committed, but not yet submitted.
    assert!(tx.send(&[9; 60]).unwrap());
    assert!(tx.send(&[10; 60]).unwrap());
    let room = tx.room();
    let lent_to_receive = kernel.fill.take().unwrap();
    let wrong = [
        sent[0].addr,                    // back already, and free
        sent[3].addr,                    // back already, and committed anew
        sent[2].addr,                    // the same
        lent_to_receive,                 // of the other half
        lent_to_receive + 256,           //
        u64::MAX,                        // nothing
        1 << 40,                         // behind the region
        sent[4].addr | 1 << 63,          // on its way but for one bit
        sent[4].addr.wrapping_add(2048), // the frame beside it, which is free
    ];
    for (i, wrong) in wrong.into_iter().enumerate() {
        let before = tx.false_completions();
        complete(&kernel, [wrong]);
        assert_eq!(tx.reap(), 0, "number {i} was believed");
        assert_eq!((tx.room(), tx.false_completions()), (room, before + 1), "number {i}");
    }
    // Among good ones, and one of these twice.
    let before = tx.false_completions();
    let good: Vec<u64> = sent[4..].iter().map(|desc| desc.addr).collect();
    complete(&kernel, [good[0], u64::MAX, good[1], good[1], good[3], good[2], good[3]]);
    assert_eq!(tx.reap(), 4);
    assert_eq!(tx.false_completions(), before + 3);
    // Committed, with nothing else on its way: next in order, and yet not believed.
    complete(&kernel, [sent[3].addr]);
    assert_eq!((tx.reap(), tx.false_completions()), (0, before + 4));
    // What was committed is still there, as it was.
    tx.kick().unwrap();
    let rest = taken(&kernel);
    assert_eq!(rest.iter().map(|desc| first_byte(&kernel, *desc)).collect::<Vec<_>>(), [9, 10]);
    complete(&kernel, rest.iter().map(|desc| desc.addr));
    whole(&kernel, &mut tx);
    assert_eq!(tx.stats().completed, 10 + u64::from(SLOTS));
}

/// More than ever went out: an index of the kernel's that ran away.
#[test]
fn a_ring_full_of_completions_is_no_more_than_was_sent() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    for _ in 0..5 {
        send(&mut tx, 0..10);
        let places: Vec<u64> = taken(&kernel).iter().map(|desc| desc.addr).collect();
        let before = tx.false_completions();
        complete(&kernel, (0..SLOTS as usize).map(|i| places[i % places.len()]));
        assert_eq!(tx.reap(), 10);
        assert_eq!(tx.false_completions(), before + u64::from(SLOTS) - 10);
    }
    whole(&kernel, &mut tx);
}

#[test]
fn what_comes_back_between_reserve_and_commit_is_not_sent_instead() {
    let kernel = Kernel::new(SLOTS);
    let (_rx, mut tx) = kernel.queue();
    send(&mut tx, [1, 2, 3]);
    let sent = taken(&kernel);
    tx.reserve(60).unwrap().fill(77);
    complete(&kernel, sent.iter().map(|desc| desc.addr));
    assert_eq!(tx.reap(), 3);
    tx.commit(60);
    tx.kick().unwrap();
    let rest = taken(&kernel);
    assert_eq!((rest.len(), first_byte(&kernel, rest[0])), (1, 77));
    complete(&kernel, [rest[0].addr]);
    whole(&kernel, &mut tx);
}

#[test]
fn a_buffers_frame_takes_the_place_of_one_of_the_queues() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, mut tx) = kernel.queue();
    let pool = tx.pool().clone();
    for turn in 0..30 {
        for i in 0..8 {
            // Each begins somewhere else in its frame.
            let at = kernel.fill.take().unwrap() + 256 + u64::from(turn + i);
            // SAFETY: lent to the kernel, which we play.
            unsafe { kernel.memory().add(at as usize).write_bytes(turn * 8 + i, 60) };
            kernel.rx.give(Desc { addr: at, len: 60, options: 0 });
        }
        assert_eq!(rx.acquire(64).unwrap(), 8);
        let mut places = Vec::new();
        for i in 0..8 {
            let buf = rx.take(i).unwrap();
            let place = u64::from(buf.id()) * (LAST + 1) + buf.offset() as u64;
            tx.push(buf).unwrap();
            tx.kick().unwrap();
            let sent = taken(&kernel)[0];
            assert_eq!((sent.addr, sent.len), (place, 60));
            assert_eq!(first_byte(&kernel, sent), turn * 8 + i as u8);
            places.push(sent.addr);
        }
        rx.release();
        if turn % 2 == 1 {
            places.reverse();
        }
        complete(&kernel, places);
        assert_eq!(pool.outstanding(), 0, "a frame is nobody's");
        assert_eq!(tx.reap(), 8);
        // What is copied into such a frame begins where it always does.
        send(&mut tx, [0]);
        let sent = taken(&kernel)[0];
        assert_eq!((sent.addr & LAST) as usize, pool.headroom());
        complete(&kernel, [sent.addr]);
        assert_eq!(tx.reap(), 1);
    }
    assert_eq!(tx.false_completions(), 0);
    // The receiver got those that the sender gave up for them, but for what the latter collects
    // before it goes to the pool.
    let lent = std::iter::from_fn(|| kernel.fill.take()).collect::<HashSet<u64>>();
    assert!(lent.len() + 24 >= SLOTS as usize, "{} are lent", lent.len());
    whole(&kernel, &mut tx);
}

#[test]
fn a_buffer_of_another_pool_or_without_room_comes_back() {
    let kernel = Kernel::new(SLOTS);
    let (mut rx, mut tx) = kernel.queue();
    let other = Pool::builder().frames(64).huge(Huge::Never).lock(false).build().unwrap();
    let stranger = other.alloc(60).unwrap();
    let stranger = tx.push(stranger).expect_err("of another pool");
    assert_eq!(tx.room(), SLOTS as usize);
    other.free(stranger).unwrap();
    send(&mut tx, (0..SLOTS).map(|i| i as u8));
    assert!(kernel.bring(&[5; 60]));
    assert_eq!(rx.acquire(1).unwrap(), 1);
    let buf = rx.take(0).unwrap();
    rx.release();
    let buf = tx.push(buf).expect_err("no room");
    kernel.send();
    tx.push(buf).expect("room again");
    tx.kick().unwrap();
    kernel.send();
    whole(&kernel, &mut tx);
    assert_eq!(tx.pool().outstanding(), 0);
}

#[test]
fn stamps_follow_a_card_that_is_moved_to_tai() {
    const UTC_NS: u64 = 1_790_000_000_000_000_000;
    let kernel = Kernel::new(64);
    let (_rx, mut tx) = kernel.queue();
    let ahead = Arc::new(AtomicI64::new(0));
    let shown = Arc::clone(&ahead);
    let read = move || Some(PhcReading { ahead_ns: shown.load(Ordering::Relaxed), tai_s: 37 });
    let watch = PhcWatch::with(2, read);
    let clock = TxClock::Card(watch.scale(), Some(watch));
    tx.stamps = Some(Box::new(StampLog::new(clock, tx.pool().frames(), 64)));
    // The stamp of a frame that the card sent, as the queue shows it.
    let stamp = |tx: &mut XdpTx, reading: u64| {
        let meta = TxMetadata { tx_timestamp: reading, ..TxMetadata::default() };
        tx.reserve(60).unwrap();
        let at = tx.base.wrapping_add(tx.frames.peek().unwrap() as usize);
        tx.commit(60);
        // SAFETY: in front of the frame, in the kernel's hands, which this is.
        unsafe { at.sub(size_of::<TxMetadata>()).cast::<TxMetadata>().write_unaligned(meta) };
        tx.kick().unwrap();
        assert_eq!(kernel.send(), 1);
        let mut seen = None;
        tx.reap_with(&mut |stamp| seen = Some((stamp.ts_ns, stamp.flags)));
        seen.unwrap()
    };
    assert_eq!(stamp(&mut tx, UTC_NS), (UTC_NS, RxFlags::TS_HW));
    ahead.store(37_000_000_000, Ordering::Relaxed);
    let begun = Instant::now();
    while tx.clock().domain != ClockDomain::PhcTai(2) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody looked");
        tx.stats();
    }
    let unsure = RxFlags::TS_HW | RxFlags::TS_UNSYNCED;
    assert_eq!(stamp(&mut tx, UTC_NS + 37_000_000_000), (UTC_NS, unsure));
}
