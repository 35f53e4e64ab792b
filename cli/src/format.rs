//! Numbers as a person reads them.

/// `1204331` as `1,204,331`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// [`count`] with a sign where there is one.
pub(crate) fn signed(n: i64) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", count(n.unsigned_abs()))
}

/// Frames per second: `812 pps`, `12.4 kpps`, `1.25 Mpps`.
pub(crate) fn pps(rate: f64) -> String {
    scaled(rate, "pps")
}

/// Bits per second on the wire: `96.1 Mb/s`.
pub(crate) fn bps(rate: f64) -> String {
    scaled(rate, "b/s")
}

fn scaled(rate: f64, unit: &str) -> String {
    let (value, prefix) = match rate {
        r if r >= 1e9 => (r / 1e9, "G"),
        r if r >= 1e6 => (r / 1e6, "M"),
        r if r >= 1e3 => (r / 1e3, "k"),
        r => (r, ""),
    };
    let decimals = match (prefix, value) {
        ("", _) => 0,
        (_, v) if v < 10.0 => 2,
        (_, v) if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {prefix}{unit}")
}

/// A time span: `812 ns`, `12.4 µs`, `1.25 ms`, `3.00 s`.
pub(crate) fn ns(span: u64) -> String {
    let (value, unit) = match span {
        0..1_000 => return format!("{span} ns"),
        1_000..1_000_000 => (span as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (span as f64 / 1e6, "ms"),
        _ => (span as f64 / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Bytes: `812 B`, `12.4 kB`, `1.25 MB`.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n as f64, "B")
}

/// Bits that `frames` frames of `bytes` bytes together take on an Ethernet wire: preamble,
/// check sequence and gap included (24 bytes each).
pub(crate) fn wire_bits(frames: u64, bytes: u64) -> f64 {
    (bytes as f64 + 24.0 * frames as f64) * 8.0
}

/// `n per second` that stays finite when no time has passed.
pub(crate) fn per_second(n: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { n / seconds } else { 0.0 }
}

/// `word`, or `words` unless there is exactly one.
pub(crate) fn plural(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{} {word}s", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_204_331), "1,204,331");
        assert_eq!(signed(-1_000), "-1,000");
        assert_eq!(pps(812.4), "812 pps");
        assert_eq!(pps(1_250_000.0), "1.25 Mpps");
        assert_eq!(ns(812), "812 ns");
        assert_eq!(ns(12_400), "12.4 µs");
        assert_eq!(ns(3_000_000_000), "3.00 s");
        assert_eq!(plural(1, "frame"), "1 frame");
        assert_eq!(plural(2_000, "frame"), "2,000 frames");
    }

    #[test]
    fn a_64_byte_frame_takes_88_bytes_less_its_check_sequence() {
        assert!((wire_bits(1, 60) - 672.0).abs() < 1e-9);
    }

    #[test]
    fn no_time_is_no_rate() {
        assert!(per_second(5.0, 0.0).abs() < 1e-9);
    }
}
