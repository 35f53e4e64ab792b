//! The name of a port: `[BACKEND:]TARGET[?OPTION=VALUE[&OPTION=VALUE]…]`.

use std::fmt::Write as _;

use crate::backend::Backend;
use crate::error::OpenError;

/// A port's name, taken apart. Nothing is looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uri {
    /// The whole text.
    pub(crate) text: String,
    /// `None`: choose one.
    pub(crate) backend: Option<Backend>,
    /// Interface, device/port or path.
    pub(crate) target: String,
    options: Vec<(String, String)>,
}

/// One option that a backend understands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionDoc {
    pub(crate) name: &'static str,
    /// What its value may be, as a person would say it.
    pub(crate) values: &'static str,
}

impl Uri {
    pub(crate) fn parse(text: &str) -> Result<Self, OpenError> {
        let bad = |detail: String| Err(OpenError::uri(text, detail));
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let backend = match scheme {
            None => None,
            Some(name) => match Backend::by_name(name) {
                Some(backend) => Some(backend),
                None => {
                    let known: Vec<_> = Backend::ALL.iter().map(|b| b.name()).collect();
                    return bad(format!("no backend {name:?}{}", choices(name, &known)));
                }
            },
        };
        // A file's name may hold anything.
        let (target, query) = match (backend, rest.split_once('?')) {
            (Some(Backend::Pcap), _) | (_, None) => (rest, ""),
            (_, Some(parts)) => parts,
        };
        if target.is_empty() {
            let example = backend.map_or("eth2", Backend::example);
            return bad(format!("nothing after the colon; write for example {example}"));
        }
        let mut options = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return bad(format!("option {pair:?} has no value; write {pair}=VALUE"));
            };
            if options.iter().any(|(known, _)| known == name) {
                return bad(format!("option {name:?} is given twice"));
            }
            options.push((name.to_owned(), value.to_owned()));
        }
        if let (None, Some((name, _))) = (backend, options.first()) {
            return bad(format!(
                "option {name:?} belongs to a backend; name it, as in afpacket:{target}?{query}"
            ));
        }
        Ok(Self { text: text.to_owned(), backend, target: target.to_owned(), options })
    }

    /// The same target through a backend that was chosen for it.
    pub(crate) fn with_backend(&self, backend: Backend) -> Self {
        let text = format!("{backend}:{}", self.target);
        Self { text, backend: Some(backend), ..self.clone() }
    }

    /// Hands each option to `set`, which says what is wrong with the value if anything is.
    /// Names that are not in `known` are refused with the list of those that are.
    pub(crate) fn apply(
        &self,
        known: &[OptionDoc],
        mut set: impl FnMut(&str, &str) -> Option<()>,
    ) -> Result<(), OpenError> {
        for (name, value) in &self.options {
            let Some(doc) = known.iter().find(|doc| doc.name == name) else {
                let names: Vec<_> = known.iter().map(|doc| doc.name).collect();
                let backend = self.backend.map_or("", Backend::name);
                let detail = if names.is_empty() {
                    format!("{backend} has no options")
                } else {
                    format!("{backend} has no option {name:?}{}", choices(name, &names))
                };
                return Err(OpenError::uri(&self.text, detail));
            };
            if set(name, value).is_none() {
                let detail = format!("{name}={value:?} is not understood; it takes {}", doc.values);
                return Err(OpenError::uri(&self.text, detail));
            }
        }
        Ok(())
    }
}

/// `; did you mean "afxdp"? There are afpacket, udp, …`
pub(crate) fn choices(wrong: &str, known: &[&str]) -> String {
    let mut text = String::new();
    let near = known.iter().map(|name| (distance(wrong, name), name)).min();
    if let Some((_, name)) = near.filter(|(steps, _)| *steps <= 1 + wrong.len() / 3) {
        let _ = write!(text, "; did you mean {name:?}?");
    }
    let _ = write!(text, " (there are: {})", known.join(", "));
    text
}

/// Levenshtein distance, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Values that several backends share.
pub(crate) mod value {
    use std::ops::RangeInclusive;

    /// `on`/`off`, also as `true`/`false`, `yes`/`no`, `1`/`0`.
    pub(crate) fn switch(text: &str) -> Option<bool> {
        match text {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        }
    }

    /// A number within bounds.
    pub(crate) fn number<T: std::str::FromStr + PartialOrd>(
        text: &str,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        text.parse().ok().filter(|n| bounds.contains(n))
    }

    /// `3` or `0..3`, both ends included.
    pub(crate) fn range(text: &str, max: u32) -> Option<RangeInclusive<u32>> {
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (first, last.strip_prefix('=').unwrap_or(last)),
            None => (text, text),
        };
        let (first, last) = (number(first, 0..=max)?, number(last, 0..=max)?);
        (first <= last).then_some(first..=last)
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Uri::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_port_is_backend_target_and_options() {
        let uri = Uri::parse("afxdp:eth2?queue=0..3&mode=zerocopy").unwrap();
        assert_eq!((uri.backend, uri.target.as_str()), (Some(Backend::Afxdp), "eth2"));
        let mut seen = Vec::new();
        let known = ["queue", "mode"].map(|name| OptionDoc { name, values: "" });
        uri.apply(&known, |name, value| {
            seen.push(format!("{name}/{value}"));
            Some(())
        })
        .unwrap();
        assert_eq!(seen, ["queue/0..3", "mode/zerocopy"]);
        assert_eq!(Uri::parse("eth2").unwrap().backend, None);
        assert_eq!(Uri::parse("verbs:mlx5_0/1").unwrap().target, "mlx5_0/1");
        assert_eq!(Uri::parse("pcap:/tmp/what?.pcap").unwrap().target, "/tmp/what?.pcap");
    }

    #[test]
    fn a_wrong_scheme_names_the_nearest_and_all() {
        let e = error("afpaket:eth2");
        assert!(
            e.starts_with("afpaket:eth2: no backend \"afpaket\"; did you mean \"afpacket\"?"),
            "{e}"
        );
        assert!(e.contains("efvi, verbs, exanic, afxdp, afpacket, udp, sim, pcap"), "{e}");
        let e = error("frobnicate:eth2");
        assert!(!e.contains("did you mean"), "{e}");
        assert!(!e.contains('\n'));
    }

    #[test]
    fn bad_grammar_says_what_to_write() {
        assert!(error("afxdp:").contains("afxdp:eth2"));
        assert!(error("").contains("eth2"));
        assert!(error("afxdp:eth2?queue").contains("queue=VALUE"));
        assert!(error("afxdp:eth2?queue=1&queue=2").contains("twice"));
        assert!(error("eth2?queue=1").contains("belongs to a backend"));
    }

    #[test]
    fn options_and_values_are_checked() {
        let uri = Uri::parse("afxdp:eth2?qeue=1").unwrap();
        let known = [OptionDoc { name: "queue", values: "a queue, or a range such as 0..3" }];
        let e = uri.apply(&known, |_, _| Some(())).unwrap_err().to_string();
        assert!(e.contains("did you mean \"queue\"?"), "{e}");
        let uri = Uri::parse("afxdp:eth2?queue=x").unwrap();
        let e = uri.apply(&known, |_, v| value::range(v, 63).map(drop)).unwrap_err().to_string();
        assert!(e.ends_with("it takes a queue, or a range such as 0..3"), "{e}");
    }

    #[test]
    fn values() {
        assert_eq!(value::range("0..3", 63), Some(0..=3));
        assert_eq!(value::range("5", 63), Some(5..=5));
        assert_eq!(value::range("3..1", 63), None);
        assert_eq!(value::range("64", 63), None);
        assert_eq!(value::number("12", 1_u32..=64), Some(12));
        assert_eq!(value::number("65", 1_u32..=64), None);
        assert_eq!(value::switch("maybe"), None);
        assert_eq!(value::word("copy", &[("copy", 1), ("zerocopy", 2)]), Some(1));
    }
}
