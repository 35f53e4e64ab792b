//! A transmit queue of any backend.

use linerate_common::{BufTx, Error, FrameTx, TxStamps, TxStats};

use crate::backend::Backend;

/// A transmit queue of whichever backend was opened.
#[non_exhaustive]
pub enum AnyTx {
    /// An AF_PACKET socket.
    #[cfg(feature = "afpacket")]
    Afpacket(Box<linerate_afpacket::PacketTx>),
    /// UDP sockets.
    #[cfg(feature = "udp")]
    Udp(Box<linerate_udp::UdpTx>),
    /// A transmit queue of an AF_XDP socket.
    #[cfg(feature = "afxdp")]
    Afxdp(Box<linerate_afxdp::XdpTx>),
    /// A send queue of a Solarflare or AMD card.
    #[cfg(feature = "efvi")]
    Efvi(Box<linerate_efvi::EfviTx>),
    /// A raw packet queue over libibverbs.
    #[cfg(feature = "verbs")]
    Verbs(Box<linerate_verbs::VerbsTx>),
    /// Transmit memory of an ExaNIC.
    #[cfg(feature = "exanic")]
    Exanic(Box<linerate_exanic::ExanicTx>),
    /// A queue that this crate does not know.
    Custom(Box<dyn FrameTx + Send>),
}

/// The same expression on the queue in each variant.
macro_rules! each {
    ($self:expr, $queue:ident => $body:expr) => {
        match $self {
            #[cfg(feature = "afpacket")]
            AnyTx::Afpacket($queue) => $body,
            #[cfg(feature = "udp")]
            AnyTx::Udp($queue) => $body,
            #[cfg(feature = "afxdp")]
            AnyTx::Afxdp($queue) => $body,
            #[cfg(feature = "efvi")]
            AnyTx::Efvi($queue) => $body,
            #[cfg(feature = "verbs")]
            AnyTx::Verbs($queue) => $body,
            #[cfg(feature = "exanic")]
            AnyTx::Exanic($queue) => $body,
            AnyTx::Custom($queue) => $body,
        }
    };
}

impl AnyTx {
    /// The backend, `None` for a queue of your own.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        match self {
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

    /// The queue's [`BufTx`] capability, where it sends buffers of a pool.
    pub fn buf_tx(&mut self) -> Option<&mut dyn BufTx> {
        match self {
            #[cfg(feature = "afpacket")]
            Self::Afpacket(_) => None,
            #[cfg(feature = "udp")]
            Self::Udp(_) => None,
            #[cfg(feature = "afxdp")]
            Self::Afxdp(tx) => Some(&mut **tx),
            #[cfg(feature = "efvi")]
            Self::Efvi(tx) => Some(&mut **tx),
            #[cfg(feature = "verbs")]
            Self::Verbs(tx) => Some(&mut **tx),
            #[cfg(feature = "exanic")]
            Self::Exanic(_) => None,
            Self::Custom(_) => None,
        }
    }

    /// The queue's [`TxStamps`] capability, where it can say when frames left.
    pub fn stamps(&mut self) -> Option<&mut dyn TxStamps> {
        match self {
            #[cfg(feature = "afpacket")]
            Self::Afpacket(_) => None,
            #[cfg(feature = "udp")]
            Self::Udp(_) => None,
            #[cfg(feature = "afxdp")]
            Self::Afxdp(tx) => Some(&mut **tx),
            #[cfg(feature = "efvi")]
            Self::Efvi(tx) => Some(&mut **tx),
            #[cfg(feature = "verbs")]
            Self::Verbs(tx) => Some(&mut **tx),
            #[cfg(feature = "exanic")]
            Self::Exanic(tx) => Some(&mut **tx),
            Self::Custom(_) => None,
        }
    }
}

impl FrameTx for AnyTx {
    #[inline]
    fn max_len(&self) -> usize {
        each!(self, q => q.max_len())
    }

    #[inline]
    fn room(&self) -> usize {
        each!(self, q => q.room())
    }

    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        each!(self, q => q.reserve(len))
    }

    #[inline]
    fn commit(&mut self, len: usize) {
        each!(self, q => q.commit(len));
    }

    #[inline]
    fn kick(&mut self) -> Result<(), Error> {
        each!(self, q => q.kick())
    }

    #[inline]
    fn reap(&mut self) -> usize {
        each!(self, q => q.reap())
    }

    fn stats(&mut self) -> TxStats {
        each!(self, q => q.stats())
    }

    #[inline]
    fn send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        each!(self, q => q.send(frame))
    }
}

impl std::fmt::Debug for AnyTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.backend().map_or("custom", Backend::name);
        f.debug_tuple("AnyTx").field(&name).finish()
    }
}
