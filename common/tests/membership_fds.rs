//! Alone in its process, so that descriptors can be counted.

use linerate_common::membership::Membership;

#[test]
fn no_descriptor_and_no_thread_outlives_a_membership() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let before = (count("fd"), count("task"));
    for _ in 0..10 {
        let feed = Membership::new("lo").unwrap();
        for last in 1..=45 {
            feed.join([239, 67, 0, last].into(), None).unwrap();
        }
        assert!(count("fd") > before.0 && count("task") > before.1);
        assert!(Membership::new("nosuch0").is_err());
        assert!(feed.join([10, 0, 0, 1].into(), None).is_err());
    }
    assert_eq!((count("fd"), count("task")), before);
}
