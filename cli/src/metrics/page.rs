//! The page itself, in the text format of Prometheus.

use std::fmt::Write as _;

use linerate::{RxStats, TxStats};

use crate::capture::GroupLine;
use crate::json::Identity;

/// The counters of a run at one moment. All of them only grow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sheet<'a> {
    /// Of each receive queue.
    pub(crate) rx: &'a [RxStats],
    /// Of each transmit queue.
    pub(crate) tx: &'a [TxStats],
    /// Losses outside the queues, by name: `writer_queue_full`.
    pub(crate) dropped: &'a [(&'static str, u64)],
    /// Of each group.
    pub(crate) groups: &'a [GroupLine],
}

/// One family of counters with its rows.
struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
    help: &'static str,
    begun: bool,
}

impl<'p> Family<'p> {
    fn new(page: &'p mut String, name: &'static str, help: &'static str) -> Self {
        Self { page, name, help, begun: false }
    }

    fn row(&mut self, labels: &str, value: u64) {
        let Self { page, name, help, begun } = self;
        if !*begun {
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} counter");
            *begun = true;
        }
        let _ = writeln!(page, "{name}{{{labels}}} {value}");
    }
}

/// A port's labels, the numbers of its first queues, and its counters.
struct Part<'a> {
    labels: String,
    first_rx: usize,
    first_tx: usize,
    sheet: Sheet<'a>,
}

impl Part<'_> {
    fn rx(&self) -> impl Iterator<Item = (String, &RxStats)> {
        let queue = |(i, stats)| (self.queue(self.first_rx + i), stats);
        self.sheet.rx.iter().enumerate().map(queue)
    }

    fn tx(&self) -> impl Iterator<Item = (String, &TxStats)> {
        let queue = |(i, stats)| (self.queue(self.first_tx + i), stats);
        self.sheet.tx.iter().enumerate().map(queue)
    }

    fn queue(&self, n: usize) -> String {
        format!("{},queue=\"{n}\"", self.labels)
    }
}

/// The parts of a page. Queues of ports that have the same name are numbered through: no two
/// counters may be called the same.
fn parts<'a>(ports: &[(&Identity, Sheet<'a>)]) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    for (identity, sheet) in ports {
        let labels = format!(
            "interface=\"{}\",backend=\"{}\"",
            escape(&identity.interface),
            escape(identity.backend)
        );
        let before = || parts.iter().filter(|part| part.labels == labels);
        let first_rx = before().map(|part| part.sheet.rx.len()).sum();
        let first_tx = before().map(|part| part.sheet.tx.len()).sum();
        parts.push(Part { labels, first_rx, first_tx, sheet: *sheet });
    }
    parts
}

/// The whole page.
pub(super) fn render(ports: &[(&Identity, Sheet<'_>)]) -> String {
    let parts = parts(ports);
    let mut page = String::new();
    let _ = writeln!(
        page,
        "# HELP linerate_build_info The program.\n# TYPE linerate_build_info gauge\n\
         linerate_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    type Of<S> = fn(&S) -> u64;
    let rx: [(&'static str, &'static str, Of<RxStats>); 3] = [
        ("linerate_rx_frames_total", "Frames delivered.", |s| s.frames),
        ("linerate_rx_bytes_total", "Bytes of delivered frames.", |s| s.bytes),
        ("linerate_rx_flagged_total", "Delivered frames that were cut or damaged.", |s| s.flagged),
    ];
    for (name, help, of) in rx {
        let mut family = Family::new(&mut page, name, help);
        for part in &parts {
            for (queue, stats) in part.rx() {
                family.row(&queue, of(stats));
            }
        }
    }
    let mut family = Family::new(&mut page, "linerate_rx_dropped_total", "Frames lost, by reason.");
    for part in &parts {
        for (queue, stats) in part.rx() {
            for (reason, n) in stats.losses() {
                family.row(&format!("{queue},reason=\"{reason}\""), n);
            }
        }
        for (reason, n) in part.sheet.dropped {
            family.row(&format!("{},queue=\"all\",reason=\"{reason}\"", part.labels), *n);
        }
    }
    let tx: [(&'static str, &'static str, Of<TxStats>); 3] = [
        ("linerate_tx_frames_total", "Frames handed to the card or kernel.", |s| s.frames),
        ("linerate_tx_bytes_total", "Bytes of those frames.", |s| s.bytes),
        ("linerate_tx_completed_total", "Frames whose slot came back.", |s| s.completed),
    ];
    for (name, help, of) in tx {
        let mut family = Family::new(&mut page, name, help);
        for part in &parts {
            for (queue, stats) in part.tx() {
                family.row(&queue, of(stats));
            }
        }
    }
    let mut family =
        Family::new(&mut page, "linerate_tx_dropped_total", "Frames not sent, by reason.");
    for part in &parts {
        for (queue, stats) in part.tx() {
            for (reason, n) in stats.losses() {
                family.row(&format!("{queue},reason=\"{reason}\""), n);
            }
        }
    }
    let groups: [(&'static str, &'static str, Of<GroupLine>); 5] = [
        ("linerate_group_frames_total", "Frames of a group.", |g| g.frames),
        ("linerate_group_bytes_total", "Bytes of those frames.", |g| g.bytes),
        ("linerate_group_gaps_total", "Jumps of the group's sequence.", |g| g.gaps),
        ("linerate_group_missing_total", "Sequence numbers jumped over.", |g| g.missing),
        ("linerate_group_late_total", "Datagrams behind the expected number.", |g| g.late),
    ];
    for (name, help, of) in groups {
        let mut family = Family::new(&mut page, name, help);
        for part in &parts {
            for line in part.sheet.groups {
                let group = escape(&line.group);
                family.row(&format!("{},group=\"{group}\"", part.labels), of(line));
            }
        }
    }
    page
}

/// A label's value: quotes, backslashes and line ends are escaped.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The losses on a page of ours: reason, queue, frames.
pub(crate) fn losses(page: &str) -> Vec<(String, String, u64)> {
    let label = |labels: &str, name: &str| -> Option<String> {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let rows = page.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix("linerate_rx_dropped_total{")?.rsplit_once("} ")?;
        Some((label(labels, "reason")?, label(labels, "queue")?, value.trim().parse().ok()?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_well_formed_and_reads_back() {
        let identity = Identity {
            port: "afpacket:a\"b".into(),
            interface: "a\"b\\".into(),
            backend: "afpacket",
        };
        let mut stats = RxStats::default();
        (stats.frames, stats.kernel_drop) = (7, 3);
        let rx = [stats, RxStats::default()];
        let groups = [GroupLine {
            group: "239.1.1.1:5000".into(),
            frames: 5,
            bytes: 500,
            gaps: 1,
            missing: 2,
            late: 0,
            sequenced: true,
        }];
        let dropped = [("writer_queue_full", 9)];
        let sheet =
            Sheet { rx: &rx, tx: &[TxStats::default()], dropped: &dropped, groups: &groups };
        let page = render(&[(&identity, sheet)]);
        let port = "interface=\"a\\\"b\\\\\",backend=\"afpacket\"";
        for row in [
            format!("linerate_rx_frames_total{{{port},queue=\"0\"}} 7"),
            format!("linerate_rx_dropped_total{{{port},queue=\"0\",reason=\"kernel_drop\"}} 3"),
            format!(
                "linerate_rx_dropped_total{{{port},queue=\"all\",reason=\"writer_queue_full\"}} 9"
            ),
            format!("linerate_group_missing_total{{{port},group=\"239.1.1.1:5000\"}} 2"),
        ] {
            assert!(page.lines().any(|line| line == row), "{row}\n{page}");
        }
        // Each family is announced once, before its rows.
        let mut announced = Vec::new();
        for line in page.lines().filter(|line| !line.starts_with("# HELP")) {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => announced.push(rest.split(' ').next().unwrap_or_default()),
                None => assert_eq!(announced.last().copied(), line.split('{').next(), "{line}"),
            }
        }
        let unique: std::collections::BTreeSet<_> = announced.iter().collect();
        assert_eq!(unique.len(), announced.len());
        assert!(losses(&page).contains(&("kernel_drop".into(), "0".into(), 3)));
        assert!(losses(&page).contains(&("writer_queue_full".into(), "all".into(), 9)));
        assert!(losses("linerate_rx_dropped_total{ nonsense").is_empty());
    }

    #[test]
    fn no_two_counters_of_two_ports_have_the_same_name() {
        let of = |interface: &str| Identity {
            port: String::new(),
            interface: interface.into(),
            backend: "sim",
        };
        let both = Sheet {
            rx: &[RxStats::default(); 2],
            tx: &[TxStats::default()],
            dropped: &[],
            groups: &[],
        };
        let page = render(&[(&of("x"), both), (&of("y"), both), (&of("x"), both)]);
        let mut rows: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        let all = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), all, "{page}");
        for queue in ["\"x\",backend=\"sim\",queue=\"3\"", "\"y\",backend=\"sim\",queue=\"1\""] {
            assert!(page.contains(queue), "{queue}: {page}");
        }
    }
}
