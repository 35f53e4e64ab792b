//! A slot is not written while its queue sends.
use linerate_afpacket::PacketTx;
use linerate_common::{Error, FrameTx};

fn late(tx: &mut PacketTx) -> Result<(), Error> {
    if let Some(slot) = tx.reserve(60) {
        tx.kick()?; //~ E0499
        slot[0] = 1;
    }
    Ok(())
}

fn main() {
    let _ = late;
}
