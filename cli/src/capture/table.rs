//! The counters of groups as a table.

use linerate::FlowSpec;
use serde::Serialize;

use crate::format::{bytes, count};
use crate::groups::{self, GroupCount};
use crate::output::Paint;

/// Rows of the table; the others are summed up.
const ROWS: usize = 40;

/// One group's counters, as printed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GroupLine {
    pub(crate) group: String,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Jumps of the sequence; 0 when the place of the number is not known.
    pub(crate) gaps: u64,
    /// Numbers jumped over.
    pub(crate) missing: u64,
    /// Datagrams behind the expected number.
    pub(crate) late: u64,
    /// Was a sequence number looked for?
    #[serde(skip)]
    pub(crate) sequenced: bool,
}

/// The counters with their groups' names.
pub(crate) fn group_lines(
    flows: &[FlowSpec],
    counts: &[GroupCount],
    sequenced: bool,
) -> Vec<GroupLine> {
    let names = flows.iter().filter(|flow| super::is_group(flow.kind)).map(groups::name);
    let line = |(group, n): (String, &GroupCount)| GroupLine {
        group,
        frames: n.frames,
        bytes: n.bytes,
        gaps: n.sequence.gaps,
        missing: n.sequence.missing,
        late: n.sequence.late,
        sequenced,
    };
    names.zip(counts).map(line).collect()
}

/// Groups as a table of at most 80 columns.
pub(crate) fn group_table(lines: &[GroupLine], paint: Paint) -> String {
    let sequenced = lines.iter().any(|line| line.sequenced);
    let row = |group: &str, frames: &str, size: &str, gaps: &str, missing: &str, late: &str| {
        let left = format!("  {group:<34} {frames:>12} {size:>10}");
        if sequenced { format!("{left} {gaps:>5} {missing:>7} {late:>5}") } else { left }
    };
    let mut text = vec![paint.bold(&row("group", "frames", "size", "gaps", "missing", "late"))];
    for line in lines.iter().take(ROWS) {
        let shown = row(
            &line.group,
            &count(line.frames),
            &bytes(line.bytes),
            &count(line.gaps),
            &count(line.missing),
            &count(line.late),
        );
        text.push(if line.gaps > 0 { paint.bad(&shown) } else { shown });
    }
    if let Some(rest) = lines.get(ROWS..).filter(|rest| !rest.is_empty()) {
        let sum = |of: fn(&GroupLine) -> u64| rest.iter().map(of).sum::<u64>();
        text.push(row(
            &format!("({} more; all with --json)", rest.len()),
            &count(sum(|l| l.frames)),
            &bytes(sum(|l| l.bytes)),
            &count(sum(|l| l.gaps)),
            &count(sum(|l| l.missing)),
            &count(sum(|l| l.late)),
        ));
    }
    text.join("\n")
}
