//! No rule is broken here: this must compile.
use linerate_common::{Error, FrameRx, FrameTx};
use linerate_efvi::{EfviRx, EfviTx};

fn windows(rx: &mut EfviRx, tx: &mut EfviTx) -> Result<(), Error> {
    rx.acquire(1)?;
    let length = rx.frame(0).bytes.len();
    rx.release();
    if let Some(slot) = tx.reserve(length) {
        slot.fill(0);
        tx.commit(length);
    }
    tx.kick()
}

fn main() {
    let _ = windows;
}
