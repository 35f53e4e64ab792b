//! Round trips as an HdrHistogram log (format 1.3), for the tools that draw and compare those.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::record::Record;
use crate::failure::{Failure, io_text};
use crate::recorder;

/// Makes the file, before anything is measured.
pub(crate) fn create(path: &Path) -> Result<File, Failure> {
    recorder::create(path).map_err(|e| {
        Failure::new(format!("cannot write --log {}: {}", path.display(), io_text(&e)))
    })
}

/// Writes one histogram for each second and frame size; the size is its tag.
pub(crate) fn write(file: File, record: &Record, sizes: &[usize]) -> Result<(), Failure> {
    write_to(BufWriter::new(file), record, sizes)
        .map_err(|e| Failure::new(format!("cannot write the log: {e}")))
}

fn write_to(
    mut file: impl Write,
    record: &Record,
    sizes: &[usize],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut serializer = V2DeflateSerializer::new();
    writeln!(file, "#[Histogram log format version 1.3]")?;
    {
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("[linerate ping: round trips in ns, one tag for each frame size]")
            .with_base_time(SystemTime::now())
            .with_max_value_divisor(1.0)
            .begin_log_with(&mut file, &mut serializer)?;
        let mut start = 0;
        for (size, run) in sizes.iter().zip(&record.runs) {
            let tag = size.to_string();
            for second in &run.seconds {
                let at = Duration::from_secs(start);
                log.write_histogram(second, at, Duration::from_secs(1), Tag::new(&tag))
                    .map_err(|e| format!("{e:?}"))?;
                start += 1;
            }
        }
    }
    file.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Sample, UNKNOWN};
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_log_reads_back() {
        let (mut samples, arrived) = rtrb::RingBuffer::new(16);
        let mut record = Record::new(&[60, 1514], arrived);
        for (run, due_ns) in [(0, 1), (0, 2_100_000_000), (1, 5)] {
            let sample =
                Sample { run, due_ns, rtt_ns: 5_000, service_ns: 5_000, stamped_ns: UNKNOWN };
            samples.push(sample).unwrap();
        }
        record.drain();
        let mut text = Vec::new();
        write_to(&mut text, &record, &[60, 1514]).unwrap();
        let tags: Vec<String> = IntervalLogIterator::new(&text)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => interval.tag().map(|tag| tag.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(tags, ["60", "60", "60", "1514"]);
    }
}
