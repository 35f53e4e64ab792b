//! How a port is to be opened.

use linerate_common::FlowSpec;

/// The shape of the receive ring: what is traded between latency and throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ring {
    /// TPACKET_V3: the kernel packs frames of any length into blocks and hands over a block when
    /// it is full or `retire_ms` old. Most frames per second, most frames per byte of memory,
    /// fewest wake-ups; but a frame waits up to `retire_ms` while its block fills.
    Blocks {
        /// Size of a block: a multiple of the page size. A frame longer than a block (less about
        /// 150 bytes) is truncated, which is why the default is 128 KiB.
        block_bytes: u32,
        /// How many there are.
        blocks: u32,
        /// Age in ms at which a block that is not full is handed over, at least 1, the smallest
        /// step the kernel has.
        retire_ms: u32,
    },
    /// TPACKET_V2: one slot for each frame, visible to the reader the moment the kernel has
    /// copied it. About a fifth fewer frames per second than blocks, but no waiting.
    Frames {
        /// Size of a slot: a power of two, 256 to 65,536. A longer frame (less about 80 bytes) is
        /// truncated.
        frame_bytes: u32,
        /// How many there are: together a multiple of 64 KiB.
        frames: u32,
    },
}

impl Ring {
    /// Blocks of 128 KiB, 32 MiB in all, handed over after 1 ms at the latest.
    pub const THROUGHPUT: Self = Self::Blocks { block_bytes: 128 << 10, blocks: 256, retire_ms: 1 };

    /// Slots of 2 KiB, 32 MiB in all.
    pub const LOW_LATENCY: Self = Self::Frames { frame_bytes: 2048, frames: 16_384 };
}

impl Default for Ring {
    fn default() -> Self {
        Self::THROUGHPUT
    }
}

/// How the kernel spreads frames over several receive queues (`PACKET_FANOUT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fanout {
    /// By the hash over addresses and ports: frames of one flow stay in order in one queue. All
    /// fragments of a datagram too: where one is a fragment, the addresses alone are hashed.
    #[default]
    Hash,
    /// One after the other, however they are related.
    LoadBalance,
    /// By the CPU on which the kernel received them.
    Cpu,
    /// By the card's receive queue.
    CardQueue,
}

/// Which clock stamps the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stamps {
    /// The kernel, in software, by `CLOCK_REALTIME`.
    #[default]
    Kernel,
    /// The card. Switches its receive stamps on for the whole interface (`SIOCSHWTSTAMP`, needs
    /// CAP_NET_ADMIN); opening fails where the driver has none. A frame that the card did not
    /// stamp carries the kernel's stamp and says so in its flags.
    Hardware,
}

/// How a port is opened. Start from `Options::default()` and set what differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Open receive queues? By default yes.
    pub receive: bool,
    /// Open a transmit queue? By default yes.
    pub transmit: bool,
    /// The flows to receive: by default all. An empty list receives nothing until a flow is
    /// added through [`Steer`](linerate_common::Steer).
    pub flows: Vec<FlowSpec>,
    /// Shape of the receive ring.
    pub ring: Ring,
    /// Longest part of a frame that is received, in bytes, at least 14: the rest is cut off and
    /// the frame is flagged. By default 256 KiB, which is any frame.
    pub snaplen: u32,
    /// Receive frames to other hosts too? The interface stays promiscuous as long as a queue of
    /// this port lives.
    pub promiscuous: bool,
    /// Receive all multicast frames, joined or not?
    pub all_multicast: bool,
    /// Receive the frames that this host sends too, flagged `OUTGOING`? (What this crate sends
    /// with `qdisc_bypass` never shows, not even then.)
    pub outgoing: bool,
    /// Which clock stamps the frames.
    pub stamps: Stamps,
    /// Number of receive queues, 1 by default.
    pub queues: u16,
    /// How frames are spread over more than one.
    pub fanout: Fanout,
    /// Slots of the transmit queue, 1 to 1,024, 256 by default: the largest group that one system
    /// call sends.
    pub tx_slots: u32,
    /// Hand frames straight to the driver, past the traffic control of the kernel
    /// (`PACKET_QDISC_BYPASS`)? By default yes.
    pub qdisc_bypass: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive: true,
            transmit: true,
            flows: vec![FlowSpec::ALL],
            ring: Ring::default(),
            snaplen: 256 << 10,
            promiscuous: false,
            all_multicast: false,
            outgoing: false,
            stamps: Stamps::default(),
            queues: 1,
            fanout: Fanout::default(),
            tx_slots: 256,
            qdisc_bypass: true,
        }
    }
}
