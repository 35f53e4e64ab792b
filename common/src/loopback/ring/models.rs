//! Every order in which a producer and a consumer can meet. The entries are loom's cells: one
//! that is read before it is visibly written, or overwritten before it was read, is an error.

use loom::thread;

use super::ring;

/// Twice as many entries as slots, so that each is used again.
#[test]
fn every_entry_arrives_once_and_in_order() {
    const COUNT: u32 = 4;
    loom::model(|| {
        let (mut tx, mut rx) = ring::<u32>(2);
        let thread = thread::spawn(move || {
            for i in 0..COUNT {
                while !tx.stage(i) {
                    thread::yield_now();
                }
                tx.publish();
            }
        });
        let mut want = 0;
        while want < COUNT {
            if rx.ready(2) == 0 {
                thread::yield_now();
            }
            while let Some(entry) = rx.next() {
                assert_eq!(entry, want);
                want += 1;
            }
            rx.publish();
        }
        assert_eq!(rx.ready(2), 0);
        thread.join().expect("no panic");
    });
}

/// What is staged and not published is not seen; then a group is seen as a whole or not at all.
#[test]
fn a_group_appears_at_once() {
    loom::model(|| {
        let (mut tx, mut rx) = ring::<u32>(4);
        let thread = thread::spawn(move || {
            for i in 0..3 {
                assert!(tx.stage(i));
            }
            tx.publish();
            assert!(tx.stage(3));
            tx
        });
        assert!([0, 3].contains(&rx.visible()));
        let n = rx.ready(4);
        assert!(n == 0 || n == 3, "{n} of a group of 3");
        for i in 0..n {
            assert_eq!(rx.next(), Some(i as u32));
        }
        rx.publish();
        drop(thread.join().expect("no panic"));
        assert_eq!(rx.ready(4), 3 - n);
    });
}
