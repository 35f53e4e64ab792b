//! A buffer cannot be cloned.
use linerate_common::Buf;

fn two(buf: &Buf) -> Buf {
    Clone::clone(buf) //~ E0277
}

fn main() {
    let _ = two;
}
