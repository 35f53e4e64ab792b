//! pcapng: a chain of blocks, each with its length in front and behind.

use linerate_common::NO_TS;

use super::error::{FileError, FileErrorKind::*};
use super::options::{Options, text};
use super::reader::{Span, Step};
use super::record::{Interface, MAX_RECORD, RecordInfo, Ticks};
use super::source::{Endian, Source, Want};
use super::statistics::Statistics;

pub(super) const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED: u32 = 6;

/// Type, length and the length again.
const FRAMING: usize = 12;
/// Longest block that is buffered as a whole; longer ones of unknown type are stepped over.
const MAX_BLOCK: usize = MAX_RECORD + (128 << 10);
/// Of one section; bounds the memory that a hostile file can claim.
const MAX_INTERFACES: usize = 4096;

/// The state of a pcapng file between blocks.
pub(super) struct Chain {
    endian: Endian,
    /// Where the current section's interfaces begin in the list of all.
    first_interface: usize,
}

/// One block whose head has been read.
struct Block {
    kind: u32,
    len: usize,
    offset: u64,
}

impl Block {
    fn damaged(&self, detail: impl Into<String>) -> FileError {
        FileError::new(Damaged, self.offset, detail)
    }

    fn needs(&self, n: usize) -> Result<(), FileError> {
        if self.len >= n {
            return Ok(());
        }
        let (kind, len) = (self.kind, self.len);
        Err(self.damaged(format!("a block of type {kind:#x} with {len} bytes; it needs {n}")))
    }
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { endian: Endian::Little, first_interface: 0 }
    }

    /// The next frame; blocks between frames update `interfaces`.
    pub(super) fn next(
        &mut self,
        src: &mut Source,
        interfaces: &mut Vec<Interface>,
        may_fill: bool,
    ) -> Result<Step, FileError> {
        loop {
            let offset = src.offset();
            let io = |e| FileError::io(offset, &e);
            // A section header shows its byte order only in its third word.
            match src.want(FRAMING, may_fill).map_err(io)? {
                Want::Ready => {}
                Want::Later => return Ok(Step::Later),
                Want::Short(0) => return Ok(Step::End),
                Want::Short(n) => {
                    let detail = format!("the file ends inside a block header ({n} bytes of it)");
                    return Err(FileError::new(Truncated, offset, detail));
                }
            }
            let head = src.peek();
            if self.endian.u32(head, 0) == SECTION {
                self.endian = byte_order(head, offset)?;
            }
            let len = self.endian.u32(head, 4);
            let kind = self.endian.u32(head, 0);
            if !len.is_multiple_of(4) || (len as usize) < FRAMING {
                let detail = format!("a block of type {kind:#x} with the impossible length {len}");
                return Err(FileError::new(Damaged, offset, detail));
            }
            let block = Block { kind, len: len as usize, offset };
            let known = [SECTION, INTERFACE, OLD_PACKET, SIMPLE, STATISTICS, ENHANCED];
            if !known.contains(&kind) {
                if !may_fill && !src.has(block.len) {
                    return Ok(Step::Later);
                }
                self.step_over(src, &block)?;
                continue;
            }
            if block.len > MAX_BLOCK {
                let detail = format!("a block of {len} bytes: more than any frame needs");
                return Err(block.damaged(detail));
            }
            match src.want(block.len, may_fill).map_err(io)? {
                Want::Ready => {}
                Want::Later => return Ok(Step::Later),
                Want::Short(n) => {
                    let detail = format!("the file ends inside a block: {n} of {len} bytes");
                    return Err(FileError::new(Truncated, offset, detail));
                }
            }
            self.check_trailer(&src.peek()[block.len - 4..], &block)?;
            let body = &src.peek()[..block.len - 4];
            let packet = match kind {
                SECTION => {
                    self.section(body, &block, interfaces)?;
                    None
                }
                INTERFACE => {
                    let interface = self.interface(body, &block)?;
                    if interfaces.len() - self.first_interface >= MAX_INTERFACES {
                        return Err(block.damaged("more than 4096 interfaces in a section"));
                    }
                    interfaces.push(interface);
                    None
                }
                STATISTICS => {
                    self.statistics(body, &block, interfaces)?;
                    None
                }
                ENHANCED => Some(self.enhanced(body, &block, interfaces)?),
                SIMPLE => Some(self.simple(body, &block, interfaces)?),
                _ => Some(self.old_packet(body, &block, interfaces)?),
            };
            let start = src.position();
            src.consume(block.len);
            if let Some(mut span) = packet {
                span.at += start;
                return Ok(Step::Record(span));
            }
        }
    }

    fn check_trailer(&self, trailer: &[u8], block: &Block) -> Result<(), FileError> {
        let again = self.endian.u32(trailer, 0);
        if again as usize == block.len {
            return Ok(());
        }
        let len = block.len;
        Err(block.damaged(format!("a block that says {len} bytes in front and {again} behind")))
    }

    fn step_over(&self, src: &mut Source, block: &Block) -> Result<(), FileError> {
        let io = |e| FileError::io(block.offset, &e);
        let body = (block.len - 4) as u64;
        let got = src.skip(body).map_err(io)?;
        if got < body || src.fill(4).map_err(io)? < 4 {
            let detail = format!("the file ends inside a block of {} bytes", block.len);
            return Err(FileError::new(Truncated, block.offset, detail));
        }
        self.check_trailer(&src.peek()[..4], block)?;
        src.consume(4);
        Ok(())
    }

    fn section(
        &mut self,
        body: &[u8],
        block: &Block,
        interfaces: &mut Vec<Interface>,
    ) -> Result<(), FileError> {
        block.needs(28)?;
        let (major, minor) = (self.endian.u16(body, 12), self.endian.u16(body, 14));
        if major != 1 {
            let detail = format!("pcapng version {major}.{minor} is not known, only 1.x");
            return Err(FileError::new(Unsupported, block.offset, detail));
        }
        // Frames refer to interfaces of their own section only. Numbers stay unique over the
        // file as long as that costs no memory to speak of.
        if interfaces.len() >= MAX_INTERFACES {
            interfaces.clear();
        }
        self.first_interface = interfaces.len();
        Ok(())
    }

    fn interface(&self, body: &[u8], block: &Block) -> Result<Interface, FileError> {
        block.needs(20)?;
        let link = self.endian.u16(body, 8);
        let mut interface = Interface::new(link, self.endian.u32(body, 12), Ticks::MICROS);
        let (mut resol, mut offset_s) = (6, 0);
        for (code, value) in Options::new(self.endian, &body[16..]) {
            match (code, value) {
                (2, _) => interface.name = text(value),
                (3, _) => interface.description = text(value),
                (9, &[r]) => resol = r,
                (11, &[0, ref filter @ ..]) => interface.filter = text(filter),
                (13, &[n]) => interface.fcs_len = Some(n),
                (14, v) if v.len() == 8 => offset_s = self.endian.u64(v, 0) as i64,
                _ => {}
            }
        }
        interface.ticks = Ticks::of_options(resol, offset_s);
        Ok(interface)
    }

    fn statistics(
        &self,
        body: &[u8],
        block: &Block,
        interfaces: &mut [Interface],
    ) -> Result<(), FileError> {
        block.needs(24)?;
        let index = self.known(self.endian.u32(body, 8), block, interfaces)?;
        let ticks = interfaces[index].ticks;
        let mut stats = Statistics::default();
        for (code, value) in Options::new(self.endian, &body[20..]) {
            if value.len() != 8 {
                continue;
            }
            let number = self.endian.u64(value, 0);
            let stamp = ticks.to_ns(self.endian.stamp(value, 0));
            match code {
                2 => stats.start_ns = stamp,
                3 => stats.end_ns = stamp,
                4 => stats.received = Some(number),
                5 => stats.if_dropped = Some(number),
                6 => stats.accepted = Some(number),
                7 => stats.os_dropped = Some(number),
                8 => stats.delivered = Some(number),
                _ => {}
            }
        }
        interfaces[index].statistics = Some(stats);
        Ok(())
    }

    fn enhanced(
        &self,
        body: &[u8],
        block: &Block,
        interfaces: &[Interface],
    ) -> Result<Span, FileError> {
        block.needs(32)?;
        let index = self.known(self.endian.u32(body, 8), block, interfaces)?;
        let len = self.frame_len(self.endian.u32(body, 20), body.len() - 28, block)?;
        let mut info = RecordInfo::at(block.offset);
        info.interface = index as u32;
        info.ts_ns = interfaces[index].ticks.to_ns(self.endian.stamp(body, 12)).unwrap_or(NO_TS);
        info.wire_len = self.endian.u32(body, 24);
        for (code, value) in Options::new(self.endian, &body[28 + len.next_multiple_of(4)..]) {
            match (code, value.len()) {
                (2, 4) => info.epb_flags = self.endian.u32(value, 0),
                (4, 8) => info.drops_before = self.endian.u64(value, 0),
                _ => {}
            }
        }
        Ok(Span { at: 28, len, info })
    }

    fn simple(
        &self,
        body: &[u8],
        block: &Block,
        interfaces: &[Interface],
    ) -> Result<Span, FileError> {
        block.needs(16)?;
        let index = self.known(0, block, interfaces)?;
        let wire_len = self.endian.u32(body, 8);
        // The captured length is not written down: it follows from the snap length.
        let kept = match interfaces[index].snap_len {
            0 => wire_len,
            snap => wire_len.min(snap),
        };
        let len = self.frame_len(kept, body.len() - 12, block)?;
        let mut info = RecordInfo::at(block.offset);
        info.interface = index as u32;
        info.wire_len = wire_len;
        Ok(Span { at: 12, len, info })
    }

    fn old_packet(
        &self,
        body: &[u8],
        block: &Block,
        interfaces: &[Interface],
    ) -> Result<Span, FileError> {
        block.needs(32)?;
        let index = self.known(self.endian.u16(body, 8).into(), block, interfaces)?;
        let len = self.frame_len(self.endian.u32(body, 20), body.len() - 28, block)?;
        let mut info = RecordInfo::at(block.offset);
        info.interface = index as u32;
        info.ts_ns = interfaces[index].ticks.to_ns(self.endian.stamp(body, 12)).unwrap_or(NO_TS);
        info.wire_len = self.endian.u32(body, 24);
        // 0xffff: not known.
        info.drops_before = match self.endian.u16(body, 10) {
            u16::MAX => 0,
            n => n.into(),
        };
        Ok(Span { at: 28, len, info })
    }

    /// The place of the section's interface `id` in the list of all.
    fn known(&self, id: u32, block: &Block, interfaces: &[Interface]) -> Result<usize, FileError> {
        let index = self.first_interface.saturating_add(id as usize);
        if index < interfaces.len() {
            return Ok(index);
        }
        let known = interfaces.len() - self.first_interface;
        Err(block.damaged(format!("interface {id} is used, but {known} are described")))
    }

    fn frame_len(&self, len: u32, room: usize, block: &Block) -> Result<usize, FileError> {
        let len = len as usize;
        // Blocks are a multiple of 4 long, so that the padding fits where the frame does.
        if len > MAX_RECORD || len > room {
            let detail = format!("a frame of {len} bytes in a block with room for {room}");
            return Err(block.damaged(detail));
        }
        Ok(len)
    }
}

fn byte_order(head: &[u8], offset: u64) -> Result<Endian, FileError> {
    match [head[8], head[9], head[10], head[11]] {
        [0x4d, 0x3c, 0x2b, 0x1a] => Ok(Endian::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Ok(Endian::Big),
        _ => Err(FileError::new(Damaged, offset, "a section header without its byte order mark")),
    }
}
