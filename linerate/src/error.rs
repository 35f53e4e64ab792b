//! Why a port could not be opened.

use std::fmt;

use linerate_common::SetupError;

use crate::choice::Candidate;
use crate::file::FileError;

/// Why a port could not be opened. Displays as one line with the remedy.
///
/// `Debug` shows the same line: it is what a `main` that returns a `Result` prints.
#[non_exhaustive]
pub enum OpenError {
    /// The port's name is not understood.
    Uri {
        /// The name.
        port: String,
        /// What is wrong with it and what would be right.
        detail: String,
    },
    /// The backend could not open it.
    Setup(SetupError),
    /// The capture file could not be read.
    File(FileError),
    /// No backend works for this interface and request; each says why.
    NoneWorks {
        /// The interface.
        port: String,
        /// The backends and their reasons.
        tried: Vec<Candidate>,
    },
}

impl OpenError {
    pub(crate) fn uri(port: &str, detail: impl Into<String>) -> Self {
        Self::Uri { port: port.to_owned(), detail: detail.into() }
    }
}

impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri { port, detail } if port.is_empty() => write!(f, "empty port name: {detail}"),
            Self::Uri { port, detail } => write!(f, "{port}: {detail}"),
            Self::Setup(e) => e.fmt(f),
            Self::File(e) => e.fmt(f),
            Self::NoneWorks { port, tried } => {
                write!(f, "{port}: no backend works here")?;
                for (i, candidate) in tried.iter().enumerate() {
                    let between = if i == 0 { ": " } else { "; " };
                    write!(f, "{between}{}: {}", candidate.backend, candidate.reason)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Setup(e) => Some(e),
            Self::File(e) => Some(e),
            Self::Uri { .. } | Self::NoneWorks { .. } => None,
        }
    }
}

impl From<SetupError> for OpenError {
    fn from(e: SetupError) -> Self {
        Self::Setup(e)
    }
}

impl From<FileError> for OpenError {
    fn from(e: FileError) -> Self {
        Self::File(e)
    }
}
