//! Options, and opening a port.

use linerate_common::membership::Interfaces;
use linerate_common::{FlowSpec, SetupError};

use crate::batch::Batch;
use crate::error;
use crate::inlet::Place;
use crate::inlets::Inlets;
use crate::rx::UdpRx;
use crate::stamps::Clocks;
use crate::sys;
use crate::tx::UdpTx;

/// The longest datagram there is.
const LONGEST: usize = 65_535;

/// How a port is set up. Start from [`Options::default`] or [`Options::for_flows`] and change
/// fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// What to receive. More can be added while the queue runs (`Steer`). Without any, nothing
    /// is received.
    pub flows: Vec<FlowSpec>,
    /// Receive buffer of each socket in bytes (`SO_RCVBUF`), as the kernel counts: about 768
    /// bytes for a short datagram. Default 4 MiB; 0 leaves it alone. Without CAP_NET_ADMIN the
    /// kernel grants at most `net.core.rmem_max`, and a notice says so.
    pub receive_buffer_bytes: u32,
    /// Longest datagram that is delivered whole; the rest of longer ones is cut off and the
    /// frame flagged. Default 65,535, so that none is.
    pub datagram_bytes: usize,
    /// Poll the card's queue for so many µs from within receive calls (`SO_BUSY_POLL`; older
    /// kernels want CAP_NET_ADMIN). Default 0: off.
    pub busy_poll_us: u32,
    /// Whose timestamps frames carry. Default: the best there are.
    pub stamps: Stamps,
    /// Show each datagram's time to live and type of service in the header that is made up for
    /// it. The kernel takes its time to tell them, so they are 0 by default.
    pub ttl_tos: bool,
    /// One socket a group, instead of one for as many groups of a port as the kernel lets it
    /// join. Costs a receive call for each group that has something. For preloaded stacks that do
    /// not tell a datagram's destination; under exasock it is always so. Default off.
    pub socket_per_group: bool,
    /// Longest frame to send in bytes. Default 0: the interface's MTU and 18 bytes for Ethernet
    /// and one VLAN tag. Datagrams beyond the MTU go out as IP fragments.
    pub max_frame_bytes: usize,
    /// Frames that can be committed before a kick. Default 256.
    pub send_slots: usize,
    /// Send buffer of each socket in bytes (`SO_SNDBUF`). Default 1 MiB; 0 leaves it alone.
    pub send_buffer_bytes: u32,
    /// Send from this port; 0, the default, lets the kernel choose.
    pub source_port: u16,
    /// Time to live (hop limit) of multicast datagrams. Default 1: they are not routed.
    pub multicast_ttl: u8,
    /// Do sockets of this host that joined the group get what is sent? Default on, as in the
    /// kernel. On `lo` they always do.
    pub multicast_loop: bool,
    /// Hand runs of equally long datagrams to the kernel in one piece (`UDP_SEGMENT`). Never
    /// under a preloaded stack: it would send the piece as one datagram.
    pub gso: Gso,
}

/// Whose timestamps received frames carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Stamps {
    /// The card's where its driver hands them out and they can be believed, else the kernel's.
    #[default]
    Best,
    /// The kernel's.
    Software,
    /// Nobody's: the cheapest. Datagrams of several sockets are then in no order.
    Off,
}

/// Whether to use UDP segmentation offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Gso {
    /// On a card, until a send shows that it does not work. Off on virtual interfaces (`lo`,
    /// veth, bridges): there a run would travel in one piece, and a capture would show one giant
    /// frame in place of the frames sent.
    #[default]
    Auto,
    /// Anywhere, until a send shows that it does not work.
    On,
    /// Nowhere.
    Off,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            receive_buffer_bytes: 4 << 20,
            datagram_bytes: LONGEST,
            busy_poll_us: 0,
            stamps: Stamps::Best,
            ttl_tos: false,
            socket_per_group: false,
            max_frame_bytes: 0,
            send_slots: 256,
            send_buffer_bytes: 1 << 20,
            source_port: 0,
            multicast_ttl: 1,
            multicast_loop: true,
            gso: Gso::Auto,
        }
    }
}

impl Options {
    /// The defaults, receiving these flows.
    #[must_use]
    pub fn for_flows(flows: impl IntoIterator<Item = FlowSpec>) -> Self {
        Self { flows: flows.into_iter().collect(), ..Self::default() }
    }
}

/// Both directions of an interface.
#[derive(Debug)]
pub struct Port {
    rx: UdpRx,
    tx: UdpTx,
}

/// Opens an interface: sockets for each flow, joined and bound, and a queue to send by. Needs no
/// rights.
///
/// Call it in the network namespace where the interface is; the queues stay there.
///
/// # Errors
///
/// There is no such interface; a flow is none that a socket can select; a group cannot be joined
/// or an address not bound. Each says what helps.
pub fn open(interface: &str, options: &Options) -> Result<Port, SetupError> {
    let port = |e: SetupError| e.on(format!("udp:{interface}"));
    let socket = |e| error::socket(e, interface);
    let interfaces = Interfaces::here().map_err(socket)?;
    let (name, index) = interfaces.resolve(&interface.into()).map_err(port)?;
    let place = Place { mac: interfaces.mac_of(&name).map_err(socket)?, name, index };

    let tx = UdpTx::open(&place, options)?;
    let clock = sys::udp_socket(false).map_err(socket)?;
    let ptp = sys::ptp_clock_of(std::os::fd::AsFd::as_fd(&clock), &place.name);
    let clocks = Clocks::new(options.stamps, sys::tai_offset_s(), ptp);
    let batch = Batch::new(options.datagram_bytes.clamp(1, LONGEST));
    let inlets = Inlets::new(place, interfaces, options).map_err(socket)?;
    let mut rx = UdpRx::new(inlets, batch, clocks);
    rx.add_all(&options.flows)?;
    Ok(Port { rx, tx })
}

impl Port {
    /// The two queues, to be used on one thread or two.
    #[must_use]
    pub fn split(self) -> (UdpRx, UdpTx) {
        (self.rx, self.tx)
    }

    /// The receive queue alone.
    #[must_use]
    pub fn into_rx(self) -> UdpRx {
        self.rx
    }

    /// The send queue alone.
    #[must_use]
    pub fn into_tx(self) -> UdpTx {
        self.tx
    }

    /// What could not be had as asked for, each with what helps.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        self.rx.notices()
    }
}
