//! How a port is opened.

use std::fmt;

use linerate_common::pool::{Huge, Pool};
use linerate_efvi_sys::{EF_VI_CTPIO_CT_THRESHOLD_SNF, Library};

/// How [`open`](crate::open) opens a port. Start from [`Default`] and change fields.
///
/// ```
/// use linerate_efvi::{Options, SendPath};
///
/// let mut options = Options::default();
/// options.merge_events = true; // throughput before latency
/// options.path = SendPath::Dma;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The pool that frames are received into and sent from. `None`: the port makes one of its
    /// own. Give two ports the same pool to pass frames between them without a copy.
    pub pool: Option<Pool>,
    /// Frames of a pool that the port makes.
    pub frames: u32,
    /// Page size of a pool that the port makes.
    pub huge: Huge,
    /// Receive ring slots: a power of two the card has, 512 to 4096.
    pub rx_ring: u32,
    /// Send ring slots: a power of two the card has, 512 to 2048.
    pub tx_ring: u32,
    /// Buffers handed to the card at a time, a multiple of 8 (EF10 rings its doorbell for full
    /// eights only). Small keeps the ring full, large saves doorbells.
    pub refill: u32,
    /// Hardware receive timestamps, where the card has them.
    pub rx_timestamps: bool,
    /// Hardware send timestamps; an error where the card has none.
    pub tx_timestamps: bool,
    /// Seconds by which the card's clock is ahead of UTC: 37 when it runs on TAI.
    pub clock_ahead_of_utc_s: i64,
    /// Let the card merge receive events: more frames a second, later each.
    pub merge_events: bool,
    /// Read the event queue only when it holds more events than this (or after 100 fruitless
    /// looks), so as not to fight the card for the cache line it writes. 0: always read. Not on
    /// X3 and X4, which cannot look ahead.
    pub look_ahead: u32,
    /// Deliver frames with a bad check sequence or checksum, flagged, instead of counting them.
    pub deliver_bad: bool,
    /// How to send.
    pub path: SendPath,
    /// Bytes of a frame that CTPIO gathers before the wire starts. The default waits for the
    /// whole frame; less is faster, and damages the frame if the CPU stalls in mid-write.
    pub ctpio_threshold: u32,
    /// Whether CTPIO may let a frame that was damaged that way out with a bad check sequence. If
    /// not, the card sends it again from memory.
    pub ctpio_poison: bool,
    /// When the card fetches send descriptors and when it is given them.
    pub push: Push,
    /// Transmit alternatives to take, 0 for none. Not with `tx_timestamps`.
    pub alternatives: u32,
    /// Bytes of frames that all alternatives together hold.
    pub alternatives_bytes: u32,
    /// What the flow "all" means.
    pub everything: Everything,
    /// Hear multicast that this host sends.
    pub multicast_loop: bool,
    /// The low-latency datapath of an X4 (9.1 and later).
    pub express: bool,
    /// X3 and X4: a receive queue of one's own (`Some(true)`), one shared with other programs
    /// (`Some(false)`), or what the card does by default.
    pub exclusive: Option<bool>,
    /// X4: interrupts for this queue's flows, needed to sleep on it (9.1 and later).
    pub wakeups: bool,
    /// The ef_vi implementation; `None`: the one that was linked. A simulator gives its own.
    pub library: Option<Library>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pool: None,
            frames: 4096,
            huge: Huge::Auto,
            rx_ring: 512,
            tx_ring: 512,
            refill: 16,
            rx_timestamps: true,
            tx_timestamps: false,
            clock_ahead_of_utc_s: 0,
            merge_events: false,
            look_ahead: 0,
            deliver_bad: false,
            path: SendPath::Auto,
            ctpio_threshold: EF_VI_CTPIO_CT_THRESHOLD_SNF,
            ctpio_poison: false,
            push: Push::Auto,
            alternatives: 0,
            alternatives_bytes: 32 * 1024,
            everything: Everything::Sniff,
            multicast_loop: false,
            express: false,
            exclusive: None,
            wakeups: false,
            library: None,
        }
    }
}

/// How frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SendPath {
    /// CTPIO where the card has it, else DMA.
    #[default]
    Auto,
    /// The card fetches the frame from memory. `commit` queues, `kick` sends.
    Dma,
    /// The CPU writes the frame through the card to the wire; `commit` sends. The card computes
    /// no checksum: fill them in. A frame that does not make it is sent by DMA.
    Ctpio,
    /// The CPU writes the frame into the card's memory; `commit` sends. Frames that do not fit
    /// go by DMA. SFN7000 to X2.
    Pio,
}

/// How send descriptors reach the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Push {
    /// Given to the card with the doorbell while the ring is nearly empty: the library's default.
    #[default]
    Auto,
    /// Always given with the doorbell: lowest latency.
    Always,
    /// Always fetched by the card: highest throughput.
    Never,
    /// Given while fewer than this many are in the ring.
    Below(u32),
}

/// What the flow "all" means to the card. All three need CAP_NET_ADMIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Everything {
    /// A copy of every frame; the kernel still gets its own. Can be taken back.
    #[default]
    Sniff,
    /// Every frame, taken away from the kernel: its connections over this interface end.
    Take,
    /// The frames that no other filter and no kernel stack wants.
    Rest,
}

impl fmt::Display for SendPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Dma => "dma",
            Self::Ctpio => "ctpio",
            Self::Pio => "pio",
        })
    }
}

impl Options {
    /// `EF_PD_*` for the protection domain.
    pub(crate) fn pd_flags(&self) -> u32 {
        use linerate_efvi_sys::{EF_PD_EXPRESS, EF_PD_MCAST_LOOP};
        u32::from(self.multicast_loop) * EF_PD_MCAST_LOOP + u32::from(self.express) * EF_PD_EXPRESS
    }

    /// `EF_FILTER_FLAG_*` for every filter.
    pub(crate) fn filter_flags(&self) -> u32 {
        use linerate_efvi_sys as sys;
        let mut flags = 0;
        if self.multicast_loop {
            flags |= sys::EF_FILTER_FLAG_MCAST_LOOP_RECEIVE;
        }
        match self.exclusive {
            Some(true) => flags |= sys::EF_FILTER_FLAG_EXCLUSIVE_RXQ,
            Some(false) => flags |= sys::EF_FILTER_FLAG_SHARED_RXQ,
            None => {}
        }
        if self.wakeups {
            flags |= sys::EF_FILTER_FLAG_REQUEST_WAKEUPS;
        }
        flags
    }
}
