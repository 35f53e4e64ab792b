//! `linerate top`: what comes in, live, on a terminal.
//!
//! The receive loop is that of a capture without a file. This thread asks it for numbers once a
//! second and draws them, or prints them as JSON.

mod args;
mod cpu;
mod found;
mod lines;
mod sample;
mod screen;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::StopHandle;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::capture::{self, Desk, Plan, Receiver, group_lines};
use crate::events::Clock;
use crate::failure::Failure;
use crate::format::plural;
use crate::json::Identity;
use crate::meeting;
use crate::metrics::{self, Exporter};
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join};

pub(crate) use args::TopArgs;
#[cfg(test)]
pub(crate) use found::lines as lines_of;
pub(crate) use found::{Finder, Found};
use sample::Sample;
use screen::Screen;

const SECOND: Duration = Duration::from_secs(1);
/// The receive loop is asked this long before its numbers are drawn.
const NOTICE: Duration = Duration::from_millis(120);
/// How long to wait for a key: how late a signal is noticed.
const TICK: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) fn run(args: &TopArgs, out: &Output) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !out.is_json() && !terminal {
        return Err(Failure::usage("top draws on a terminal, and this is none")
            .remedy(format!("for a program or a file: linerate top {} --json", args.port)));
    }
    let args = args.capture();
    let plan = Plan::new(&args)?;
    check_cpu(plan.cpu)?;
    let interrupt = Interrupt::install()?;
    let stop = StopHandle::new().map_err(Failure::new)?;
    let mut port = capture::open(&args, &plan)?;
    plan.check_queues(&mut port.rx)?;
    let identity = Identity::of(&port);
    let exporter = args.metrics.map(|at| Exporter::start(at, &[&identity], out)).transpose()?;
    privilege::give_up(&[port.backend()], Need::Nothing, out);
    let (queues, _, guard) = port.into_parts();
    let desk = Arc::new(Desk::new(&plan));
    let (finder, found) = Finder::new();
    let receiver = Receiver::new(&plan, queues, None, finder, Arc::clone(&desk), &stop)?;
    let receiver = receiver.start()?;

    let begun = Instant::now();
    let source = Source { plan: &plan, desk: &desk, found: &found, exporter };
    let clock = Clock::default();
    let over = || {
        clock.tick(out);
        let time_is_up = plan.duration.is_some_and(|d| begun.elapsed() >= d);
        interrupt.asked() || receiver.is_finished() || out.closed() || time_is_up
    };
    let shown = if out.is_json() {
        lines::run(&source, &identity, begun, &over, out);
        Ok(())
    } else {
        // Restores the terminal on every way out; ratatui's hook does so on a panic.
        let mut terminal = Terminal::take()?;
        let mut view = View { screen: Screen::new(&identity), source: &source, begun };
        view.run(&mut terminal.0, &over)
    };
    stop.stop();
    let seconds = begun.elapsed().as_secs_f64();
    let received = join(receiver)?;
    let in_cable = meeting::close(guard, out);
    let mut ledger =
        capture::ledger(&received.counts, &received.queue, None, received.counts.frames, None);
    ledger.lose_ahead("cable_full", in_cable);
    if out.is_json() {
        let failure = received.failure.as_ref();
        lines::last(&received.counts, &ledger, &identity, seconds, failure, out);
        return received.failure.map_or(Ok(()), |failure| Err(failure.told(true)));
    }
    let frames = plural(received.counts.frames, "frame");
    out.text(&format!("{frames} on {} in {seconds:.1} s", identity.port));
    out.text(&ledger.render(out.paint()));
    shown.and(received.failure.map_or(Ok(()), Err))
}

/// The terminal, while it is ours.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn take() -> Result<Self, Failure> {
        let terminal = ratatui::try_init();
        terminal.map(Self).map_err(|e| {
            // What was changed before it failed is changed back.
            ratatui::restore();
            Failure::new(format!("cannot draw on this terminal: {e}"))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Where numbers come from, and where they are served.
struct Source<'a> {
    plan: &'a Plan,
    desk: &'a Desk,
    found: &'a Mutex<Found>,
    exporter: Option<Exporter>,
}

impl Source<'_> {
    /// The numbers as of now, which also go to the metrics.
    fn take(&self) -> Sample {
        self.desk.read(|sheet| {
            let named = group_lines(&self.plan.flows, &sheet.groups, self.plan.seq.is_some());
            if let Some(exporter) = &self.exporter {
                // What was found comes and goes: no counter for a scrape.
                exporter.put(&[metrics::Sheet {
                    rx: &sheet.queues,
                    groups: &named,
                    ..metrics::Sheet::default()
                }]);
            }
            let mut groups = named;
            groups.extend(found::lines(self.found));
            Sample {
                at: Instant::now(),
                counts: sheet.counts,
                queue: sheet.queue,
                groups,
                loop_cpu: cpu::of_thread("linerate-rx"),
            }
        })
    }
}

struct View<'a> {
    screen: Screen,
    source: &'a Source<'a>,
    begun: Instant,
}

impl View<'_> {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        over: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("the terminal is gone: {e}"));
        let mut next = self.begun;
        loop {
            self.source.desk.ask();
            // The first picture comes at once, all others a second apart.
            thread::sleep(NOTICE.min(next.saturating_duration_since(Instant::now())));
            self.screen.take(self.source.take());
            terminal.draw(|frame| self.screen.draw(frame)).map_err(failed)?;
            next += SECOND;
            while Instant::now() + NOTICE < next {
                if over() {
                    return Ok(());
                }
                if !event::poll(TICK).map_err(failed)? {
                    continue;
                }
                match event::read().map_err(failed)? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let control = key.modifiers.contains(KeyModifiers::CONTROL);
                        if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                            || control && key.code == KeyCode::Char('c')
                        {
                            return Ok(());
                        }
                        self.screen.press(key.code);
                    }
                    Event::Resize(..) => {}
                    _ => continue,
                }
                terminal.draw(|frame| self.screen.draw(frame)).map_err(failed)?;
            }
        }
    }
}
