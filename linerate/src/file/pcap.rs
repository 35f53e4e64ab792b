//! Classic pcap: a 24-byte header, then records of a 16-byte header and the frame.

use super::error::{FileError, FileErrorKind::*};
use super::reader::{Span, Step};
use super::record::{Interface, MAX_RECORD, RecordInfo, Ticks};
use super::source::{Endian, Source, Want};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// The state of a classic file between records.
pub(super) struct Classic {
    endian: Endian,
    /// ns in one unit of the fraction: 1 or 1000.
    fraction_ns: u64,
    record_header: usize,
}

/// Byte order, unit and record header length by magic; `None` for anything else.
pub(super) fn recognise(magic: [u8; 4]) -> Option<(Endian, u64, usize)> {
    let of = |n: u32| match n {
        0xa1b2_c3d4 => Some((1000, RECORD_HEADER)),
        0xa1b2_3c4d => Some((1, RECORD_HEADER)),
        // Kuznetzov's format: eight more bytes a record (interface index, protocol, type).
        0xa1b2_cd34 => Some((1000, RECORD_HEADER + 8)),
        _ => None,
    };
    let little = of(u32::from_le_bytes(magic)).map(|(unit, len)| (Endian::Little, unit, len));
    little.or_else(|| of(u32::from_be_bytes(magic)).map(|(unit, len)| (Endian::Big, unit, len)))
}

impl Classic {
    /// Reads the file header, whose magic was recognised.
    pub(super) fn start(
        src: &mut Source,
        (endian, fraction_ns, record_header): (Endian, u64, usize),
    ) -> Result<(Self, Interface), FileError> {
        if src.fill(FILE_HEADER).map_err(|e| FileError::io(0, &e))? < FILE_HEADER {
            return Err(FileError::new(Truncated, 0, "the file ends inside its pcap header"));
        }
        let head = src.peek();
        let (major, minor) = (endian.u16(head, 4), endian.u16(head, 6));
        if major != 2 {
            let detail = format!("pcap version {major}.{minor} is not known, only 2.x");
            return Err(FileError::new(Unsupported, 4, detail));
        }
        let (snap_len, link) = (endian.u32(head, 16), endian.u32(head, 20));
        let ticks = if fraction_ns == 1 { Ticks::NANOS } else { Ticks::MICROS };
        let mut interface = Interface::new((link & 0xffff) as u16, snap_len, ticks);
        // The upper bits tell of a frame check sequence: a flag, and its length in 16-bit units.
        if link & 0x0400_0000 != 0 {
            interface.fcs_len = Some(((link >> 28) * 2) as u8);
        }
        src.consume(FILE_HEADER);
        Ok((Self { endian, fraction_ns, record_header }, interface))
    }

    pub(super) fn next(&self, src: &mut Source, may_fill: bool) -> Result<Step, FileError> {
        let offset = src.offset();
        let io = |e| FileError::io(offset, &e);
        match src.want(self.record_header, may_fill).map_err(io)? {
            Want::Ready => {}
            Want::Later => return Ok(Step::Later),
            Want::Short(0) => return Ok(Step::End),
            Want::Short(n) => {
                let detail = format!("the file ends inside a record header ({n} bytes of it)");
                return Err(FileError::new(Truncated, offset, detail));
            }
        }
        let head = src.peek();
        let (seconds, fraction) = (self.endian.u32(head, 0), self.endian.u32(head, 4));
        let (len, wire_len) = (self.endian.u32(head, 8) as usize, self.endian.u32(head, 12));
        if len > MAX_RECORD {
            let detail = format!(
                "a record of {len} bytes: more than any frame ({MAX_RECORD}); the file is damaged"
            );
            return Err(FileError::new(Damaged, offset, detail));
        }
        match src.want(self.record_header + len, may_fill).map_err(io)? {
            Want::Ready => {}
            Want::Later => return Ok(Step::Later),
            Want::Short(n) => {
                let got = n - self.record_header;
                let detail = format!("the file ends inside a record: {got} of {len} bytes");
                return Err(FileError::new(Truncated, offset, detail));
            }
        }
        // Two 32-bit numbers cannot overflow this.
        let ts_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.fraction_ns;
        let at = src.position() + self.record_header;
        src.consume(self.record_header + len);
        let info = RecordInfo { ts_ns, wire_len, ..RecordInfo::at(offset) };
        Ok(Step::Record(Span { at, len, info }))
    }
}
