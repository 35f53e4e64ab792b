//! A capture file on a disk: past the page cache where that works, and sound at every moment.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::block::whole_blocks;
use super::blocks::{ALIGN, Blocks};
use super::statistics::Statistics;
use super::writer::InterfaceId;

/// How a [`CaptureFile`] reaches its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Via {
    /// Straight to the disk (`O_DIRECT`).
    Direct,
    /// Through the operating system's page cache.
    Cached,
    /// One piece after the other into a pipe or a device.
    Stream,
}

/// Writes [`Blocks`] to a file.
///
/// With [`Via::Direct`] the disk fetches the blocks from the buffer they were encoded in; the
/// page cache, its copy and its sudden write-back are not involved. A disk takes whole pieces of
/// 4 KiB, and a file that is killed has to be one that can be read. So each write ends with a
/// block that fills the last piece and that readers skip, and the next one begins with that piece
/// again, the blocks in it completed. The file grows only by whole writes in order, which a signal
/// cannot cut: the program may be killed at any moment, and what is there is a capture. (A signal
/// can cut a write through the page cache; then the last block may be cut, too. A power failure
/// can cut either.) [`finish`](Self::finish) takes the filling away.
///
/// Where a file system has no direct way, or stops giving one, the file goes on through the page
/// cache, and [`refused`](Self::refused) says why.
#[derive(Debug)]
pub struct CaptureFile {
    file: File,
    via: Via,
    /// It had a name when it was opened.
    named: bool,
    refused: Option<io::Error>,
    /// Until it is written.
    preamble: Vec<u8>,
    end: u64,
    frames: u64,
    /// The file's last piece, up to `end`.
    rest: Vec<u8>,
}

impl CaptureFile {
    /// A file that begins with what [`preamble`](super::preamble) returned, written by `via` or the
    /// nearest that works: a pipe is always a [`Via::Stream`], and tmpfs has no disk behind it.
    ///
    /// # Errors
    ///
    /// The operating system does not say what kind of file it is.
    pub fn create(file: File, preamble: &[u8], via: Via) -> io::Result<Self> {
        let mut this = Self {
            file,
            via,
            named: false,
            refused: None,
            preamble: preamble.to_vec(),
            end: 0,
            frames: 0,
            rest: Vec::with_capacity(ALIGN),
        };
        if via != Via::Stream {
            let about = this.file.metadata()?;
            this.named = about.nlink() > 0;
            if !about.is_file() {
                this.via = Via::Stream;
            }
        }
        if this.via == Via::Direct
            && let Err(error) = this.go_direct()
        {
            this.via = Via::Cached;
            this.refused = Some(error);
        }
        Ok(this)
    }

    /// Writes the preamble, if that has not been done: what has no frames yet is a capture, too.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn begin(&mut self) -> io::Result<()> {
        let preamble = std::mem::take(&mut self.preamble);
        if preamble.is_empty() {
            return Ok(());
        }
        let mut blocks = Blocks::with_capacity(preamble.len());
        blocks.begin(0);
        blocks.raw(&preamble);
        self.write(&mut blocks)
    }

    /// Writes these blocks, which begin where the file ends (the first behind the preamble).
    ///
    /// # Errors
    ///
    /// The output failed; [`cut`](Self::cut) makes a sound file of what was written. Or the blocks
    /// are for another place.
    pub fn append(&mut self, blocks: &mut Blocks) -> io::Result<()> {
        self.begin()?;
        if blocks.at() != self.end {
            return Err(io::Error::new(ErrorKind::InvalidInput, "blocks of another place"));
        }
        self.write(blocks)
    }

    fn write(&mut self, blocks: &mut Blocks) -> io::Result<()> {
        let (mut done, mut done_frames) = (0, 0);
        if self.via == Via::Direct {
            let (pieces, rest) = blocks.pieces(&self.rest);
            let before = self.rest.len();
            match write_pieces(&self.file, pieces, self.end - before as u64) {
                (_, Ok(())) => {
                    self.rest.clear();
                    self.rest.extend_from_slice(rest);
                    self.end = blocks.end();
                    self.frames += blocks.frames();
                    return Ok(());
                }
                // The page cache takes what a disk that is nearly full still has room for, and
                // pieces of any size and place. What the disk has taken stays there.
                (sent, Err(error)) => {
                    let bytes = blocks.bytes();
                    let taken = sent.saturating_sub(before).min(bytes.len());
                    (done, done_frames) = whole_blocks(&bytes[..taken]);
                    self.end += done as u64;
                    self.frames += done_frames;
                    self.leave_direct(error)?;
                }
            }
        }
        let bytes = &blocks.bytes()[done..];
        let (sent, result) = match self.via {
            Via::Stream => write_some(bytes, |rest, _| (&self.file).write(rest)),
            _ => write_some(bytes, |rest, done| self.file.write_at(rest, self.end + done as u64)),
        };
        let (whole, frames) = if result.is_ok() {
            (sent, blocks.frames() - done_frames)
        } else {
            whole_blocks(&bytes[..sent])
        };
        self.end += whole as u64;
        self.frames += frames;
        result
    }

    /// Ends the file with an interface's counters.
    ///
    /// # Errors
    ///
    /// The output failed.
    pub fn finish(
        &mut self,
        interface: InterfaceId,
        statistics: &Statistics,
        comment: &str,
    ) -> io::Result<()> {
        self.begin()?;
        let mut blocks = Blocks::with_capacity(comment.len() + 1024);
        blocks.begin(self.end);
        if blocks.statistics(interface, statistics, comment) {
            self.append(&mut blocks)?;
        }
        if self.via == Via::Direct { self.file.set_len(self.end) } else { Ok(()) }
    }

    /// After a failure: cuts the file behind its last whole block.
    pub fn cut(&mut self) {
        if self.via != Via::Stream {
            // If that does not work either, the file is as the failure left it.
            let _ = self.file.set_len(self.end);
        }
    }

    /// Waits until the disk says that everything appended is on it (`fdatasync`).
    ///
    /// # Errors
    ///
    /// The disk's. Of a pipe or device none.
    pub fn sync(&self) -> io::Result<()> {
        if self.via == Via::Stream { Ok(()) } else { self.file.sync_data() }
    }

    /// Has the file lost its name? Then nobody will find what was written to it.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.named && self.file.metadata().is_ok_and(|about| about.nlink() == 0)
    }

    /// The file's length in bytes, without what fills its last piece up.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Frames in it.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// How it is written.
    #[must_use]
    pub fn via(&self) -> Via {
        self.via
    }

    /// Why it is not written past the page cache, where that was asked for.
    #[must_use]
    pub fn refused(&self) -> Option<&io::Error> {
        self.refused.as_ref()
    }

    fn go_direct(&self) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        // SAFETY: all zeros is a value of this plain struct.
        let mut system: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: an open descriptor and a struct to be filled.
        if unsafe { libc::fstatfs(fd, &raw mut system) } == 0 && system.f_type == libc::TMPFS_MAGIC
        {
            // Since Linux 6.6 it says yes to O_DIRECT and copies all the same.
            return Err(io::Error::other("the file is in memory (tmpfs)"));
        }
        self.set_direct(true)
    }

    fn set_direct(&self, on: bool) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        // SAFETY: plain calls on a descriptor that `self` owns.
        let done = unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            let wanted = if on { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
            flags != -1 && libc::fcntl(fd, libc::F_SETFL, wanted) != -1
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    #[cold]
    fn leave_direct(&mut self, error: io::Error) -> io::Result<()> {
        self.set_direct(false)?;
        self.file.set_len(self.end)?;
        self.via = Via::Cached;
        self.refused = Some(error);
        Ok(())
    }
}

/// Writes whole pieces at a place that begins one: how many bytes, and why not all.
fn write_pieces(file: &File, pieces: &[u8], at: u64) -> (usize, io::Result<()>) {
    let mut sent = 0;
    while sent < pieces.len() {
        match file.write_at(&pieces[sent..], at + sent as u64) {
            Ok(n) if n % ALIGN == 0 && n > 0 => sent += n,
            Ok(_) => return (sent, Err(ErrorKind::WriteZero.into())),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (sent, Err(e)),
        }
    }
    (sent, Ok(()))
}

/// Writes all of it, if it can: how much, and why not all.
fn write_some(
    bytes: &[u8],
    mut write: impl FnMut(&[u8], usize) -> io::Result<usize>,
) -> (usize, io::Result<()>) {
    let (mut sent, mut most) = (0, usize::MAX);
    while sent < bytes.len() {
        let request = most.min(bytes.len() - sent);
        match write(&bytes[sent..sent + request], sent) {
            Ok(0) => return (sent, Err(ErrorKind::WriteZero.into())),
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // XFS takes nothing of a request when it cannot take up to 4 MiB of it.
            Err(e) if e.kind() == ErrorKind::StorageFull && request > ALIGN => most = request / 2,
            Err(e) => return (sent, Err(e)),
        }
    }
    (sent, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{InterfaceOptions, Reader, preamble};
    use linerate_common::{RxFrame, RxMeta};
    use std::path::PathBuf;

    fn scratch(name: &str) -> (PathBuf, File) {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("disk-{}-{name}.pcapng", std::process::id()));
        let file = File::create(&path).unwrap();
        (path, file)
    }

    fn head() -> Vec<u8> {
        preamble("test", &[InterfaceOptions::named("eth2")])
    }

    fn numbers(path: &PathBuf) -> Vec<u64> {
        let mut reader = Reader::open(path).unwrap();
        let mut seen = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            seen.push(record.info.ts_ns);
        }
        seen
    }

    /// After each write the file is a capture of all that was appended, whatever its length.
    fn sound_after_each_write(wanted: Via, name: &str) {
        let (path, file) = scratch(name);
        let mut capture = CaptureFile::create(file, &head(), wanted).unwrap();
        if let Some(why) = capture.refused() {
            linerate_lab::skip("a_file_past_the_page_cache", &format!("no O_DIRECT: {why}"));
            return std::fs::remove_file(path).unwrap();
        }
        capture.begin().unwrap();
        assert!(numbers(&path).is_empty(), "the file is one before the first frame");
        let mut blocks = Blocks::with_capacity(64 << 10);
        let mut n = 0;
        for round in 0..60_usize {
            blocks.begin(capture.bytes());
            for _ in 0..=round * round % 41 {
                let bytes = vec![n as u8; (round * 29) % 1500];
                let meta = RxMeta { ts_ns: n, ..RxMeta::plain(bytes.len()) };
                let frame = RxFrame { bytes: &bytes, meta };
                assert!(blocks.frame(InterfaceId::FIRST, &frame, 0));
                n += 1;
            }
            capture.append(&mut blocks).unwrap();
            assert!(numbers(&path).into_iter().eq(0..n), "round {round}");
        }
        capture.finish(InterfaceId::FIRST, &Statistics::default(), "the end").unwrap();
        assert_eq!((capture.frames(), capture.refused().is_none()), (n, true));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), capture.bytes());
        assert!(numbers(&path).into_iter().eq(0..n));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_past_the_page_cache_is_sound_after_each_write() {
        sound_after_each_write(Via::Direct, "direct");
    }

    #[test]
    fn a_file_through_the_page_cache_is_sound_after_each_write() {
        sound_after_each_write(Via::Cached, "cached");
    }

    #[test]
    fn a_file_that_loses_its_direct_way_goes_on() {
        let (path, file) = scratch("leave");
        let mut capture = CaptureFile::create(file, &head(), Via::Direct).unwrap();
        capture.begin().unwrap();
        let mut blocks = Blocks::with_capacity(64 << 10);
        for n in 0..4 {
            if n == 2 && capture.via() == Via::Direct {
                capture.leave_direct(ErrorKind::InvalidInput.into()).unwrap();
                assert_eq!(std::fs::metadata(&path).unwrap().len(), capture.bytes());
            }
            blocks.begin(capture.bytes());
            let meta = RxMeta { ts_ns: n, ..RxMeta::plain(70) };
            assert!(blocks.frame(InterfaceId::FIRST, &RxFrame { bytes: &[1; 70], meta }, 0));
            capture.append(&mut blocks).unwrap();
        }
        assert_eq!((capture.via(), capture.refused().is_some()), (Via::Cached, true));
        capture.finish(InterfaceId::FIRST, &Statistics::default(), "").unwrap();
        assert_eq!(numbers(&path), [0, 1, 2, 3]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_loses_its_name_is_noticed() {
        let (path, file) = scratch("name");
        let capture = CaptureFile::create(file, &head(), Via::Cached).unwrap();
        assert!(!capture.is_deleted());
        let elsewhere = path.with_extension("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        assert!(!capture.is_deleted(), "under another name it is still there");
        std::fs::remove_file(elsewhere).unwrap();
        assert!(capture.is_deleted());
    }

    #[test]
    fn blocks_of_another_place_are_refused() {
        let (path, file) = scratch("place");
        let mut capture = CaptureFile::create(file, &head(), Via::Cached).unwrap();
        capture.begin().unwrap();
        let mut blocks = Blocks::with_capacity(4096);
        blocks.begin(capture.bytes() + 4);
        assert_eq!(capture.append(&mut blocks).unwrap_err().kind(), ErrorKind::InvalidInput);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_request_that_is_too_long_for_the_room_is_halved() {
        let room = 3 * ALIGN + 10;
        let mut taken = 0;
        let (sent, result) = write_some(&vec![0; 16 * ALIGN], |bytes, at| {
            assert_eq!(at, taken);
            if bytes.len() > (room - taken).next_multiple_of(ALIGN) || taken == room {
                return Err(ErrorKind::StorageFull.into());
            }
            taken += bytes.len().min(room - taken);
            Ok(bytes.len().min(room - at))
        });
        assert_eq!((sent, taken), (room, room));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
