//! Opening and closing leaves nothing behind. Alone in its process: it counts what the process
//! has open.

#![allow(clippy::unwrap_used)]

mod common;

use linerate_afpacket::{Options, open};
use linerate_lab::lab_or_skip;

#[test]
fn five_hundred_ports_leave_no_descriptor_and_no_mapping() {
    let lab = lab_or_skip!();
    lab.in_b(|| {
        let mut options = Options::default();
        options.transmit = false;
        let held = || {
            let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            (fds, maps.lines().filter(|line| line.contains("socket:")).count())
        };
        let before = held();
        for n in 0..500 {
            options.ring = common::RINGS[n % 2];
            if n % 50 == 0 {
                options.queues = 2;
                options.transmit = true;
                let port = open("v1", &options).unwrap();
                let (fds, maps) = held();
                assert_eq!((fds - before.0, maps - before.1), (3, 2), "what is counted is there");
                drop(port);
                // A failure half-way must clean up as well.
                options.tx_slots = 0;
                open("v1", &options).unwrap_err();
                options = Options::default();
                options.transmit = false;
            } else {
                drop(open("v1", &options).unwrap());
            }
        }
        assert_eq!(held(), before);
    });
}
