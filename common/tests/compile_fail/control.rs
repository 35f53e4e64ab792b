//! No rule is broken here: this must compile.
use linerate_common::pool::Pool;
use linerate_common::{BufRx, BufTx, Error, FrameRx, FrameRxExt, FrameTx};

fn windows(rx: &mut dyn FrameRx) -> Result<usize, Error> {
    let burst = rx.burst(64)?;
    let frames: Vec<_> = burst.iter().collect();
    let bytes = frames.iter().map(|f| f.bytes.len()).sum();
    drop(burst);
    rx.acquire(1)?;
    Ok(bytes)
}

fn buffers(rx: &mut dyn BufRx, tx: &mut dyn BufTx, pool: &Pool) -> Result<(), Error> {
    let mut burst = rx.burst(64)?;
    let taken = burst.take(0);
    drop(burst);
    if let Some(mut buf) = taken {
        if let Some(bytes) = pool.bytes_mut(&mut buf) {
            bytes.fill(0);
        }
        if let Err(buf) = tx.push(buf) {
            let _ = pool.free(buf);
        }
    }
    Ok(())
}

fn slots(tx: &mut dyn FrameTx) -> Result<(), Error> {
    if let Some(slot) = tx.reserve(60) {
        slot.fill(0);
        tx.commit(60);
    }
    tx.kick()
}

fn main() {
    let _ = (windows, buffers, slots);
}
