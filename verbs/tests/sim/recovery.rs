//! Queues that fail and come back, and what becomes of the frames meanwhile.

use linerate_common::{BufTx, ErrorKind, FrameRx, FrameTx};
use linerate_ibverbs_sys as sys;
use linerate_sim::verbs::{RecvFault, SendFault};

use crate::frames::{frame, queues, receive, send, until};

#[test]
fn frames_that_a_reset_throws_away_are_counted() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    for n in 0..5 {
        send(&mut tx, n);
    }
    until("the frames to arrive", || pair.b.faults().received() == 5);
    assert_eq!(rx.acquire(1).unwrap(), 1);
    rx.recover().unwrap();
    send(&mut tx, 5);
    assert_eq!(receive(&mut rx, 1), [5]);
    let stats = rx.stats();
    assert_eq!((stats.frames, stats.ring_lapped), (2, 4), "{stats:?}");
}

#[test]
fn fatal_events_of_a_queue_are_its_own_and_do_not_stick() {
    let pair = pair_or_skip!();
    pair.b.faults().raise_fatal_events();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    for round in 0..3 {
        pair.b.faults().on_recv(0, RecvFault::Status(sys::IBV_WC_GENERAL_ERR));
        send(&mut tx, 2 * round);
        until("the error", || {
            rx.acquire(64).unwrap();
            rx.stats().malformed == u64::from(round) + 1
        });
        rx.acquire(1).unwrap();
        send(&mut tx, 2 * round + 1);
        assert_eq!(receive(&mut rx, 1), [2 * round + 1]);
        rx.waitable().unwrap().arm().unwrap();
    }
}

#[test]
fn a_dead_device_is_told_by_every_call() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.a.die();
    pair.b.die();
    // What the device says is read once a second by whoever asks for the counters.
    rx.stats();
    tx.stats();
    assert_eq!(rx.acquire(64).unwrap_err().kind, ErrorKind::DeviceGone);
    assert!(tx.send(&frame(0, 60)).unwrap());
    assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::DeviceGone);
}

#[test]
fn frames_wait_for_the_link() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.a.set_link(false);
    tx.stats();
    for n in 0..64 {
        assert!(tx.send(&frame(n, 60)).unwrap());
    }
    assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::LinkDown);
    assert!(!tx.send(&frame(64, 60)).unwrap(), "the list is full and cannot be posted");
    pair.a.set_link(true);
    tx.kick().unwrap();
    assert_eq!(receive(&mut rx, 64), (0..64).collect::<Vec<_>>());
}

#[test]
fn without_recovery_a_kick_tells_that_sending_stopped() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |o| o.recover = false);
    drop(tx);
    let mut options = linerate_verbs::Options::default();
    (options.recover, options.tx_slots) = (false, 16);
    tx = pair.open(&pair.a, &options).split().1;
    pair.a.faults().on_send(0, SendFault::Status(sys::IBV_WC_LOC_QP_OP_ERR));
    send(&mut tx, 0);
    until("the completion", || tx.reap() == 1);
    assert!(tx.send(&frame(1, 60)).unwrap());
    assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::QueueLost);
    assert_eq!(tx.kick().unwrap_err().kind, ErrorKind::QueueLost);
    tx.recover().unwrap();
    tx.kick().unwrap();
    assert_eq!(receive(&mut rx, 1), [1], "what was committed is still there");
    assert_eq!((tx.stats().failed, tx.stats().frames), (1, 2));
}

#[test]
fn an_error_met_within_a_commit_is_told_by_the_kick() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.a.faults().limit_posts(60);
    for n in 0..64 {
        assert!(tx.send(&frame(n, 60)).unwrap());
    }
    assert_eq!(tx.kick().unwrap_err().errno, libc::ENOMEM);
    tx.kick().unwrap();
    assert_eq!((tx.stats().frames, tx.stats().refused), (60, 4));
    assert_eq!(receive(&mut rx, 60).len(), 60);
}

/// A reservation survives completions that come in between: the frame written is the one sent.
#[test]
fn reaping_between_reserve_and_commit_changes_nothing() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    for n in 0..200 {
        if n > 0 {
            send(&mut tx, 2 * n - 1);
        }
        let next = frame(2 * n, 100);
        tx.reserve(100).unwrap().copy_from_slice(&next);
        until("the frame before to complete", || n == 0 || tx.reap() > 0);
        tx.commit(100);
        tx.kick().unwrap();
        until("its completion", || tx.reap() > 0);
        let want: Vec<u32> = if n == 0 { vec![0] } else { vec![2 * n - 1, 2 * n] };
        assert_eq!(receive(&mut rx, want.len()), want);
    }
}

#[test]
fn frames_too_short_for_the_card_are_filled_up() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    tx.reserve(100).unwrap().fill(0xff);
    tx.commit(15);
    tx.kick().unwrap();
    let mut seen = Vec::new();
    until("the frame", || rx.poll(1, |f| seen = f.bytes.to_vec()).unwrap() == 1);
    assert_eq!(seen, [[0xff; 15].as_slice(), &[0; 3]].concat());
}

#[test]
fn a_buffer_of_another_pool_is_refused() {
    let pair = pair_or_skip!();
    let (mut tx, _rx) = queues(&pair, |_| ());
    let pool = linerate_common::pool::Pool::builder()
        .frames(64)
        .huge(linerate_common::pool::Huge::Never)
        .lock(false)
        .build()
        .unwrap();
    let buf = pool.alloc(60).unwrap();
    let back = tx.push(buf).unwrap_err();
    pool.free(back).unwrap();
}
