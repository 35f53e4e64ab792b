//! A capture file as the end of a tap.

use std::io::{self, Write};

use linerate_common::RxFrame;
use linerate_common::adapter::FrameSink;

use super::writer::{InterfaceId, Writer};

/// Records what passes a [`Tap`](linerate_common::adapter::Tap), as frames of one interface.
///
/// A tap cannot fail. When the file can, the sink keeps the first error and counts the frames
/// that it could not record.
///
/// ```
/// use linerate::adapter::Tap;
/// use linerate::file::{FileSink, InterfaceOptions, Writer};
/// use linerate::prelude::*;
///
/// # let (mut tx, rx) = linerate::loopback::pair(&linerate::loopback::Options::default())?;
/// let mut writer = Writer::new(Vec::new(), "my program 1.0")?;
/// let id = writer.add_interface(&InterfaceOptions::named("eth2"))?;
/// let mut rx = Tap::new(rx, FileSink::new(writer, id));
/// # tx.send(&[0; 60])?;
/// # tx.kick()?;
/// rx.poll(64, |frame| assert_eq!(frame.bytes.len(), 60))?;
/// let (rx, sink) = rx.into_parts();
/// assert_eq!(sink.writer().frames(), 1);
/// let file = sink.finish()?;
/// # drop(rx);
/// # assert!(file.len() > 60);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileSink<W: Write> {
    writer: Writer<W>,
    interface: InterfaceId,
    error: Option<io::Error>,
    seen: u64,
}

impl<W: Write> FileSink<W> {
    /// Records frames as those of `interface`, which is one of `writer`'s.
    #[must_use]
    pub fn new(writer: Writer<W>, interface: InterfaceId) -> Self {
        Self { writer, interface, error: None, seen: 0 }
    }

    /// The writer, for its counts.
    #[must_use]
    pub fn writer(&self) -> &Writer<W> {
        &self.writer
    }

    /// Why recording ended, if it did.
    #[must_use]
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// Frames that are not in the file because recording failed.
    #[must_use]
    pub fn lost(&self) -> u64 {
        if self.error.is_some() { self.seen - self.writer.frames_written() } else { 0 }
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    ///
    /// The output failed, now or before.
    pub fn finish(self) -> io::Result<W> {
        match self.error {
            Some(error) => Err(error),
            None => self.writer.finish(),
        }
    }
}

impl<W: Write> FrameSink for FileSink<W> {
    #[inline]
    fn frame(&mut self, frame: &RxFrame<'_>) {
        self.seen += 1;
        if self.error.is_none() {
            self.error = self.writer.write(self.interface, frame).err();
        }
    }
}
