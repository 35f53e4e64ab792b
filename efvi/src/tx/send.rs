//! From bytes to a frame that the card has.

use std::ptr;

use linerate_common::{Buf, BufTx, Error, ErrorKind, FrameTx, TxStats};
use linerate_efvi_sys::ef_addr;

use super::flights::Buffer;
use super::{EfviTx, Way};

impl EfviTx {
    /// Is there room for a frame of `len` bytes, after a look at what has left?
    #[inline(always)]
    fn has_room(&mut self, way: Way, len: usize) -> bool {
        self.has_space(way, len) || self.has_room_now(way, len)
    }

    #[cold]
    #[inline(never)]
    fn has_room_now(&mut self, way: Way, len: usize) -> bool {
        self.lost.is_none() && self.collect_silently() > 0 && self.has_space(way, len)
    }

    /// Is there room among the frames in flight, in the library's ring, and in the card's FIFO?
    #[inline(always)]
    fn has_space(&self, way: Way, len: usize) -> bool {
        // On a plain ring the library's fill is what is in flight.
        // SAFETY: a live VI.
        self.flights.len() < self.limit
            && (way == Way::Plain
                || unsafe {
                    self.lib.transmit_space(self.vi) > 0
                        && (!self.fifo || self.lib.transmit_space_bytes(self.vi) >= len)
                })
    }

    /// A buffer to write a frame into.
    #[inline(always)]
    pub(super) fn take_buffer(&mut self) -> Option<Buffer> {
        match self.spare.pop() {
            None => self.fetch_buffer(),
            buffer => buffer,
        }
    }

    /// A buffer from the pool, or one that came back just now.
    #[cold]
    #[inline(never)]
    fn fetch_buffer(&mut self) -> Option<Buffer> {
        match self.cache.alloc() {
            Some(id) => Some(self.describe(id)),
            None if self.collect_silently() > 0 => self.spare.pop(),
            None => None,
        }
    }

    /// A buffer of the pool with the card's address of what is behind its headroom.
    fn describe(&self, id: u32) -> Buffer {
        Buffer::new(id, self.address(id, self.headroom))
    }

    #[inline]
    fn address(&self, id: u32, offset: usize) -> ef_addr {
        // SAFETY: the session is alive, and the buffer is one of the registered pool's.
        unsafe { self.dma.addr(id as usize * self.frame_bytes + offset) }
    }

    /// A buffer is at hand again.
    #[inline(always)]
    pub(super) fn put_back(&mut self, buffer: Buffer) {
        if !self.spare.push(buffer) {
            self.give_back(buffer);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_back(&mut self, buffer: Buffer) {
        self.cache.free(buffer.id());
    }

    /// A buffer of any path is at hand again, and its slot of programmed I/O, which is told.
    pub(super) fn release(&mut self, buffer: Buffer) -> Option<u8> {
        let (buffer, slot) = buffer.without_slot();
        if let (Some(pio), Some(slot)) = (&mut self.pio, slot) {
            pio.put(slot);
        }
        self.put_back(buffer);
        slot
    }

    /// Gives a buffer of ours to the card, with a frame of `len` bytes at `offset`. `Err`: the
    /// library did not take it although there was room.
    #[inline(always)]
    fn start(&mut self, way: Way, buffer: Buffer, offset: usize, len: usize) -> Result<(), Buffer> {
        let (vi, token) = (self.vi, buffer.id() as i32);
        let addr = match offset == self.headroom {
            true => buffer.addr,
            false => self.address(buffer.id(), offset),
        };
        let rc = match way {
            // SAFETY: registered memory that is not touched until the completion.
            Way::Plain => unsafe { (self.lib.vi_transmit_init)(vi, addr, len as i32, token) },
            Way::Ctpio => {
                let bytes = self.buffer(buffer.id(), offset);
                // SAFETY: the VI has CTPIO (checked when opened); `len` bytes of a buffer of ours;
                // the fallback, with the same bytes in registered memory, follows.
                unsafe {
                    self.lib.transmit_ctpio(vi, bytes.cast(), len, self.threshold);
                    self.lib.transmit_ctpio_fallback(vi, addr, len, token)
                }
            }
            Way::Other => return self.start_otherwise(buffer, addr, offset, len),
        };
        if rc < 0 {
            return Err(buffer);
        }
        self.stats.bytes += len as u64;
        self.flights.push(buffer);
        Ok(())
    }

    /// What [`FrameTx::send`] does, for a queue of this way.
    #[inline(always)]
    fn send_by(&mut self, way: Way, frame: &[u8]) -> Result<bool, Error> {
        let len = frame.len();
        self.reserved_len = 0;
        if len.wrapping_sub(1) >= self.max_len {
            return Err(Error::new(ErrorKind::BadLength, "send"));
        }
        if !self.has_room(way, len) {
            return Ok(false);
        }
        let Some(buffer) = self.take_buffer() else { return Ok(false) };
        let bytes = self.buffer(buffer.id(), self.headroom);
        // SAFETY: the buffer is this queue's and not with the card, and `len` bytes behind the
        // headroom lie within it. It is no buffer that the caller could have a slice of.
        unsafe { ptr::copy_nonoverlapping(frame.as_ptr(), bytes, len) };
        if let Err(buffer) = self.start(way, buffer, self.headroom, len) {
            self.refused(buffer);
        }
        Ok(true)
    }

    #[inline(never)]
    fn send_otherwise(&mut self, frame: &[u8]) -> Result<bool, Error> {
        self.send_by(Way::Other, frame)
    }

    /// By programmed I/O, or by DMA through a card's FIFO.
    fn start_otherwise(
        &mut self,
        buffer: Buffer,
        addr: ef_addr,
        offset: usize,
        len: usize,
    ) -> Result<(), Buffer> {
        let (vi, token) = (self.vi, buffer.id() as i32);
        let slot = self.pio.as_mut().and_then(|pio| pio.take(len));
        let (flight, rc) = match slot {
            Some((slot, at)) => {
                self.push_descriptors();
                let bytes = self.buffer(buffer.id(), offset).cast();
                // SAFETY: a free slot of the linked region, `len` bytes long at most.
                let rc = unsafe { self.lib.transmit_copy_pio(vi, at, bytes, len as i32, token) };
                (buffer.in_slot(slot), rc)
            }
            None => {
                // SAFETY: registered memory that is not touched until the completion.
                let rc = unsafe { (self.lib.vi_transmit_init)(vi, addr, len as i32, token) };
                (buffer, rc)
            }
        };
        if rc < 0 {
            if let (Some(pio), Some((slot, _))) = (&mut self.pio, slot) {
                pio.put(slot);
            }
            return Err(buffer);
        }
        self.stats.bytes += len as u64;
        self.flights.push(flight);
        if slot.is_some() {
            // It rang the doorbell itself.
            self.pushed = self.flights.sent();
        }
        Ok(())
    }

    /// A frame was committed that the library does not take.
    #[cold]
    fn refused(&mut self, buffer: Buffer) {
        self.stats.queue_full += 1;
        // There is no descriptor to push for it.
        self.pushed += u64::from(self.pushed == self.flights.sent());
        self.flights.push_hole();
        self.put_back(buffer);
    }

    #[inline]
    pub(super) fn push_descriptors(&mut self) {
        let sent = self.flights.sent();
        if self.pushed != sent && self.way != Way::Ctpio {
            // SAFETY: a live VI.
            unsafe { self.lib.transmit_push(self.vi) };
        }
        self.pushed = sent;
    }
}

impl FrameTx for EfviTx {
    #[inline]
    fn max_len(&self) -> usize {
        self.max_len
    }

    #[inline]
    fn room(&self) -> usize {
        if self.lost.is_some() {
            return 0;
        }
        // SAFETY: a live VI.
        let mut room = unsafe { self.lib.transmit_space(self.vi) } as usize;
        if self.fifo {
            // SAFETY: a live VI.
            let bytes = unsafe { self.lib.transmit_space_bytes(self.vi) };
            // A frame takes whole lines of the FIFO, with a header.
            room = room.min(bytes / (self.max_len + 8).next_multiple_of(64));
        }
        let own = self.spare.len() + usize::from(self.reserved.is_some());
        room.min(own + self.cache.available() + self.pool().free_frames() as usize)
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved_len = 0;
        if len == 0 || len > self.max_len || !self.has_room(self.way, len) {
            return None;
        }
        let buffer = match self.reserved {
            Some(buffer) => buffer,
            None => self.take_buffer()?,
        };
        self.reserved = Some(buffer);
        self.reserved_len = len;
        let bytes = self.buffer(buffer.id(), self.headroom);
        // SAFETY: the buffer is this queue's and not with the card yet, `len` bytes behind the
        // headroom lie within it, and the borrow is exclusive.
        Some(unsafe { std::slice::from_raw_parts_mut(bytes, len) })
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        assert!(self.reserved_len > 0 && len <= self.reserved_len, "commit without reservation");
        self.reserved_len = 0;
        if len == 0 {
            return;
        }
        if let Some(buffer) = self.reserved.take()
            && let Err(buffer) = self.start(self.way, buffer, self.headroom, len)
        {
            self.refused(buffer);
        }
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        if let Some(e) = self.lost {
            return Err(e);
        }
        self.push_descriptors();
        // Completions are cheap to collect in bunches, and the event queue must not overflow.
        if self.flights.len() >= self.ring as usize / 2 {
            self.collect_silently();
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self) -> usize {
        self.collect_silently()
    }

    fn stats(&mut self) -> TxStats {
        let mut stats = self.stats;
        stats.frames = self.flights.sent() - stats.queue_full;
        stats
    }

    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        // Code of its own for each of the ways that are in a hurry.
        match self.way {
            Way::Plain => self.send_by(Way::Plain, frame),
            Way::Ctpio => self.send_by(Way::Ctpio, frame),
            Way::Other => self.send_otherwise(frame),
        }
    }
}

impl BufTx for EfviTx {
    #[inline]
    fn push(&mut self, buf: Buf) -> Result<(), Buf> {
        let len = buf.len();
        if len == 0 || len > self.max_len || !self.has_room(self.way, len) {
            return Err(buf);
        }
        let (id, offset, len) = self.cache.accept(buf)?;
        if let Err(buffer) = self.start(self.way, self.describe(id), offset, len) {
            self.refused(buffer);
        }
        Ok(())
    }
}
