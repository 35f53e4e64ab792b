//! The send path with a library that was told not to send: the queue's side of
//! [`Warming`](crate::Warming).

use std::ptr;

use super::{EfviTx, Path};

impl EfviTx {
    /// What [`Warming::send`] does: the send path with a library that has been told not to send.
    pub(crate) fn warm_send(&mut self, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > self.max_len {
            return false;
        }
        // SAFETY: a live VI. Cards with a FIFO really take warming frames into it.
        if self.fifo && unsafe { self.lib.transmit_space_bytes(self.vi) } < frame.len() {
            return false;
        }
        let Some(buffer) = self.reserved.or_else(|| self.take_buffer()) else { return false };
        self.reserved = Some(buffer);
        let id = buffer.id();
        let bytes = self.buffer(id, self.headroom);
        // SAFETY: the buffer is this queue's and the frame fits. While the queue is warmed the
        // library takes none of these frames: its ring seems full (EF10), or the card drops it
        // by a flag in its header (X3, X4).
        unsafe {
            ptr::copy_nonoverlapping(frame.as_ptr(), bytes, frame.len());
            if self.path == Path::Ctpio {
                self.lib.transmit_ctpio(self.vi, bytes.cast(), frame.len(), self.threshold);
                self.lib.transmit_ctpio_fallback(self.vi, buffer.addr, frame.len(), id as i32);
            } else {
                (self.lib.vi_transmit_init)(self.vi, buffer.addr, frame.len() as i32, id as i32);
            }
        }
        true
    }
}
