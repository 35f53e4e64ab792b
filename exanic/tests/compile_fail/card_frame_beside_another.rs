//! Nothing else is sent while a frame is being written on the card.
use linerate_common::{Error, FrameTx};
use linerate_exanic::ExanicTx;

fn beside(tx: &mut ExanicTx) -> Result<bool, Error> {
    let frame = tx.reserve_on_card(60);
    let sent = tx.send(&[0; 60])?; //~ E0499
    frame.map(|frame| frame.send());
    Ok(sent)
}

fn main() {
    let _ = beside;
}
