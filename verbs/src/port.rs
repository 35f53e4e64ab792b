//! Opening a port: device, memory, queues, flows.

use std::fs;
use std::sync::Arc;

use linerate_common::pool::{Numa, Pool};
use linerate_common::{ErrorKind, FlowSpec, SetupError, Steer};

use crate::channel::Channel;
use crate::clock::StampClock;
use crate::counter::NoBuffer;
use crate::cq::{Cq, Stamp};
use crate::device::{Caps, Context, interface_of_port, port_of_interface};
use crate::event::Watch;
use crate::flow::FlowMode;
use crate::library::Library;
use crate::memory::{Mr, Pd};
use crate::qp::{Qp, QpKind, QpShape, require_ethernet};
use crate::queue::RecvQueue;
use crate::rx::{self, VerbsRx};
use crate::spread::{self, Spread, SpreadQp, Wq};
use crate::steering::{Steering, Target};
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
    /// Ask the card when frames were sent ([`TxStamps`](linerate_common::TxStamps)): each frame
    /// is then completed by itself, which costs some rate.
    pub tx_timestamps: bool,
    /// Let the card fill in the IPv4 header's checksum and those of UDP and TCP
    /// (`IBV_SEND_IP_CSUM`). Opening fails on a card that cannot.
    pub tx_checksums: bool,
    /// Receive queues, at least 1. With more the card spreads the frames over them by a hash of
    /// their addresses and ports; see [`Port::into_queues`].
    pub queues: u32,
    /// What the hash looks at when there are several queues.
    pub spread: Spread,
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
            tx_timestamps: false,
            tx_checksums: false,
            queues: 1,
            spread: Spread::default(),
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
    rx: Vec<VerbsRx>,
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
    let state = context.port(port)?;
    require_ethernet(state.ethernet, context.name())?;
    if !state.up {
        notices.push("the link is down: nothing is received until it is up".into());
    }
    let queues = options.queues.max(1);
    if queues > 1 {
        spread::require(&caps, queues, options.spread)?;
    }
    if options.tx_checksums && !caps.checksums {
        let what = "the card does not fill in checksums of raw packets";
        return Err(SetupError::new(ErrorKind::Unsupported, "ibv_query_device", what)
            .remedy("leave Options::tx_checksums off and write them into the frames"));
    }
    let mut clamp = |what: &str, asked: u32| {
        let limit = caps.max_qp_wr.min(caps.max_cqe);
        if limit > 0 && asked > limit {
            notices.push(format!("{what} reduced from {asked} to {limit}, the device's limit"));
            return limit;
        }
        asked.max(1)
    };
    let rx_slots = clamp("receive slots", options.rx_slots);
    let tx_slots = clamp("transmit slots", options.tx_slots);

    let interface = interface_of_port(context.name(), port);
    let mtu = interface.as_deref().and_then(mtu_of).unwrap_or(1500);
    // Ethernet header and two VLAN tags on top of the MTU.
    let frame = mtu + 14 + 8;
    let pool = match &options.pool {
        Some(pool) => pool.clone(),
        None => {
            let bytes = if frame + 256 <= 2048 { 2048 } else { 4096 };
            let frames = queues.saturating_mul(rx_slots).saturating_add(tx_slots);
            let numa = interface.map_or(Numa::Any, Numa::OfInterface);
            Pool::builder()
                .frames(frames.saturating_mul(2))
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
    let ptp = ptp_clock(context.name());
    let setup = Setup { context, port, caps, options, pool: &pool, mr: &mr, rx_slots, ptp };
    let (targets, steering) = setup.receive_queues(queues, &mut notices)?;
    let no_buffer =
        options.no_buffer.clone().unwrap_or_else(|| NoBuffer::of_port(context.name(), port));
    let mut rx = Vec::with_capacity(targets.len());
    for queue in targets {
        // The counter is the port's: the first queue shows it, so that a sum is right.
        let counter = if rx.is_empty() { no_buffer.clone() } else { NoBuffer::none() };
        rx.push(setup.receiver(queue, steering.clone(), counter)?);
    }
    let tx = setup.sender(tx_slots, mtu + 14 + 4, &mut notices)?;
    // Flows come last: from here on frames arrive, and the buffers are there.
    for flow in &options.flows {
        rx[0].add(flow)?;
    }
    Ok(Port { rx, tx, pool, notices })
}

/// What the queues of a port are made from.
struct Setup<'a> {
    context: &'a Arc<Context>,
    port: u8,
    caps: Caps,
    options: &'a Options,
    pool: &'a Pool,
    mr: &'a Arc<Mr>,
    rx_slots: u32,
    ptp: Option<u32>,
}

impl Setup<'_> {
    /// One queue pair, or work queues behind one.
    fn receive_queues(
        &self,
        queues: u32,
        notices: &mut Vec<String>,
    ) -> Result<(Vec<RecvQueue>, Arc<Steering>), SetupError> {
        let mode = self.options.mode;
        if queues == 1 {
            let shape = QpShape {
                kind: QpKind::Raw,
                send_slots: 0,
                recv_slots: self.rx_slots,
                inline_bytes: 0,
            };
            let cq = self.receive_cq(notices)?;
            let qp = Qp::create(self.mr, &cq, self.port, shape)?;
            let steering = Steering::new(Target::One(qp.clone()), mode);
            return Ok((vec![RecvQueue::Pair(qp)], steering));
        }
        let mut wqs = Vec::with_capacity(queues as usize);
        for _ in 0..queues {
            wqs.push(Wq::create(self.mr, &self.receive_cq(notices)?, self.rx_slots)?);
        }
        let qp = SpreadQp::create(wqs.clone(), self.port, self.options.spread, &self.caps)?;
        let steering = Steering::new(Target::Spread(qp), mode);
        Ok((wqs.into_iter().map(RecvQueue::Work).collect(), steering))
    }

    fn receive_cq(&self, notices: &mut Vec<String>) -> Result<Arc<Cq>, SetupError> {
        let channel = match Channel::create(self.context) {
            Ok(channel) => Some(channel),
            Err(e) => {
                notices.push(format!("no blocking waits: {e}"));
                None
            }
        };
        Cq::create(self.context, self.rx_slots, channel, self.options.timestamps)
    }

    fn receiver(
        &self,
        queue: RecvQueue,
        flows: Arc<Steering>,
        no_buffer: NoBuffer,
    ) -> Result<VerbsRx, SetupError> {
        VerbsRx::new(rx::Parts {
            watch: Watch::new(self.context, self.port, queue.objects()),
            clock: self.clock(queue.cq()),
            queue,
            flows,
            cache: self.pool.cache(),
            mr: self.mr.clone(),
            prefix: 0,
            slots: self.rx_slots,
            no_buffer,
            recover: self.options.recover,
        })
    }

    fn sender(
        &self,
        slots: u32,
        max_len: usize,
        notices: &mut Vec<String>,
    ) -> Result<VerbsTx, SetupError> {
        let stamps = self.options.tx_timestamps;
        let cq = Cq::create(self.context, slots, None, stamps)?;
        if stamps && cq.stamp() == Stamp::None {
            notices.push("the card stamps no sent frames".into());
        }
        let qp = self.pair_with_inline(&cq, slots, notices)?;
        VerbsTx::new(tx::Parts {
            watch: Watch::new(
                self.context,
                self.port,
                [qp.as_raw() as usize, cq.as_raw() as usize],
            ),
            clock: self.clock(&cq),
            qp,
            cache: self.pool.cache(),
            mr: self.mr.clone(),
            max_len,
            slots,
            stamps,
            checksums: self.options.tx_checksums,
            route: None,
            recover: self.options.recover,
        })
    }

    /// Inline sends are a wish: cards differ in how many bytes they take.
    fn pair_with_inline(
        &self,
        cq: &Arc<Cq>,
        slots: u32,
        notices: &mut Vec<String>,
    ) -> Result<Arc<Qp>, SetupError> {
        let asked = self.options.inline_bytes;
        let shape =
            QpShape { kind: QpKind::Raw, send_slots: slots, recv_slots: 0, inline_bytes: asked };
        match Qp::create(self.mr, cq, self.port, shape) {
            Err(e) if asked > 0 && [libc::EINVAL, libc::ENOMEM].contains(&e.errno()) => {
                let shape = QpShape { inline_bytes: 0, ..shape };
                let qp = Qp::create(self.mr, cq, self.port, shape)?;
                notices.push(format!("inline sends of {asked} bytes refused: off"));
                Ok(qp)
            }
            other => other,
        }
    }

    fn clock(&self, cq: &Cq) -> StampClock {
        StampClock::new(cq.stamp(), self.caps.timestamp_mask, self.caps.clock_hz, self.ptp)
    }
}

/// Number of the card's PTP clock, from sysfs.
fn ptp_clock(device: &str) -> Option<u32> {
    let clocks = fs::read_dir(format!("/sys/class/infiniband/{device}/device/ptp")).ok()?;
    clocks.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("ptp")?.parse().ok())
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

    /// The two queues, for one thread each or both in one. Of several receive queues
    /// ([`Options::queues`]) this is the first, and what the card spreads to the others is lost:
    /// use [`into_queues`](Self::into_queues).
    #[must_use]
    pub fn split(mut self) -> (VerbsRx, VerbsTx) {
        (self.rx.swap_remove(0), self.tx)
    }

    /// All receive queues and the transmit queue. The receive queues share the port's flows,
    /// which end with the last of them; a rule added to one feeds all.
    #[must_use]
    pub fn into_queues(self) -> (Vec<VerbsRx>, VerbsTx) {
        (self.rx, self.tx)
    }
}
