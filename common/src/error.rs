//! The two error types: a `Copy` one for the hot path, a telling one for setup.

use std::borrow::Cow;
use std::fmt;

/// What went wrong on the data path, coarse enough to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The interface is administratively down or has no carrier. Frames may come again later.
    LinkDown,
    /// The interface or device has gone away. The queue will not recover: open it anew.
    DeviceGone,
    /// The card lost the queue's state (reset, event queue overflow). Rebuild the queue.
    QueueLost,
    /// This backend, card or kernel does not offer what was asked for.
    Unsupported,
    /// The caller lacks a right.
    Denied,
    /// A frame is empty or longer than the queue's `max_len`.
    BadLength,
    /// An argument is out of range or does not belong here (a `Buf` of another pool).
    BadArgument,
    /// Any other failure of the operating system or of a vendor library: see the errno.
    Os,
}

/// Data-path error: plain data, no allocation, the same type for every backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error {
    /// What to branch on.
    pub kind: ErrorKind,
    /// The call that failed, as in its manual page: `"sendto"`, `"ef_eventq_poll"`.
    pub op: &'static str,
    /// Positive errno; 0 when neither the OS nor a vendor library gave one.
    pub errno: i32,
}

impl Error {
    /// An error that did not come from the OS.
    #[must_use]
    pub const fn new(kind: ErrorKind, op: &'static str) -> Self {
        Self { kind, op, errno: 0 }
    }

    /// Classifies a positive `errno` that `op` returned.
    #[must_use]
    pub const fn os(op: &'static str, errno: i32) -> Self {
        let kind = match errno {
            libc::ENETDOWN => ErrorKind::LinkDown,
            libc::ENODEV | libc::ENXIO => ErrorKind::DeviceGone,
            libc::EOPNOTSUPP | libc::ENOSYS => ErrorKind::Unsupported,
            libc::EPERM | libc::EACCES => ErrorKind::Denied,
            libc::EMSGSIZE => ErrorKind::BadLength,
            _ => ErrorKind::Os,
        };
        Self { kind, op, errno }
    }

    /// [`Error::os`] with the calling thread's current `errno`.
    #[must_use]
    pub fn last_os(op: &'static str) -> Self {
        Self::os(op, last_errno())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errno != 0 {
            return write!(f, "{}: {}", self.op, errno_text(self.errno));
        }
        let what = match self.kind {
            ErrorKind::LinkDown => "the link is down",
            ErrorKind::DeviceGone => "the device is gone",
            ErrorKind::QueueLost => "the card lost the queue; open it again",
            ErrorKind::Unsupported => "not supported here",
            ErrorKind::Denied => "not permitted",
            ErrorKind::BadLength => "frame is empty or longer than the queue takes",
            ErrorKind::BadArgument => "argument out of range",
            ErrorKind::Os => "failed",
        };
        write!(f, "{}: {what}", self.op)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(e: Error) -> Self {
        if e.errno != 0 { Self::from_raw_os_error(e.errno) } else { Self::other(e) }
    }
}

/// Why a port could not be set up: the failing call, the port, the errno **and the remedy**.
///
/// Displays as one line a person can act on:
///
/// ```
/// # use linerate_common::SetupError;
/// let e = SetupError::os("socket(AF_PACKET)", libc::EPERM)
///     .on("afpacket:eth2")
///     .remedy("run as root or: sudo setcap cap_net_raw+ep PROGRAM");
/// assert_eq!(
///     e.to_string(),
///     "afpacket:eth2: socket(AF_PACKET): Operation not permitted (errno 1); \
///      run as root or: sudo setcap cap_net_raw+ep PROGRAM"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupError {
    cause: Error,
    port: String,
    detail: Cow<'static, str>,
    remedy: Cow<'static, str>,
}

impl SetupError {
    /// A failure that is not an errno: `detail` says what is wrong.
    #[must_use]
    pub fn new(kind: ErrorKind, op: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            cause: Error::new(kind, op),
            port: String::new(),
            detail: detail.into(),
            remedy: Cow::Borrowed(""),
        }
    }

    /// A failed call with its positive errno.
    #[must_use]
    pub fn os(op: &'static str, errno: i32) -> Self {
        Error::os(op, errno).into()
    }

    /// A failed call with the calling thread's current errno.
    #[must_use]
    pub fn last_os(op: &'static str) -> Self {
        Self::os(op, last_errno())
    }

    /// Names the port or interface concerned. The innermost name wins.
    #[must_use]
    pub fn on(mut self, port: impl Into<String>) -> Self {
        if self.port.is_empty() {
            self.port = port.into();
        }
        self
    }

    /// Says what to do about it. The innermost remedy wins.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        if self.remedy.is_empty() {
            self.remedy = remedy.into();
        }
        self
    }

    /// What to branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind
    }

    /// The failing call.
    #[must_use]
    pub fn op(&self) -> &'static str {
        self.cause.op
    }

    /// Positive errno, 0 when there was none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.cause.errno
    }

    /// The remedy sentence, empty when there is none to give.
    #[must_use]
    pub fn remedy_text(&self) -> &str {
        &self.remedy
    }
}

impl From<Error> for SetupError {
    fn from(cause: Error) -> Self {
        let remedy = Cow::Borrowed(remedy_of(cause));
        Self { cause, port: String::new(), detail: Cow::Borrowed(""), remedy }
    }
}

/// What to do where the call does not matter: the process or the machine has run out of something.
fn remedy_of(cause: Error) -> &'static str {
    match (cause.errno, cause.op) {
        (libc::EMFILE, _) => "raise the limit of open files: ulimit -n 4096",
        (libc::ENFILE, _) => "the machine has too many open files: sysctl fs.file-max",
        (libc::EAGAIN, "clone") => {
            "raise the limit of threads (ulimit -u, TasksMax= in a unit) or of memory (ulimit -v)"
        }
        _ => "",
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.port.is_empty() {
            write!(f, "{}: ", self.port)?;
        }
        if self.detail.is_empty() {
            write!(f, "{}", self.cause)?;
        } else {
            write!(f, "{}: {}", self.cause.op, self.detail)?;
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for SetupError {}

/// The calling thread's errno, never 0: a call that failed without setting it reports `EIO`.
#[must_use]
pub fn last_errno() -> i32 {
    match std::io::Error::last_os_error().raw_os_error() {
        Some(0) | None => libc::EIO,
        Some(e) => e,
    }
}

/// `"Operation not permitted (errno 1)"`.
fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("{text} (errno {errno})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_decides_the_kind() {
        assert_eq!(Error::os("bind", libc::ENETDOWN).kind, ErrorKind::LinkDown);
        assert_eq!(Error::os("bind", libc::ENODEV).kind, ErrorKind::DeviceGone);
        assert_eq!(Error::os("socket", libc::EPERM).kind, ErrorKind::Denied);
        assert_eq!(Error::os("read", libc::EIO).kind, ErrorKind::Os);
    }

    #[test]
    fn the_innermost_name_and_remedy_win() {
        let e = SetupError::new(ErrorKind::Unsupported, "open", "no such interface")
            .on("udp:eth0")
            .on("outer")
            .remedy("list them: linerate ports")
            .remedy("outer");
        assert_eq!(e.to_string(), "udp:eth0: open: no such interface; list them: linerate ports");
    }

    #[test]
    fn what_has_run_out_is_said_whatever_the_call_was() {
        let e = SetupError::os("socket", libc::EMFILE).remedy("needs CAP_NET_RAW");
        assert!(e.to_string().ends_with("; raise the limit of open files: ulimit -n 4096"), "{e}");
        assert!(SetupError::os("clone", libc::EAGAIN).to_string().contains("ulimit -u"));
        assert_eq!(SetupError::os("read", libc::EAGAIN).remedy_text(), "");
    }

    #[test]
    fn the_hot_path_error_stays_small() {
        assert!(size_of::<Error>() <= 24);
        assert!(size_of::<Result<usize, Error>>() <= 32);
    }
}
