//! The verdicts on backends, in few lines.

use linerate::{Candidate, Verdict};

use crate::output::Paint;

/// Columns for the names, for the verdict, and for the reason: with gaps and indent 80.
const NAMES: usize = 20;
const VERDICT: usize = 7;
const REASON: usize = 47;

/// Backends with the same verdict for the same reason.
struct Row<'a> {
    names: String,
    verdict: Verdict,
    reason: &'a str,
}

/// One line for each verdict and reason, in the order of preference; long reasons continue on
/// the next line. `word` says how a verdict is called here.
pub(crate) fn lines(
    candidates: &[Candidate],
    word: fn(Verdict) -> &'static str,
    paint: Paint,
) -> Vec<String> {
    let mut lines = Vec::new();
    for Row { names, verdict, reason } in rows(candidates) {
        let good = matches!(verdict, Verdict::Chosen | Verdict::Works);
        let word = format!("{:<VERDICT$}", word(verdict));
        let word = if good { paint.good(&word) } else { word };
        for (n, part) in wrap(reason, REASON).iter().enumerate() {
            lines.push(if n == 0 {
                format!("  {names:<NAMES$} {word} {}", paint.dim(part)).trim_end().to_owned()
            } else {
                format!("  {:NAMES$} {:VERDICT$} {}", "", "", paint.dim(part))
            });
        }
    }
    lines
}

fn rows(candidates: &[Candidate]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for candidate in candidates {
        // Three lines that say so of three cards would hide the one that matters.
        let reason = if candidate.other_maker {
            "not a card of these makers"
        } else {
            candidate.reason.as_str()
        };
        match rows.last_mut() {
            Some(last) if last.verdict == candidate.verdict && last.reason == reason => {
                last.names.push_str(", ");
                last.names.push_str(candidate.backend.name());
            }
            _ => rows.push(Row {
                names: candidate.backend.name().to_owned(),
                verdict: candidate.verdict,
                reason,
            }),
        }
    }
    rows
}

/// Breaks a text at spaces into lines of at most `columns` characters, longer words apart; never
/// empty.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let length = lines[last].chars().count();
        if length > 0 && length + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_between_words() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
        assert_eq!(wrap("incomprehensible", 7), ["incomprehensible"]);
    }

    #[test]
    fn backends_with_one_reason_share_a_line() {
        for port in linerate::ports() {
            let lines = lines(&port.backends, |_| "no", Paint::PLAIN);
            assert!(lines.iter().all(|l| l.chars().count() <= 80), "{lines:?}");
            let named =
                port.backends.iter().filter(|c| lines.iter().any(|l| l.contains(c.backend.name())));
            assert_eq!(named.count(), port.backends.len(), "{lines:?}");
        }
    }
}
