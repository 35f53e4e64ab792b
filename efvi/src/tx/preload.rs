//! Frames written into the card ahead of time: the queue's side of [`Alternatives`].

use linerate_common::{Error, ErrorKind, FrameTx};

use super::EfviTx;
use crate::alternatives::Alternatives;

impl EfviTx {
    /// Transmit alternatives taken: see [`Options::alternatives`](crate::Options::alternatives).
    #[must_use]
    pub fn alternatives(&self) -> u32 {
        self.alternatives.as_ref().map_or(0, Alternatives::len)
    }

    /// Writes a frame into alternative `alt`, where the card holds it, close to the wire, until
    /// [`fire`](Self::fire). Several frames go out in order. `Ok(false)`: no room, or what was
    /// fired before is still on its way: [`reap`](FrameTx::reap) and try again.
    ///
    /// # Errors
    ///
    /// There is no such alternative, the frame is too long, or the queue is in trouble.
    pub fn preload(&mut self, alt: u32, frame: &[u8]) -> Result<bool, Error> {
        const OP: &str = "ef_vi_transmit_alt_select";
        if frame.is_empty() || frame.len() > self.max_len {
            return Err(Error::new(ErrorKind::BadLength, OP));
        }
        self.kick()?;
        let Some(alternatives) = &mut self.alternatives else {
            return Err(Error::new(ErrorKind::Unsupported, OP));
        };
        if !alternatives.begin(self.lib, self.vi, alt, frame.len())? {
            return Ok(false);
        }
        let seq = self.flights.sent();
        let sent = self.send(frame);
        self.push_descriptors();
        if let Some(alternatives) = &mut self.alternatives {
            let seq = (sent == Ok(true)).then_some(seq);
            alternatives.end(self.lib, self.vi, alt, frame.len(), seq)?;
        }
        sent
    }

    /// Lets the frames of alternative `alt` go to the wire.
    ///
    /// # Errors
    ///
    /// There is no such alternative, or the card refuses.
    pub fn fire(&mut self, alt: u32) -> Result<(), Error> {
        match &mut self.alternatives {
            Some(alternatives) => alternatives.fire(self.lib, self.vi, alt),
            None => Err(Error::new(ErrorKind::Unsupported, "ef_vi_transmit_alt_go")),
        }
    }

    /// Throws the frames of alternative `alt` away. `Ok(false)`: the card is still fetching one
    /// of them: [`reap`](FrameTx::reap) and try again.
    ///
    /// # Errors
    ///
    /// There is no such alternative, it was fired, or the card refuses.
    pub fn discard(&mut self, alt: u32) -> Result<bool, Error> {
        let oldest = self.flights.oldest();
        match &mut self.alternatives {
            Some(alternatives) => alternatives.discard(self.lib, self.vi, alt, oldest),
            None => Err(Error::new(ErrorKind::Unsupported, "ef_vi_transmit_alt_discard")),
        }
    }
}
