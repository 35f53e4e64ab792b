//! A buffer is not made up, neither by safe code nor by its fields.
use linerate_common::Buf;

fn invent() -> Buf {
    Buf::from_parts(1, 2, 0, 60) //~ E0133
}

fn rewrite(buf: &mut Buf) {
    buf.len = 9000; //~ E0616
}

fn main() {
    let _ = (invent, rewrite);
}
