//! The picture: 80 columns and 24 lines are enough.

use std::cmp::Reverse;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table};

use super::sample::Sample;
use crate::capture::SIZE_NAMES;
use crate::format::{bps, count, pps};
use crate::json::Identity;

/// Columns of the table that it can be sorted by.
const COLUMNS: [&str; 6] = ["flow", "pps", "on the wire", "frames", "missing", "late"];
const WIDTHS: [u16; 6] = [26, 10, 12, 12, 8, 6];

/// What is drawn, and how the user wants it.
#[derive(Debug)]
pub(super) struct Screen {
    port: String,
    before: Option<Sample>,
    now: Option<Sample>,
    first: Option<Sample>,
    sort: usize,
    reverse: bool,
    frozen: bool,
    scroll: usize,
}

impl Screen {
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            port: identity.port.clone(),
            before: None,
            now: None,
            first: None,
            sort: 1,
            reverse: false,
            frozen: false,
            scroll: 0,
        }
    }

    /// New numbers; a frozen picture does not take them.
    pub(super) fn take(&mut self, sample: Sample) {
        if self.first.is_none() {
            self.first = Some(sample.clone());
        }
        if !self.frozen {
            self.before = self.now.replace(sample);
        }
    }

    /// A key that is not about leaving.
    pub(super) fn press(&mut self, key: KeyCode) {
        let groups = self.now.as_ref().map_or(0, |now| now.groups.len());
        match key {
            KeyCode::Char('s') => self.sort = (self.sort + 1) % COLUMNS.len(),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('f' | ' ') => self.frozen = !self.frozen,
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            _ => {}
        }
        self.scroll = self.scroll.min(groups.saturating_sub(1));
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some(now) = &self.now else { return };
        let before = self.before.as_ref().unwrap_or(now);
        let rows = [1, 1, 1, 1, 2, 1].map(Constraint::Length);
        let rows = rows.into_iter().chain([Constraint::Min(2), Constraint::Length(1)]);
        let [title, totals, drops, cpu, sizes, _, table, keys] =
            Layout::vertical(rows).areas(frame.area());
        frame.render_widget(self.title(now), title);
        frame.render_widget(total_line(now, before), totals);
        frame.render_widget(drop_line(now), drops);
        frame.render_widget(cpu_line(now, before), cpu);
        frame.render_widget(size_lines(now), sizes);
        frame.render_widget(self.table(now, before, usize::from(table.height)), table);
        let help = "q quit   s sort by next column   r reverse   f freeze   ↑ ↓ scroll";
        frame.render_widget(Line::styled(help, dim()), keys);
    }

    fn title(&self, now: &Sample) -> Line<'_> {
        let seconds = self.first.as_ref().map_or(0, |first| (now.at - first.at).as_secs());
        let mut parts = vec![
            Span::styled(format!("{}  ", self.port), bold()),
            Span::raw(format!("{seconds} s")),
        ];
        if self.frozen {
            parts.push(Span::styled("  FROZEN", bold().fg(Color::Yellow)));
        }
        Line::from(parts)
    }

    fn table(&self, now: &Sample, before: &Sample, height: usize) -> Table<'_> {
        let mut order: Vec<usize> = (0..now.groups.len()).collect();
        // Rates as whole numbers: good enough for an order, and they compare.
        let rate = |i: usize| now.group(before, i);
        match self.sort {
            // As the user named them: by text, .10 would stand before .2.
            0 => {}
            1 => order.sort_by_key(|i| Reverse(rate(*i).pps as u64)),
            2 => order.sort_by_key(|i| Reverse(rate(*i).bps as u64)),
            3 => order.sort_by_key(|i| Reverse(now.groups[*i].frames)),
            4 => order.sort_by_key(|i| Reverse(now.groups[*i].missing)),
            _ => order.sort_by_key(|i| Reverse(now.groups[*i].late)),
        }
        if self.reverse {
            order.reverse();
        }
        let shown = order.into_iter().skip(self.scroll).take(height.saturating_sub(1));
        let rows = shown.map(|i| {
            let (line, rate) = (&now.groups[i], rate(i));
            let style = if line.missing > 0 { bad() } else { Style::new() };
            cells([
                line.group.clone(),
                pps(rate.pps),
                bps(rate.bps),
                count(line.frames),
                if line.sequenced { count(line.missing) } else { "-".into() },
                if line.sequenced { count(line.late) } else { "-".into() },
            ])
            .style(style)
        });
        let mut rows: Vec<_> = rows.collect();
        if now.groups.is_empty() {
            let rate = now.total(before);
            let none = || "-".to_owned();
            let frames = count(now.counts.frames);
            rows.push(cells([
                "(every frame)".into(),
                pps(rate.pps),
                bps(rate.bps),
                frames,
                none(),
                none(),
            ]));
        }
        let heads = COLUMNS.iter().enumerate().map(|(i, name)| {
            if i == self.sort {
                format!("{name}{}", if self.reverse { '▲' } else { '▼' })
            } else {
                (*name).to_owned()
            }
        });
        let mut heads = heads;
        let heads = std::array::from_fn(|_| heads.next().unwrap_or_default());
        Table::new(rows, WIDTHS.map(Constraint::Length)).header(cells(heads).style(bold()))
    }
}

/// A row of the table: the first cell left, the numbers right.
fn cells(texts: [String; 6]) -> Row<'static> {
    let widths = WIDTHS.iter().enumerate();
    let aligned = texts.into_iter().zip(widths).map(|(text, (i, width))| {
        let width = usize::from(*width);
        if i == 0 { text } else { format!("{text:>width$}") }
    });
    Row::new(aligned.collect::<Vec<_>>())
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bad() -> Style {
    Style::new().fg(Color::Red)
}

fn total_line(now: &Sample, before: &Sample) -> Line<'static> {
    let rate = now.total(before);
    let text = format!("{}  {}  {} frames", pps(rate.pps), bps(rate.bps), count(now.counts.frames));
    let missing: u64 = now.groups.iter().map(|group| group.missing).sum();
    let mut parts = vec![Span::raw(text)];
    if now.groups.iter().any(|group| group.sequenced) {
        let style = if missing > 0 { bad() } else { Style::new() };
        parts.push(Span::styled(format!("  {} missing in sequences", count(missing)), style));
    }
    Line::from(parts)
}

fn drop_line(now: &Sample) -> Line<'static> {
    let lost: Vec<String> = now
        .queue
        .losses()
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| format!("{name} {}", count(n)))
        .collect();
    if lost.is_empty() {
        Line::from("drops: none")
    } else {
        Line::styled(format!("drops: {}", lost.join("  ")), bad())
    }
}

fn cpu_line(now: &Sample, before: &Sample) -> Line<'static> {
    let place = now.loop_cpu.map_or(String::new(), |(_, cpu)| format!(" of CPU {cpu}"));
    match now.loop_share(before) {
        Some(share) => Line::from(format!("receive loop: {:.0} %{place}", 100.0 * share)),
        None => Line::from("receive loop: -"),
    }
}

/// The mix of frame sizes, check sequence included as is the custom.
fn size_lines(now: &Sample) -> Paragraph<'static> {
    let total: u64 = now.counts.sizes.iter().sum();
    let share = |n: u64| {
        if total == 0 { "-".into() } else { format!("{:.1} %", 100.0 * n as f64 / total as f64) }
    };
    let names: String = SIZE_NAMES.iter().map(|name| format!("{name:>10}")).collect();
    let shares: String = now.counts.sizes.iter().map(|n| format!("{:>10}", share(*n))).collect();
    Paragraph::new(vec![
        Line::styled(format!("bytes  {names}"), dim()),
        Line::from(format!("frames {shares}")),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use linerate::RxStats;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::capture::{Counts, GroupLine};

    fn sample(at: Instant, frames: u64) -> Sample {
        let group = |n: u64| GroupLine {
            group: format!("239.255.100.{n}:50000"),
            frames: frames * n,
            bytes: frames * n * 100,
            gaps: n,
            missing: if n == 7 { 1_234 } else { 0 },
            late: 0,
            sequenced: true,
        };
        let mut queue = RxStats::default();
        queue.kernel_drop = 99;
        Sample {
            at,
            counts: Counts {
                frames,
                bytes: frames * 100,
                sizes: [1, 2, 3, 4, 5, 6, 7],
                ..Counts::default()
            },
            queue,
            groups: (1..=100).map(group).collect(),
            loop_cpu: Some((Duration::from_millis(frames), 1)),
        }
    }

    fn picture(screen: &Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content
            .chunks(80)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect())
            .collect()
    }

    fn screen() -> Screen {
        let identity = Identity {
            port: "afpacket:eth2".into(),
            interface: "eth2".into(),
            backend: "afpacket",
        };
        let mut screen = Screen::new(&identity);
        let begun = Instant::now();
        screen.take(sample(begun, 0));
        screen.take(sample(begun + Duration::from_secs(1), 500));
        screen
    }

    #[test]
    fn everything_is_seen_in_80_by_24() {
        let lines = picture(&screen());
        let all = lines.join("\n");
        for part in [
            "afpacket:eth2",
            "500 pps",
            "500 frames",
            "kernel_drop 99",
            "receive loop: 50 % of CPU 1",
            "1,234 missing",
            "25.0 %",
            "65-127",
            "q quit",
        ] {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
        let row = lines.iter().find(|l| l.contains("239.255.100.100:50000")).unwrap();
        assert!(row.contains("50.0 kpps") && row.contains("49.6 Mb/s"), "{all}");
        assert!(row.trim_end().ends_with('0'), "the last column is cut:\n{all}");
    }

    #[test]
    fn keys_sort_reverse_scroll_and_freeze() {
        let mut screen = screen();
        let first = |screen: &Screen| {
            let lines = picture(screen);
            let at = lines.iter().position(|l| l.starts_with("flow")).unwrap();
            lines[at + 1].split(':').next().unwrap().to_owned()
        };
        assert_eq!(first(&screen), "239.255.100.100");
        for _ in 0..3 {
            screen.press(KeyCode::Char('s'));
        }
        assert_eq!(first(&screen), "239.255.100.7", "the one with missing numbers");
        screen.press(KeyCode::Char('s'));
        screen.press(KeyCode::Char('s'));
        assert_eq!(first(&screen), "239.255.100.1", "as they were named");
        screen.press(KeyCode::Down);
        assert_eq!(first(&screen), "239.255.100.2");
        for _ in 0..300 {
            screen.press(KeyCode::PageDown);
        }
        assert_eq!(first(&screen), "239.255.100.100", "the last one stays");
        screen.press(KeyCode::Char('f'));
        screen.take(sample(Instant::now(), 9_999));
        assert!(!picture(&screen).join("").contains("9,999"));
    }
}
