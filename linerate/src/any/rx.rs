//! A receive queue of any backend.

use linerate_common::{
    BufRx, ClockInfo, Clocked, Error, ErrorKind, FlowSpec, FrameRx, RuleId, RxFrame, RxStats,
    SetupError, Steer, Waitable,
};

use crate::backend::Backend;
use crate::file::{FileError, FileRx};

/// What a queue of your own must be to travel as [`AnyRx::Custom`]. Implemented for all that fit.
pub trait CustomRx: FrameRx + Clocked + Send {}

impl<R: FrameRx + Clocked + Send> CustomRx for R {}

/// A receive queue of whichever backend was opened.
///
/// Costs one `match` a burst: `poll` runs the backend's own fused loop. A program that wants one
/// backend only can take the queue out of its variant.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyRx {
    /// A capture file.
    File(Box<FileRx>),
    /// A ring of an AF_PACKET socket.
    #[cfg(feature = "afpacket")]
    Afpacket(Box<linerate_afpacket::PacketRx>),
    /// UDP sockets.
    #[cfg(feature = "udp")]
    Udp(Box<linerate_udp::UdpRx>),
    /// A receive queue of an AF_XDP socket.
    #[cfg(feature = "afxdp")]
    Afxdp(Box<linerate_afxdp::XdpRx>),
    /// A receive queue of a Solarflare or AMD card.
    #[cfg(feature = "efvi")]
    Efvi(Box<linerate_efvi::EfviRx>),
    /// A raw packet queue over libibverbs.
    #[cfg(feature = "verbs")]
    Verbs(Box<linerate_verbs::VerbsRx>),
    /// A receive ring of an ExaNIC.
    #[cfg(feature = "exanic")]
    Exanic(Box<linerate_exanic::ExanicRx>),
    /// A queue that this crate does not know.
    Custom(Box<dyn CustomRx>),
}

/// The same expression on the queue in each variant.
macro_rules! each {
    ($self:expr, $queue:ident => $body:expr) => {
        match $self {
            AnyRx::File($queue) => $body,
            #[cfg(feature = "afpacket")]
            AnyRx::Afpacket($queue) => $body,
            #[cfg(feature = "udp")]
            AnyRx::Udp($queue) => $body,
            #[cfg(feature = "afxdp")]
            AnyRx::Afxdp($queue) => $body,
            #[cfg(feature = "efvi")]
            AnyRx::Efvi($queue) => $body,
            #[cfg(feature = "verbs")]
            AnyRx::Verbs($queue) => $body,
            #[cfg(feature = "exanic")]
            AnyRx::Exanic($queue) => $body,
            AnyRx::Custom($queue) => $body,
        }
    };
}

impl AnyRx {
    /// The backend, `None` for a queue of your own.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        match self {
            Self::File(_) => Some(Backend::Pcap),
            #[cfg(feature = "afpacket")]
            Self::Afpacket(_) => Some(Backend::Afpacket),
            #[cfg(feature = "udp")]
            Self::Udp(_) => Some(Backend::Udp),
            #[cfg(feature = "afxdp")]
            Self::Afxdp(_) => Some(Backend::Afxdp),
            #[cfg(feature = "efvi")]
            Self::Efvi(_) => Some(Backend::Efvi),
            #[cfg(feature = "verbs")]
            Self::Verbs(_) => Some(Backend::Verbs),
            #[cfg(feature = "exanic")]
            Self::Exanic(_) => Some(Backend::Exanic),
            Self::Custom(_) => None,
        }
    }

    /// Has the queue shown its last frame? Only a file ends; a card never does.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self {
            Self::File(rx) => rx.finished(),
            _ => false,
        }
    }

    /// Why a capture file could not be read to its end, after `acquire` failed.
    #[must_use]
    pub fn failure(&self) -> Option<&FileError> {
        match self {
            Self::File(rx) => rx.failure(),
            _ => None,
        }
    }

    /// Opens the queue anew with its flows: the way on after [`ErrorKind::QueueLost`] on ef_vi.
    /// What the old queue still held is lost, and its counters start from 0. Queues of other
    /// backends recover by themselves, or their port must be opened again.
    ///
    /// # Errors
    ///
    /// The backend does not rebuild queues, or the card does not give one.
    pub fn rebuild(self) -> Result<Self, SetupError> {
        match self {
            #[cfg(feature = "efvi")]
            Self::Efvi(rx) => Ok(Self::Efvi(Box::new(rx.rebuild()?))),
            other => {
                let what = "queues of this backend are not rebuilt";
                Err(SetupError::new(ErrorKind::Unsupported, "rebuild", what)
                    .on(other.backend().map_or("custom queue", Backend::name))
                    .remedy("open the port again"))
            }
        }
    }

    /// The queue's [`BufRx`] capability, where frames arrive in buffers of a pool.
    pub fn buf_rx(&mut self) -> Option<&mut dyn BufRx> {
        match self {
            #[cfg(feature = "afpacket")]
            Self::Afpacket(_) => None,
            #[cfg(feature = "udp")]
            Self::Udp(_) => None,
            #[cfg(feature = "afxdp")]
            Self::Afxdp(rx) => Some(&mut **rx),
            #[cfg(feature = "efvi")]
            Self::Efvi(rx) => rx.buf_rx(),
            #[cfg(feature = "verbs")]
            Self::Verbs(rx) => Some(&mut **rx),
            #[cfg(feature = "exanic")]
            Self::Exanic(_) => None,
            Self::File(_) | Self::Custom(_) => None,
        }
    }

    /// The queue's [`Steer`] capability, where it can add and remove flows.
    pub fn steer(&mut self) -> Option<&mut dyn Steer> {
        match self {
            #[cfg(feature = "afpacket")]
            Self::Afpacket(rx) => Some(&mut **rx),
            #[cfg(feature = "udp")]
            Self::Udp(rx) => Some(&mut **rx),
            #[cfg(feature = "afxdp")]
            Self::Afxdp(rx) => Some(&mut **rx),
            #[cfg(feature = "efvi")]
            Self::Efvi(rx) => Some(&mut **rx),
            #[cfg(feature = "verbs")]
            Self::Verbs(rx) => Some(&mut **rx),
            #[cfg(feature = "exanic")]
            Self::Exanic(rx) => Some(&mut **rx),
            Self::File(_) | Self::Custom(_) => None,
        }
    }
}

impl FrameRx for AnyRx {
    #[inline]
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        each!(self, q => q.acquire(max))
    }

    #[inline]
    fn len(&self) -> usize {
        each!(self, q => q.len())
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        each!(self, q => q.frame(i))
    }

    #[inline]
    fn release(&mut self) {
        each!(self, q => q.release());
    }

    fn stats(&mut self) -> RxStats {
        each!(self, q => q.stats())
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        each!(self, q => q.waitable())
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        // The queues' own: the box is a queue too, with a `poll` that opens a window.
        match self {
            Self::File(q) => (**q).poll(max, f),
            #[cfg(feature = "afpacket")]
            Self::Afpacket(q) => (**q).poll(max, f),
            #[cfg(feature = "udp")]
            Self::Udp(q) => (**q).poll(max, f),
            #[cfg(feature = "afxdp")]
            Self::Afxdp(q) => (**q).poll(max, f),
            #[cfg(feature = "efvi")]
            Self::Efvi(q) => (**q).poll(max, f),
            #[cfg(feature = "verbs")]
            Self::Verbs(q) => (**q).poll(max, f),
            #[cfg(feature = "exanic")]
            Self::Exanic(q) => (**q).poll(max, f),
            Self::Custom(q) => q.poll_dyn(max, &mut f),
        }
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl Clocked for AnyRx {
    fn clock(&self) -> ClockInfo {
        each!(self, q => q.clock())
    }
}

impl Steer for AnyRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        let backend = self.backend();
        let steer = self.steer().ok_or_else(|| not_steerable(backend))?;
        steer.add(flow)
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        let backend = self.backend();
        let steer = self.steer().ok_or_else(|| not_steerable(backend))?;
        steer.remove(rule)
    }
}

#[cold]
fn not_steerable(backend: Option<Backend>) -> SetupError {
    let what = "the queue selects nothing: it shows every frame";
    SetupError::new(ErrorKind::Unsupported, "steer", what)
        .on(backend.map_or("custom queue", Backend::name))
        .remedy("select in the handler with FlowSpec::matches")
}

impl std::fmt::Debug for dyn CustomRx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomRx")
    }
}
