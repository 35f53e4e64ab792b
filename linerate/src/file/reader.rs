//! Reads capture files as a stream.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{FileError, FileErrorKind};
use super::gzip::Gzip;
use super::pcap::{self, Classic};
use super::pcapng::{self, Chain};
use super::record::{Interface, Record, RecordInfo};
use super::source::Source;

/// Reads pcap (µs and ns, both byte orders) and pcapng, plain or gzipped, recognised by content.
///
/// Streams: memory stays under one MiB whatever the file's size or content. Records come in the
/// order they stand in the file, which need not be the order of time.
///
/// ```no_run
/// use linerate::file::Reader;
///
/// let mut reader = Reader::open("feed.pcapng.gz")?;
/// while let Some(record) = reader.next()? {
///     println!("{} ns: {} bytes", record.info.ts_ns, record.bytes.len());
/// }
/// # Ok::<(), linerate::file::FileError>(())
/// ```
pub struct Reader {
    src: Source,
    format: Parser,
    interfaces: Vec<Interface>,
    gzipped: bool,
    path: Option<PathBuf>,
    state: State,
}

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Classic pcap.
    Pcap,
    /// pcapng.
    PcapNg,
}

enum Parser {
    Classic(Classic),
    Chain(Chain),
}

#[derive(PartialEq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// Where a record lies in the source's buffer.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(super) at: usize,
    pub(super) len: usize,
    pub(crate) info: RecordInfo,
}

/// What came of one look at the file.
pub(crate) enum Step {
    /// A frame.
    Record(Span),
    /// Nothing more without moving the buffer.
    Later,
    /// The end of the file, between two records.
    End,
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is no capture file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|e| FileError::io(0, &e).on(path))?;
        let mut reader = Self::new(file).map_err(|e| e.on(path))?;
        reader.path = Some(path.to_owned());
        Ok(reader)
    }

    /// Reads from any stream. It is read in large pieces: no `BufReader` is needed.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, FileError> {
        let mut src = Source::new(Box::new(input));
        let io = |e| FileError::io(0, &e);
        let gzipped = src.fill(2).map_err(io)? >= 2 && src.peek().starts_with(&[0x1f, 0x8b]);
        if gzipped {
            src = Source::new(Box::new(Gzip::new(src)));
        }
        let got = src.fill(4).map_err(io)?;
        if got == 0 {
            return Err(FileError::new(FileErrorKind::NotACapture, 0, "the file is empty"));
        }
        let mut magic = [0; 4];
        let shown = got.min(4);
        magic[..shown].copy_from_slice(&src.peek()[..shown]);
        let mut interfaces = Vec::new();
        let format = if let Some(variant) = pcap::recognise(magic) {
            let (classic, interface) = Classic::start(&mut src, variant)?;
            interfaces.push(interface);
            Parser::Classic(classic)
        } else if magic == pcapng::SECTION.to_le_bytes() {
            Parser::Chain(Chain::new())
        } else {
            let detail = format!(
                "neither pcap nor pcapng (nor either in gzip): it begins with {:02x?}",
                &magic[..shown]
            );
            return Err(FileError::new(FileErrorKind::NotACapture, 0, detail));
        };
        Ok(Self { src, format, interfaces, gzipped, path: None, state: State::Reading })
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// The file is damaged, cut off or unreadable from here on; the error says at which byte.
    /// Everything before was delivered. Every later call gives `None`.
    #[expect(clippy::should_implement_trait, reason = "the record borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, FileError> {
        match self.step(true)? {
            Step::Record(span) => Ok(Some(self.record(&span))),
            Step::Later | Step::End => Ok(None),
        }
    }

    /// One step. With `may_fill` off the spans given before stay valid.
    pub(crate) fn step(&mut self, may_fill: bool) -> Result<Step, FileError> {
        if self.state != State::Reading {
            return Ok(Step::End);
        }
        let step = match &mut self.format {
            Parser::Classic(classic) => classic.next(&mut self.src, may_fill),
            Parser::Chain(chain) => chain.next(&mut self.src, &mut self.interfaces, may_fill),
        };
        match step {
            Ok(Step::End) => self.state = State::Ended,
            Err(_) => self.state = State::Failed,
            Ok(_) => {}
        }
        step.map_err(|e| match &self.path {
            Some(path) => e.on(path),
            None => e,
        })
    }

    /// The record at a span that is still valid.
    pub(crate) fn record(&self, span: &Span) -> Record<'_> {
        Record { bytes: self.src.span(span.at, span.len), info: span.info }
    }

    /// The format found.
    #[must_use]
    pub fn format(&self) -> Format {
        match self.format {
            Parser::Classic(_) => Format::Pcap,
            Parser::Chain(_) => Format::PcapNg,
        }
    }

    /// Is the file gzipped?
    #[must_use]
    pub fn gzipped(&self) -> bool {
        self.gzipped
    }

    /// The interfaces described so far: a pcapng file may describe more as it goes on.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Has the last record been delivered, or reading failed for good?
    #[must_use]
    pub fn finished(&self) -> bool {
        self.state != State::Reading
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.path)
            .field("format", &self.format())
            .field("gzipped", &self.gzipped)
            .field("offset", &self.src.offset())
            .finish_non_exhaustive()
    }
}
