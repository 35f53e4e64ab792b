//! The thread that reads the file ahead of the sender.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use linerate::RxMeta;
use linerate::file::{ETHERNET, FileError, Reader, Record};

use super::schedule::Schedule;
use crate::failure::Failure;
use crate::lane::LaneTx;
use crate::threads::spawn;

/// A capture file, opened.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    times: u32,
    schedule: Schedule,
    reader: Reader,
}

/// What reading came to.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Records before their predecessor in time.
    pub(crate) out_of_order: u64,
    /// Frames that the recorder had cut.
    pub(crate) cut: u64,
    /// The file cannot be read to its end.
    pub(crate) failure: Option<Failure>,
}

impl Source {
    /// Opens the file and makes sure that it begins with a frame that can be sent.
    pub(crate) fn open(path: &Path, times: u32, schedule: Schedule) -> Result<Self, Failure> {
        let unfit = |e: FileError| Failure::new(e).remedy("choose a pcap or pcapng file");
        let mut probe = Reader::open(path).map_err(unfit)?;
        match probe.next().map_err(unfit)? {
            None => {
                return Err(Failure::new(format!("{}: there are no frames in it", path.display()))
                    .remedy("choose a capture that has some"));
            }
            Some(record) => {
                let interface = record.info.interface;
                check_link(path, &probe, interface)?;
            }
        }
        let reader = Reader::open(path).map_err(unfit)?;
        Ok(Self { path: path.to_owned(), times, schedule, reader })
    }

    /// Starts reading into the lane; each frame's `ts_ns` there is its due time.
    pub(crate) fn start(mut self, mut lane: LaneTx) -> Result<JoinHandle<Read>, Failure> {
        let run = move || {
            let mut read = Read::default();
            read.failure = self.read_all(&mut lane, &mut read).err();
            read.out_of_order = self.schedule.out_of_order();
            read
        };
        spawn("linerate-read", run)
    }

    fn read_all(&mut self, lane: &mut LaneTx, read: &mut Read) -> Result<(), Failure> {
        for pass in 0..self.times {
            if pass > 0 {
                self.reader = Reader::open(&self.path).map_err(|e| broken(&e))?;
                self.schedule.next_pass();
            }
            let mut checked = 0;
            while let Some(record) = self.reader.next().map_err(|e| broken(&e))? {
                let Record { bytes, info } = record;
                let cut = info.wire_len as usize > bytes.len();
                read.cut += u64::from(cut && pass == 0);
                let due = self.schedule.due(info.timestamp());
                let sent = if info.interface < checked {
                    put(lane, bytes, due)
                } else {
                    // The interface's description is to be had only when the record is not lent.
                    let bytes = bytes.to_vec();
                    check_link(&self.path, &self.reader, info.interface)?;
                    checked = info.interface + 1;
                    put(lane, &bytes, due)
                };
                if !sent {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Waits for room. `false`: the sender has ended.
fn put(lane: &mut LaneTx, bytes: &[u8], due_ns: u64) -> bool {
    let meta = RxMeta { ts_ns: due_ns, ..RxMeta::plain(bytes.len()) };
    lane.pause();
    while !lane.push(bytes, meta) {
        if lane.is_cut() {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

fn check_link(path: &Path, reader: &Reader, interface: u32) -> Result<(), Failure> {
    match reader.interfaces().get(interface as usize) {
        Some(interface) if interface.link_type != ETHERNET => {
            let link = interface.link_type;
            Err(Failure::new(format!("{}: link type {link} is not Ethernet", path.display()))
                .remedy("only Ethernet frames can be sent on a port"))
        }
        _ => Ok(()),
    }
}

fn broken(error: &FileError) -> Failure {
    Failure::new(error).remedy("every frame before that was sent")
}
