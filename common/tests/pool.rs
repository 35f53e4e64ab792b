//! The buffer pool against the real kernel.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linerate_common::pool::{DmaRegion, FrameCache, Huge, Numa, PageSize, Pool, RegionOptions};
use linerate_common::{ErrorKind, SetupError};

fn small(frames: u32) -> Pool {
    Pool::builder().frames(frames).huge(Huge::Never).lock(false).build().unwrap()
}

#[test]
fn no_frame_straddles_a_page_and_none_overlaps() {
    let pool = small(16);
    let base = pool.region().as_ptr() as usize;
    assert_eq!(base % 4096, 0);
    let mut bufs: Vec<_> = (0..16).map(|_| pool.alloc(1792).unwrap()).collect();
    for (i, buf) in bufs.iter_mut().enumerate() {
        pool.bytes_mut(buf).unwrap().fill(i as u8);
    }
    for (i, buf) in bufs.iter().enumerate() {
        let bytes = pool.bytes(buf).unwrap();
        assert!(bytes.iter().all(|b| *b == i as u8), "frame {i} was overwritten");
        let at = bytes.as_ptr() as usize - base;
        assert_eq!(at / 4096, (at + bytes.len() - 1) / 4096, "frame {i} straddles a page");
        assert_eq!(at % 2048, 256, "headroom");
    }
    assert!(pool.alloc(1).is_none(), "the pool is empty");
    assert!(small(1).alloc(1793).is_none(), "longer than a frame behind its headroom");
}

#[test]
fn outstanding_counts_what_the_application_holds() {
    let pool = small(300);
    let mut queue = pool.cache();
    queue.reserve(100).unwrap();
    assert_eq!(pool.outstanding(), 0);
    let kept = pool.alloc(60).unwrap();
    let id = queue.alloc().unwrap();
    assert_eq!(pool.outstanding(), 1, "lent to a card is not held by the application");
    let taken = queue.take(id, 256, 60).unwrap();
    assert_eq!(pool.outstanding(), 2);
    assert_eq!(queue.accept(taken), Ok((id, 256, 60)));
    assert_eq!(pool.outstanding(), 1);
    drop(queue);
    assert_eq!((pool.outstanding(), pool.free_frames()), (1, 299));
    pool.free(kept).unwrap();
    assert_eq!(pool.outstanding(), 0);
}

#[test]
fn a_foreign_buffer_is_handed_back() {
    let (ours, theirs) = (small(4), small(4));
    let mut buf = theirs.alloc(60).unwrap();
    assert!(ours.bytes(&buf).is_none() && ours.bytes_mut(&mut buf).is_none());
    let buf = ours.free(buf).unwrap_err();
    let buf = ours.cache().accept(buf).unwrap_err();
    theirs.free(buf).unwrap();
    assert_eq!((ours.free_frames(), theirs.free_frames()), (4, 4));
}

#[test]
fn a_completion_is_believed_once_only() {
    let mut queue = small(8).cache();
    let id = queue.alloc().unwrap();
    assert!(!queue.free(7_000_000), "out of range");
    assert!(!queue.free(if id == 0 { 1 } else { 0 }), "never lent");
    assert!(queue.free(id));
    assert!(!queue.free(id), "completed twice");
    assert!(queue.take(id, 0, 60).is_none(), "not lent any more");
}

#[test]
fn a_queue_that_cannot_be_supplied_takes_nothing() {
    let pool = small(8);
    let e = pool.cache().reserve(9).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BadArgument);
    assert!(e.to_string().contains("8 free frames"), "{e}");
    assert_eq!(pool.free_frames(), 8);
}

#[test]
fn frames_that_a_queue_keeps_are_lent_at_once_and_make_no_stock() {
    let pool = small(512);
    assert!(pool.cache().lend(513).is_err());
    let mut queue = pool.cache();
    let ids = queue.lend(256).unwrap();
    assert_eq!((ids.len(), queue.lent(), queue.available()), (256, 256, 0));
    assert_eq!((pool.free_frames(), pool.outstanding()), (256, 0));
    assert!(ids.iter().all(|id| queue.is_lent(*id)));
    // Most of what it gives up goes to the pool, as it would without them.
    assert!(ids.iter().all(|id| queue.free(*id)));
    assert!(pool.free_frames() >= 512 - 64, "{}", pool.free_frames());
    drop(queue);
    assert_eq!(pool.free_frames(), 512);
}

/// Two queues that pass frames to each other never hold the same one.
#[test]
fn frames_wander_between_two_threads() {
    let pool = small(512);
    let (to_b, from_a) = std::sync::mpsc::sync_channel(64);
    let sender = pool.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut queue = sender.cache();
            for n in 0..50_000_u32 {
                let id = loop {
                    match queue.alloc() {
                        Some(id) => break id,
                        None => std::thread::yield_now(),
                    }
                };
                let mut buf = queue.take(id, 0, 64).unwrap();
                sender.bytes_mut(&mut buf).unwrap()[..4].copy_from_slice(&n.to_ne_bytes());
                to_b.send(buf).unwrap();
            }
        });
        let mut queue: FrameCache = pool.cache();
        for (n, buf) in from_a.iter().enumerate() {
            assert_eq!(pool.bytes(&buf).unwrap()[..4], (n as u32).to_ne_bytes());
            let (id, ..) = queue.accept(buf).unwrap();
            assert!(queue.free(id));
        }
    });
    assert_eq!((pool.outstanding(), pool.free_frames()), (0, 512));
}

#[test]
fn missing_hugepages_are_a_notice_or_an_error_with_the_command() {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    if free.is_ok_and(|n| n.trim() != "0") {
        linerate_lab::skip("missing_hugepages", "this machine has free hugepages");
        return;
    }
    let pool = Pool::builder().frames(2048).build().unwrap();
    assert_eq!(pool.region().page_size(), PageSize::FourKiB);
    let notice = pool.notices().join(" ");
    assert!(notice.contains("echo 2 | sudo tee /sys/kernel/mm/hugepages"), "{notice}");
    let e = Pool::builder().huge(Huge::Require(PageSize::TwoMiB)).build().unwrap_err();
    assert!(e.to_string().contains("nr_hugepages"), "{e}");
}

#[test]
fn hugepages_are_used_where_there_are_some() {
    let all = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let free: u32 = std::fs::read_to_string(all).unwrap_or_default().trim().parse().unwrap_or(0);
    if free == 0 {
        linerate_lab::skip("hugepages_are_used", "no free 2 MiB hugepages");
        return;
    }
    let pool = Pool::builder().frames(64).build().unwrap();
    assert_eq!(pool.region().page_size(), PageSize::TwoMiB);
    assert_eq!(pool.region().len() % (2 << 20), 0);
}

#[test]
fn the_region_is_resident_unforkable_and_on_its_node() {
    let options = RegionOptions { huge: Huge::Never, numa: Numa::Node(0), lock: true };
    let region = DmaRegion::map(1 << 20, &options).unwrap();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{:x}-", region.as_ptr() as usize);
    let mut mapping = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let flags = mapping.clone().find(|line| line.starts_with("VmFlags")).unwrap();
    assert!(flags.contains(" dc"), "MADV_DONTFORK: {flags}");
    assert_eq!(flags.contains(" lo"), region.is_locked(), "{flags}");
    let rss = mapping.find(|line| line.starts_with("Rss")).unwrap();
    assert!(rss.contains("1024 kB"), "prefaulted: {rss}");
    assert_eq!(region.numa_node().unwrap_or(0), 0);
}

#[test]
fn one_registration_per_key_and_it_keeps_the_memory() {
    struct Registration(Arc<DmaRegion>, Arc<AtomicBool>);
    impl Drop for Registration {
        fn drop(&mut self) {
            assert!(!self.0.as_ptr().is_null());
            self.1.store(true, Ordering::Relaxed);
        }
    }
    let region = small(4).region().clone(); // the pool itself is gone
    let gone = Arc::new(AtomicBool::new(false));
    let make = || Ok(Registration(region.clone(), gone.clone()));
    let first = region.registration("card0", make).unwrap();
    let again = region.registration::<Registration>("card0", || panic!("made twice")).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let other = region.registration("card1", make).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    drop((first, again));
    assert!(gone.load(Ordering::Relaxed));
    let failed = region.registration::<Registration>("card0", || {
        Err(SetupError::os("ef_memreg_alloc", libc::ENOMEM))
    });
    assert_eq!(failed.err().map(|e| e.errno()), Some(libc::ENOMEM));
}

#[test]
fn nonsense_sizes_are_refused() {
    for builder in [
        Pool::builder().frames(0),
        Pool::builder().frames(u32::MAX),
        Pool::builder().frame_bytes(3000),
        Pool::builder().headroom(100),
        Pool::builder().headroom(1088),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::BadArgument);
    }
}

#[test]
fn frames_that_a_queue_gives_back_to_the_pool_are_not_missing() {
    let pool = Pool::builder().frames(1024).huge(Huge::Never).lock(false).build().unwrap();
    let mut cache = pool.cache();
    // More than a queue keeps: the coldest go back to the pool.
    for _ in 0..1000 {
        let buf = pool.alloc(60).unwrap();
        let (id, ..) = cache.accept(buf).unwrap();
        assert!(cache.free(id));
        assert_eq!(pool.outstanding(), 0);
    }
}
