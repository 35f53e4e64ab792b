//! Opening a port: device, memory, queues, flows.

use std::fs;
use std::sync::Arc;

use linerate_common::pool::{Numa, Pool};
use linerate_common::{ErrorKind, FlowSpec, SetupError, Steer};

use crate::channel::Channel;
use crate::clock::StampClock;
use crate::counter::NoBuffer;
use crate::cq::Cq;
use crate::device::{Context, interface_of_port, port_of_interface};
use crate::event::Events;
use crate::flow::FlowMode;
use crate::library::Library;
use crate::memory::{Mr, Pd};
use crate::qp::{Qp, QpShape, require_ethernet};
use crate::rx::{self, VerbsRx};
use crate::tx::{self, VerbsTx};

/// How a port is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Flows to steer here. A raw packet queue without a flow receives nothing.
    pub flows: Vec<FlowSpec>,
    /// Whether the kernel still gets the steered frames.
    pub mode: FlowMode,
    /// Buffers posted for receiving.
    pub rx_slots: u32,
    /// Frames that may wait to be sent.
    pub tx_slots: u32,
    /// Frames up to this many bytes are copied into the request: lower latency, no DMA read.
    pub inline_bytes: u32,
    /// Ask the card for receive timestamps.
    pub timestamps: bool,
    /// Allow the card to write memory out of order (`IBV_ACCESS_RELAXED_ORDERING`): faster on
    /// some hosts, slower on others.
    pub relaxed_ordering: bool,
    /// Bring a queue that an error stopped back by itself.
    pub recover: bool,
    /// Where frames that found no buffer are counted; `None` reads the kernel's counter.
    pub no_buffer: Option<NoBuffer>,
    /// The buffers; `None` builds a pool of the right size on the card's NUMA node.
    pub pool: Option<Pool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            mode: FlowMode::default(),
            rx_slots: 1024,
            tx_slots: 512,
            inline_bytes: 128,
            timestamps: true,
            relaxed_ordering: false,
            recover: true,
            no_buffer: None,
            pool: None,
        }
    }
}

/// An open port.
#[derive(Debug)]
pub struct Port {
    rx: VerbsRx,
    tx: VerbsTx,
    pool: Pool,
    notices: Vec<String>,
}

/// Opens the port behind a network interface (`"eth2"`) or named as device and port
/// (`"mlx5_0/1"`).
///
/// # Errors
///
/// The library or the device is missing, a right is missing (CAP_NET_RAW, locked memory), the
/// link layer is not Ethernet, or the card does not steer a flow. Each with its remedy.
pub fn open(name: &str, options: &Options) -> Result<Port, SetupError> {
    let (device, port) = find(name)?;
    let context = Context::open(Library::load()?, &device)?;
    open_on(&context, port, options)
}

/// Opens a port of a device that is open already.
///
/// # Errors
///
/// As [`open`].
pub fn open_on(context: &Arc<Context>, port: u8, options: &Options) -> Result<Port, SetupError> {
    let name = format!("verbs:{}/{port}", context.name());
    set_up(context, port, options).map_err(|e| e.on(name))
}

fn set_up(context: &Arc<Context>, port: u8, options: &Options) -> Result<Port, SetupError> {
    let mut notices = Vec::new();
    let caps = context.caps()?;
    require_ethernet(context.port(port)?.ethernet, context.name())?;
    let mut clamp = |what: &str, asked: u32, limit: u32| {
        if limit > 0 && asked > limit {
            notices.push(format!("{what} reduced from {asked} to {limit}, the device's limit"));
            return limit;
        }
        asked.max(1)
    };
    let rx_slots = clamp("receive slots", options.rx_slots, caps.max_qp_wr.min(caps.max_cqe));
    let tx_slots = clamp("transmit slots", options.tx_slots, caps.max_qp_wr.min(caps.max_cqe));

    let interface = interface_of_port(context.name(), port);
    let mtu = interface.as_deref().and_then(mtu_of).unwrap_or(1500);
    // Ethernet header and two VLAN tags on top of the MTU.
    let frame = mtu + 14 + 8;
    let pool = match &options.pool {
        Some(pool) => pool.clone(),
        None => {
            let bytes = if frame + 256 <= 2048 { 2048 } else { 4096 };
            let numa = interface.map_or(Numa::Any, Numa::OfInterface);
            Pool::builder()
                .frames(2 * (rx_slots + tx_slots))
                .frame_bytes(bytes)
                .numa(numa)
                .build()?
        }
    };
    let room = pool.frame_bytes() - pool.headroom();
    if frame > room {
        notices.push(format!(
            "the interface's MTU of {mtu} needs buffers of {frame} bytes and the pool's hold {room}: \
             longer frames are lost as `truncated`"
        ));
    }
    notices.extend(pool.notices().iter().cloned());

    let pd = Pd::alloc(context)?;
    let mr = Mr::of(&pd, pool.region(), options.relaxed_ordering)?;
    let events = Events::watch(context, port)?;

    let channel = match Channel::create(context) {
        Ok(channel) => Some(channel),
        Err(e) => {
            notices.push(format!("no blocking waits: {e}"));
            None
        }
    };
    let rx_cq = Cq::create(context, rx_slots, channel, options.timestamps)?;
    let shape = QpShape { send_slots: 0, recv_slots: rx_slots, inline_bytes: 0 };
    let clock = StampClock::new(rx_cq.stamp(), caps.timestamp_mask, caps.clock_hz);
    let mut rx = VerbsRx::new(rx::Parts {
        qp: Qp::create(&pd, &rx_cq, port, shape)?,
        cache: pool.cache(),
        mr: mr.clone(),
        events: events.clone(),
        mode: options.mode,
        clock,
        no_buffer: options
            .no_buffer
            .clone()
            .unwrap_or_else(|| NoBuffer::of_port(context.name(), port)),
        recover: options.recover,
    })?;

    let tx_cq = Cq::create(context, tx_slots, None, false)?;
    let shape = QpShape { send_slots: tx_slots, recv_slots: 0, inline_bytes: options.inline_bytes };
    let tx = VerbsTx::new(tx::Parts {
        qp: create_with_inline(&pd, &tx_cq, port, shape, &mut notices)?,
        cache: pool.cache(),
        mr,
        events,
        max_len: mtu + 14 + 4,
        recover: options.recover,
    })?;
    // Flows come last: from here on frames arrive, and the buffers are there.
    for flow in &options.flows {
        rx.add(flow)?;
    }
    Ok(Port { rx, tx, pool, notices })
}

/// Inline sends are a wish: cards differ in how many bytes they take.
fn create_with_inline(
    pd: &Arc<Pd>,
    cq: &Arc<Cq>,
    port: u8,
    shape: QpShape,
    notices: &mut Vec<String>,
) -> Result<Arc<Qp>, SetupError> {
    match Qp::create(pd, cq, port, shape) {
        Err(e) if shape.inline_bytes > 0 && [libc::EINVAL, libc::ENOMEM].contains(&e.errno()) => {
            let qp = Qp::create(pd, cq, port, QpShape { inline_bytes: 0, ..shape })?;
            notices.push(format!("inline sends of {} bytes refused: off", shape.inline_bytes));
            Ok(qp)
        }
        other => other,
    }
}

/// `mlx5_0/1`, `mlx5_0` (its first port), or a network interface.
fn find(name: &str) -> Result<(String, u8), SetupError> {
    let bad = |what: String| {
        SetupError::new(ErrorKind::BadArgument, "open", what)
            .on(format!("verbs:{name}"))
            .remedy("write verbs:DEVICE/PORT (verbs:mlx5_0/1) or verbs:INTERFACE (verbs:eth2)")
    };
    if let Some((device, port)) = name.split_once('/') {
        let port = port.parse().ok().filter(|p| *p >= 1);
        return match port {
            Some(port) if !device.is_empty() => Ok((device.to_owned(), port)),
            _ => Err(bad("ports are numbered from 1".into())),
        };
    }
    if let Some(found) = port_of_interface(name) {
        return Ok(found);
    }
    if fs::exists(format!("/sys/class/net/{name}")).unwrap_or(false) {
        return Err(bad(format!("there is no RDMA device behind interface {name}")));
    }
    if name.is_empty() { Err(bad("no device named".into())) } else { Ok((name.to_owned(), 1)) }
}

fn mtu_of(interface: &str) -> Option<usize> {
    fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}

impl Port {
    /// The pool behind both queues.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What could not be had as asked.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The two queues, for one thread each or both in one.
    #[must_use]
    pub fn split(self) -> (VerbsRx, VerbsTx) {
        (self.rx, self.tx)
    }
}
