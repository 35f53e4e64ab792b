//! The ways to reach frames that this crate knows.

use std::fmt;

/// A backend: the first part of a port's URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Backend {
    /// ef_vi on Solarflare and AMD cards.
    Efvi,
    /// Raw packet queues over libibverbs on Mellanox and NVIDIA cards.
    Verbs,
    /// libexanic on Exablaze and Cisco cards.
    Exanic,
    /// The kernel's AF_XDP sockets.
    Afxdp,
    /// The kernel's AF_PACKET sockets.
    Afpacket,
    /// UDP sockets: no rights needed.
    Udp,
    /// A simulated card.
    Sim,
    /// A capture file, read-only.
    Pcap,
}

impl Backend {
    /// All of them, the vendors' first, in the order of preference.
    pub const ALL: [Self; 8] = [
        Self::Efvi,
        Self::Verbs,
        Self::Exanic,
        Self::Afxdp,
        Self::Afpacket,
        Self::Udp,
        Self::Sim,
        Self::Pcap,
    ];

    /// Its name in a URI, which is also the name of its cargo feature.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Efvi => "efvi",
            Self::Verbs => "verbs",
            Self::Exanic => "exanic",
            Self::Afxdp => "afxdp",
            Self::Afpacket => "afpacket",
            Self::Udp => "udp",
            Self::Sim => "sim",
            Self::Pcap => "pcap",
        }
    }

    /// Is it compiled in? All but `pcap` are cargo features.
    #[must_use]
    pub const fn compiled(self) -> bool {
        match self {
            Self::Afpacket => cfg!(feature = "afpacket"),
            Self::Udp => cfg!(feature = "udp"),
            Self::Afxdp => cfg!(feature = "afxdp"),
            Self::Efvi => cfg!(feature = "efvi"),
            Self::Verbs => cfg!(feature = "verbs"),
            Self::Exanic => cfg!(feature = "exanic"),
            Self::Sim => cfg!(feature = "sim"),
            Self::Pcap => true,
        }
    }

    /// What to write after the colon, for messages.
    #[must_use]
    pub const fn example(self) -> &'static str {
        match self {
            Self::Efvi => "efvi:eth2",
            Self::Verbs => "verbs:mlx5_0/1",
            Self::Exanic => "exanic:exanic0/0",
            Self::Afxdp => "afxdp:eth2",
            Self::Afpacket => "afpacket:eth2",
            Self::Udp => "udp:eth2",
            Self::Sim => "sim:verbs",
            Self::Pcap => "pcap:FILE",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name() == name)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
