//! The JSON lines of a run: what all commands tell in the same way.

use linerate::Port;
use serde::Serialize;

use crate::events::Events;

/// Which port a run is about.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The whole name, with the backend.
    pub(crate) port: String,
    /// Interface, device or file.
    pub(crate) interface: String,
    /// The backend's name.
    pub(crate) backend: &'static str,
}

impl Identity {
    pub(crate) fn of(port: &Port) -> Self {
        Self {
            port: port.uri().to_owned(),
            interface: port.name().to_owned(),
            backend: port.backend().name(),
        }
    }
}

/// What has gone through a port so far.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Volume {
    /// Since the beginning.
    pub(crate) seconds: f64,
    pub(crate) frames: u64,
    /// Without check sequences.
    pub(crate) bytes: u64,
    /// Frames per second: now, or of the whole run in the final line.
    pub(crate) pps: f64,
}

/// One line: while running, or the final one. `rest` is the command's own.
#[derive(Serialize)]
pub(crate) struct Line<'a, T> {
    r#final: bool,
    port: &'a str,
    backend: &'a str,
    #[serde(flatten)]
    volume: Volume,
    #[serde(flatten)]
    events: Events,
    #[serde(flatten)]
    rest: T,
}

impl<'a, T: Serialize> Line<'a, T> {
    /// Once a second.
    pub(crate) fn running(identity: &'a Identity, volume: Volume, rest: T) -> Self {
        let Identity { port, backend, .. } = identity;
        Self { r#final: false, port, backend, volume, events: Events::so_far(), rest }
    }

    /// At the end.
    pub(crate) fn last(identity: &'a Identity, volume: Volume, rest: T) -> Self {
        Self { r#final: true, ..Self::running(identity, volume, rest) }
    }
}
