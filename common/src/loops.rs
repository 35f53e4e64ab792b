//! Event loops: one or several queues, one handler, and a named way to wait.
//!
//! # For application authors
//!
//! ```
//! use linerate_common::loops::{EventLoop, Every, StopHandle, Strategy};
//! use linerate_common::{FrameRx, SetupError};
//! use std::ops::ControlFlow;
//! use std::time::Duration;
//!
//! /// Counts frames per queue until somebody calls `stop.stop()`.
//! fn count<R: FrameRx>(queues: Vec<R>, stop: &StopHandle) -> Result<u64, Box<dyn std::error::Error>> {
//!     let mut events = EventLoop::new(Strategy::low_latency(), stop);
//!     for rx in queues {
//!         events.add(rx, 0_u64)?; // each queue has a context of its own
//!     }
//!     let mut second = Every::new(Duration::from_secs(1));
//!     let ended = events.run_with(
//!         |seen, _frame| *seen += 1,
//!         |turn| {
//!             if second.is_due(turn) {
//!                 println!("{} frames", turn.total);
//!             }
//!             ControlFlow::Continue(())
//!         },
//!     )?;
//!     Ok(ended.totals.frames)
//! }
//! ```
//!
//! | strategy | what it does | wants |
//! |---|---|---|
//! | [`low_latency`](Strategy::low_latency) | polls every queue each turn, small bursts | a core of its own |
//! | [`throughput`](Strategy::throughput) | lets frames gather, then drains big bursts | a core of its own |
//! | [`blocking`](Strategy::blocking) | sleeps until a queue has something | a queue with a file descriptor |
//! | [`adaptive`](Strategy::adaptive) | spins for a while after the last frame, then sleeps | the same |
//!
//! While a loop spins it allocates nothing, logs nothing and makes no system call; what your
//! handler and hook do is up to them. So a queue of the kernel's cannot learn there that its
//! interface is gone, went down or got more queues: break off the run from the hook once a second
//! ([`Every`]) and ask [`stats`](crate::FrameRx::stats) of [`EventLoop::queues_mut`]. A loop that
//! sleeps learns of it before it does. The first error of a queue ends the run with the queue's
//! index. Nothing is lost by that: call [`EventLoop::run`] again to go on, and the turn resumes
//! with the next queue.
//!
//! A loop runs on the thread that calls it: [`pin_to_cpu`], [`name_thread`] and [`lock_memory`]
//! prepare that thread, and [`Totals::migrations`] says whether the scheduler moved it anyway.
//!
//! # For backend authors
//!
//! The spinning strategies need nothing beyond [`FrameRx::poll`](crate::FrameRx::poll). The
//! sleeping ones need [`FrameRx::waitable`](crate::FrameRx::waitable) and follow the order that
//! [`Waitable`](crate::Waitable) prescribes.

mod event_loop;
mod gather;
mod sleep;
mod spin;
mod stop;
mod strategy;
mod thread;
mod ticks;
mod turn;

pub use event_loop::EventLoop;
pub use stop::StopHandle;
pub use strategy::{ParseStrategyError, Strategy, StrategyKind};
pub use thread::{allowed_cpus, current_cpu, lock_memory, name_thread, pin_to_cpu};
pub use turn::{End, Ended, Every, QueueError, Totals, Turn};
