//! Every order in which the queue and the card can meet at transmit memory: the card reads a chunk
//! some time after its command and confirms it then, and no chunk is written again before that.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use loom::sync::mpsc;
use loom::thread;

use super::*;
use crate::feedback::Feedback;
use crate::sender::Memory;
use crate::shared::AtomicU16;

const FRAME: [u8; 54] = [0; 54];
const FRAMES: u64 = 5;

/// A queue of `lines` lines and the card's side: sends [`FRAMES`] frames of a line each, by `send`
/// and by reservation in turns.
fn send_all(lines: usize) {
    loom::model(move || {
        let (memory, slot) = (Memory::new(lines), Arc::new(AtomicU16::new(0)));
        let (commands, todo) = mpsc::channel();
        let (theirs, confirmed) = (Arc::clone(&memory), Arc::clone(&slot));
        let card = thread::spawn(move || {
            for seq in 0..FRAMES {
                let at = todo.recv().expect("a command");
                let id = theirs.fetch(at) as u16;
                assert_eq!(id, feedback_id(seq), "another frame than was sent");
                confirmed.store(id, Ordering::Release);
            }
        });
        // SAFETY: the slot outlives the queue.
        let feedback = unsafe { Feedback::new(NonNull::from(&*slot)) };
        let mut tx = queue(Sender::of(memory, commands, feedback));
        for seq in 0..FRAMES {
            loop {
                if seq % 2 == 0 {
                    if tx.send(&FRAME).expect("short enough") {
                        break;
                    }
                } else if tx.reserve(FRAME.len()).is_some() {
                    tx.commit(FRAME.len());
                    break;
                }
                thread::yield_now();
            }
        }
        while tx.in_flight() > 0 {
            tx.reap();
            thread::yield_now();
        }
        card.join().expect("no panic");
        assert_eq!(tx.stats.completed, FRAMES);
    });
}

fn queue(sender: Sender) -> ExanicTx {
    let slots = sender.queue();
    ExanicTx {
        free_to: sender.bytes(),
        full_seq: slots as u64,
        starts: vec![0; slots.next_power_of_two()].into_boxed_slice(),
        stamper: None,
        oldest_seq: 0,
        next_seq: 0,
        next: 0,
        staging: vec![0; room_for(sender.mtu())].into_boxed_slice(),
        reserved: None,
        stats: TxStats::default(),
        sender,
    }
}

#[test]
fn no_chunk_is_overwritten_before_it_was_sent() {
    send_all(2);
}

#[test]
fn memory_that_is_no_power_of_two_goes_round() {
    send_all(3);
}
