//! Threads of the command.

use std::io;
use std::thread::{self, JoinHandle};

use linerate::loops::pin_to_cpu;

use crate::failure::Failure;

/// Starts a thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let thread: io::Result<_> = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|e| cannot_start(name, &e))
}

/// There are no more threads to be had.
pub(crate) fn cannot_start(name: &str, why: &io::Error) -> Failure {
    Failure::new(format!("cannot start the thread {name}: {why}")).remedy(
        "raise the limit of threads (ulimit -u, TasksMax= in a unit) or of memory (ulimit -v)",
    )
}

/// The thread's result; a panic there is a bug here.
pub(crate) fn join<T>(thread: JoinHandle<T>) -> Result<T, Failure> {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    thread.join().map_err(|_| Failure::new(format!("the thread {name} panicked; please report it")))
}

/// Can a thread run on this CPU? Asked before anything is opened.
pub(crate) fn check_cpu(cpu: Option<u32>) -> Result<(), Failure> {
    let Some(cpu) = cpu else { return Ok(()) };
    let pinned = join(spawn("linerate-pin", move || pin_to_cpu(cpu))?)?;
    pinned.map_err(|e| Failure::usage(format!("--cpu {cpu}: {e}")))
}
