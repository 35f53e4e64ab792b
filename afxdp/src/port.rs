//! Opens queues of an interface.

use std::collections::BTreeSet;
use std::sync::Arc;

use linerate_common::pool::{Numa, Pool};
use linerate_common::{ErrorKind, FlowSpec, RuleId, SetupError};

use crate::clock::{self, TxClock};
use crate::interface::Interface;
use crate::options::{Direction, Mode, Options, Queues, Stamps, Steering as Who};
use crate::rx::{Stamping, XdpRx};
use crate::socket::{Rings, Socket, SocketSpec};
use crate::steer::{Attach, Rule, Steering};
use crate::sys::XDP_PACKET_HEADROOM;
use crate::tx::XdpTx;

/// Bytes of an Ethernet header with one VLAN tag.
const ETHERNET: usize = 18;

/// An open interface: a receive and a transmit half for each of its queues.
#[derive(Debug)]
pub struct Port {
    rx: Vec<XdpRx>,
    tx: Vec<XdpTx>,
    pool: Pool,
    mode: Mode,
    notices: Vec<String>,
}

/// What the halves of all queues of a port have in common. Its program goes with the last of them.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `afxdp:eth2`
    pub(crate) name: String,
    pub(crate) steering: Option<Steering>,
    /// The card takes VLAN tags out before our program runs.
    vlan_hidden: bool,
    interface: String,
    /// The interface and the receive queues that it had, where the port was to have all of them.
    all_queues: Option<(Interface, u32)>,
}

impl Shared {
    #[cfg(any(test, fuzzing, feature = "played"))]
    pub(crate) fn without_steering() -> Self {
        let name = String::from("played");
        Self {
            name: name.clone(),
            steering: None,
            vlan_hidden: false,
            interface: name,
            all_queues: None,
        }
    }

    pub(crate) fn steering(&self) -> Result<&Steering, SetupError> {
        self.steering.as_ref().ok_or_else(|| {
            SetupError::new(ErrorKind::Unsupported, "steer", "the port has no program of ours")
                .on(&self.name)
                .remedy("steer in your own program, or open the port with ?steering=rules")
        })
    }

    /// Has the interface got queues that the port, which was to have all, has not?
    pub(crate) fn has_outgrown_the_port(&self) -> bool {
        let outgrown =
            |(interface, had): &(Interface, u32)| interface.rx_queues().is_ok_and(|now| now > *had);
        self.all_queues.as_ref().is_some_and(outgrown)
    }

    pub(crate) fn add(&self, rules: &[Rule]) -> Result<Vec<RuleId>, SetupError> {
        let steering = self.steering()?;
        for rule in rules {
            self.can_see(&rule.flow)?;
        }
        steering.add(rules).map_err(|e| e.on(&self.name))
    }

    pub(crate) fn add_one(&self, rule: Rule) -> Result<RuleId, SetupError> {
        self.add(&[rule]).map(|ids| ids[0])
    }

    /// A rule that could never match is refused instead of being kept in silence.
    fn can_see(&self, flow: &FlowSpec) -> Result<(), SetupError> {
        if flow.vlan.is_none() || !self.vlan_hidden {
            return Ok(());
        }
        Err(SetupError::new(
            ErrorKind::Unsupported,
            "add",
            "the card takes VLAN tags out before the program sees the frame",
        )
        .on(&self.name)
        .remedy(format!("let it leave them in: ethtool -K {} rxvlan off", self.interface)))
    }
}

/// Opens `interface`.
///
/// Without [`flows`](Options::flows) no frame is delivered until one is asked for: the kernel
/// keeps everything.
///
/// # Errors
///
/// There is no such interface, it is down, rights are missing, a queue or the interface's XDP
/// hook is taken, the driver cannot do the mode that was demanded, or memory is short. Each with
/// its remedy.
///
/// ```no_run
/// use linerate_afxdp::{Options, open};
/// use linerate_common::FrameRx;
///
/// let mut options = Options::default();
/// options.flows = vec!["239.1.1.1:5000".parse()?];
/// let port = open("eth2", &options)?;
/// println!("{:?} {:?}", port.mode(), port.notices());
/// let (mut rx, _tx) = port.into_parts();
/// loop {
///     for queue in &mut rx {
///         queue.poll(64, |frame| println!("{} bytes", frame.bytes.len()))?;
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(interface: &str, options: &Options) -> Result<Port, SetupError> {
    open_port(interface, options, Interface::phc).map_err(|e| e.on(format!("afxdp:{interface}")))
}

fn open_port(
    name: &str,
    options: &Options,
    phc_of: fn(&Interface) -> Option<u32>,
) -> Result<Port, SetupError> {
    let interface = Interface::open(name)?;
    let queues = wanted_queues(&interface, options)?;
    let mtu = interface.mtu()?;
    let mut notices = Vec::new();
    let pool = match &options.pool {
        Some(pool) => pool.clone(),
        None => own_pool(name, options, queues.len(), mtu)?,
    };
    notices.extend(pool.notices().iter().cloned());
    let room = pool.frame_bytes() - XDP_PACKET_HEADROOM;
    if options.direction != Direction::Tx && mtu + ETHERNET > room {
        notices.push(format!(
            "frames longer than {room} bytes do not fit a buffer and are lost as truncated: the \
             interface's MTU is {mtu}"
        ));
    }

    let driver = interface.driver();
    let phc = match options.stamps {
        Stamps::Best | Stamps::Hardware => phc_of(&interface),
        Stamps::Software | Stamps::Off => None,
    };
    let steers = options.direction != Direction::Tx && options.steering == Who::Rules;
    let steering = if steers {
        let (steering, more) = Steering::open(&Attach {
            interface: name,
            ifindex: interface.index(),
            mode: options.mode,
            marks: options.marks,
            hw_ts: phc.is_some(),
            replace: options.replace,
        })?;
        notices.extend(more);
        Some(steering)
    } else {
        None
    };
    let has_hw_ts = steering.as_ref().is_some_and(Steering::has_hw_ts);
    if options.stamps == Stamps::Hardware && options.direction != Direction::Tx && !has_hw_ts {
        return Err(no_hardware_time(&driver, &notices));
    }
    let generic = steering.as_ref().is_some_and(Steering::is_generic);
    let ifindex = interface.index();
    let has_all = steers && options.queues == Queues::All;
    let shared = Arc::new(Shared {
        name: format!("afxdp:{name}"),
        steering,
        // A veth pair passes on tags that lie in the frame whatever it says, and never sees those
        // that its peer's kernel keeps beside it.
        vlan_hidden: driver != "veth" && interface.strips_vlan(),
        interface: name.to_owned(),
        all_queues: has_all.then_some((interface, queues.len() as u32)),
    });
    if !options.flows.is_empty() {
        let rules: Vec<Rule> = options.flows.iter().copied().map(Rule::deliver).collect();
        shared.add(&rules)?;
    }

    let setup = Setup { options, shared: shared.clone(), mtu, phc, has_hw_ts, generic };
    let mut port =
        Port { rx: Vec::new(), tx: Vec::new(), pool: pool.clone(), mode: Mode::Native, notices };
    for queue in queues {
        let spec = SocketSpec {
            interface: name,
            ifindex,
            queue,
            pool: &pool,
            rx_slots: if options.direction == Direction::Tx { 0 } else { options.ring_slots },
            tx_slots: if options.direction == Direction::Rx { 0 } else { options.ring_slots },
            need_wakeup: options.need_wakeup,
            busy_poll: options.busy_poll,
            tx_metadata: options.tx_stamps,
        };
        let (socket, rings) = open_socket(&spec, options.mode, generic, &mut port.notices)?;
        setup.add_queue(&mut port, socket, rings)?;
    }
    // Only now: a frame that is redirected finds its socket ready.
    if let Some(steering) = &shared.steering {
        for rx in &port.rx {
            steering.take_queue(rx.queue(), linerate_common::Waitable::fd(rx))?;
        }
    }
    Ok(port)
}

/// What the queues of a port are made from.
struct Setup<'a> {
    options: &'a Options,
    shared: Arc<Shared>,
    mtu: usize,
    phc: Option<u32>,
    has_hw_ts: bool,
    generic: bool,
}

/// Zero-copy first where that may work.
fn open_socket(
    spec: &SocketSpec<'_>,
    mode: Mode,
    generic: bool,
    notices: &mut Vec<String>,
) -> Result<(Arc<Socket>, Rings), SetupError> {
    if mode == Mode::ZeroCopy {
        return Socket::open(spec, true);
    }
    if mode == Mode::Auto && !generic {
        match Socket::open(spec, true) {
            Ok(opened) => return Ok(opened),
            // Anything else is no better in copy mode.
            Err(e) if !matches!(e.errno(), libc::EOPNOTSUPP | libc::EINVAL | libc::ENODEV) => {
                return Err(e);
            }
            Err(e) => {
                let why = SetupError::os(e.op(), e.errno());
                notices.push(format!("queue {}: copy mode, no zero-copy: {why}", spec.queue));
            }
        }
    }
    Socket::open(spec, false)
}

impl Setup<'_> {
    /// Makes the halves of one queue.
    fn add_queue(
        &self,
        port: &mut Port,
        socket: Arc<Socket>,
        rings: Rings,
    ) -> Result<(), SetupError> {
        let zero_copy = socket.is_zero_copy();
        port.mode = match (zero_copy, self.generic) {
            (true, _) => Mode::ZeroCopy,
            (false, true) => Mode::Generic,
            (false, false) => Mode::Native,
        };
        if let Some(rx) = rings.rx {
            let mut frames = port.pool.cache();
            frames.reserve(rings.fill.size() as usize)?;
            let hardware = self.phc.filter(|_| self.has_hw_ts).map(clock::watch);
            let stamps = Stamping {
                hardware: hardware.as_ref().map(|(scale, _)| *scale),
                software: matches!(self.options.stamps, Stamps::Best | Stamps::Software),
            };
            let busy_poll = self.options.busy_poll.is_some();
            let (socket, shared) = (socket.clone(), self.shared.clone());
            let mut rx = XdpRx::new(socket, shared, frames, rx, rings.fill, stamps, busy_poll);
            if let Some((_, Some(phc))) = hardware {
                rx.watch(phc);
            }
            port.rx.push(rx);
        }
        if let Some(tx) = rings.tx {
            let frames = port.pool.cache();
            let stamps = self.options.tx_stamps.then(|| match self.phc {
                Some(phc) if zero_copy => TxClock::of_phc(phc),
                _ => TxClock::of_kernel(),
            });
            let shared = self.shared.clone();
            let max_len = self.mtu + ETHERNET;
            let tx = XdpTx::new(socket, shared, frames, tx, rings.completion, max_len, stamps)?;
            port.tx.push(tx);
        }
        Ok(())
    }
}

fn wanted_queues(interface: &Interface, options: &Options) -> Result<BTreeSet<u32>, SetupError> {
    let wrong = |what: String| SetupError::new(ErrorKind::BadArgument, "open", what);
    if !options.ring_slots.is_power_of_two() || !(64..=32768).contains(&options.ring_slots) {
        return Err(wrong(format!("rings of {} slots", options.ring_slots))
            .remedy("use a power of two from 64 to 32768"));
    }
    let there = interface.rx_queues()?;
    let queues: BTreeSet<u32> = match &options.queues {
        // Sending takes one queue; more only help several threads.
        Queues::All if options.direction == Direction::Tx => BTreeSet::from([0]),
        Queues::All => (0..there).collect(),
        Queues::List(list) => list.iter().copied().collect(),
    };
    match queues.last() {
        None => Err(wrong("no queue".to_owned()).remedy("name at least one: ?queue=0")),
        Some(last) if *last >= there.min(256) => {
            let name = interface.name();
            Err(wrong(format!("queue {last}, and {name} has {there} receive queues")).remedy(
                format!(
                    "use 0 to {}, or change their number: ethtool -L {name}",
                    there.min(256) - 1
                ),
            ))
        }
        Some(_) => Ok(queues),
    }
}

/// Room for what the rings hold, and some more for buffers that the application keeps.
fn own_pool(name: &str, options: &Options, queues: usize, mtu: usize) -> Result<Pool, SetupError> {
    let halves = match options.direction {
        Direction::Both => 3,
        Direction::Rx => 2,
        Direction::Tx => 1,
    };
    let frames = queues as u64 * halves * u64::from(options.ring_slots) + 1024;
    let frames = u32::try_from(frames).unwrap_or(u32::MAX);
    let frame_bytes = if mtu + ETHERNET + XDP_PACKET_HEADROOM > 2048 { 4096 } else { 2048 };
    let numa = options.numa.clone().unwrap_or_else(|| Numa::OfInterface(name.to_owned()));
    Pool::builder().frames(frames).frame_bytes(frame_bytes).huge(options.huge).numa(numa).build()
}

fn no_hardware_time(driver: &str, notices: &[String]) -> SetupError {
    let why = notices.iter().find(|n| n.contains("hardware receive time"));
    let what = match why {
        Some(why) => why.clone(),
        None => format!("the driver {driver} has no PTP clock, or the program is in generic mode"),
    };
    SetupError::new(ErrorKind::Unsupported, "open", what)
        .remedy("use ?stamps=best, which falls back to software stamps and flags them as such")
}

impl Port {
    /// Which mode it came to: [`ZeroCopy`](Mode::ZeroCopy), [`Native`](Mode::Native) or
    /// [`Generic`](Mode::Generic).
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What could not be had as asked, and why.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The pool of all its queues. Give it to a second port to forward without a copy.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The halves of each queue in order of queues: of each direction that was asked for as many
    /// as there are queues.
    #[must_use]
    pub fn into_parts(self) -> (Vec<XdpRx>, Vec<XdpTx>) {
        (self.rx, self.tx)
    }

    /// Both halves of a port with one queue and both directions; any other comes back.
    ///
    /// # Errors
    ///
    /// The port has several queues, or one direction only.
    pub fn split(mut self) -> Result<(XdpRx, XdpTx), Box<Self>> {
        match (self.rx.len(), self.tx.len(), self.rx.pop(), self.tx.pop()) {
            (1, 1, Some(rx), Some(tx)) => Ok((rx, tx)),
            (_, _, rx, tx) => {
                self.rx.extend(rx);
                self.tx.extend(tx);
                Err(Box::new(self))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use linerate_common::pool::Huge;
    use linerate_common::{FrameRx, FrameTx, RxFlags};
    use linerate_lab::lab_or_skip;

    use super::*;

    /// veth has no clock, but its driver answers the program's question for the receive time, with
    /// nothing: what can be tried of hardware stamps without a card.
    #[test]
    fn a_program_bound_to_the_device_runs_and_software_stamps_fill_in() {
        let lab = lab_or_skip!();
        let options = Options {
            huge: Huge::Never,
            ring_slots: 64,
            flows: vec!["ether:0x88b5".parse().unwrap()],
            ..Options::default()
        };
        let mut tx = lab.in_a(|| open("v0", &options).unwrap().split().unwrap()).1;
        let port = lab.in_b(|| open_port("v1", &options, |_| Some(99)).unwrap());
        if let Some(why) = port.notices().iter().find(|n| n.contains("hardware receive time")) {
            return linerate_lab::skip("a_program_bound_to_the_device", why);
        }
        let mut rx = port.split().unwrap().0;
        assert!(rx.clock_is_hardware());
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        // More than there are buffers.
        for i in 0..200u8 {
            frame[14] = i;
            assert!(tx.send(&frame).unwrap());
            tx.kick().unwrap();
            let mut seen = None;
            let start = std::time::Instant::now();
            while rx.poll(1, |f| seen = Some((f.bytes.to_vec(), f.meta))).unwrap() == 0 {
                assert!(start.elapsed().as_secs() < 20, "frame {i} does not come");
            }
            let (bytes, meta) = seen.unwrap();
            assert_eq!(bytes, frame);
            assert_eq!(meta.flags, RxFlags::TS_SW);
            assert_ne!(meta.mark, 0, "the metadata is there");
            tx.reap();
        }
    }
}
