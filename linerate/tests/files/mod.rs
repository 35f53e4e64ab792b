//! Files of every kind, made byte by byte, and what should be read from them.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests; each program uses its part")]

use std::io::{Read, Write as _};

use linerate::NO_TS;
use linerate::file::{FileError, Reader};

/// One frame as it should come out: time, length on the wire, bytes.
pub(crate) type Frame = (u64, u32, Vec<u8>);

pub(crate) const SECOND: u64 = 1_790_000_000;

pub(crate) fn frames() -> Vec<Frame> {
    let times = [5_000, 4_000, 999_999_000];
    let frame = |(i, ns): (usize, u64)| {
        let len = 14 + 3 * i;
        (SECOND * 1_000_000_000 + ns, (len + i) as u32, vec![i as u8 + 1; len])
    };
    times.into_iter().enumerate().map(frame).collect()
}

/// Writes integers in either byte order.
#[derive(Clone, Copy)]
pub(crate) struct Order {
    pub(crate) big: bool,
}

impl Order {
    pub(crate) fn u16(self, n: u16) -> [u8; 2] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    pub(crate) fn u32(self, n: u32) -> [u8; 4] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    pub(crate) fn u64(self, n: u64) -> [u8; 8] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    pub(crate) fn classic(self, magic: u32, fraction_ns: u64) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(self.u32(magic));
        file.extend([self.u16(2), self.u16(4)].concat());
        file.extend([0, 0, 65_535, 1].map(|n| self.u32(n)).concat());
        for (ns, wire_len, bytes) in frames() {
            let fraction = (ns % 1_000_000_000 / fraction_ns) as u32;
            let head = [SECOND as u32, fraction, bytes.len() as u32, wire_len];
            file.extend(head.map(|n| self.u32(n)).concat());
            file.extend(bytes);
        }
        file
    }

    pub(crate) fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = self.u32(body.len() as u32 + 12);
        [&self.u32(kind), &len, body.as_slice(), &len].concat()
    }

    pub(crate) fn section(self) -> Vec<u8> {
        let words = [self.u32(0x1a2b_3c4d).to_vec(), self.u16(1).to_vec(), self.u16(0).to_vec()];
        self.block(0x0a0d_0d0a, &[words.concat(), vec![0xff; 8]].concat())
    }

    pub(crate) fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [self.u16(code), self.u16(value.len() as u16)].concat();
        option.extend(value);
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    pub(crate) fn interface(self, snap_len: u32, options: &[Vec<u8>]) -> Vec<u8> {
        let head = [self.u16(1), self.u16(0)].concat();
        self.block(1, &[head, self.u32(snap_len).to_vec(), options.concat(), vec![0; 4]].concat())
    }

    pub(crate) fn packet(
        self,
        kind: u32,
        interface: [u8; 4],
        ticks: u64,
        wire_len: u32,
        b: &[u8],
    ) -> Vec<u8> {
        let words = [(ticks >> 32) as u32, ticks as u32, b.len() as u32, wire_len];
        let head = [interface.to_vec(), words.map(|n| self.u32(n)).concat()].concat();
        let mut body = [head, b.to_vec()].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        // Direction: outbound.
        body.extend([self.option(2, &self.u32(2)), vec![0; 4]].concat());
        self.block(kind, &body)
    }

    /// Two sections; µs, ns, binary and offset clocks; enhanced, simple and obsolete packets;
    /// a block of unknown type.
    pub(crate) fn pcapng(self) -> Vec<u8> {
        let f = frames();
        let offset = self.option(14, &self.u64(SECOND));
        let binary = self.interface(0, &[self.option(9, &[0x80 | 20]), offset]);
        let micros = self.interface(20, &[self.option(2, b"us"), self.option(1, b"hello")]);
        let nanos = self.interface(0, &[self.option(9, &[9])]);
        [
            self.section(),
            micros,
            nanos,
            self.packet(6, self.u32(0), f[0].0 / 1000, f[0].1, &f[0].2),
            self.block(0x0000_0bad, &[1; 13]),
            self.packet(6, self.u32(1), f[1].0, f[1].1, &f[1].2),
            self.section(),
            binary,
            self.packet(6, self.u32(0), 1 << 19, 14, &[7; 14]),
            self.packet(
                2,
                [self.u16(0), self.u16(9)].concat().try_into().unwrap(),
                0,
                15,
                &[8; 15],
            ),
            self.block(3, &[self.u32(13).to_vec(), vec![9; 13]].concat()),
        ]
        .concat()
    }
}

pub(crate) fn pcapng_frames() -> Vec<Frame> {
    let f = frames();
    let base = SECOND * 1_000_000_000;
    vec![
        f[0].clone(),
        f[1].clone(),
        (base + 500_000_000, 14, vec![7; 14]),
        (base, 15, vec![8; 15]),
        (NO_TS, 13, vec![9; 13]),
    ]
}

pub(crate) fn gzip(file: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(file).unwrap();
    gz.finish().unwrap()
}

/// Every frame up to the end or the first error.
pub(crate) fn read(file: impl Read + Send + 'static) -> (Vec<Frame>, Option<FileError>) {
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(e) => return (Vec::new(), Some(e)),
    };
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(r)) => frames.push((r.info.ts_ns, r.info.wire_len, r.bytes.to_vec())),
            Ok(None) => return (frames, None),
            Err(e) => {
                assert!(matches!(reader.next(), Ok(None)), "nothing comes after an error");
                return (frames, Some(e));
            }
        }
    }
}
