//! Which frames a program asks for.

mod matcher;
mod parse;

use std::net::{IpAddr, SocketAddr};

pub use parse::ParseFlowError;

/// Transport protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// UDP, the default of multicast feeds.
    Udp,
    /// TCP.
    Tcp,
}

/// What a flow's frames have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlowKind {
    /// Every frame.
    All,
    /// UDP datagrams to a multicast group, from any sender or from one only.
    Group {
        /// The group address, IPv4 or IPv6.
        group: IpAddr,
        /// The only sender wanted (source-specific multicast).
        source: Option<IpAddr>,
        /// The destination port; `None` for any.
        port: Option<u16>,
    },
    /// Frames to one address and port (3-tuple).
    To {
        /// Transport protocol.
        proto: Proto,
        /// Destination.
        dst: SocketAddr,
    },
    /// Frames of one conversation in one direction (5-tuple).
    Between {
        /// Transport protocol.
        proto: Proto,
        /// Destination.
        dst: SocketAddr,
        /// Source.
        src: SocketAddr,
    },
    /// Frames to one destination MAC address.
    Mac([u8; 6]),
    /// Frames of one ethertype (the inner one behind VLAN tags).
    EtherType(u16),
}

/// One flow: a kind, and optionally the VLAN it must be on.
///
/// Written as text (see [`FlowSpec::parse_list`] for the form that names several groups):
///
/// | text | flow |
/// |---|---|
/// | `all` | every frame |
/// | `239.1.1.1:5000`, `udp:239.1.1.1:5000` | a multicast group, any source |
/// | `239.1.1.1` | a group, any port |
/// | `10.0.0.7,239.1.1.1:5000` | a group, one source |
/// | `udp:10.0.0.1:5000`, `tcp:[fe80::1]:80` | 3-tuple: to an address and port |
/// | `tcp:10.0.0.1:80,10.0.0.2:4001` | 5-tuple: to the first, from the second |
/// | `vlan:905` | every frame of a VLAN |
/// | `vlan:905,239.1.1.1:5000` | any of the others, on that VLAN only |
/// | `mac:01:00:5e:01:01:01` | frames to a MAC address |
/// | `ether:0x88cc` | an ethertype |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowSpec {
    /// What the frames have in common.
    pub kind: FlowKind,
    /// The outermost VLAN id they must carry, 0 to 4094; `None`: tagged or not.
    pub vlan: Option<u16>,
}

impl FlowSpec {
    /// Every frame.
    pub const ALL: Self = Self::of(FlowKind::All);

    /// A flow on any VLAN or none.
    #[must_use]
    pub const fn of(kind: FlowKind) -> Self {
        Self { kind, vlan: None }
    }

    /// A multicast group from any source.
    #[must_use]
    pub const fn group(group: IpAddr, port: u16) -> Self {
        Self::of(FlowKind::Group { group, source: None, port: Some(port) })
    }

    /// The same flow on one VLAN only.
    #[must_use]
    pub const fn on_vlan(self, vid: u16) -> Self {
        Self { kind: self.kind, vlan: Some(vid) }
    }

    /// The multicast group of this flow and its only sender, if it has one.
    #[must_use]
    pub const fn multicast(&self) -> Option<(IpAddr, Option<IpAddr>)> {
        match self.kind {
            FlowKind::Group { group, source, .. } => Some((group, source)),
            _ => None,
        }
    }
}
