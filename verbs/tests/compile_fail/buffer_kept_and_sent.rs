//! Memory that a card may read belongs to the queue that lent it out.
use linerate_common::{Buf, BufTx};
use linerate_verbs::VerbsTx;

fn twice(tx: &mut VerbsTx, buf: Buf) -> Result<(), Buf> {
    tx.push(buf)?;
    tx.push(buf) //~ E0382
}

fn main() {
    let _ = twice;
}
