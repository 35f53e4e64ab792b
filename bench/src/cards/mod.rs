//! The simulated cards, and rings in memory whose kernel is played.

mod afxdp;
mod efvi;
mod exanic;
mod loopback;
mod verbs;

use crate::Case;

/// Cards, as the first word of a case.
pub const CARDS: [&str; 6] = ["efvi-ring", "efvi-shared", "verbs", "exanic", "afxdp", "loopback"];

/// Loops, as the second: five of ours, two in C, and two in C with the duties that ours have.
pub const LOOPS: [&str; 10] = [
    "poll",
    "burst",
    "any",
    "dyn",
    "idle",
    "send",
    "c-receive",
    "c-send",
    "c-receive-same",
    "c-send-same",
];

/// A case by its two words. `frame_bytes` is without check sequence. `None`: there is none.
#[must_use]
pub fn case(card: &str, way: &str, frame_bytes: usize) -> Option<Case> {
    match card {
        "efvi-ring" => efvi::case(linerate_sim::efvi::Kind::Ring, way, frame_bytes),
        "efvi-shared" => efvi::case(linerate_sim::efvi::Kind::Shared, way, frame_bytes),
        "verbs" => verbs::case(way, frame_bytes),
        "exanic" => exanic::case(way, frame_bytes),
        "afxdp" => afxdp::case(way, frame_bytes),
        "loopback" => loopback::case(way, frame_bytes),
        _ => None,
    }
}

/// A frame of an ethertype for local experiments.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; bytes];
    frame[..14]
        .copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame
}

/// As C takes a function of any kind.
macro_rules! address {
    ($function:expr) => {
        $function as *const std::ffi::c_void
    };
}
use address;
