//! What is wrong with a capture file, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// The operating system could not open or read it.
    Io,
    /// It is not a capture file.
    NotACapture,
    /// It ends in the middle of a record.
    Truncated,
    /// A record contradicts itself or the format.
    Damaged,
    /// It is well formed, but of a kind that is not read here.
    Unsupported,
}

/// Why a capture file could not be read (further). Everything before
/// [`offset`](Self::offset) has been delivered.
#[derive(Debug)]
pub struct FileError {
    kind: FileErrorKind,
    offset: u64,
    detail: String,
    path: Option<PathBuf>,
}

impl FileError {
    pub(super) fn new(kind: FileErrorKind, offset: u64, detail: impl Into<String>) -> Self {
        Self { kind, offset, detail: detail.into(), path: None }
    }

    /// A decompressor reports a cut-off stream as an I/O error; it is none of the disk's.
    pub(super) fn io(offset: u64, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let detail = "the compressed data ends before its checksum";
                Self::new(FileErrorKind::Truncated, offset, detail)
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                let detail = format!("the compressed data is damaged: {error}");
                Self::new(FileErrorKind::Damaged, offset, detail)
            }
            _ => Self::new(FileErrorKind::Io, offset, error.to_string()),
        }
    }

    pub(super) fn on(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// What to branch on.
    #[must_use]
    pub fn kind(&self) -> FileErrorKind {
        self.kind
    }

    /// Where the unreadable record begins, in bytes from the beginning of the file (of its
    /// decompressed content, when it is compressed).
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        match self.kind {
            FileErrorKind::Io | FileErrorKind::NotACapture if self.offset == 0 => {}
            _ => write!(f, "at byte {}: ", self.offset)?,
        }
        f.write_str(&self.detail)
    }
}

impl std::error::Error for FileError {}
