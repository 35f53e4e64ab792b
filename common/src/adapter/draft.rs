//! A frame being written by the application, for adapters that must see it before it is sent.
//!
//! `reserve` hands out a slot of the queue below, and once the application has written it nobody
//! can look at it again before `commit`. So the application writes here, and the frame is copied
//! down when it is committed.

use crate::tx::FrameTx;

#[derive(Debug, Default)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    reserved: usize,
}

impl Draft {
    /// The application's slot, if `tx` would have one.
    pub(super) fn reserve(&mut self, tx: &mut impl FrameTx, len: usize) -> Option<&mut [u8]> {
        self.reserved = 0;
        tx.reserve(len)?;
        if self.bytes.len() < len {
            // Once: the longest frame there can be.
            self.bytes.resize(tx.max_len().max(len), 0);
        }
        self.reserved = len;
        Some(&mut self.bytes[..len])
    }

    /// The frame as committed; empty when `commit(0)` has cancelled it.
    ///
    /// # Panics
    ///
    /// As [`FrameTx::commit`].
    pub(super) fn commit(&mut self, len: usize) -> &mut [u8] {
        let reserved = std::mem::take(&mut self.reserved);
        assert!(reserved > 0, "commit without a reservation");
        assert!(len <= reserved, "commit of {len} bytes, {reserved} reserved");
        &mut self.bytes[..len]
    }
}
