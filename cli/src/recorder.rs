//! Writes a capture: one file, a rotation of files, or stdout.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use linerate::RxFrame;
use linerate::clock::now_ns;
use linerate::file::{InterfaceId, InterfaceOptions, Statistics, Writer};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::{Failure, io_text};
use crate::privilege::is_elevated;

/// What is written into a pcapng file as its author.
const APPLICATION: &str = concat!("linerate ", env!("CARGO_PKG_VERSION"));

/// Where a capture goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// One file.
    File(PathBuf),
    /// A new file after so many bytes, of which the newest `keep` stay.
    Rotation { path: PathBuf, after_bytes: u64, keep: Option<u64> },
}

/// An open capture.
#[derive(Debug)]
pub(crate) struct Recorder {
    target: Target,
    interface: InterfaceOptions,
    begun_ns: u64,
    open: Option<Part>,
    made: u64,
    kept: VecDeque<PathBuf>,
    frames_before: u64,
    bytes_before: u64,
}

/// The file being written.
#[derive(Debug)]
struct Part {
    writer: Writer<Out>,
    id: InterfaceId,
    path: Option<PathBuf>,
    begun_ns: u64,
}

impl Recorder {
    /// Opens the (first) file and writes its header.
    pub(crate) fn create(target: Target, interface: InterfaceOptions) -> Result<Self, Failure> {
        let mut recorder = Self {
            target,
            interface,
            begun_ns: now_ns(),
            open: None,
            made: 0,
            kept: VecDeque::new(),
            frames_before: 0,
            bytes_before: 0,
        };
        let opened = recorder.open_next();
        opened.map_err(|e| {
            Failure::new(format!("cannot write {}: {}", recorder.name(), io_text(&e)))
                .remedy("choose another file with -w")
        })?;
        Ok(recorder)
    }

    /// The file being written, or "stdout".
    pub(crate) fn name(&self) -> String {
        match (&self.open, &self.target) {
            (Some(Part { path: Some(path), .. }), _) => path.display().to_string(),
            (_, Target::Stdout) => "stdout".into(),
            (_, Target::File(path)) => path.display().to_string(),
            (_, Target::Rotation { path, .. }) => numbered(path, self.made).display().to_string(),
        }
    }

    /// Does somebody read what is written while it is written?
    pub(crate) fn is_stream(&self) -> bool {
        self.target == Target::Stdout
    }

    /// Adds a frame; begins the next file when this one is full.
    pub(crate) fn write(&mut self, frame: &RxFrame<'_>, lost_before: u32) -> io::Result<()> {
        let Some(part) = &mut self.open else { return Err(closed()) };
        part.writer.write_after_loss(part.id, frame, lost_before.into())?;
        if let Target::Rotation { after_bytes, .. } = self.target
            && part.writer.bytes() >= after_bytes
        {
            self.close_part(None)?;
            self.open_next()?;
        }
        Ok(())
    }

    /// Hands what is buffered to the operating system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(part) => part.writer.flush(),
            None => Err(closed()),
        }
    }

    /// Ends the capture with its statistics.
    pub(crate) fn finish(&mut self, statistics: &Statistics, comment: &str) -> io::Result<()> {
        self.close_part(Some((statistics, comment)))
    }

    /// After a failure: cuts the file behind the last whole frame, so that what is there can be
    /// read, and takes its frames into account.
    pub(crate) fn abandon(&mut self) {
        if let Some(part) = self.open.take() {
            self.frames_before += part.writer.frames_written();
            self.bytes_before += part.writer.intact_bytes();
            if let Some(Out::File(file)) = part.writer.get_ref() {
                // A device or a pipe has no length, and needs none.
                let _ = file.set_len(part.writer.intact_bytes());
            }
        }
    }

    /// Frames that are in files now.
    pub(crate) fn frames_written(&self) -> u64 {
        self.frames_before + self.open.as_ref().map_or(0, |part| part.writer.frames_written())
    }

    /// Bytes written and buffered.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_before + self.open.as_ref().map_or(0, |part| part.writer.bytes())
    }

    /// Files begun.
    pub(crate) fn files(&self) -> u64 {
        self.made
    }

    fn open_next(&mut self) -> io::Result<()> {
        let (out, path) = match &self.target {
            Target::Stdout => (Out::Stdout(io::stdout()), None),
            Target::File(path) => (Out::File(create(path)?), Some(path.clone())),
            Target::Rotation { path, keep, .. } => {
                let path = numbered(path, self.made + 1);
                let file = create(&path)?;
                self.kept.push_back(path.clone());
                while keep.is_some_and(|keep| self.kept.len() as u64 > keep) {
                    if let Some(oldest) = self.kept.pop_front() {
                        // Someone may have taken it away already: then it is not in the way.
                        let _ = std::fs::remove_file(oldest);
                    }
                }
                (Out::File(file), Some(path))
            }
        };
        self.made += 1;
        let mut writer = Writer::new(out, APPLICATION)?;
        let id = writer.add_interface(&self.interface)?;
        let begun_ns = if self.made == 1 { self.begun_ns } else { now_ns() };
        self.open = Some(Part { writer, id, path, begun_ns });
        Ok(())
    }

    /// Ends the open file. Without a ledger, its statistics tell only of its own frames.
    fn close_part(&mut self, ledger: Option<(&Statistics, &str)>) -> io::Result<()> {
        let Some(part) = &mut self.open else { return Err(closed()) };
        let own = Statistics { delivered: Some(part.writer.frames()), ..Statistics::default() };
        let (statistics, comment) = ledger.unwrap_or((&own, "one file of a rotation"));
        let statistics =
            Statistics { start_ns: Some(part.begun_ns), end_ns: Some(now_ns()), ..*statistics };
        part.writer.statistics(part.id, &statistics, comment)?;
        part.writer.flush()?;
        if let Some(part) = self.open.take() {
            self.frames_before += part.writer.frames_written();
            self.bytes_before += part.writer.bytes();
        }
        Ok(())
    }
}

fn closed() -> io::Error {
    io::Error::other("the capture file is closed")
}

/// Creates or overwrites a file that only its owner may read: captures hold other people's data.
/// A file that exists keeps its mode.
///
/// With more rights than the user's own, a symbolic link is not followed: whoever may write in
/// the directory would choose the file that root overwrites. Only root makes links under /dev,
/// and `/dev/stdout` is one.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    if is_elevated() && !path.starts_with("/dev") {
        options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
    }
    options.open(path).map_err(|e| match Errno::from_io_error(&e) {
        Some(Errno::LOOP) => io::Error::other("it is a symbolic link, which root does not follow"),
        _ => e,
    })
}

/// `feed.pcapng` and 3 as `feed_00003.pcapng`.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("_{number:05}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A file or stdout.
#[derive(Debug)]
enum Out {
    File(File),
    Stdout(Stdout),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_rotation_are_numbered_before_the_extension() {
        assert_eq!(numbered(Path::new("/a/feed.pcapng"), 3), Path::new("/a/feed_00003.pcapng"));
        assert_eq!(numbered(Path::new("feed"), 100_000), Path::new("feed_100000"));
    }
}
