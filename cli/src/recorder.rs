//! Writes a capture: one file, a rotation of files, or stdout.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use linerate::clock::now_ns;
use linerate::file::{
    Blocks, CaptureFile, InterfaceId, InterfaceOptions, Statistics, Via, preamble,
};
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

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Habit {
    /// Past the page cache where that works, or never.
    pub(crate) direct: bool,
    /// See that the disk has it, now and then and at the end of each file.
    pub(crate) sync: bool,
}

impl Habit {
    /// What is best for most.
    pub(crate) const USUAL: Self = Self { direct: true, sync: false };
}

/// An open capture.
#[derive(Debug)]
pub(crate) struct Recorder {
    target: Target,
    habit: Habit,
    preamble: Vec<u8>,
    begun_ns: u64,
    open: Option<Part>,
    made: u64,
    kept: VecDeque<PathBuf>,
    frames_before: u64,
    bytes_before: u64,
    refused: Option<String>,
    some_deleted: bool,
}

/// The file being written.
#[derive(Debug)]
struct Part {
    file: CaptureFile,
    path: Option<PathBuf>,
    begun_ns: u64,
}

impl Recorder {
    /// Opens the (first) file.
    pub(crate) fn create(
        target: Target,
        interface: InterfaceOptions,
        habit: Habit,
    ) -> Result<Self, Failure> {
        let mut recorder = Self {
            target,
            habit,
            preamble: preamble(APPLICATION, &[interface]),
            begun_ns: now_ns(),
            open: None,
            made: 0,
            kept: VecDeque::new(),
            frames_before: 0,
            bytes_before: 0,
            refused: None,
            some_deleted: false,
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

    /// Where the first frame of each file is.
    pub(crate) fn first_frame_at(&self) -> u64 {
        self.preamble.len() as u64
    }

    /// The length at which a file is full.
    pub(crate) fn full_at(&self) -> u64 {
        match self.target {
            Target::Rotation { after_bytes, .. } => after_bytes,
            _ => u64::MAX,
        }
    }

    /// Writes what the first file begins with.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        let Some(part) = &mut self.open else { return Err(closed()) };
        part.file.begin()
    }

    /// Adds blocks to the file; begins the next one behind them if they are its last.
    pub(crate) fn append(&mut self, blocks: &mut Blocks, are_last: bool) -> io::Result<()> {
        let Some(part) = &mut self.open else { return Err(closed()) };
        part.file.append(blocks)?;
        if are_last {
            self.close_part(None)?;
            self.open_next()?;
        }
        Ok(())
    }

    /// To be called now and then: sees that the disk has what was appended, if that is wanted, and
    /// that the file is still one that somebody can find. A rotation goes on with its next file.
    pub(crate) fn tend(&self) -> io::Result<()> {
        let Some(part) = &self.open else { return Ok(()) };
        if matches!(self.target, Target::File(_)) && part.file.is_deleted() {
            return Err(deleted());
        }
        if self.habit.sync { part.file.sync() } else { Ok(()) }
    }

    /// Ends the capture with its statistics.
    pub(crate) fn finish(&mut self, statistics: &Statistics, comment: &str) -> io::Result<()> {
        self.close_part(Some((statistics, comment)))?;
        if self.some_deleted { Err(deleted()) } else { Ok(()) }
    }

    /// After a failure: cuts the file behind the last whole frame, so that what is there can be
    /// read, and takes its frames into account.
    pub(crate) fn abandon(&mut self) {
        if let Some(mut part) = self.open.take() {
            part.file.cut();
            self.count(&part);
        }
    }

    /// Frames that are in files now.
    pub(crate) fn frames_written(&self) -> u64 {
        self.frames_before + self.open.as_ref().map_or(0, |part| part.file.frames())
    }

    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_before + self.open.as_ref().map_or(0, |part| part.file.bytes())
    }

    /// Why files are not written past the page cache, if they should have been.
    pub(crate) fn refused(&self) -> Option<String> {
        let now = self.open.as_ref().and_then(|part| part.file.refused());
        self.refused.clone().or_else(|| now.map(io_text))
    }

    /// Files begun.
    pub(crate) fn files(&self) -> u64 {
        self.made
    }

    fn open_next(&mut self) -> io::Result<()> {
        let (file, path) = match &self.target {
            Target::Stdout => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
            Target::File(path) => (create(path)?, Some(path.clone())),
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
                (file, Some(path))
            }
        };
        self.made += 1;
        let via = match self.target {
            Target::Stdout => Via::Stream,
            _ if self.habit.direct => Via::Direct,
            _ => Via::Cached,
        };
        let file = CaptureFile::create(file, &self.preamble, via)?;
        let begun_ns = if self.made == 1 { self.begun_ns } else { now_ns() };
        self.open = Some(Part { file, path, begun_ns });
        Ok(())
    }

    /// Ends the open file. Without a ledger, its statistics tell only of its own frames.
    fn close_part(&mut self, ledger: Option<(&Statistics, &str)>) -> io::Result<()> {
        let sync = self.habit.sync;
        let Some(part) = &mut self.open else { return Err(closed()) };
        let own = Statistics { delivered: Some(part.file.frames()), ..Statistics::default() };
        let (statistics, comment) = ledger.unwrap_or((&own, "one file of a rotation"));
        let statistics =
            Statistics { start_ns: Some(part.begun_ns), end_ns: Some(now_ns()), ..*statistics };
        part.file.finish(InterfaceId::FIRST, &statistics, comment)?;
        if sync {
            part.file.sync()?;
        }
        if let Some(part) = self.open.take() {
            self.count(&part);
        }
        Ok(())
    }

    /// Remembers what a file had that is open no more. What is in a file without a name is nowhere.
    fn count(&mut self, part: &Part) {
        if part.file.is_deleted() {
            self.some_deleted = true;
        } else {
            self.frames_before += part.file.frames();
            self.bytes_before += part.file.bytes();
        }
        self.refused = self.refused.take().or_else(|| part.file.refused().map(io_text));
    }
}

fn deleted() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the file was deleted while it was written")
}

fn closed() -> io::Error {
    io::Error::other("the capture file is closed")
}

/// Creates or overwrites a file that only its owner may read: captures hold other people's data.
/// A file that exists keeps its mode.
///
/// With more rights than the user's own, a symbolic link is not followed: whoever may write in
/// the directory would choose the file that root overwrites. Only root makes links in /dev, and
/// `/dev/stdout` is one; anybody does in /dev/shm.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let of_the_system = ["/dev", "/dev/fd"].iter().any(|dir| path.parent() == Some(Path::new(dir)));
    if is_elevated() && !of_the_system {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_rotation_are_numbered_before_the_extension() {
        assert_eq!(numbered(Path::new("/a/feed.pcapng"), 3), Path::new("/a/feed_00003.pcapng"));
        assert_eq!(numbered(Path::new("feed"), 100_000), Path::new("feed_100000"));
    }
}
