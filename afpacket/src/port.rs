//! Opening a port: its sockets, rings and filters.

use linerate_common::clock::PhcWatch;
use linerate_common::{Error, ErrorKind, RxFlags, SetupError};

use crate::blocks::{self, Blocks};
use crate::decode::{Decoder, VLAN_ROOM};
use crate::error::{explain, refuse};
use crate::filter;
use crate::frames::{self, Frames};
use crate::link::Interface;
use crate::map::Map;
use crate::options::{Fanout, Options, Ring, Stamps};
use crate::phc;
use crate::rules::Rules;
use crate::rx::{PacketRx, RxRing};
use crate::sys::Socket;
use crate::tx::PacketTx;

/// The queues of one interface.
#[derive(Debug)]
pub struct Port {
    rx: Vec<PacketRx>,
    tx: Option<PacketTx>,
}

impl Port {
    /// The receive queues, as many as [`Options::queues`] asked for, and the transmit queue. Move
    /// each to its thread.
    #[must_use]
    pub fn into_parts(self) -> (Vec<PacketRx>, Option<PacketTx>) {
        (self.rx, self.tx)
    }

    /// The first receive queue alone, if the port receives.
    #[must_use]
    pub fn into_rx(self) -> Option<PacketRx> {
        self.rx.into_iter().next()
    }

    /// The transmit queue alone, if the port transmits.
    #[must_use]
    pub fn into_tx(self) -> Option<PacketTx> {
        self.tx
    }
}

/// Opens a port on an interface, in the network namespace of the calling thread.
///
/// Each receive queue starts empty: its ring and filter are in place before it is bound, so that
/// no frame slips in that the flows do not ask for.
///
/// # Errors
///
/// No right to use raw sockets, no such interface, one that is down or not Ethernet, options out
/// of range, more flows than a filter holds, no memory for the ring; each says what to do.
///
/// ```no_run
/// use linerate_afpacket::{Options, Ring};
/// use linerate_common::FrameRx;
///
/// let mut options = Options::default();
/// options.flows = vec!["239.1.1.1:5000".parse()?];
/// options.ring = Ring::LOW_LATENCY;
/// let (mut rx, _tx) = linerate_afpacket::open("eth2", &options)?.into_parts();
/// loop {
///     rx[0].poll(64, |frame| println!("{} bytes at {}", frame.bytes.len(), frame.meta.ts_ns))?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(interface: &str, options: &Options) -> Result<Port, SetupError> {
    open_queues(interface, options).map_err(|e| explain(e).on(format!("afpacket:{interface}")))
}

fn open_queues(interface: &str, options: &Options) -> Result<Port, SetupError> {
    if !options.receive && !options.transmit {
        return Err(refuse("neither receive nor transmit is asked for"));
    }
    let first = Socket::open()?;
    let interface = Interface::find(&first, interface)?;
    if !interface.is_up {
        let name = &interface.name;
        let detail = format!("{name} is down");
        return Err(SetupError::new(ErrorKind::LinkDown, "open", detail)
            .remedy(format!("sudo ip link set {name} up")));
    }
    let mut first = Some(first);
    let mut socket = || first.take().map_or_else(Socket::open, Ok);

    let mut rx: Vec<PacketRx> = Vec::new();
    let mut group = None;
    if options.receive {
        if !(1..=256).contains(&options.queues) {
            return Err(refuse(format!("{} queues; 1 to 256 are possible", options.queues)));
        }
        let mut parts = Vec::new();
        for _ in 0..options.queues {
            let socket = socket()?;
            let part = prepare(&socket, &interface, options)?;
            socket.bind(interface.index, libc::ETH_P_ALL)?;
            if options.queues > 1 {
                join_fanout(&socket, options, &mut group)?;
            }
            parts.push((socket, part));
        }
        // Only now that all queues are in place does any of them take frames: a hash that falls
        // on a queue not yet there would otherwise be another one's for a while.
        for (socket, part) in parts {
            part.rules.attach(&socket)?;
            rx.push(PacketRx::new(part.ring, part.decoder, socket, part.rules, part.phc));
        }
    }
    let tx = match options.transmit {
        true => Some(open_tx(socket()?, &interface, options)?),
        false => None,
    };
    Ok(Port { rx, tx })
}

/// Everything of a receive queue but its socket.
struct Part {
    ring: RxRing,
    decoder: Decoder,
    rules: Rules,
    phc: Option<PhcWatch>,
}

/// Sets a socket up to the point where only the bind and the filter are missing.
fn prepare(socket: &Socket, interface: &Interface, options: &Options) -> Result<Part, SetupError> {
    if options.snaplen < 14 {
        return Err(refuse(format!("snaplen {}; at least 14 bytes are needed", options.snaplen)));
    }
    socket.attach(&filter::nothing())?;
    if !options.outgoing {
        // Spares the kernel a copy of each frame this host sends (Linux 4.20). The filter refuses
        // them in any case.
        let _ = socket.set_packet("PACKET_IGNORE_OUTGOING", libc::PACKET_IGNORE_OUTGOING, 1_i32);
    }
    for (wanted, kind) in [
        (options.promiscuous, libc::PACKET_MR_PROMISC),
        (options.all_multicast, libc::PACKET_MR_ALLMULTI),
    ] {
        if wanted {
            let membership = libc::packet_mreq {
                mr_ifindex: interface.index,
                mr_type: kind as u16,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            socket.set_packet("PACKET_ADD_MEMBERSHIP", libc::PACKET_ADD_MEMBERSHIP, membership)?;
        }
    }
    let phc = match options.stamps {
        Stamps::Kernel => None,
        Stamps::Hardware => Some(phc::switch_on(socket, interface)?),
    };
    let (ring, header) = open_ring(socket, options.ring)?;
    let decoder = Decoder {
        header,
        snaplen: options.snaplen as usize,
        // Two VLAN tags more than the MTU counts are still one frame.
        max_frame: interface.max_frame().saturating_add(4),
        outgoing: options.outgoing,
        // What the watch says of the card's clock, if there is one.
        hardware_ahead_ns: 0,
        hardware_flags: RxFlags::TS_HW,
    };
    let rules = Rules::new(&options.flows, options.snaplen, options.outgoing)?;
    Ok(Part { ring, decoder, rules, phc })
}

fn open_ring(socket: &Socket, ring: Ring) -> Result<(RxRing, usize), SetupError> {
    let set_version = |version: libc::tpacket_versions| {
        socket.set_packet("PACKET_VERSION", libc::PACKET_VERSION, version as i32)?;
        socket.set_packet("PACKET_RESERVE", libc::PACKET_RESERVE, VLAN_ROOM)
    };
    match ring {
        Ring::Blocks { block_bytes, blocks, retire_ms } => {
            if block_bytes < 4096 || block_bytes % page_bytes() != 0 {
                return Err(refuse(format!(
                    "block_bytes {block_bytes}; a multiple of 4096 is needed"
                )));
            }
            if blocks == 0 || retire_ms == 0 {
                return Err(refuse("a ring of blocks has at least 1 block and retires after 1 ms"));
            }
            let frame_bytes = 2048;
            let frames = blocks.checked_mul(block_bytes / frame_bytes).ok_or_else(too_big)?;
            set_version(libc::tpacket_versions::TPACKET_V3)?;
            let request = libc::tpacket_req3 {
                tp_block_size: block_bytes,
                tp_block_nr: blocks,
                tp_frame_size: frame_bytes,
                tp_frame_nr: frames,
                tp_retire_blk_tov: retire_ms,
                tp_sizeof_priv: 0,
                tp_feature_req_word: 0,
            };
            socket.set_packet("PACKET_RX_RING", libc::PACKET_RX_RING, request)?;
            let (block_bytes, blocks) = (block_bytes as usize, blocks as usize);
            let map = Map::of(socket, block_bytes * blocks)?;
            Ok((RxRing::Blocks(Blocks::new(map, block_bytes, blocks)), blocks::HEADER))
        }
        Ring::Frames { frame_bytes, frames } => {
            if !frame_bytes.is_power_of_two() || !(256..=65_536).contains(&frame_bytes) {
                let detail = "a power of two of 256 to 65536 is needed";
                return Err(refuse(format!("frame_bytes {frame_bytes}; {detail}")));
            }
            let block_bytes = 65_536;
            let in_a_block = block_bytes / frame_bytes;
            if frames == 0 || frames % in_a_block != 0 {
                let detail = format!("a multiple of {in_a_block} is needed");
                return Err(refuse(format!("{frames} frames of {frame_bytes} bytes; {detail}")));
            }
            set_version(libc::tpacket_versions::TPACKET_V2)?;
            let request = libc::tpacket_req {
                tp_block_size: block_bytes,
                tp_block_nr: frames / in_a_block,
                tp_frame_size: frame_bytes,
                tp_frame_nr: frames,
            };
            socket.set_packet("PACKET_RX_RING", libc::PACKET_RX_RING, request)?;
            let (frame_bytes, frames) = (frame_bytes as usize, frames as usize);
            let map = Map::of(socket, frame_bytes * frames)?;
            Ok((RxRing::Frames(Frames::new(map, frame_bytes, frames)), frames::HEADER))
        }
    }
}

fn page_bytes() -> u32 {
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).unwrap_or(4096).max(1)
}

fn too_big() -> SetupError {
    refuse("the ring is larger than the kernel can number; lower the number of blocks")
}

/// Puts a bound socket into the port's fanout group, which the first one founds.
fn join_fanout(
    socket: &Socket,
    options: &Options,
    group: &mut Option<u16>,
) -> Result<(), SetupError> {
    let mode = match options.fanout {
        Fanout::Hash => libc::PACKET_FANOUT_HASH,
        Fanout::LoadBalance => libc::PACKET_FANOUT_LB,
        Fanout::Cpu => libc::PACKET_FANOUT_CPU,
        Fanout::CardQueue => libc::PACKET_FANOUT_QM,
    };
    let join = |flags: u32, id: u16| {
        let value = u32::from(id) | (mode | flags) << 16;
        socket.set_packet("PACKET_FANOUT", libc::PACKET_FANOUT, value)
    };
    // Kernels before 6.1 know no such flag for a group; there the filter alone refuses.
    let quiet = if options.outgoing { 0 } else { libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING };
    let join_quietly = |flags: u32, id: u16| match join(flags | quiet, id) {
        Err(Error { errno: libc::EINVAL, .. }) if quiet != 0 => join(flags, id),
        other => other,
    };
    match *group {
        Some(id) => join_quietly(0, id)?,
        None => {
            join_quietly(libc::PACKET_FANOUT_FLAG_UNIQUEID, 0)?;
            *group = Some(socket.fanout_id()?);
        }
    }
    Ok(())
}

fn open_tx(
    socket: Socket,
    interface: &Interface,
    options: &Options,
) -> Result<PacketTx, SetupError> {
    if !(1..=1024).contains(&options.tx_slots) {
        return Err(refuse(format!("tx_slots {}; 1 to 1024 are possible", options.tx_slots)));
    }
    if options.qdisc_bypass {
        socket.set_packet("PACKET_QDISC_BYPASS", libc::PACKET_QDISC_BYPASS, 1_i32)?;
    }
    // The default holds about a hundred long frames: less than a group. Beyond the limit of
    // net.core.wmem_max it takes CAP_NET_ADMIN; without, the limit is what we get.
    let buffer = 4_i32 << 20;
    let level = libc::SOL_SOCKET;
    let _ = socket
        .set("SO_SNDBUFFORCE", level, libc::SO_SNDBUFFORCE, buffer)
        .or_else(|_| socket.set("SO_SNDBUF", level, libc::SO_SNDBUF, buffer));
    // Protocol 0: a socket that only sends.
    socket.bind(interface.index, 0)?;
    Ok(PacketTx::new(socket, interface.max_frame() as usize, options.tx_slots as usize))
}
