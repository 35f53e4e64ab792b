//! Two ends of a wire for the rules: a port and its peer, or one port whose frames come back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use linerate::conformance::{Rig, Wire};
use linerate::packet::UdpTemplate;
use linerate::pool::Pool;
use linerate::{
    AnyRx, AnyTx, Backend, BufRx, BufTx, ClockInfo, Clocked, Direction, ErrorKind, FlowKind,
    FlowSpec, FrameRx, FrameTx, OpenError, Port, PortGuard, RxFrame, RxMeta, SetupError, Steer,
    TxStamps,
};

use crate::link::{self, Interface};

/// For local experiments (IEEE 802): nothing else on a network uses it.
pub(super) const ETHERTYPE: u16 = 0x88b5;
/// The second one of that kind: sent to see that it is not delivered.
pub(super) const OTHER_ETHERTYPE: u16 = 0x88b6;
/// A group of the site-local scope, and a port, that spell the ethertype.
pub(super) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 0x88, 0xb5);
pub(super) const OTHER_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 0x88, 0xb6);
pub(super) const PORT: u16 = 0x88b5;
/// Enough for two sets of default rings.
const SHARED_FRAMES: u32 = 8192;
/// How long a link may take to come back after a queue was opened: some drivers reset the card.
const LINK_PATIENCE: Duration = Duration::from_secs(15);

/// What the test sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frames {
    /// Frames of [`ETHERTYPE`], from and to these addresses.
    Ether { src: [u8; 6], dst: [u8; 6] },
    /// Datagrams to [`GROUP`], for ports that know UDP only.
    Group { src: Ipv4Addr },
}

impl Frames {
    /// The flow that a receiver is opened for.
    pub(super) fn flow(&self) -> FlowSpec {
        match self {
            Self::Ether { .. } => FlowSpec::of(FlowKind::EtherType(ETHERTYPE)),
            Self::Group { .. } => FlowSpec::group(IpAddr::V4(GROUP), PORT),
        }
    }

    fn template(src: Ipv4Addr, group: Ipv4Addr) -> Option<UdpTemplate> {
        let at = |ip, port| SocketAddr::new(IpAddr::V4(ip), port);
        UdpTemplate::new(at(src, PORT), at(group, PORT))
    }

    pub(super) fn header_len(&self) -> usize {
        match self {
            Self::Ether { .. } => 14,
            Self::Group { .. } => 42,
        }
    }

    /// Writes the headers in front of a complete payload; `ours` or those of the other flow.
    pub(super) fn write_headers(&self, frame: &mut [u8], ours: bool) {
        match *self {
            Self::Ether { src, dst } => {
                let kind = if ours { ETHERTYPE } else { OTHER_ETHERTYPE };
                frame[..6].copy_from_slice(&dst);
                frame[6..12].copy_from_slice(&src);
                frame[12..14].copy_from_slice(&kind.to_be_bytes());
            }
            Self::Group { src } => {
                let (headers, payload) = frame.split_at_mut(42);
                let group = if ours { GROUP } else { OTHER_GROUP };
                if let Some(template) = Self::template(src, group) {
                    // Room for the headers is there: every frame is at least that long.
                    let _ = template.write_headers(headers, payload);
                }
            }
        }
    }

    /// In words, for the announcement.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Ether { .. } => format!("frames of the experimental ethertype {ETHERTYPE:#06x}"),
            Self::Group { .. } => format!("datagrams to the multicast group {GROUP}:{PORT}"),
        }
    }
}

/// One end: its name, and the interface behind it if there is one.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) uri: String,
    pub(super) backend: Backend,
    pub(super) interface: Option<Interface>,
}

impl End {
    /// The port that was opened under this name, closed again.
    pub(super) fn of(port: &Port) -> Self {
        let uri = port.uri().to_owned();
        Self { interface: link::behind(&uri), backend: port.backend(), uri }
    }

    fn mac(&self) -> Option<[u8; 6]> {
        self.interface.as_ref().and_then(|i| i.mac).filter(|mac| *mac != [0; 6])
    }

    fn ip(&self) -> Option<Ipv4Addr> {
        let addresses = self.interface.iter().flat_map(|i| &i.addresses);
        addresses
            .filter_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            })
            .next()
    }

    fn mtu(&self) -> usize {
        self.interface.as_ref().map_or(1500, |i| i.mtu as usize)
    }

    fn is_udp(&self) -> bool {
        self.backend == Backend::Udp
    }
}

/// The wire under test. `sender` and `receiver` are the same port when `single`.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) sender: End,
    pub(super) receiver: End,
    pub(super) single: bool,
    pub(super) frames: Frames,
    /// A pool that both ends work on, where they can.
    shared: Option<Pool>,
    rx_pool: Option<Pool>,
    tx_pool: Option<Pool>,
    rx_can_take: bool,
    rx_backend: Option<Backend>,
    /// What keeps the ports of the pair at hand working.
    guards: Vec<PortGuard>,
}

impl Bench {
    /// A wire from `sender` to `receiver`; the same port twice for one that hears itself.
    pub(super) fn new(sender: End, receiver: End, by_group: bool) -> Self {
        let single = sender.uri == receiver.uri && !sender.uri.contains("cable=");
        let frames = if by_group {
            // TEST-NET-1, where the interface has no address: a raw receiver does not mind.
            Frames::Group { src: sender.ip().unwrap_or(Ipv4Addr::new(192, 0, 2, 1)) }
        } else {
            let dst = receiver.mac().unwrap_or([2, 0, 0, 0, 0, 2]);
            Frames::Ether { src: sender.mac().unwrap_or([2, 0, 0, 0, 0, 1]), dst }
        };
        let mut bench = Self {
            sender,
            receiver,
            single,
            frames,
            shared: None,
            rx_pool: None,
            tx_pool: None,
            rx_can_take: false,
            rx_backend: None,
            guards: Vec::new(),
        };
        if !single && bench.sender.backend == bench.receiver.backend {
            bench.shared = Pool::builder().frames(SHARED_FRAMES).build().ok();
            if bench.pair().is_err() || bench.rx_pool.is_none() {
                bench.shared = None;
            }
            bench.guards.clear();
        }
        bench
    }

    /// Opens one end. The pair before must be gone.
    pub(super) fn open(&self, end: &End, direction: Direction) -> Result<Port, OpenError> {
        let port = linerate::port(&end.uri).flow(self.frames.flow()).direction(direction);
        // A simulated card has no address that a frame could be sent to.
        let port = port.promiscuous(end.backend == Backend::Sim);
        match &self.shared {
            Some(pool) => port.pool(pool).open(),
            None => port.open(),
        }
    }

    /// The two queues of a fresh pair.
    pub(super) fn queues(&mut self) -> Result<(AnyTx, AnyRx), SetupError> {
        self.guards.clear();
        let (receiver, sender) = if self.single {
            (self.open(&self.receiver, Direction::Both).map_err(setup)?, None)
        } else {
            let receiver = self.open(&self.receiver, Direction::Rx).map_err(setup)?;
            (receiver, Some(self.open(&self.sender, Direction::Tx).map_err(setup)?))
        };
        self.rx_pool = receiver.pool().cloned();
        self.tx_pool = sender.as_ref().unwrap_or(&receiver).pool().cloned();
        let (mut queues, mut tx, guard) = receiver.into_parts();
        self.guards.push(guard);
        if let Some(sender) = sender {
            let (_, its_tx, guard) = sender.into_parts();
            tx = its_tx;
            self.guards.push(guard);
        }
        let missing = |what: &'static str, end: &End| {
            SetupError::new(ErrorKind::Unsupported, "open", what).on(&end.uri)
        };
        let tx = tx.ok_or_else(|| missing("the port cannot send", &self.sender))?;
        if queues.is_empty() {
            return Err(missing("the port cannot receive", &self.receiver));
        }
        let mut rx = queues.swap_remove(0);
        self.rx_can_take = rx.buf_rx().is_some();
        self.rx_backend = rx.backend();
        self.wait_for_links();
        Ok((tx, rx))
    }

    fn wait_for_links(&self) {
        let begun = Instant::now();
        for end in [&self.sender, &self.receiver] {
            let Some(interface) = &end.interface else { continue };
            while !link::has_carrier(&interface.name) && begun.elapsed() < LINK_PATIENCE {
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Longest frame that the wire takes and that every receiver has room for.
    pub(super) fn max_len(&self) -> usize {
        (self.sender.mtu().min(self.receiver.mtu()) + 14).min(1514)
    }

    /// A frame of `len` bytes with this number in it.
    pub(super) fn frame(&self, seq: u32, len: usize, ours: bool) -> Vec<u8> {
        let mut frame = vec![0; len.max(self.frames.header_len() + 12)];
        let at = self.frames.header_len();
        frame[at..at + 8].copy_from_slice(MAGIC);
        frame[at + 8..at + 12].copy_from_slice(&seq.to_be_bytes());
        self.frames.write_headers(&mut frame, ours);
        frame
    }

    /// The number in a frame of [`frame`](Self::frame); `None` for anybody else's.
    pub(super) fn number(&self, frame: &[u8]) -> Option<u32> {
        let payload = frame.get(self.frames.header_len()..)?;
        let seq = payload.get(8..12)?.try_into().ok()?;
        payload.starts_with(MAGIC).then(|| u32::from_be_bytes(seq))
    }

    /// Closes what the last pair left open.
    pub(super) fn close(&mut self) {
        self.guards.clear();
    }
}

const MAGIC: &[u8; 8] = b"linerate";

/// Opening by name failed; the rules want the set-up's error.
fn setup(error: OpenError) -> SetupError {
    match error {
        OpenError::Setup(e) => e,
        other => SetupError::new(ErrorKind::BadArgument, "open", other.to_string()),
    }
}

impl Rig for Bench {
    type Tx = AnyTx;
    type Rx = AnyRx;

    fn pair(&mut self) -> Result<(AnyTx, AnyRx), SetupError> {
        self.queues()
    }

    fn wire(&self) -> Wire {
        let udp = self.sender.is_udp() || self.receiver.is_udp();
        // An X3 counts no frames that found no buffer.
        let names_losses = self.rx_backend != Some(Backend::Efvi) || self.rx_can_take;
        Wire {
            max_len: Some(self.max_len()),
            rewrites_headers: udp,
            in_flight: 48,
            names_losses,
            ..Wire::default()
        }
    }

    fn header_len(&self) -> usize {
        self.frames.header_len()
    }

    fn write_headers(&self, frame: &mut [u8]) {
        self.frames.write_headers(frame, true);
    }

    fn buf_rx<'q>(&self, rx: &'q mut AnyRx) -> Option<&'q mut dyn BufRx> {
        rx.buf_rx()
    }

    fn buf_tx<'q>(&self, tx: &'q mut AnyTx) -> Option<&'q mut dyn BufTx> {
        tx.buf_tx()
    }

    fn tx_stamps<'q>(&self, tx: &'q mut AnyTx) -> Option<&'q mut dyn TxStamps> {
        // A queue gives them when it was opened for them.
        if self.sender.uri.contains("tx_stamps=on") { tx.stamps() } else { None }
    }

    fn steer<'q>(&self, rx: &'q mut AnyRx) -> Option<&'q mut dyn Steer> {
        rx.steer()
    }

    fn flow(&self) -> FlowSpec {
        match self.frames {
            // The same filter twice is refused by the card; another one that selects the same
            // frames is not.
            Frames::Ether { dst, .. } if self.rx_backend == Some(Backend::Efvi) => {
                FlowSpec::of(FlowKind::Mac(dst))
            }
            _ => self.frames.flow(),
        }
    }

    fn rx_clock(&self, rx: &AnyRx) -> Option<ClockInfo> {
        Some(rx.clock())
    }

    fn rx_pool(&self, _: &AnyRx) -> Option<Pool> {
        self.rx_pool.clone().filter(|_| self.rx_can_take)
    }

    fn tx_pool(&self, _: &AnyTx) -> Option<Pool> {
        self.tx_pool.clone()
    }
}

/// Sends a frame, with patience against back-pressure.
pub(super) fn send(tx: &mut AnyTx, frame: &[u8], patience: Duration) -> Result<(), String> {
    let begun = Instant::now();
    while !tx.send(frame).map_err(|e| e.to_string())? {
        tx.kick().map_err(|e| e.to_string())?;
        tx.reap();
        if begun.elapsed() > patience {
            return Err(format!("no room for a frame for {patience:?}"));
        }
        thread::yield_now();
    }
    Ok(())
}

/// Receives frames of [`Bench::frame`] until there are `want` or patience runs out: their numbers
/// and what the queue said about them.
pub(super) fn receive(
    bench: &Bench,
    rx: &mut AnyRx,
    want: usize,
    patience: Duration,
) -> Result<Vec<(u32, RxMeta)>, String> {
    let begun = Instant::now();
    let mut got = Vec::with_capacity(want);
    while got.len() < want && begun.elapsed() < patience {
        let see = |frame: RxFrame<'_>| got.extend(bench.number(frame.bytes).zip(Some(frame.meta)));
        if rx.poll(64, see).map_err(|e| e.to_string())? == 0 {
            thread::yield_now();
        }
    }
    Ok(got)
}
