//! Frame sizes as options name them.

use std::fmt;
use std::str::FromStr;

/// Longest frame that any backend takes.
const LONGEST: usize = 65_535;
/// Most different sizes.
const MOST: usize = 1024;

/// The simple Internet mix: 7 frames of 60 bytes, 4 of 566, 1 of 1514, spread evenly. (64, 570
/// and 1518 with their check sequences.)
const IMIX: [usize; 12] = [60, 566, 60, 60, 566, 60, 1514, 60, 566, 60, 566, 60];

/// One or several frame sizes, in bytes without check sequence, in the order of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    text: String,
    pub(crate) bytes: Vec<usize>,
}

impl Sizes {
    /// The sizes without doubles, ascending.
    pub(crate) fn distinct(&self) -> Vec<usize> {
        let mut sizes = self.bytes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Their mean.
    pub(crate) fn mean(&self) -> f64 {
        self.bytes.iter().sum::<usize>() as f64 / self.bytes.len().max(1) as f64
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?}: use 60, a list 60,512,1514, a range 60:1514:256, or imix");
        let size = |digits: &str| match digits.parse::<usize>() {
            Ok(n) if (super::probe::MIN_FRAME..=LONGEST).contains(&n) => Ok(n),
            Ok(n) => Err(format!(
                "{n} is no frame size: use {} to {LONGEST} bytes, check sequence not counted",
                super::probe::MIN_FRAME
            )),
            Err(_) => Err(wrong()),
        };
        let mut bytes = Vec::new();
        if text == "imix" {
            bytes.extend(IMIX);
        } else {
            for part in text.split(',') {
                let ends: Vec<&str> = part.split(':').collect();
                match ends[..] {
                    [one] => bytes.push(size(one)?),
                    [from, to, step] => {
                        let step = step.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
                        let (from, to) = (size(from)?, size(to)?);
                        if from > to {
                            return Err(wrong());
                        }
                        bytes.extend((from..=to).step_by(step).take(MOST + 1));
                    }
                    _ => return Err(wrong()),
                }
            }
        }
        if bytes.len() > MOST {
            return Err(format!("more than {MOST} sizes: use a wider step"));
        }
        Ok(Self { text: text.to_owned(), bytes })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Vec<usize> {
        text.parse::<Sizes>().unwrap().bytes
    }

    #[test]
    fn sizes_are_one_a_list_a_range_or_the_mix() {
        assert_eq!(sizes("60"), [60]);
        assert_eq!(sizes("60,1514,60"), [60, 1514, 60]);
        assert_eq!(sizes("64:600:256"), [64, 320, 576]);
        assert_eq!(sizes("100:100:1,60"), [100, 60]);
        let mix: Sizes = "imix".parse().unwrap();
        assert_eq!((mix.bytes.len(), mix.distinct()), (12, vec![60, 566, 1514]));
        assert!((mix.mean() - 349.8).abs() < 0.1);
    }

    #[test]
    fn nonsense_sizes_are_refused() {
        for text in [
            "",
            "59",
            "65536",
            "-1",
            "60:",
            "60:100",
            "100:60:1",
            "60:100:0",
            "60:65535:1",
            "jumbo",
        ] {
            assert!(text.parse::<Sizes>().is_err(), "accepted: {text}");
        }
    }
}
