//! A buffer's bytes are not written while they are read.
use linerate_common::Buf;
use linerate_common::pool::Pool;

fn both(pool: &Pool, mut buf: Buf) {
    let read = pool.bytes(&buf);
    let write = pool.bytes_mut(&mut buf); //~ E0502
    let _ = (read, write);
}

fn main() {
    let _ = both;
}
