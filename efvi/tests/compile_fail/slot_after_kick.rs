//! A slot is not written while its queue sends.
use linerate_common::{Error, FrameTx};
use linerate_efvi::EfviTx;

fn late(tx: &mut EfviTx) -> Result<(), Error> {
    if let Some(slot) = tx.reserve(60) {
        tx.kick()?; //~ E0499
        slot[0] = 1;
    }
    Ok(())
}

fn main() {
    let _ = late;
}
