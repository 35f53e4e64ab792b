//! Opening a port: options, readers, senders.

use std::sync::Arc;

use linerate_common::clock::{now_ns, ticks_to_ns};
use linerate_common::{FlowKind, FlowSpec, SetupError, Steer};
use linerate_exanic_sys::Api;

use crate::cut_through::CutThrough;
use crate::device::{self, Device, PortStatus};
use crate::error;
use crate::hash::{self, HashOver};
use crate::preload::Preloaded;
use crate::promiscuous::Promiscuous;
use crate::reader::Reader;
use crate::rx::ExanicRx;
use crate::tx::ExanicTx;

/// Which ring a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RxBuffer {
    /// An unused filter buffer when flows are asked for, else the default ring.
    #[default]
    Auto,
    /// The port's default ring: every frame that no rule steers away. The kernel driver reads it
    /// too, so the kernel sees these frames as well.
    Default,
    /// Filter buffer `n`, from 1.
    Filter(u32),
    /// A filter buffer that nobody uses.
    Unused,
}

/// What becomes of frames with a wrong check sequence, aborted frames and frames that are too
/// long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BadFrames {
    /// They are counted, each under its name.
    #[default]
    Count,
    /// They are delivered with `BAD` or `TRUNCATED`, with what came of them.
    Deliver,
}

/// How a port is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Flows to steer to the reader. Empty, or [`FlowSpec::ALL`] alone: everything, from the
    /// default ring.
    pub flows: Vec<FlowSpec>,
    /// Which ring to read.
    pub buffer: RxBuffer,
    /// Leave the four bytes of the frame check sequence at the end of frames.
    pub keep_fcs: bool,
    /// Deliver bad frames or count them.
    pub bad_frames: BadFrames,
    /// Longest frame that is received, without check sequence.
    pub max_frame_bytes: usize,
    /// Receive frames for every MAC address, as long as a reader of this port lives.
    pub promiscuous: bool,
    /// Transmit memory in bytes, a multiple of 4096. `None`: 32 KiB, or less where there is less.
    /// It decides how many frames may be in flight (one per 512 bytes) and the longest frame
    /// (half of it less 522).
    pub tx_buffer_bytes: Option<usize>,
    /// Take transmit timestamps where a frame goes out alone: see [`ExanicTx`].
    pub tx_stamps: bool,
    /// Seconds by which the card's clock leads UTC: 37 when ptp4l sets it to TAI, 0 when
    /// exanic-clock-sync sets it to the host's time.
    pub clock_lead_s: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            buffer: RxBuffer::Auto,
            keep_fcs: false,
            bad_frames: BadFrames::Count,
            max_frame_bytes: 9728,
            promiscuous: false,
            tx_buffer_bytes: None,
            tx_stamps: false,
            clock_lead_s: 0,
        }
    }
}

/// A port of an open card, from which readers and senders are made: as many as you like of each.
#[derive(Debug, Clone)]
pub struct Port {
    device: Arc<Device>,
    number: u32,
    options: Options,
    notices: Vec<String>,
}

/// Opens a port named as device and port (`"exanic0/0"`, `"exanic0:0"`) or by its network
/// interface (`"eth4"`).
///
/// # Errors
///
/// Built without libexanic, no such card, port or interface, or no right to open the card: each
/// with its remedy.
pub fn open(name: &str, options: &Options) -> Result<Port, SetupError> {
    device::linked()
        .and_then(|api| open_with(api, name, options))
        .map_err(|e| e.on(format!("exanic:{name}")))
}

/// [`open`] through another table: a simulated card's.
///
/// # Errors
///
/// As [`open`].
pub fn open_with(api: &'static Api, name: &str, options: &Options) -> Result<Port, SetupError> {
    let (device, number) = match name.split_once(['/', ':']) {
        Some((device, number)) => {
            let number = number.parse().map_err(|_| {
                error::argument("open", "the port is not a number")
                    .remedy("write DEVICE/PORT, as in exanic0/0, or an interface's name")
            })?;
            (device.to_owned(), number)
        }
        None => device::port_of_interface_with(api, name)?,
    };
    Port::of(&Device::open_with(api, &device)?, number, options)
}

impl Port {
    /// Port `number` of a card that is open already.
    ///
    /// # Errors
    ///
    /// The card has no such port.
    pub fn of(device: &Arc<Device>, number: u32, options: &Options) -> Result<Self, SetupError> {
        let status = device.status(number)?;
        let mut notices = Vec::new();
        if !status.link {
            notices.push("the link is down: nothing arrives until it is up".to_owned());
        }
        if !status.rx_time_ready {
            notices.push("the card says that its receive timestamps are not ready".to_owned());
        }
        match clock_error_s(device).map(|s| s - i64::from(options.clock_lead_s)) {
            None => notices.push("the card has no usable clock: no timestamps".to_owned()),
            Some(36..=38) => notices.push(
                "the card's clock is 37 s ahead of this host's: it seems to run on TAI \
                 (set clock_lead_s to 37)"
                    .to_owned(),
            ),
            Some(off) if off.abs() > 1 => notices.push(format!(
                "the card's clock is {off} s off this host's: set it, for example with \
                 exanic-clock-sync {}:host",
                device.name()
            )),
            Some(_) => {}
        }
        let device = Arc::clone(device);
        Ok(Self { device, number, options: options.clone(), notices })
    }

    /// The card.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The port's number on the card.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What a user should know: link, clock.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What the port says about itself now.
    ///
    /// # Errors
    ///
    /// Never, once the port is open.
    pub fn status(&self) -> Result<PortStatus, SetupError> {
        self.device.status(self.number)
    }

    /// A receive queue.
    ///
    /// # Errors
    ///
    /// The interface is down, filter buffers or rules are taken, or the card cannot steer a flow.
    pub fn rx(&self) -> Result<ExanicRx, SetupError> {
        self.named(|| {
            let mut rx = ExanicRx::new(self.reader()?, &self.options)?;
            for flow in self.steered() {
                rx.add(flow)?;
            }
            Ok(rx)
        })
    }

    /// A reader that shows chunks as they arrive, before the frame has ended.
    ///
    /// # Errors
    ///
    /// As [`rx`](Self::rx).
    pub fn cut_through(&self) -> Result<CutThrough, SetupError> {
        self.named(|| CutThrough::new(self.reader()?, self.steered(), &self.options))
    }

    /// Spreads TCP and UDP flows over `buffers` readers (a power of two; fewer come back when the
    /// card has fewer). Everything else stays in the default ring. Excludes steering on this port.
    /// Hashing ends with the last of the readers.
    ///
    /// # Errors
    ///
    /// The interface is down, the port's filter buffers are in use, or the number is no power of
    /// two.
    pub fn hashed(&self, buffers: usize, over: HashOver) -> Result<Vec<ExanicRx>, SetupError> {
        self.named(|| {
            let readers = hash::open(&self.device, self.number, buffers, over)?;
            readers.into_iter().map(|reader| ExanicRx::new(reader, &self.options)).collect()
        })
    }

    /// A transmit queue.
    ///
    /// # Errors
    ///
    /// The interface is down, or the port's transmit memory is taken.
    pub fn tx(&self) -> Result<ExanicTx, SetupError> {
        self.named(|| ExanicTx::new(&self.device, self.number, &self.options))
    }

    /// `slots` frames of up to `max_len` bytes, written into the card ahead of time and fired
    /// later with one store.
    ///
    /// # Errors
    ///
    /// The interface is down, the port's transmit memory is taken, or there are no slots.
    pub fn preloaded(&self, slots: usize, max_len: usize) -> Result<Preloaded, SetupError> {
        self.named(|| {
            let lead = self.options.clock_lead_s;
            Preloaded::new(&self.device, self.number, slots, max_len, lead)
        })
    }

    /// One receive and one transmit queue.
    ///
    /// # Errors
    ///
    /// As [`rx`](Self::rx) and [`tx`](Self::tx).
    pub fn split(&self) -> Result<(ExanicRx, ExanicTx), SetupError> {
        Ok((self.rx()?, self.tx()?))
    }

    fn steered(&self) -> &[FlowSpec] {
        match self.options.flows.as_slice() {
            [FlowSpec { kind: FlowKind::All, vlan: None }] => &[],
            flows => flows,
        }
    }

    fn reader(&self) -> Result<Reader, SetupError> {
        let reader = match self.options.buffer {
            RxBuffer::Auto if self.steered().is_empty() => {
                Reader::open(&self.device, self.number, 0)
            }
            RxBuffer::Default => Reader::open(&self.device, self.number, 0),
            RxBuffer::Auto | RxBuffer::Unused => Reader::open_unused(&self.device, self.number),
            RxBuffer::Filter(0) => Err(error::argument("open", "filter buffers count from 1")),
            RxBuffer::Filter(n) => Reader::open(&self.device, self.number, n),
        }?;
        if self.options.promiscuous {
            return Ok(reader.with(Promiscuous::on(&self.device, self.number)?));
        }
        Ok(reader)
    }

    fn named<T>(&self, f: impl FnOnce() -> Result<T, SetupError>) -> Result<T, SetupError> {
        f().map_err(|e| e.on(self.device.port_name(self.number)))
    }
}

/// Seconds by which the card's clock is ahead of this host's, to a second or two. `None`: it has
/// none.
pub(crate) fn clock_error_s(device: &Device) -> Option<i64> {
    let card = ticks_to_ns(device.exact_ticks()?, u64::from(device.tick_hz()))?;
    let apart = i128::from(card) - i128::from(now_ns());
    i64::try_from(apart / 1_000_000_000).ok()
}
