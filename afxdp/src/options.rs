//! How a port is wanted.

use linerate_common::FlowSpec;
use linerate_common::pool::{Huge, Numa, Pool};

/// How frames get from the card into the rings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The best that works here: zero-copy, native, generic. [`Port::mode`](crate::Port::mode)
    /// says which it is, and [`Port::notices`](crate::Port::notices) why no better one.
    #[default]
    Auto,
    /// The card writes into the pool itself.
    ZeroCopy,
    /// The driver runs the program and the kernel copies each frame into the pool.
    Native,
    /// The kernel runs the program after it has built its own packet buffer: works with every
    /// driver, about half as fast.
    Generic,
}

/// Which receive queues of the interface to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Queues {
    /// All of them. A card spreads flows over its queues, and a frame on a queue that is not
    /// open goes to the kernel. Should the interface get more queues later (`ethtool -L`),
    /// [`stats`](linerate_common::FrameRx::stats) notices, and receiving fails with
    /// [`QueueLost`](linerate_common::ErrorKind::QueueLost): open the port again.
    #[default]
    All,
    /// These.
    List(Vec<u32>),
}

/// Which directions to set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// Only receive.
    Rx,
    /// Only send: no program goes on the interface.
    Tx,
}

/// Who decides which frames come to the sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Steering {
    /// Our program, by rules. What no rule asks for stays with the kernel.
    #[default]
    Rules,
    /// A program of your own: put [`XdpRx::fd`](linerate_common::Waitable::fd) into its XSKMAP.
    QueueOnly,
}

/// Which receive time frames carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Stamps {
    /// The card's where driver and kernel offer it to XDP, otherwise software at poll.
    #[default]
    Best,
    /// Read once for each burst that is not empty, when it is polled (about 25 ns a burst).
    Software,
    /// The card's, or an error.
    Hardware,
    /// None.
    Off,
}

/// Busy polling: the program's own thread runs the driver, so that one core does both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long one call may poll the card when it finds nothing, in µs.
    pub micros: u32,
    /// Frames that the driver handles in one call, up to 64 without `CAP_NET_ADMIN`.
    pub budget: u16,
}

impl Default for BusyPoll {
    fn default() -> Self {
        Self { micros: 20, budget: 64 }
    }
}

/// How to open a port. Start from the default:
///
/// ```
/// use linerate_afxdp::{Mode, Options, Queues};
///
/// let mut options = Options::default();
/// options.queues = Queues::List(vec![0]);
/// options.mode = Mode::Native;
/// options.flows = vec!["239.1.1.1:5000".parse()?];
/// # Ok::<(), linerate_common::ParseFlowError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Receive queues; all unless told otherwise.
    pub queues: Queues,
    /// Zero-copy, native or generic.
    pub mode: Mode,
    /// Both directions unless told otherwise.
    pub direction: Direction,
    /// Flows to deliver from the start. **None by default: everything stays with the kernel**
    /// until a flow is asked for here or by [`Steer::add`](linerate_common::Steer::add).
    /// [`FlowSpec::ALL`] takes the whole interface away from the kernel, ssh included.
    pub flows: Vec<FlowSpec>,
    /// Who steers.
    pub steering: Steering,
    /// Take a foreign XDP program off the interface instead of refusing.
    pub replace: bool,
    /// Slots of each receive and each transmit ring, a power of two from 64 to 32768.
    pub ring_slots: u32,
    /// Frames of a pool of yours; shared between ports it allows forwarding without a copy.
    /// Without one the port makes its own.
    pub pool: Option<Pool>,
    /// Pages of the port's own pool.
    pub huge: Huge,
    /// NUMA node of the port's own pool; the interface's by default.
    pub numa: Option<Numa>,
    /// Let the driver sleep when there is nothing to do, and wake it when there is. Leave it on.
    pub need_wakeup: bool,
    /// Busy polling, off by default: plain spinning is faster when the card's interrupts run on
    /// another core.
    pub busy_poll: Option<BusyPoll>,
    /// Receive times.
    pub stamps: Stamps,
    /// Report when frames were sent ([`TxStamps`](linerate_common::TxStamps)), Linux 6.8 and
    /// newer.
    pub tx_stamps: bool,
    /// Put the id of the rule that delivered a frame into
    /// [`RxMeta::mark`](linerate_common::RxMeta::mark), some 10 ns a frame.
    pub marks: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: Queues::All,
            mode: Mode::Auto,
            direction: Direction::Both,
            flows: Vec::new(),
            steering: Steering::Rules,
            replace: false,
            ring_slots: 2048,
            pool: None,
            huge: Huge::Auto,
            numa: None,
            need_wakeup: true,
            busy_poll: None,
            stamps: Stamps::Best,
            tx_stamps: false,
            marks: false,
        }
    }
}
