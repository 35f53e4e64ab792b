//! The writer thread: takes frames off a lane and records them.
//!
//! On a busy link a batch is written as it comes. On a slow one, parts of batches come whenever
//! this thread has nothing else to do; it gathers them and writes them when they have become many
//! or old.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use linerate::file::Statistics;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::failure::{Failure, io_text};
use crate::lane::{FileBatch, LaneRx, LaneTx, Layout, Next, file_lane};
use crate::recorder::Recorder;
use crate::threads::{join, spawn};

/// How long frames may wait in memory on a slow link before they are in the file.
const FLUSH_AGE: Duration = Duration::from_millis(250);

/// Blocks that are many enough to be written at once: fewer cost the disk and this CPU more.
const MANY: u64 = 4 << 20;

/// How often to see whether the file is still there, and, where that is wanted, that the disk has
/// everything.
const TEND_AGE: Duration = Duration::from_secs(1);

/// How long to sleep when the lane is dry: the longer it has been, the longer.
const SHORT_NAP: Duration = Duration::from_millis(1);
const LONG_NAP: Duration = Duration::from_millis(8);

/// What the other threads see of the writer.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Frames recorded, those in the last buffer included.
    pub(crate) frames: AtomicU64,
    failed: AtomicBool,
    /// What to write at the end of the file, once it is known.
    ledger: Mutex<Option<(Statistics, String)>>,
}

/// What became of the frames.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Frames that are in files.
    pub(crate) frames: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Files begun.
    pub(crate) files: u64,
    /// Frames that could not be written, and the name of that loss.
    pub(crate) lost: Option<(&'static str, u64)>,
    /// Why files were not written past the page cache, where they should have been.
    pub(crate) cached: Option<String>,
    /// Why they could not. A reader of stdout that has gone away is no failure.
    pub(crate) failure: Option<Failure>,
}

/// A running writer, or none at all when nothing is to be written.
#[derive(Debug)]
pub(crate) struct Recording {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Written>>,
}

/// Starts the writer thread, with `buffer_bytes` of room between it and the lane's other end.
/// It ends when that end is dropped. It keeps off the CPU that the receive loop runs on.
pub(crate) fn start(
    recorder: Option<Recorder>,
    buffer_bytes: u64,
    cpu: Option<u32>,
) -> Result<(Option<LaneTx<FileBatch>>, Recording), Failure> {
    let progress = Arc::new(Progress::default());
    let Some(recorder) = recorder else {
        return Ok((None, Recording { progress, thread: None }));
    };
    let layout = Layout { first_frame_at: recorder.first_frame_at(), full_at: recorder.full_at() };
    let (tx, lane) = file_lane(buffer_bytes, layout);
    let task = Task { recorder, lane, held: None, progress: Arc::clone(&progress), taken: 0 };
    let thread = spawn("linerate-write", move || {
        if let Some(cpu) = cpu {
            keep_off(cpu);
        }
        task.run()
    })?;
    Ok((Some(tx), Recording { progress, thread: Some(thread) }))
}

impl Recording {
    /// How far it is; `None` when nothing is written.
    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.thread.is_some().then_some(&*self.progress)
    }

    /// Has writing failed? Then there is no point in receiving more.
    pub(crate) fn has_failed(&self) -> bool {
        self.progress.failed.load(Ordering::Relaxed)
    }

    /// Ends the file with these statistics. `None` when nothing was written.
    pub(crate) fn finish(
        self,
        lane: Option<LaneTx<FileBatch>>,
        statistics: Statistics,
        comment: String,
    ) -> Result<Option<Written>, Failure> {
        let ledger = Some((statistics, comment));
        *self.progress.ledger.lock().unwrap_or_else(PoisonError::into_inner) = ledger;
        drop(lane);
        self.thread.map(join).transpose()
    }
}

struct Task {
    recorder: Recorder,
    lane: LaneRx<FileBatch>,
    /// Frames of a slow link, on their way to becoming many or old.
    held: Option<Box<FileBatch>>,
    progress: Arc<Progress>,
    taken: u64,
}

impl Task {
    fn run(mut self) -> Written {
        let outcome = self.record();
        let mut written = Written::default();
        if let Err(error) = outcome {
            let name = self.recorder.name();
            self.recorder.abandon();
            self.progress.failed.store(true, Ordering::Relaxed);
            // What the receive loop still hands over until it has stopped is lost, too.
            while let Some(batch) = self.lane.wait() {
                self.taken += batch.blocks.frames();
                self.lane.give_back(batch);
            }
            let lost = self.taken - self.recorder.frames_written().min(self.taken);
            written.lost = Some((loss_name(&error), lost));
            if error.kind() != ErrorKind::BrokenPipe || !self.recorder.is_stream() {
                let text = format!("cannot write {name}: {}", io_text(&error));
                written.failure = Some(Failure::new(text).remedy(remedy(&error)));
            }
        }
        written.frames = self.recorder.frames_written();
        written.bytes = self.recorder.bytes();
        written.files = self.recorder.files();
        written.cached = self.recorder.refused();
        written
    }

    fn record(&mut self) -> io::Result<()> {
        self.recorder.begin()?;
        let (mut written, mut tended) = (Instant::now(), Instant::now());
        let mut nap = SHORT_NAP;
        loop {
            if self.held.is_some() && written.elapsed() >= FLUSH_AGE {
                self.write_held()?;
                written = Instant::now();
            }
            if tended.elapsed() >= TEND_AGE {
                self.recorder.tend()?;
                tended = Instant::now();
            }
            // Nothing that can fail between taking frames off the lane and counting them.
            match self.lane.next() {
                Next::Batch(batch) => {
                    nap = SHORT_NAP;
                    self.taken += batch.blocks.frames();
                    self.take(batch)?;
                    self.progress.frames.store(self.taken, Ordering::Relaxed);
                }
                Next::Dry => {
                    thread::sleep(nap);
                    nap = (2 * nap).min(LONG_NAP);
                }
                Next::End => break,
            }
        }
        self.write_held()?;
        let ledger = self.progress.ledger.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (statistics, comment) = ledger.unwrap_or_default();
        self.recorder.finish(&statistics, &comment)
    }

    /// Writes a batch, or adds it to what is held.
    fn take(&mut self, batch: Box<FileBatch>) -> io::Result<()> {
        let held = self.held.as_mut();
        if held.is_some_and(|held| held.blocks.join(&batch.blocks)) {
            self.lane.give_back(batch);
        } else {
            self.write_held()?;
            self.held = Some(batch);
        }
        let ripe =
            |held: &FileBatch| held.ends_file() || held.blocks.end() - held.blocks.at() >= MANY;
        if self.recorder.is_stream() || self.held.as_deref().is_some_and(ripe) {
            self.write_held()?;
        }
        Ok(())
    }

    fn write_held(&mut self) -> io::Result<()> {
        let Some(mut batch) = self.held.take() else { return Ok(()) };
        let are_last = batch.ends_file();
        let written = self.recorder.append(&mut batch.blocks, are_last);
        self.lane.give_back(batch);
        written
    }
}

/// Leaves this CPU to another thread, if there is one beside it.
fn keep_off(cpu: u32) {
    let Ok(mut cpus) = sched_getaffinity(None) else { return };
    cpus.unset(cpu as usize);
    if cpus.count() > 0 {
        // If it may not: it is a wish.
        let _ = sched_setaffinity(None, &cpus);
    }
}

fn loss_name(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "disk_full",
        ErrorKind::BrokenPipe => "output_closed",
        ErrorKind::FileTooLarge => "file_size_limit",
        ErrorKind::ReadOnlyFilesystem => "disk_read_only",
        ErrorKind::NotFound => "file_deleted",
        _ => "writer_error",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "what was captured before is in the file: make room, or limit the files with -C and -W"
        }
        ErrorKind::FileTooLarge => {
            "what was captured before is in the file: raise the limit (ulimit -f), or write \
             shorter files with -C"
        }
        ErrorKind::NotFound => "keep other programs from its directory, or write elsewhere with -w",
        _ => "what was captured before is in the file: write to another disk with -w",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Habit, Target};
    use linerate::RxMeta;
    use linerate::file::{InterfaceOptions, Reader};
    use std::path::PathBuf;

    fn record(target: Target, frames: u64) -> Written {
        let about = InterfaceOptions::named("test");
        let recorder = Recorder::create(target, about, Habit::USUAL).unwrap();
        let (tx, recording) = start(Some(recorder), 1, Some(0)).unwrap();
        let mut tx = tx.unwrap();
        for i in 0..frames {
            let frame = [i as u8; 100];
            while !tx.push(&frame, RxMeta { ts_ns: i, ..RxMeta::plain(100) }) {
                thread::yield_now();
            }
        }
        recording.finish(Some(tx), Statistics::default(), String::new()).unwrap().unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("linerate-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn read(path: PathBuf) -> Vec<u64> {
        let mut reader = Reader::open(path).unwrap();
        let mut stamps = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            stamps.push(record.info.ts_ns);
        }
        stamps
    }

    #[test]
    fn every_frame_lands_in_the_file() {
        let dir = scratch("whole");
        let written = record(Target::File(dir.join("a.pcapng")), 10_000);
        assert_eq!((written.frames, written.lost.is_none()), (10_000, true));
        assert!(read(dir.join("a.pcapng")).into_iter().eq(0..10_000));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_disk_is_a_named_loss() {
        let written = record(Target::File("/dev/full".into()), 10_000);
        assert_eq!((written.frames, written.lost), (0, Some(("disk_full", 10_000))));
        let text = written.failure.unwrap().to_string();
        assert!(text.contains("/dev/full") && text.contains("No space left"), "{text}");
    }

    #[test]
    fn a_rotation_keeps_the_newest_files_and_loses_nothing_between_them() {
        let dir = scratch("rotation");
        let path = dir.join("r.pcapng");
        let target = Target::Rotation { path, after_bytes: 20_000, keep: Some(3) };
        let written = record(target, 1_000);
        assert_eq!(written.frames, 1_000);
        let mut names: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 3);
        let stamps: Vec<u64> = names.into_iter().flat_map(read).collect();
        assert!(stamps.len() > 300 && stamps.iter().copied().eq(stamps[0]..1_000));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
