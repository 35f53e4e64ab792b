//! Every fault of the simulated device, and what the queues make of it.

use std::time::Duration;

use crate::frames::{frame, queues, receive, send, until};
use linerate_common::{
    ErrorKind, FlowSpec, FrameRx, FrameTx, NO_TS, RxFlags, Steer, clock::now_ns, wait_readable,
};
use linerate_ibverbs_sys as sys;
use linerate_sim::verbs::{RecvFault, SendFault, StampKind};

#[test]
fn a_receive_error_is_named_and_the_queue_recovers() {
    for (status, truncated, malformed) in
        [(sys::IBV_WC_LOC_LEN_ERR, 1, 0), (sys::IBV_WC_GENERAL_ERR, 0, 1)]
    {
        let pair = pair_or_skip!();
        let (mut tx, mut rx) = queues(&pair, |_| ());
        send(&mut tx, 0);
        assert_eq!(receive(&mut rx, 1), [0]);
        pair.b.faults().on_recv(0, RecvFault::Status(status));
        send(&mut tx, 1);
        until("the error", || {
            rx.acquire(64).unwrap();
            rx.stats().lost() == 1
        });
        assert_eq!((rx.stats().truncated, rx.stats().malformed), (truncated, malformed));
        // Recovery happens in the next poll; then frames flow again.
        rx.acquire(1).unwrap();
        send(&mut tx, 2);
        assert_eq!(receive(&mut rx, 1), [2]);
    }
}

#[test]
fn without_recovery_the_error_is_told_and_recover_is_the_callers() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |o| o.recover = false);
    pair.b.faults().on_recv(0, RecvFault::Status(sys::IBV_WC_GENERAL_ERR));
    send(&mut tx, 0);
    let mut seen = None;
    until("the error", || {
        seen = rx.acquire(64).err();
        seen.is_some()
    });
    assert_eq!(seen.map(|e| e.kind), Some(ErrorKind::QueueLost));
    rx.recover().unwrap();
    send(&mut tx, 1);
    assert_eq!(receive(&mut rx, 1), [1]);
}

#[test]
fn a_late_completion_changes_order_of_nothing_else() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.b.faults().on_recv(0, RecvFault::Late);
    send(&mut tx, 0);
    send(&mut tx, 1);
    assert_eq!(receive(&mut rx, 2), [0, 1]);
}

/// A buffer in two hands would be written while it is read.
#[test]
fn a_frame_completed_twice_is_shown_once_and_the_queue_starts_afresh() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.b.faults().on_recv(0, RecvFault::Twice);
    send(&mut tx, 0);
    until("both completions", || pair.b.faults().received() == 1);
    assert_eq!(receive(&mut rx, 1), [0]);
    // The queue posted its buffers again and none twice: all of them can be filled.
    rx.acquire(1).unwrap();
    for n in 1..=64 {
        until("room to send", || tx.send(&frame(n, 60)).unwrap());
        tx.kick().unwrap();
    }
    until("the frames to arrive", || pair.b.faults().received() == 65);
    assert_eq!(receive(&mut rx, 64), (1..=64).collect::<Vec<_>>());
    assert_eq!(rx.stats().frames, 65);
}

#[test]
fn a_send_error_counts_as_failed_and_sending_goes_on() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.a.faults().on_send(1, SendFault::Status(sys::IBV_WC_LOC_QP_OP_ERR));
    for n in 0..3 {
        send(&mut tx, n);
    }
    until("the completion", || {
        tx.reap();
        tx.stats().completed == 3
    });
    let failed = tx.stats().failed;
    assert!((1..=2).contains(&failed), "frame 1 failed and perhaps took 2 along: {failed}");
    send(&mut tx, 3);
    let arrived = receive(&mut rx, 5 - 1 - failed as usize);
    assert_eq!((arrived.first(), arrived.last()), (Some(&0), Some(&3)));
}

#[test]
fn a_partial_post_loses_nothing_unnamed() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.a.faults().limit_posts(5);
    for n in 0..8 {
        assert!(tx.send(&frame(n, 100)).unwrap());
    }
    let error = tx.kick().unwrap_err();
    assert_eq!(error.errno, libc::ENOMEM);
    assert_eq!((tx.stats().frames, tx.stats().refused), (5, 3));
    pair.a.faults().limit_posts(0);
    send(&mut tx, 8);
    assert_eq!(receive(&mut rx, 6), [0, 1, 2, 3, 4, 8]);
}

#[test]
fn partial_receive_posts_fill_up_later() {
    let pair = pair_or_skip!();
    pair.b.faults().limit_posts(7);
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.b.faults().limit_posts(3);
    for round in 0..40 {
        for n in 0..5 {
            send(&mut tx, round * 5 + n);
        }
        let got = receive(&mut rx, 5);
        assert_eq!(got, (round * 5..round * 5 + 5).collect::<Vec<_>>());
    }
}

#[test]
fn frames_without_a_buffer_are_counted() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    for n in 0..100 {
        until("room to send", || tx.send(&frame(n, 60)).unwrap());
        tx.kick().unwrap();
    }
    until("all frames to cross", || {
        tx.reap();
        tx.stats().completed == 100 && pair.b.out_of_buffer() == 36
    });
    assert_eq!(rx.stats().no_buffer, 36);
    assert_eq!(receive(&mut rx, 64), (0..64).collect::<Vec<_>>());
}

#[test]
fn a_stalled_card_is_back_pressure() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.a.faults().stall(true);
    let mut taken = 0;
    while tx.send(&frame(taken, 100)).unwrap() {
        taken += 1;
    }
    assert_eq!((taken, tx.room()), (64, 0));
    pair.a.faults().stall(false);
    tx.kick().unwrap();
    assert_eq!(receive(&mut rx, 64).len(), 64);
}

#[test]
fn link_events_are_typed_errors_and_pass() {
    let pair = pair_or_skip!();
    let (_tx, mut rx) = queues(&pair, |_| ());
    pair.b.set_link(false);
    assert_eq!(rx.waitable().unwrap().arm().unwrap_err().kind, ErrorKind::LinkDown);
    pair.b.set_link(true);
    rx.waitable().unwrap().arm().unwrap();
    pair.b.die();
    assert_eq!(rx.waitable().unwrap().arm().unwrap_err().kind, ErrorKind::DeviceGone);
    pair.b.set_link(true);
    let still = rx.waitable().unwrap().arm().unwrap_err();
    assert_eq!(still.kind, ErrorKind::DeviceGone, "a dead device stays dead");
}

#[test]
fn the_channel_wakes_once_per_arming() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    for n in 0..50 {
        let queue = rx.waitable().unwrap();
        queue.arm().unwrap();
        send(&mut tx, n);
        assert!(wait_readable(queue.fd(), Some(Duration::from_secs(20))).unwrap());
        assert_eq!(receive(&mut rx, 1), [n]);
    }
    let queue = rx.waitable().unwrap();
    queue.arm().unwrap();
    assert!(!wait_readable(queue.fd(), Some(Duration::from_millis(5))).unwrap(), "nothing came");
}

#[test]
fn busy_polls_are_retried() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    pair.b.faults().busy_polls(10);
    send(&mut tx, 7);
    assert_eq!(receive(&mut rx, 1), [7]);
}

#[test]
fn all_three_encodings_give_utc() {
    for stamps in [StampKind::Wallclock, StampKind::Ticks, StampKind::RealTime] {
        let pair = pair_or_skip!(stamps);
        let (mut tx, mut rx) = queues(&pair, |_| ());
        let before = now_ns();
        send(&mut tx, 0);
        let mut meta = None;
        until("the frame", || {
            rx.poll(1, |f| meta = Some(f.meta)).unwrap();
            meta.is_some()
        });
        let meta = meta.unwrap();
        assert!(meta.flags.contains(RxFlags::TS_HW), "{stamps:?}: {meta:?}");
        // Ticks of 6.4 ns and two clock readings lie between.
        let slack = 1_000_000;
        let range = before - slack..now_ns() + slack;
        assert!(range.contains(&meta.ts_ns), "{stamps:?}: {} not in {range:?}", meta.ts_ns);
    }
    let pair = pair_or_skip!(StampKind::None);
    let (mut tx, mut rx) = queues(&pair, |_| ());
    send(&mut tx, 0);
    let mut stamp = 0;
    until("the frame", || rx.poll(1, |f| stamp = f.meta.ts_ns).unwrap() == 1);
    assert_eq!(stamp, NO_TS);
}

#[test]
fn flows_select_and_mark() {
    let pair = pair_or_skip!();
    let (mut tx, mut rx) = queues(&pair, |o| o.flows.clear());
    let other: FlowSpec = "ether:0x88cc".parse().unwrap();
    let ours: FlowSpec = "ether:0x88b5".parse().unwrap();
    rx.add(&other).unwrap();
    send(&mut tx, 0);
    until("the frame to be refused", || pair.b.unmatched() == 1);
    let rule = rx.add(&ours).unwrap();
    send(&mut tx, 1);
    let mut seen = None;
    until("the frame", || rx.poll(1, |f| seen = Some((f.bytes[17], f.meta.mark))).unwrap() == 1);
    assert_eq!(seen, Some((1, rule.0)));
    rx.remove(rule).unwrap();
    assert_eq!(rx.remove(rule).unwrap_err().kind(), ErrorKind::BadArgument);
    send(&mut tx, 2);
    until("the frame to be refused again", || pair.b.unmatched() == 2);
    assert_eq!(rx.acquire(64).unwrap(), 0);
}

#[test]
fn poorer_cards_work_without_tags_or_extended_queues() {
    let pair = pair_or_skip!();
    pair.b.faults().refuse_flow_tags();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    send(&mut tx, 0);
    assert_eq!(receive(&mut rx, 1), [0]);
    drop((tx, rx));
    pair.b.faults().refuse_extended_cq();
    let (mut tx, mut rx) = queues(&pair, |_| ());
    send(&mut tx, 1);
    assert_eq!(receive(&mut rx, 1), [1]);
}
