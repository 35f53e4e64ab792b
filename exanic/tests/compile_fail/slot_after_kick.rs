//! A slot is not written while its queue sends.
use linerate_common::{Error, FrameTx};
use linerate_exanic::ExanicTx;

fn late(tx: &mut ExanicTx) -> Result<(), Error> {
    if let Some(slot) = tx.reserve(60) {
        tx.kick()?; //~ E0499
        slot[0] = 1;
    }
    Ok(())
}

fn main() {
    let _ = late;
}
