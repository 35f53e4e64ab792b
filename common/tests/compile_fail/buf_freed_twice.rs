//! A buffer is freed once.
use linerate_common::Buf;
use linerate_common::pool::Pool;

fn twice(pool: &Pool, buf: Buf) {
    let _ = pool.free(buf);
    let _ = pool.free(buf); //~ E0382
}

fn main() {
    let _ = twice;
}
