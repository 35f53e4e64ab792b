//! `linerate top`: what comes in, live, on a terminal.
//!
//! The receive loop is that of a capture without a file. This thread asks it for numbers once a
//! second and draws them.

mod args;
mod cpu;
mod sample;
mod screen;

use std::io::IsTerminal;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::StopHandle;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::capture::{self, Desk, Plan, Receiver, group_lines};
use crate::failure::Failure;
use crate::format::plural;
use crate::json::Identity;
use crate::metrics::{self, Exporter};
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join};

pub(crate) use args::TopArgs;
use sample::Sample;
use screen::Screen;

const SECOND: Duration = Duration::from_secs(1);
/// The receive loop is asked this long before its numbers are drawn.
const NOTICE: Duration = Duration::from_millis(120);
/// How long to wait for a key: how late a signal is noticed.
const TICK: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) fn run(args: &TopArgs, out: &Output) -> Result<(), Failure> {
    if out.is_json() || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("top draws on a terminal, and this is none")
            .remedy(format!("for a program or a file: linerate capture -i {} --json", args.port)));
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
    let receiver = Receiver::new(&plan, queues, None, (), Arc::clone(&desk), &stop)?;
    let receiver = receiver.start()?;

    let mut view = View {
        screen: Screen::new(&identity),
        plan: &plan,
        desk: &desk,
        exporter,
        begun: Instant::now(),
    };
    let drawn = {
        // Restores the terminal on every way out; ratatui's hook does so on a panic.
        let mut terminal = Terminal::take()?;
        let over = || interrupt.asked() || receiver.is_finished();
        view.run(&mut terminal.0, over, plan.duration)
    };
    stop.stop();
    let seconds = view.begun.elapsed().as_secs_f64();
    let received = join(receiver)?;
    drop(guard);
    let ledger =
        capture::ledger(&received.counts, &received.queue, None, received.counts.frames, None);
    let frames = plural(received.counts.frames, "frame");
    out.text(&format!("{frames} on {} in {seconds:.1} s", identity.port));
    out.text(&ledger.render(out.paint()));
    drawn.and(received.failure.map_or(Ok(()), Err))
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

struct View<'a> {
    screen: Screen,
    plan: &'a Plan,
    desk: &'a Desk,
    exporter: Option<Exporter>,
    begun: Instant,
}

impl View<'_> {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        over: impl Fn() -> bool,
        duration: Option<Duration>,
    ) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("the terminal is gone: {e}"));
        let mut next = self.begun;
        loop {
            self.desk.ask();
            // The first picture comes at once, all others a second apart.
            thread::sleep(NOTICE.min(next.saturating_duration_since(Instant::now())));
            self.take();
            terminal.draw(|frame| self.screen.draw(frame)).map_err(failed)?;
            next += SECOND;
            while Instant::now() + NOTICE < next {
                if over() || duration.is_some_and(|d| self.begun.elapsed() >= d) {
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

    /// The numbers as of now, to the screen and to the metrics.
    fn take(&mut self) {
        let sample = self.desk.read(|sheet| {
            let groups = group_lines(&self.plan.flows, &sheet.groups, self.plan.seq.is_some());
            if let Some(exporter) = &self.exporter {
                exporter.put(&[metrics::Sheet {
                    rx: &sheet.queues,
                    groups: &groups,
                    ..metrics::Sheet::default()
                }]);
            }
            Sample {
                at: Instant::now(),
                counts: sheet.counts,
                queue: sheet.queue,
                groups,
                loop_cpu: cpu::of_thread("linerate-rx"),
            }
        });
        self.screen.take(sample);
    }
}
