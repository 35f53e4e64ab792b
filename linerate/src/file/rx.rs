//! A capture file as a receive queue.

use std::path::Path;

use linerate_common::{
    ClockDomain, ClockInfo, Clocked, Error, FlowSpec, FrameRx, MAX_BURST, RxFlags, RxFrame, RxMeta,
    RxStats,
};

use super::error::{FileError, FileErrorKind};
use super::reader::{Reader, Span, Step};
use super::record::{ETHERNET, Record};

/// Frames that one `acquire` passes over in search of the flows asked for.
const MAX_PASSED: u64 = 65_536;

/// The frames of a file behind [`FrameRx`]: as fast as they are asked for, with their recorded
/// timestamps, in the file's order. Frames of interfaces that are not Ethernet end the reading
/// with an error.
///
/// A file has no card that could select: flows are matched here, in software, and frames of
/// other flows are counted as `filtered`. While many of them follow on each other `acquire` may
/// give `Ok(0)` before the end.
///
/// At the end of the file `acquire` gives `Ok(0)` for ever and [`finished`](Self::finished) is
/// true. On damage everything before it is delivered first, then `acquire` fails once with
/// `EBADMSG`, and [`failure`](Self::failure) tells the whole story.
///
/// Reading a file may wait for the disk: the one queue whose `acquire` does.
#[derive(Debug)]
pub struct FileRx {
    reader: Reader,
    /// Empty: every frame.
    flows: Vec<FlowSpec>,
    window: Vec<Span>,
    failure: Option<FileError>,
    /// The failure has not been reported by `acquire` yet.
    failing: bool,
    stats: RxStats,
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.fmt(f)
    }
}

impl FileRx {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is no capture file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        Ok(Self::of(Reader::open(path)?))
    }

    /// Goes on where a reader stands.
    #[must_use]
    pub fn of(reader: Reader) -> Self {
        let window = Vec::with_capacity(MAX_BURST);
        Self {
            reader,
            flows: Vec::new(),
            window,
            failure: None,
            failing: false,
            stats: RxStats::default(),
        }
    }

    /// Shows only the frames of these flows, or all when there are none.
    #[must_use]
    pub fn with_flows(mut self, flows: impl IntoIterator<Item = FlowSpec>) -> Self {
        self.flows = flows.into_iter().collect();
        self
    }

    /// Has every frame been shown, and the window with the last of them been closed?
    #[must_use]
    pub fn finished(&self) -> bool {
        (self.reader.finished() || self.failure.is_some())
            && self.window.is_empty()
            && !self.failing
    }

    /// Why reading ended before the file did.
    #[must_use]
    pub fn failure(&self) -> Option<&FileError> {
        self.failure.as_ref()
    }

    /// The reader behind the queue: its interfaces and format.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Looks at one frame and puts it into the window if it is wanted. `false`: no more in this
    /// window.
    fn take_in(&mut self, may_fill: bool) -> bool {
        let span = match self.reader.step(may_fill) {
            Ok(Step::Record(span)) => span,
            Ok(Step::Later | Step::End) => return false,
            Err(e) => {
                self.fail(e);
                return false;
            }
        };
        let interface = self.reader.interfaces().get(span.info.interface as usize);
        let link = interface.map_or(0, |interface| interface.link_type);
        if link != ETHERNET {
            let detail =
                format!("a frame of link type {link}; a port replays only Ethernet ({ETHERNET})");
            self.fail(FileError::new(FileErrorKind::Unsupported, span.info.offset, detail));
            return false;
        }
        if self.wanted(&span) {
            self.window.push(span);
        } else {
            self.stats.filtered += 1;
        }
        true
    }

    fn wanted(&self, span: &Span) -> bool {
        let bytes = self.reader.record(span).bytes;
        self.flows.is_empty() || self.flows.iter().any(|flow| flow.matches(bytes))
    }

    fn fail(&mut self, e: FileError) {
        self.failure = Some(e);
        self.failing = true;
    }
}

impl FrameRx for FileRx {
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.window.clear();
        if self.failing {
            self.failing = false;
            return Err(Error::os("read a capture file", libc::EBADMSG));
        }
        let max = max.min(MAX_BURST);
        let filtered = self.stats.filtered;
        // Only looks with an empty window may move the buffer.
        while self.failure.is_none()
            && self.window.len() < max
            && self.stats.filtered - filtered < MAX_PASSED
            && self.take_in(self.window.is_empty())
        {}
        if self.failing && self.window.is_empty() {
            return self.acquire(max);
        }
        for span in &self.window {
            let meta = meta(&self.reader.record(span));
            self.stats.frames += 1;
            self.stats.bytes += span.len as u64;
            self.stats.flagged += u64::from(meta.flags.contains(RxFlags::TRUNCATED));
        }
        Ok(self.window.len())
    }

    fn len(&self) -> usize {
        self.window.len()
    }

    fn frame(&self, i: usize) -> RxFrame<'_> {
        let record = self.reader.record(&self.window[i]);
        RxFrame { bytes: record.bytes, meta: meta(&record) }
    }

    fn release(&mut self) {
        self.window.clear();
    }

    fn stats(&mut self) -> RxStats {
        self.stats
    }
}

impl Clocked for FileRx {
    /// The coarsest resolution of the interfaces described so far.
    fn clock(&self) -> ClockInfo {
        let resolutions = self.reader.interfaces().iter().map(|i| i.ticks.resolution_ns());
        let resolution_ns = resolutions.max().unwrap_or(1);
        ClockInfo { domain: ClockDomain::Recorded, synced: None, resolution_ns }
    }
}

fn meta(record: &Record<'_>) -> RxMeta {
    let info = &record.info;
    let len = record.bytes.len() as u32;
    let mut flags = RxFlags::NONE;
    if info.wire_len > len {
        flags |= RxFlags::TRUNCATED;
    }
    if info.epb_flags & 3 == 2 {
        flags |= RxFlags::OUTGOING;
    }
    if info.epb_flags & 1 << 24 != 0 {
        flags |= RxFlags::BAD;
    }
    if info.drops_before > 0 {
        flags |= RxFlags::LOSS_BEFORE;
    }
    RxMeta { ts_ns: info.ts_ns, wire_len: info.wire_len.max(len), flags, mark: 0 }
}
