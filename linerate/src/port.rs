//! A port: the queues behind one interface, card or file.

use std::any::Any;
use std::fmt;

use linerate_common::pool::Pool;
use linerate_common::{FlowSpec, Membership};

use crate::any::{AnyRx, AnyTx};
use crate::arm::{self, Request};
use crate::backend::Backend;
use crate::choice::{self, Candidate, Verdict};
use crate::error::OpenError;
use crate::interface::{self, Interface};
use crate::join;
use crate::preload::Preloaded;
use crate::uri::Uri;

/// Which of its two directions a port is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Receiving, and sending where the backend and the process's rights allow.
    #[default]
    Both,
    /// Receiving only.
    Rx,
    /// Sending only.
    Tx,
}

/// What a port is to be opened for. Made by [`port()`](crate::port()).
#[derive(Debug, Clone)]
#[must_use = "a builder opens nothing until `open`"]
pub struct PortBuilder {
    uri: String,
    request: Request,
    join: bool,
}

impl PortBuilder {
    pub(crate) fn new(uri: &str) -> Self {
        Self { uri: uri.to_owned(), request: Request::default(), join: true }
    }

    /// Asks for one more flow. Without any, a port receives every frame.
    pub fn flow(mut self, flow: FlowSpec) -> Self {
        self.request.flows.push(flow);
        self
    }

    /// Asks for several flows more.
    pub fn flows(mut self, flows: impl IntoIterator<Item = FlowSpec>) -> Self {
        self.request.flows.extend(flows);
        self
    }

    /// Also receives frames to other stations' addresses. Off by default.
    pub fn promiscuous(mut self, on: bool) -> Self {
        self.request.promiscuous = on;
        self
    }

    /// Prefers the frame at hand over frames per second, where a backend has to choose
    /// (`afpacket`: slots instead of blocks). Off by default. An option in the port's name wins.
    pub fn low_latency(mut self, on: bool) -> Self {
        self.request.low_latency = on;
        self
    }

    /// Receives into and sends from this pool, where the backend works with one (`afxdp`,
    /// `efvi`, `verbs`); elsewhere a notice says that it is not used. Ports with the same pool
    /// can pass frames on without a copy: see [`forward`](linerate_common::forward).
    pub fn pool(mut self, pool: &Pool) -> Self {
        self.request.pool = Some(pool.clone());
        self
    }

    /// Opens slots for frames of up to `max_len` bytes that are made ready ahead of time, in
    /// [`Port::preloaded`], in place of a transmit queue: in the card where it has room for them
    /// (`exanic`, `efvi`), otherwise in memory.
    pub fn preload(mut self, slots: usize, max_len: usize) -> Self {
        self.request.preload = Some((slots, max_len));
        self
    }

    /// Opens one direction only. Both by default.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.request.direction = direction;
        self
    }

    /// Joins the multicast groups among the flows, and stays joined as long as the [`Port`]
    /// lives. On by default; turn it off when something else has joined them. (`udp` always joins,
    /// by its own sockets.)
    pub fn join(mut self, on: bool) -> Self {
        self.join = on;
        self
    }

    /// Opens the port.
    ///
    /// # Errors
    ///
    /// The name is not understood, or the port cannot be opened; the message is one line that
    /// says what to do.
    pub fn open(self) -> Result<Port, OpenError> {
        let uri = Uri::parse(&self.uri)?;
        let (backend, opened, choice) = match uri.backend {
            Some(backend) => {
                let opened = arm::open(backend, &uri, &self.request)?;
                let chosen = Candidate::new(backend, Verdict::Chosen, "named");
                (backend, opened, vec![chosen])
            }
            None => choice::open(&uri, &self.request)?,
        };
        let uri = if uri.backend.is_some() { uri } else { uri.with_backend(backend) };
        let mut notices = opened.notices;
        if self.request.pool.is_some() && opened.pool.is_none() {
            notices.push(format!(
                "{backend} works without a pool: frames cannot be kept or passed on"
            ));
        }
        let (mut tx, mut preloaded) = (opened.tx, opened.preloaded);
        if let Some((slots, max_len)) = self.request.preload {
            let from = |tx| Preloaded::in_queue(tx, slots, max_len);
            preloaded = preloaded.or_else(|| tx.take().map(from));
        }
        let memberships = match &opened.join_on {
            Some(interface) if self.join && self.request.direction != Direction::Tx => {
                join::join(interface, &self.request.flows, &mut notices)
                    .map_err(|e| e.on(&uri.text))?
            }
            _ => Vec::new(),
        };
        Ok(Port {
            name: uri.target,
            uri: uri.text,
            backend,
            choice,
            notices,
            rx: opened.rx,
            tx,
            preloaded,
            pool: opened.pool,
            guard: PortGuard {
                memberships,
                #[cfg(feature = "sim")]
                cable: opened.cable,
                keep: opened.keep,
            },
        })
    }
}

/// An open port.
///
/// Its queues are plain fields: use them in place, or move them to threads of their own, one
/// owner each. Keep the rest of the port as long as its queues are used: it holds the multicast
/// memberships.
#[derive(Debug)]
#[non_exhaustive]
pub struct Port {
    /// The receive queues. Most ports have one; `queue=0..3` gives four. Empty for a port that
    /// was opened for sending.
    pub rx: Vec<AnyRx>,
    /// The transmit queue, where there is one.
    pub tx: Option<AnyTx>,
    /// Slots for frames that are fired later, where [`PortBuilder::preload`] asked for them;
    /// there is no `tx` then.
    pub preloaded: Option<Preloaded>,
    name: String,
    uri: String,
    backend: Backend,
    choice: Vec<Candidate>,
    notices: Vec<String>,
    pool: Option<Pool>,
    guard: PortGuard,
}

impl Port {
    /// Interface, device or file: the URI without backend and options.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole name, with the backend that was chosen: opening this again gives the same port.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The backend in use.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Every backend that was considered, best first, and why it was (not) taken.
    #[must_use]
    pub fn choice(&self) -> &[Candidate] {
        &self.choice
    }

    /// What the user should know though it is no error: a fallback to small pages, a copy mode.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The pool that the queues' buffers belong to, where the backend works with one: frames that
    /// were kept ([`AnyRx::buf_rx`]) are read and given back through it.
    #[must_use]
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// The queues, and what must be kept as long as they are used.
    pub fn into_parts(self) -> (Vec<AnyRx>, Option<AnyTx>, PortGuard) {
        (self.rx, self.tx, self.guard)
    }

    /// The multicast groups that the port has joined: one for the interface, one more for each
    /// VLAN. Empty where the queues join by themselves (`udp`).
    #[must_use]
    pub fn memberships(&self) -> &[Membership] {
        self.guard.memberships()
    }
}

/// What keeps an open port working apart from its queues: the multicast memberships, and the
/// hardware of a simulated card. Keep it until the queues are gone.
#[must_use = "dropping the guard leaves the multicast groups"]
pub struct PortGuard {
    memberships: Vec<Membership>,
    #[cfg(feature = "sim")]
    cable: Option<linerate_sim::Losses>,
    #[expect(dead_code, reason = "held for its drop")]
    keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for PortGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortGuard").field("memberships", &self.memberships).finish_non_exhaustive()
    }
}

impl PortGuard {
    /// Frames lost on the way to and from a simulated card that is plugged into an interface
    /// (`sim:…?peer=eth2`): its cable is a kernel socket, which overflows while the card's thread
    /// does not run, and whose interface may be down, and no counter of the card knows. Always 0
    /// on real cards.
    #[must_use]
    pub fn lost_in_cable(&self) -> u64 {
        #[cfg(feature = "sim")]
        return self.cable.as_ref().map_or(0, linerate_sim::Losses::frames);
        #[cfg(not(feature = "sim"))]
        0
    }

    /// As [`Port::memberships`].
    #[must_use]
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }
}

/// An interface of this machine, and what could be opened on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// The interface.
    pub interface: Interface,
    /// Every backend, best first: would it work here, for this user, and why not?
    pub backends: Vec<Candidate>,
}

impl PortInfo {
    /// The backend that a port with flows would be opened by first. Without flows AF_XDP is
    /// passed over, as it would take every frame from the kernel.
    #[must_use]
    pub fn best(&self) -> Option<Backend> {
        self.backends.iter().find(|c| c.verdict == Verdict::Works).map(|c| c.backend)
    }
}

/// Every network interface of this machine (of this network namespace) with the verdict on each
/// backend. Needs no rights, opens nothing and changes nothing; a backend that passes may still
/// refuse a particular request.
#[must_use]
pub fn ports() -> Vec<PortInfo> {
    interface::all()
        .into_iter()
        .map(|interface| PortInfo { backends: choice::survey(&interface), interface })
        .collect()
}
