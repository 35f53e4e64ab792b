//! What a region says of its memory, and what of it can be refused.

#![allow(clippy::unwrap_used)]

use linerate_common::ErrorKind;
use linerate_common::pool::node_of_interface;
use linerate_common::pool::{DmaRegion, Huge, Numa, PageSize, Pool, RegionOptions};

const SMALL: RegionOptions = RegionOptions { huge: Huge::Never, numa: Numa::Any, lock: false };

#[test]
fn page_sizes_are_what_their_names_say() {
    let sizes = [PageSize::FourKiB, PageSize::TwoMiB, PageSize::OneGiB];
    assert_eq!(sizes.map(PageSize::bytes), [4096, 2 << 20, 1 << 30]);
    assert_eq!(sizes.map(|size| size.to_string()), ["4 KiB", "2 MiB", "1 GiB"]);
}

#[test]
fn a_region_is_whole_pages_and_says_what_it_is() {
    for (len, mapped) in [(1, 4096), (4096, 4096), (4097, 8192)] {
        let region = DmaRegion::map(len, &SMALL).unwrap();
        assert_eq!((region.len(), region.is_empty(), region.is_locked()), (mapped, false, false));
        assert_eq!((region.page_size(), region.notices()), (PageSize::FourKiB, &[][..]));
        // SAFETY: inside the mapping, which nobody else knows.
        let bytes = unsafe { std::slice::from_raw_parts(region.as_ptr(), mapped) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        let text = format!("{region:?}");
        assert!(text.contains(&format!("len: {mapped}")) && text.contains("FourKiB"), "{text}");
    }
}

#[test]
fn no_bytes_and_all_bytes_are_refused() {
    let e = DmaRegion::map(0, &SMALL).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BadArgument);
    for len in [usize::MAX, usize::MAX / 2, usize::MAX / 4] {
        let e = DmaRegion::map(len, &SMALL).unwrap_err();
        assert_eq!(e.errno(), libc::ENOMEM, "{e}");
        assert!(e.remedy_text().contains("smaller pool"), "{e}");
    }
}

fn free_pages(size: PageSize) -> usize {
    let kib = size.bytes() / 1024;
    let file = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/free_hugepages");
    std::fs::read_to_string(file).unwrap_or_default().trim().parse().unwrap_or(0)
}

#[test]
fn a_page_size_that_could_not_be_had_is_told_once_with_its_remedy() {
    if free_pages(PageSize::OneGiB) > 0 {
        linerate_lab::skip("a_page_size_that_could_not_be_had", "this machine has gigantic pages");
        return;
    }
    let region = DmaRegion::map(5000, &RegionOptions { huge: Huge::TryOneGiB, ..SMALL }).unwrap();
    assert_ne!(region.page_size(), PageSize::OneGiB);
    let [notice] = region.notices() else { panic!("{:?}", region.notices()) };
    assert!(notice.contains("1 hugepages of 1 GiB"), "{notice}");
    assert!(notice.contains("hugepages-1048576kB/nr_hugepages"), "{notice}");
    for size in [PageSize::OneGiB, PageSize::TwoMiB] {
        let pages = (3 << 30) / size.bytes();
        if free_pages(size) >= pages {
            continue;
        }
        let numa = Numa::Node(0);
        let options = RegionOptions { huge: Huge::Require(size), numa, lock: false };
        let e = DmaRegion::map(3 << 30, &options).unwrap_err().to_string();
        assert!(e.contains(&format!("{pages} hugepages of {size}")), "{e}");
        let file = format!("node0/hugepages/hugepages-{}kB", size.bytes() / 1024);
        assert!(e.contains(&file), "the remedy names the node: {e}");
    }
    let small = RegionOptions { huge: Huge::Require(PageSize::FourKiB), ..SMALL };
    assert_eq!(DmaRegion::map(1, &small).unwrap().notices(), &[] as &[String]);
}

#[test]
fn every_page_is_there_before_the_first_touch_without_a_lock_too() {
    let region = DmaRegion::map(64 * 4096, &SMALL).unwrap();
    let mut there = [0_u8; 64];
    // SAFETY: the mapping has 64 pages, and the call writes one byte for each.
    let rc = unsafe { libc::mincore(region.as_ptr().cast(), region.len(), there.as_mut_ptr()) };
    assert_eq!((rc, there.map(|page| page & 1)), (0, [1; 64]));
}

#[test]
fn memory_is_locked_or_a_notice_says_why_not() {
    let region = DmaRegion::map(4096, &RegionOptions { lock: true, ..SMALL }).unwrap();
    let notice = region.notices().join(" ");
    assert_ne!(region.is_locked(), notice.contains("cannot lock 4096 bytes"), "{notice}");
}

#[test]
fn a_node_that_does_not_exist_is_a_notice() {
    for node in [1000, 1 << 20] {
        let region = DmaRegion::map(1, &RegionOptions { numa: Numa::Node(node), ..SMALL }).unwrap();
        let notice = region.notices().join(" ");
        assert!(notice.contains(&format!("NUMA node {node}: ")), "{notice}");
    }
    let region = DmaRegion::map(1, &RegionOptions { numa: Numa::Node(0), ..SMALL }).unwrap();
    assert_eq!(region.notices(), &[] as &[String]);
    let (mode, mask, address) =
        (std::ptr::null_mut::<i32>(), std::ptr::null_mut::<u64>(), std::ptr::null::<u8>());
    // SAFETY: asks for nothing, so nothing is written.
    let rc = unsafe { libc::syscall(libc::SYS_get_mempolicy, mode, mask, 0_usize, address, 0) };
    // Containers may forbid the call, and kernels may lack it.
    assert_eq!(region.numa_node(), (rc == 0).then_some(0));
}

#[test]
fn virtual_interfaces_have_no_node() {
    assert_eq!(node_of_interface("lo"), None);
    let numa = Numa::OfInterface("lo".into());
    let region = DmaRegion::map(1, &RegionOptions { numa, ..SMALL }).unwrap();
    assert_eq!(region.notices(), &[] as &[String]);
}

#[test]
fn a_pool_is_what_was_asked_for() {
    let ask = || Pool::builder().frames(3).huge(Huge::Never).lock(false);
    let pool = ask().build().unwrap();
    assert_eq!((pool.frames(), pool.frame_bytes(), pool.headroom()), (3, 2048, 256));
    assert_eq!((pool.region().len(), pool.notices()), (8192, &[] as &[String]));
    let other = ask().frame_bytes(4096).headroom(1024).build().unwrap();
    assert_eq!((other.frame_bytes(), other.headroom()), (4096, 1024));
    assert_eq!(other.region().len(), 3 * 4096);
    assert_ne!(pool.tag(), other.tag());
    // The borders of what is allowed.
    assert!(ask().headroom(0).build().is_ok() && ask().headroom(1024).build().is_ok());
    for wrong in [
        ask().headroom(1088),
        ask().headroom(63),
        ask().frame_bytes(4096).headroom(2112),
        ask().frames((1 << 24) + 1),
    ] {
        let e = wrong.build().unwrap_err();
        assert!(e.remedy_text().contains("16777216 frames"), "{e}");
    }
    let notice = ask().numa(Numa::Node(1000)).build().unwrap().notices().join(" ");
    assert!(notice.contains("NUMA node 1000"), "{notice}");
    assert_eq!(Pool::builder().huge(Huge::Never).lock(false).build().unwrap().frames(), 4096);
}
