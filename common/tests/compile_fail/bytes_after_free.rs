//! A buffer's bytes are gone when it is freed.
use linerate_common::Buf;
use linerate_common::pool::Pool;

fn late(pool: &Pool, buf: Buf) -> usize {
    let bytes = pool.bytes(&buf);
    let _ = pool.free(buf); //~ E0505
    bytes.map_or(0, <[u8]>::len)
}

fn main() {
    let _ = late;
}
