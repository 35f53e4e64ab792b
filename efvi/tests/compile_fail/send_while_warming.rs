//! A queue that is being warmed sends nothing.
use linerate_common::{Error, FrameTx};
use linerate_efvi::EfviTx;

fn beside(tx: &mut EfviTx) -> Result<bool, Error> {
    let warming = tx.warm()?;
    let sent = tx.send(&[0; 60])?; //~ E0499
    drop(warming);
    Ok(sent)
}

fn main() {
    let _ = beside;
}
