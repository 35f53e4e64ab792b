//! Gzip, delivered up to the byte before the damage. The decompressors at hand give an error
//! instead of what they have unpacked before it.

use std::io::{self, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::source::Source;

/// Longest header: its texts are nobody's to fill memory with.
const MAX_TEXT: usize = 64 << 10;
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;

/// One member after the other, as `cat a.gz b.gz` makes them.
pub(super) struct Gzip {
    src: Source,
    inflate: Decompress,
    crc: Crc,
    state: State,
}

enum State {
    /// A member, or the end of the file.
    Before,
    Inside,
    /// What came before it has been delivered.
    Damaged(io::Error),
    Ended,
}

impl Gzip {
    pub(super) fn new(src: Source) -> Self {
        Self { src, inflate: Decompress::new(false), crc: Crc::new(), state: State::Before }
    }

    /// Reads a member's header; `false` at the end of the file.
    fn header(&mut self) -> io::Result<bool> {
        if self.src.fill(1)? == 0 {
            return Ok(false);
        }
        let fixed = self.bytes::<10>()?;
        if fixed[..3] != [0x1f, 0x8b, 8] {
            return Err(damage("no gzip header where one must be"));
        }
        let flags = fixed[3];
        if flags & FEXTRA != 0 {
            let len = u16::from_le_bytes(self.bytes()?);
            if self.src.skip(len.into())? < len.into() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        for text in [FNAME, FCOMMENT] {
            if flags & text != 0 {
                self.text()?;
            }
        }
        if flags & FHCRC != 0 {
            self.bytes::<2>()?;
        }
        self.inflate.reset(false);
        self.crc.reset();
        Ok(true)
    }

    /// Steps over a text and the zero behind it.
    fn text(&mut self) -> io::Result<()> {
        for _ in 0..MAX_TEXT {
            if self.bytes()? == [0] {
                return Ok(());
            }
        }
        Err(damage("a gzip header without an end"))
    }

    /// The checksum and length behind a member.
    fn trailer(&mut self) -> io::Result<()> {
        let crc = u32::from_le_bytes(self.bytes()?);
        let len = u32::from_le_bytes(self.bytes()?);
        if (crc, len) == (self.crc.sum(), self.crc.amount()) {
            return Ok(());
        }
        Err(damage("its checksum is wrong"))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        if self.src.fill(N)? < N {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.src.peek()[..N]);
        self.src.consume(N);
        Ok(bytes)
    }

    /// Unpacks into `out`; what comes next is in the state.
    fn inside(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let at_end = self.src.fill(1)? == 0;
        let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(self.src.peek(), out, FlushDecompress::None);
        // Both count what was done before an error too.
        let taken = (self.inflate.total_in() - taken) as usize;
        let given = (self.inflate.total_out() - given) as usize;
        self.src.consume(taken);
        self.crc.update(&out[..given]);
        self.state = match status {
            Ok(Status::StreamEnd) => match self.trailer() {
                Ok(()) => State::Before,
                Err(e) => State::Damaged(e),
            },
            Ok(_) if at_end && given == 0 => State::Damaged(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if taken == 0 && given == 0 => State::Damaged(damage("it does not go on")),
            Ok(_) => State::Inside,
            Err(e) => State::Damaged(damage(&e.to_string())),
        };
        Ok(given)
    }
}

fn damage(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Read for Gzip {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Ok(0),
                State::Damaged(e) => return Err(e),
                State::Before => match self.header() {
                    Ok(true) => self.state = State::Inside,
                    Ok(false) => {}
                    Err(e) => return Err(e),
                },
                State::Inside => {
                    let given = self.inside(out)?;
                    if given > 0 {
                        return Ok(given);
                    }
                }
            }
        }
    }
}
