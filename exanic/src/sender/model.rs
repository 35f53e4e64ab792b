//! A sender without a card, for loom: transmit memory is a cell for each line, and a command is a
//! message to the thread that plays the card.

use std::sync::Arc;

use linerate_common::SetupError;
use linerate_exanic_sys::tx::FRAME_OFFSET;
use loom::cell::UnsafeCell;
use loom::sync::mpsc;

use crate::device::{Device, misfit};
use crate::feedback::Feedback;
use crate::room::LINE;

/// Transmit memory.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The first eight bytes of what was written last into each line.
    lines: Vec<UnsafeCell<u64>>,
}

// SAFETY: loom complains of two threads in one line.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(lines: usize) -> Arc<Self> {
        Arc::new(Self { lines: (0..lines).map(|_| UnsafeCell::new(0)).collect() })
    }

    /// What the card reads of the chunk at `at`.
    pub(crate) fn fetch(&self, at: usize) -> u64 {
        // SAFETY: loom sees it if someone writes meanwhile.
        self.lines[at / LINE].with(|line| unsafe { *line })
    }

    fn store(&self, at: usize, bytes: &[u8]) {
        for line in at / LINE..(at + bytes.len()).div_ceil(LINE) {
            let Some(head) = bytes.first_chunk::<8>() else { return };
            // SAFETY: as above.
            self.lines[line].with_mut(|line| unsafe { *line = u64::from_le_bytes(*head) });
        }
    }
}

#[derive(Debug)]
pub(crate) struct Sender {
    memory: Arc<Memory>,
    /// Where chunks to be sent are.
    commands: mpsc::Sender<usize>,
    feedback: Feedback,
    abandoned: bool,
}

impl Sender {
    pub(crate) fn of(
        memory: Arc<Memory>,
        commands: mpsc::Sender<usize>,
        feedback: Feedback,
    ) -> Self {
        Self { memory, commands, feedback, abandoned: false }
    }

    pub(crate) fn open(_: &Arc<Device>, _: u32, _: usize) -> Result<Self, SetupError> {
        Err(misfit("exanic_acquire_tx_buffer", "a model has no card"))
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        unimplemented!("a model has no card")
    }

    pub(crate) fn bytes(&self) -> usize {
        self.memory.lines.len() * LINE
    }

    pub(crate) fn mtu(&self) -> usize {
        self.bytes() - FRAME_OFFSET
    }

    /// More than fit into the memory, which is what the models are about.
    pub(crate) fn queue(&self) -> usize {
        2 * self.memory.lines.len()
    }

    pub(crate) fn header(&self, id: u16, frame_bytes: usize) -> [u8; FRAME_OFFSET] {
        linerate_exanic_sys::tx::raw_header(id, 0, frame_bytes as u16)
    }

    pub(crate) fn write_chunk(&mut self, at: usize, header: [u8; FRAME_OFFSET], frame: &[u8]) {
        self.memory.store(at, &[&header, frame].concat());
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.memory.store(at, bytes);
    }

    pub(crate) fn command(&self, at: usize) {
        self.commands.send(at).expect("the card listens");
    }

    pub(crate) fn flush(&self) {}

    pub(crate) fn fed_back(&self) -> u16 {
        self.feedback.last()
    }

    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }
}
