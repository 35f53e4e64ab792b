//! `linerate sink`: receives a load and accounts for each number.

mod report;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use linerate::loops::{End, EventLoop, Every, StopHandle, StrategyKind, pin_to_cpu};
use linerate::{AnyRx, ErrorKind, FlowSpec, FrameRx, RxStats};

use crate::args::SinkArgs;
use crate::capture::GroupLine;
use crate::events::Clock;
use crate::failure::Failure;
use crate::groups;
use crate::json::Identity;
use crate::load::{Tally, Totals};
use crate::meeting;
use crate::metrics::{self, Exporter};
use crate::output::Output;
use crate::privilege::{self, Need};
use crate::setting::{Setting, interface_of};
use crate::signals::Interrupt;
use crate::threads::{check_cpu, join, spawn};

use report::{Live, Summary};

const TICK: Duration = Duration::from_millis(20);
/// Pause before a queue is tried again whose link is down.
const LINK_NAP: Duration = Duration::from_millis(10);
/// How often the loop shows its numbers.
const SHOW: Duration = Duration::from_millis(200);

/// What the main thread sees.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) totals: Totals,
    pub(crate) damaged: u64,
    /// Of each queue.
    queues: Vec<RxStats>,
    /// Of each group, where somebody reads them.
    groups: Vec<Totals>,
}

/// Runs the command.
pub(crate) fn run(args: &SinkArgs, out: &Output) -> Result<(), Failure> {
    check_cpu(args.cpu)?;
    let flows = meeting::groups(&args.groups)?;
    let interrupt = Interrupt::install()?;
    let stop = StopHandle::new().map_err(Failure::new)?;
    let kind = args.strategy.map(|s| s.kind());
    let port = linerate::port(&args.port)
        .flows(flows.iter().copied())
        .low_latency(kind == Some(StrategyKind::LowLatency));
    let mut port = port.open().map_err(Failure::new)?;
    meeting::tell(&port, out);
    let identity = Identity::of(&port);
    let interface = interface_of(&port);
    let strategy = meeting::strategy(args.strategy, &mut port.rx);
    let setting = Setting::of(&port, interface.as_ref(), args.cpu, strategy);
    let exporter = args.metrics.map(|at| Exporter::start(at, &[&identity], out)).transpose()?;
    privilege::give_up(&[port.backend()], Need::Nothing, out);
    let (queues, _, guard) = port.into_parts();
    let mut events = EventLoop::new(strategy, &stop);
    for queue in queues {
        events.add(queue, ()).map_err(Failure::usage)?;
    }
    out.text(&setting.render(&identity.port, out.paint()));

    let sheet = Arc::new(Mutex::new(Sheet::default()));
    let sink = Sink {
        port: identity.port.clone(),
        events,
        tally: RefCell::new(Tally::new(&flows)),
        limit: args.count.unwrap_or(u64::MAX),
        sheet: Arc::clone(&sheet),
        exported: exporter.is_some(),
        full: AtomicBool::new(false),
    };
    let cpu = args.cpu;
    let begun = Instant::now();
    let worker = spawn("linerate-sink", move || {
        if let Some(cpu) = cpu {
            // Tried before on another thread: it works.
            let _ = pin_to_cpu(cpu);
        }
        sink.run()
    })?;
    let deadline = args.duration.map(|s| begun + Duration::from_secs_f64(s));
    let mut live = Live::new(&identity, out);
    let clock = Clock::default();
    while !worker.is_finished() {
        clock.tick(out);
        let over = deadline.is_some_and(|end| Instant::now() >= end);
        if interrupt.asked() || out.closed() || over {
            break;
        }
        if live.tick(&sheet, out)
            && let Some(exporter) = &exporter
        {
            export(exporter, &sheet, &flows);
        }
        thread::sleep(TICK);
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.stop();
    let Received { tally, queue, failure } = join(worker)?;
    meeting::close(guard, out);
    out.end_live();
    let summary = Summary {
        identity: &identity,
        setting: &setting,
        flows: &flows,
        seconds,
        tally: &tally,
        queue: &queue,
        failure: failure.as_ref(),
    };
    summary.print(out);
    match failure {
        Some(failure) => Err(failure.told(out.is_json())),
        None => Ok(()),
    }
}

struct Sink {
    port: String,
    events: EventLoop<AnyRx, ()>,
    tally: RefCell<Tally>,
    limit: u64,
    sheet: Arc<Mutex<Sheet>>,
    exported: bool,
    full: AtomicBool,
}

struct Received {
    tally: Tally,
    queue: RxStats,
    failure: Option<Failure>,
}

impl Sink {
    fn run(mut self) -> Received {
        let failure = self.receive().err();
        if failure.is_none() && !self.full.load(Ordering::Relaxed) {
            self.drain();
        }
        let mut queue = RxStats::default();
        for (rx, ()) in self.events.queues_mut() {
            queue += rx.stats();
        }
        Received { tally: self.tally.into_inner(), queue, failure }
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut show = Every::new(SHOW);
        loop {
            let (tally, full, limit) = (&self.tally, &self.full, self.limit);
            let ended = self.events.run_with(
                |(), frame| {
                    let mut tally = tally.borrow_mut();
                    if limit == u64::MAX || tally.frames() < limit {
                        tally.see(&frame);
                    }
                },
                |turn| {
                    let tally = tally.borrow();
                    if turn.frames > 0 && limit < u64::MAX && tally.frames() >= limit {
                        full.store(true, Ordering::Relaxed);
                        return ControlFlow::Break(());
                    }
                    // Outside the loop the queues' counters can be read.
                    if show.is_due(turn) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            );
            match ended {
                Ok(ended) if ended.why == End::Stopped => return Ok(()),
                Ok(_) if self.full.load(Ordering::Relaxed) => return Ok(()),
                Ok(_) => self.show(),
                // Frames may come again when the link is back.
                Err(e) if e.error.kind == ErrorKind::LinkDown => thread::sleep(LINK_NAP),
                Err(e) => {
                    return Err(Failure::new(format!("{}: {}", self.port, e.error))
                        .remedy("what came before is counted"));
                }
            }
        }
    }

    /// Leaves the numbers for the main thread, unless it is reading them.
    fn show(&mut self) {
        let tally = self.tally.get_mut();
        if let Ok(mut sheet) = self.sheet.try_lock() {
            (sheet.totals, sheet.damaged) = (tally.totals(), tally.damaged);
            sheet.queues.clear();
            sheet.queues.extend(self.events.queues_mut().map(|(queue, ())| queue.stats()));
            if self.exported {
                sheet.groups = tally.groups();
            }
        }
    }

    /// Takes what was waiting when the end came.
    fn drain(&mut self) {
        for (queue, ()) in self.events.queues_mut() {
            let mut left = 1 << 16;
            // A queue in trouble has nothing more to give.
            while let Ok(n) = queue.poll(64, |frame| self.tally.get_mut().see(&frame)) {
                if n == 0 || n >= left {
                    break;
                }
                left -= n;
            }
        }
    }
}

/// The page of metrics as of the last sheet.
fn export(exporter: &Exporter, sheet: &Mutex<Sheet>, flows: &[FlowSpec]) {
    let sheet = sheet.lock().unwrap_or_else(PoisonError::into_inner);
    let line = |(flow, totals): (&FlowSpec, &Totals)| GroupLine {
        group: groups::name(flow),
        frames: totals.frames,
        bytes: totals.bytes,
        gaps: totals.gaps,
        missing: totals.missing,
        late: totals.reordered,
        sequenced: true,
    };
    let groups: Vec<GroupLine> = flows.iter().zip(&sheet.groups).map(line).collect();
    let page = metrics::Sheet { rx: &sheet.queues, groups: &groups, ..metrics::Sheet::default() };
    exporter.put(&[page]);
}

/// The sheet, whatever happened to the thread that wrote it.
pub(crate) fn read(sheet: &Mutex<Sheet>) -> (Totals, u64) {
    let sheet = sheet.lock().unwrap_or_else(PoisonError::into_inner);
    (sheet.totals, sheet.damaged)
}
