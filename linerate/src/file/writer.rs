//! Writes pcapng with ns timestamps.

use std::io::{self, Write};

use linerate_common::{RxFlags, RxFrame};

use super::block::{Encoder, whole_blocks};
use super::statistics::Statistics;

/// Handed to the operating system in pieces of at least this many bytes.
const PIECE: usize = 256 << 10;

/// Writes a pcapng file: one section, ns timestamps, statistics at the end.
///
/// A frame costs a copy into one buffer that is written in large pieces; nothing is allocated
/// once the buffer has grown. Call [`finish`](Self::finish) at the end: dropping the writer also
/// writes what is buffered, but cannot say that it failed.
///
/// ```
/// use linerate::file::{InterfaceOptions, Writer};
/// use linerate::{RxFrame, RxMeta};
///
/// let mut writer = Writer::new(Vec::new(), "my program 1.0")?;
/// let eth2 = writer.add_interface(&InterfaceOptions::named("eth2"))?;
/// writer.write(eth2, &RxFrame { bytes: &[0; 60], meta: RxMeta::plain(60) })?;
/// writer.finish()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// When writing fails (a full disk), [`intact_bytes`](Self::intact_bytes) says how much of the
/// output is whole blocks and [`frames_written`](Self::frames_written) how many frames that
/// includes: cut the file there and it is a sound capture.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: Option<W>,
    buf: Encoder,
    interfaces: u32,
    accepted: u64,
    written: u64,
    handed_over: u64,
    intact: u64,
    failed: Option<io::ErrorKind>,
}

/// An interface of a file being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceId(pub(super) u32);

impl InterfaceId {
    /// The first interface of a file.
    pub const FIRST: Self = Self(0);
}

/// What a file says about an interface. Empty texts are left out.
#[derive(Debug, Clone, Default)]
pub struct InterfaceOptions {
    /// `if_name`: `eth2`.
    pub name: String,
    /// `if_description`, such as the backend and its options: `afxdp:eth2?queue=3`.
    pub description: String,
    /// `if_filter` in the language of libpcap.
    pub filter: String,
    /// `if_hardware`: the card and its driver.
    pub hardware: String,
    /// `opt_comment`, such as the clock behind the timestamps or the flows asked for.
    pub comment: String,
    /// `if_MACaddr`.
    pub mac: Option<[u8; 6]>,
    /// `if_speed`, bits per second.
    pub speed_bps: Option<u64>,
    /// Longest frame that will be kept, 0 for no limit.
    pub snap_len: u32,
}

impl InterfaceOptions {
    /// An interface of which only the name is known.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file that `application` (name and version) writes.
    ///
    /// # Errors
    ///
    /// None today: nothing is written before the first piece is full.
    pub fn new(out: W, application: &str) -> io::Result<Self> {
        let mut buf = Encoder::with_capacity(PIECE + (64 << 10));
        buf.section(application);
        Ok(Self {
            out: Some(out),
            buf,
            interfaces: 0,
            accepted: 0,
            written: 0,
            handed_over: 0,
            intact: 0,
            failed: None,
        })
    }

    /// Describes one more interface. Its frames follow.
    ///
    /// # Errors
    ///
    /// The output failed.
    pub fn add_interface(&mut self, interface: &InterfaceOptions) -> io::Result<InterfaceId> {
        self.check()?;
        self.buf.interface(interface);
        let id = InterfaceId(self.interfaces);
        self.interfaces += 1;
        self.spill()?;
        Ok(id)
    }

    /// Adds a frame as it was received. [`RxMeta::wire_len`] tells a cut frame's true length.
    /// Flagged frames keep what the format has a place for: sent by this host, bad checksum
    /// sequence. A frame without timestamp is written as a simple packet block, which has none;
    /// where the format cannot (a second interface, a cut frame), with time 0.
    ///
    /// [`RxMeta::wire_len`]: linerate_common::RxMeta::wire_len
    ///
    /// # Errors
    ///
    /// The output failed, now or before.
    ///
    /// # Panics
    ///
    /// If `interface` is not of this writer.
    #[inline]
    pub fn write(&mut self, interface: InterfaceId, frame: &RxFrame<'_>) -> io::Result<()> {
        self.write_after_loss(interface, frame, 0)
    }

    /// [`write`](Self::write) that also notes how many frames were lost just before this one
    /// (`epb_dropcount`).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    #[inline]
    pub fn write_after_loss(
        &mut self,
        interface: InterfaceId,
        frame: &RxFrame<'_>,
        lost_before: u64,
    ) -> io::Result<()> {
        assert!(interface.0 < self.interfaces, "an interface of another writer");
        self.check()?;
        self.buf.frame(interface.0, frame, lost_before);
        self.accepted += 1;
        self.spill()
    }

    /// Adds an interface's counters: at the end of the file, or now and then on the way.
    ///
    /// # Errors
    ///
    /// The output failed, now or before.
    pub fn statistics(
        &mut self,
        interface: InterfaceId,
        statistics: &Statistics,
        comment: &str,
    ) -> io::Result<()> {
        self.check()?;
        self.buf.statistics(interface.0, statistics, comment);
        self.spill()
    }

    /// Hands everything to the output and flushes it.
    ///
    /// # Errors
    ///
    /// The output failed, now or before.
    pub fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.hand_over()?;
        match &mut self.out {
            Some(out) => out.flush(),
            None => Ok(()),
        }
    }

    /// Ends the file and gives the output back.
    ///
    /// # Errors
    ///
    /// The output failed, now or before.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.out.take().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Length of the file so far in bytes, what is still buffered included: for rotation.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.handed_over + self.buf.len() as u64
    }

    /// Frames added so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.accepted
    }

    /// Of those, the frames that the output has accepted whole.
    #[must_use]
    pub fn frames_written(&self) -> u64 {
        self.written
    }

    /// Bytes that the output has accepted, up to the end of the last whole block: where to cut a
    /// file whose disk was full.
    #[must_use]
    pub fn intact_bytes(&self) -> u64 {
        self.intact
    }

    /// The output. Writing to it directly would break the file.
    pub fn get_ref(&self) -> Option<&W> {
        self.out.as_ref()
    }

    #[inline]
    fn check(&self) -> io::Result<()> {
        match self.failed {
            None => Ok(()),
            Some(kind) => Err(kind.into()),
        }
    }

    #[inline]
    fn spill(&mut self) -> io::Result<()> {
        if self.buf.len() < PIECE { Ok(()) } else { self.hand_over() }
    }

    #[cold]
    fn hand_over(&mut self) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let piece = self.buf.bytes();
        let mut sent = 0;
        let mut result = Ok(());
        while sent < piece.len() {
            match out.write(&piece[sent..]) {
                Ok(0) => {
                    result = Err(io::ErrorKind::WriteZero.into());
                    break;
                }
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        let (bytes, frames) =
            if result.is_ok() { (sent, self.buf.frames()) } else { whole_blocks(&piece[..sent]) };
        self.intact = self.handed_over + bytes as u64;
        self.written += frames;
        self.handed_over += sent as u64;
        self.failed = result.as_ref().err().map(io::Error::kind);
        self.buf.clear();
        result
    }
}

impl<W: Write> Drop for Writer<W> {
    fn drop(&mut self) {
        if self.failed.is_none() && self.out.is_some() {
            // Nowhere to report it: `finish` is for those who want to know.
            let _ = self.flush();
        }
    }
}

/// The `epb_flags` word, or 0 for the ordinary frame: received, and nothing wrong with it.
#[inline]
pub(super) fn epb_flags(flags: RxFlags) -> u32 {
    if !flags.contains(RxFlags::OUTGOING) && !flags.contains(RxFlags::BAD) {
        return 0;
    }
    let direction = if flags.contains(RxFlags::OUTGOING) { 2 } else { 1 };
    let crc = if flags.contains(RxFlags::BAD) { 1 << 24 } else { 0 };
    direction | crc
}
