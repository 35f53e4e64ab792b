//! A slot is not written while the doorbell rings.
use linerate_common::{Error, FrameTx};

fn late(tx: &mut dyn FrameTx) -> Result<(), Error> {
    if let Some(slot) = tx.reserve(60) {
        tx.kick()?; //~ E0499
        slot[0] = 1;
    }
    Ok(())
}

fn main() {
    let _ = late;
}
