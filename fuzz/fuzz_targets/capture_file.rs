//! Capture files of any content, whole and in small reads: an end or an error, no panic, no frame
//! longer than what the file holds, and the same frames both times.
#![no_main]

use std::io::{Cursor, Read};

use libfuzzer_sys::fuzz_target;
use linerate::file::Reader;

/// Gives a few bytes at a time.
struct Drops(Cursor<Vec<u8>>);

impl Read for Drops {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(3);
        self.0.read(&mut buf[..n])
    }
}

fn read_all(input: impl Read + Send + 'static, limit: Option<usize>) -> (usize, usize, bool) {
    let Ok(mut reader) = Reader::new(input) else { return (0, 0, false) };
    let (mut frames, mut bytes) = (0, 0);
    loop {
        match reader.next() {
            Ok(Some(record)) => {
                frames += 1;
                bytes += record.bytes.len();
                assert!(limit.is_none_or(|limit| bytes <= limit), "more than the file has");
            }
            Ok(None) => return (frames, bytes, true),
            Err(e) => {
                assert!(!e.to_string().is_empty());
                return (frames, bytes, false);
            }
        }
        if frames > 100_000 {
            return (frames, bytes, true);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    // What is packed may hold more than it takes; and of damaged gzip, how many bytes come before
    // the error is up to the sizes of the reads.
    let packed = data.starts_with(&[0x1f, 0x8b]);
    let limit = (!packed).then_some(data.len());
    let whole = read_all(Cursor::new(data.to_vec()), limit);
    let drops = read_all(Drops(Cursor::new(data.to_vec())), limit);
    assert!(whole == drops || packed && !whole.2, "it matters how the file is read");
});
