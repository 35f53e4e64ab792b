//! No rule is broken here: this must compile.
use linerate::{AnyRx, AnyTx};
use linerate_common::{Error, FrameRx, FrameTx};

fn windows(rx: &mut AnyRx, tx: &mut AnyTx) -> Result<(), Error> {
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
