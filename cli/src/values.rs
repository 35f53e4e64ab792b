//! Values of options.

use std::str::FromStr;

/// How fast to replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// By the recorded timestamps, this many times faster.
    Recorded(f64),
    /// Evenly, this many frames a second.
    Pps(f64),
    /// As fast as the port takes them.
    Top,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let n = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
            n.ok_or_else(|| format!("{digits:?} is not a number above 0"))
        };
        if text == "recorded" {
            Ok(Self::Recorded(1.0))
        } else if text == "top" {
            Ok(Self::Top)
        } else if let Some(factor) = text.strip_prefix('x') {
            number(factor).map(Self::Recorded)
        } else if let Some(rate) = text.strip_prefix("pps=") {
            number(rate).map(Self::Pps)
        } else {
            Err("use recorded, x2, pps=100000 or top".into())
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recorded(1.0) => f.write_str("recorded"),
            Self::Recorded(factor) => write!(f, "x{factor}"),
            Self::Pps(rate) => write!(f, "pps={rate}"),
            Self::Top => f.write_str("top"),
        }
    }
}

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "use six bytes in hexadecimal, as 01:00:5e:01:01:01".to_owned();
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let hex = |p: &&str| matches!(p.len(), 1 | 2) && !p.starts_with('+');
            let part = parts.next().filter(hex).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(mac)) }
    }
}

fn positive<T: FromStr + PartialOrd + Default>(text: &str) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(n) if n > T::default() => Ok(n),
        _ => Err("use a number above 0".into()),
    }
}

/// A count above 0.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    positive(text)
}

/// A number of repetitions above 0.
pub(crate) fn parse_times(text: &str) -> Result<u32, String> {
    positive(text)
}

/// A rate above 0 and at most a thousand million a second.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = positive(text)?;
    if rate <= 1e9 { Ok(rate) } else { Err("use at most 1000000000".into()) }
}

/// Percent above 0 and at most 100.
pub(crate) fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = positive(text)?;
    if percent <= 100.0 { Ok(percent) } else { Err("use at most 100".into()) }
}

/// Percent from 0 to 100.
pub(crate) fn parse_percent_or_0(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { parse_percent(text) }
}

/// Bytes kept of a frame, above 0.
pub(crate) fn parse_snaplen(text: &str) -> Result<u32, String> {
    positive(text)
}

/// Seconds above 0, decimals allowed, at most ten years.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = positive(text)?;
    if seconds.is_finite() && seconds <= 315_360_000.0 {
        Ok(seconds)
    } else {
        Err("use at most 315360000 (ten years), or leave it out to run until Ctrl-C".into())
    }
}

/// Millions of bytes above 0, decimals allowed, as bytes.
pub(crate) fn parse_megabytes(text: &str) -> Result<u64, String> {
    let bytes = positive::<f64>(text)? * 1e6;
    if bytes.is_finite() && (1.0..1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err("use a number of megabytes above 0".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_parse_and_print_back() {
        for text in ["recorded", "x2", "x0.5", "pps=100000", "top"] {
            assert_eq!(text.parse::<Speed>().unwrap().to_string(), text);
        }
        for text in ["", "x", "x-1", "xinf", "pps=", "pps=nan", "fast", "2x"] {
            assert!(text.parse::<Speed>().is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn mac_addresses_have_six_bytes() {
        assert_eq!("01:00:5E:1:1:1".parse(), Ok(Mac([1, 0, 0x5e, 1, 1, 1])));
        for text in
            ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "001:2:3:4:5:6", "g:2:3:4:5:6", "+1:2:3:4:5:6"]
        {
            assert!(text.parse::<Mac>().is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn megabytes_are_decimal() {
        assert_eq!(parse_megabytes("1.5"), Ok(1_500_000));
        assert!(parse_megabytes("0").is_err());
        assert!(parse_megabytes("0.0000001").is_err());
        assert!(parse_megabytes("inf").is_err());
    }
}
