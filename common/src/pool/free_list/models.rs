//! Every order in which threads can take and give back frames.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::FreeList;

/// A list of frames with the frames themselves: loom sees two threads in one, and what one wrote
/// into it and another does not see.
struct Stock {
    list: FreeList,
    frames: Vec<UnsafeCell<u32>>,
}

impl Stock {
    fn new(frames: u32) -> Arc<Self> {
        let frames_of = (0..frames).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { list: FreeList::full(frames), frames: frames_of })
    }

    /// Takes up to `N` frames and uses them.
    fn take<const N: usize>(&self) -> Vec<u32> {
        let mut ids = [0; N];
        let n = self.list.pop(&mut ids);
        for id in &ids[..n] {
            // SAFETY: the frame is this thread's alone, or loom says that it is not.
            self.frames[*id as usize].with_mut(|frame| unsafe { *frame += 1 });
        }
        ids[..n].to_vec()
    }

    fn all_are_back(&self) {
        assert_eq!(self.list.len() as usize, self.frames.len());
        assert_eq!(self.take::<8>().len(), self.frames.len());
        assert_eq!(self.list.pop(&mut [0]), 0);
    }
}

/// One thread sleeps anywhere in the middle while another takes both frames and gives back the
/// first of them: the case that the tag is for.
#[test]
fn no_frame_is_in_two_hands() {
    loom::model(|| {
        let stock = Stock::new(3);
        let other = stock.clone();
        let thread = thread::spawn(move || {
            let (a, b) = (other.take::<1>(), other.take::<1>());
            other.list.push(&a);
            let c = other.take::<1>();
            other.list.push(&b);
            other.list.push(&c);
        });
        let (a, b) = (stock.take::<1>(), stock.take::<1>());
        stock.list.push(&b);
        stock.list.push(&a);
        thread.join().expect("no panic");
        stock.all_are_back();
    });
}

/// Batches, as queues take and return them.
#[test]
fn batches_come_and_go_whole() {
    loom::model(|| {
        let stock = Stock::new(4);
        let threads = [stock.clone(), stock.clone()].map(|stock| {
            thread::spawn(move || {
                let ids = stock.take::<2>();
                assert_eq!(ids.len(), 2, "two for each were there");
                stock.list.push(&ids);
            })
        });
        for thread in threads {
            thread.join().expect("no panic");
        }
        stock.all_are_back();
    });
}

/// A reader of the statistics never sees more than there are, nor fewer than none.
#[test]
fn the_count_stays_within_bounds() {
    loom::model(|| {
        let stock = Stock::new(2);
        let other = stock.clone();
        let thread = thread::spawn(move || {
            let ids = other.take::<2>();
            other.list.push(&ids);
        });
        let ids = stock.take::<1>();
        assert!(stock.list.len() <= 4, "{}", stock.list.len());
        stock.list.push(&ids);
        thread.join().expect("no panic");
        stock.all_are_back();
    });
}
