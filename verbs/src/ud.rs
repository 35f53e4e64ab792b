//! Datagrams between queue pairs (UD): verbs without raw packets.
//!
//! Every RDMA device has these, Soft-RoCE (`rdma_rxe`) among them, and they exercise the same
//! queues, completions, channels and events as raw packets do. What a [`VerbsRx`] shows and a
//! [`VerbsTx`] sends here is the *payload* of a datagram, at most the port's MTU long; the card
//! makes the headers. No right beyond `/dev/infiniband` is needed.
//!
//! ```no_run
//! use linerate_common::FrameTx;
//! use linerate_verbs::{ud, Context, Library};
//!
//! let context = Context::open(Library::load()?, "rxe0")?;
//! let options = ud::Options::default();
//! let here = ud::open_on(&context, 1, &options)?;
//! println!("send to {}", here.address());
//! let there: ud::Address = "::ffff:10.66.0.2/18/11111111".parse()?;
//! let mut tx = here.sender(&there)?;
//! tx.send(b"hello")?;
//! tx.kick()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod route;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use linerate_common::pool::Pool;
use linerate_common::{ErrorKind, SetupError};
use linerate_ibverbs_sys as sys;

use crate::channel::Channel;
use crate::clock::StampClock;
use crate::counter::NoBuffer;
use crate::cq::Cq;
use crate::device::{Caps, Context};
use crate::error::check;
use crate::event::Watch;
use crate::flow::FlowMode;
use crate::memory::{Mr, Pd};
use crate::qp::{Qp, QpKind, QpShape};
use crate::queue::RecvQueue;
use crate::rx::{self, VerbsRx};
use crate::steering::{Steering, Target};
use crate::tx::{self, VerbsTx};
use address::gid_of;
pub use address::{Address, ParseAddressError};
use route::Ah;
pub(crate) use route::Route;

/// Bytes that the card writes in front of each datagram: its route (GRH), or room for one.
const PREFIX: usize = 40;

/// How a port is opened for datagrams.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Buffers posted for receiving.
    pub rx_slots: u32,
    /// Datagrams that may wait to be sent.
    pub tx_slots: u32,
    /// Datagrams up to this many bytes are copied into the request, where the card can.
    pub inline_bytes: u32,
    /// Both ends must have the same; without the top bit, which only privileged programs may use.
    pub qkey: u32,
    /// Which of the port's addresses to use; `None`: the first that is an IPv4 address, else the
    /// first there is.
    pub gid_index: Option<u8>,
    /// Bring a queue that an error stopped back by itself.
    pub recover: bool,
    /// The buffers; `None` builds a pool of the right size.
    pub pool: Option<Pool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rx_slots: 256,
            tx_slots: 128,
            inline_bytes: 0,
            qkey: 0x1111_1111,
            gid_index: None,
            recover: true,
            pool: None,
        }
    }
}

/// An open port for datagrams: one receive queue, and as many senders as are asked for.
#[derive(Debug)]
pub struct Port {
    rx: VerbsRx,
    mr: Arc<Mr>,
    pool: Pool,
    port: u8,
    caps: Caps,
    max_len: usize,
    gid_index: u8,
    address: Address,
    steering: Arc<Steering>,
    options: Options,
}

/// Opens a port of an open device for datagrams.
///
/// # Errors
///
/// The port has no address, locked memory is short, or the device refuses.
pub fn open_on(context: &Arc<Context>, port: u8, options: &Options) -> Result<Port, SetupError> {
    set_up(context, port, options).map_err(|e| e.on(format!("verbs:{}/{port}", context.name())))
}

fn set_up(context: &Arc<Context>, port: u8, options: &Options) -> Result<Port, SetupError> {
    let caps = context.caps()?;
    let state = context.port(port)?;
    let (gid_index, gid) = own_gid(context, port, state.gids, options.gid_index)?;
    let limit = caps.max_qp_wr.min(caps.max_cqe).max(1);
    let mut options = options.clone();
    options.rx_slots = options.rx_slots.clamp(1, limit);
    options.tx_slots = options.tx_slots.clamp(1, limit);
    let max_len = state.mtu_bytes as usize;
    let pool = match &options.pool {
        Some(pool) => pool.clone(),
        None => {
            let bytes = if PREFIX + max_len + 256 <= 2048 { 2048 } else { 4096 };
            let frames = 2 * (options.rx_slots + options.tx_slots);
            Pool::builder().frames(frames).frame_bytes(bytes).headroom(64).build()?
        }
    };
    let max_len = max_len.min(pool.frame_bytes() - pool.headroom().max(PREFIX));
    let pd = Pd::alloc(context)?;
    let mr = Mr::of(&pd, pool.region(), false)?;
    let cq = Cq::create(context, options.rx_slots, Channel::create(context).ok(), false)?;
    let shape = QpShape {
        kind: QpKind::Ud { qkey: options.qkey },
        send_slots: 0,
        recv_slots: options.rx_slots,
        inline_bytes: 0,
    };
    let qp = Qp::create(&mr, &cq, port, shape)?;
    let steering = Steering::new(Target::One(qp.clone()), FlowMode::Steal);
    let address = Address { gid, qpn: qp.number(), qkey: options.qkey };
    let queue = RecvQueue::Pair(qp);
    let rx = VerbsRx::new(rx::Parts {
        watch: Watch::new(context, port, queue.objects()),
        clock: StampClock::new(cq.stamp(), caps.timestamp_mask, caps.clock_hz, None),
        queue,
        flows: steering.clone(),
        cache: pool.cache(),
        mr: mr.clone(),
        prefix: PREFIX,
        slots: options.rx_slots,
        no_buffer: NoBuffer::of_port(context.name(), port),
        recover: options.recover,
    })?;
    Ok(Port { rx, mr, pool, port, caps, max_len, gid_index, address, steering, options })
}

/// The port's address to send from, and its place in the port's table.
fn own_gid(
    context: &Context,
    port: u8,
    gids: u32,
    wanted: Option<u8>,
) -> Result<(u8, [u8; 16]), SetupError> {
    let read = |index: u8| {
        let mut gid = sys::ibv_gid { raw: [0; 16] };
        let library = context.library();
        // SAFETY: a live context and a GID to write.
        let rc =
            unsafe { (library.ibv_query_gid)(context.as_raw(), port, i32::from(index), &mut gid) };
        (rc == 0 && gid.raw != [0; 16]).then_some((index, gid.raw))
    };
    let all = || (0..u8::try_from(gids).unwrap_or(u8::MAX)).filter_map(read);
    let is_ipv4 = |gid: &[u8; 16]| Ipv6Addr::from(*gid).to_ipv4_mapped().is_some();
    let found = match wanted {
        Some(index) => read(index),
        None => all().find(|(_, gid)| is_ipv4(gid)).or_else(|| all().next()),
    };
    found.ok_or_else(|| {
        SetupError::new(ErrorKind::BadArgument, "ibv_query_gid", "the port has no such address")
            .remedy("give its network interface an IP address and bring it up: ip link set IF up")
    })
}

impl Port {
    /// Where others send to reach this port.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The buffers behind the queues.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Longest datagram in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Receives what is sent to a multicast group too, from now on.
    ///
    /// # Errors
    ///
    /// The address is no group, or the device refuses.
    pub fn join(&self, group: IpAddr) -> Result<(), SetupError> {
        if !group.is_multicast() {
            let what = format!("{group} is no multicast group");
            return Err(SetupError::new(ErrorKind::BadArgument, "ibv_attach_mcast", what));
        }
        self.steering.join(sys::ibv_gid { raw: gid_of(group) })
    }

    /// A queue that sends to one address.
    ///
    /// # Errors
    ///
    /// There is no way to the address, or the device refuses.
    pub fn sender(&self, to: &Address) -> Result<VerbsTx, SetupError> {
        let context = &self.mr.pd().context;
        let cq = Cq::create(context, self.options.tx_slots, None, false)?;
        let ah = Ah::create(self.mr.pd(), self.port, self.gid_index, to)?;
        let shape = QpShape {
            kind: QpKind::Ud { qkey: self.options.qkey },
            send_slots: self.options.tx_slots,
            recv_slots: 0,
            inline_bytes: self.options.inline_bytes,
        };
        let qp = Qp::create(&self.mr, &cq, self.port, shape)?;
        VerbsTx::new(tx::Parts {
            watch: Watch::new(context, self.port, [qp.as_raw() as usize, cq.as_raw() as usize]),
            clock: StampClock::new(cq.stamp(), self.caps.timestamp_mask, self.caps.clock_hz, None),
            qp,
            cache: self.pool.cache(),
            mr: self.mr.clone(),
            max_len: self.max_len,
            slots: self.options.tx_slots,
            stamps: false,
            checksums: false,
            route: Some(Route { ah, qpn: to.qpn, qkey: to.qkey }),
            recover: self.options.recover,
        })
    }

    /// The receive queue. Senders and groups live on.
    #[must_use]
    pub fn into_rx(self) -> VerbsRx {
        self.rx
    }
}

/// A queue pair's membership of a multicast group; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    qp: Arc<Qp>,
    gid: sys::ibv_gid,
}

impl Group {
    pub(crate) fn join(qp: &Arc<Qp>, gid: sys::ibv_gid) -> Result<Self, SetupError> {
        let library = qp.context().library();
        // SAFETY: a live pair and a GID that is copied.
        let rc = unsafe { (library.ibv_attach_mcast)(qp.as_raw(), &gid, 0) };
        check("ibv_attach_mcast", rc).map_err(|e| e.on(qp.context().name()))?;
        Ok(Self { qp: qp.clone(), gid })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let library = self.qp.context().library();
        // SAFETY: a live pair that was attached to this group.
        unsafe { (library.ibv_detach_mcast)(self.qp.as_raw(), &self.gid, 0) };
    }
}
