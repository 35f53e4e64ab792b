//! Opening a port: an interface's receive queue and its send queue, each a VI of its own.
//!
//! A VI, its rings and its event queue belong to one thread. Two VIs have nothing in common, so
//! the halves of a port can go to two threads.

use linerate_common::SetupError;
use linerate_common::pool::{Numa, Pool};
use linerate_efvi_sys as sys;
use linerate_efvi_sys::Library;

use crate::caps::Caps;
use crate::error::{bad_argument, no_sdk, unsupported};
use crate::options::{Options, SendPath};
use crate::ring_rx::RingRx;
use crate::rx::EfviRx;
use crate::session::{Arch, Session, ViRequest};
use crate::set::SetHandle;
use crate::shared_rx::SharedRx;
use crate::tx::{EfviTx, vi_flags};

/// Variables of the environment that change libciul's mind behind the program's back.
const ENVIRONMENT: [&str; 9] = [
    "EF_VI_PD_FLAGS",
    "EF_VI_EXTRA_VI_FLAGS",
    "EF_VI_EVQ_SIZE",
    "EF_VI_RXQ_SIZE",
    "EF_VI_TXQ_SIZE",
    "EF_VI_EVQ_CLEAR_STRIDE",
    "EF_VI_CTPIO_MODE",
    "EF_VI_CTPIO_WB_TICKS",
    "EF_VI_COMPAT_MODE",
];

/// An open interface.
#[derive(Debug)]
pub struct Port {
    rx: EfviRx,
    tx: EfviTx,
    notices: Vec<String>,
}

impl Port {
    /// The two queues, for two threads or one.
    #[must_use]
    pub fn split(self) -> (EfviRx, EfviTx) {
        (self.rx, self.tx)
    }

    /// The receive queue alone; the send queue is closed.
    #[must_use]
    pub fn into_rx(self) -> EfviRx {
        self.rx
    }

    /// The send queue alone; the receive queue is closed.
    #[must_use]
    pub fn into_tx(self) -> EfviTx {
        self.tx
    }

    /// The receive queue.
    pub fn rx(&mut self) -> &mut EfviRx {
        &mut self.rx
    }

    /// The send queue.
    pub fn tx(&mut self) -> &mut EfviTx {
        &mut self.tx
    }

    /// What could not be had as asked, and what of the environment has a say.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What the card and the library are.
    ///
    /// # Errors
    ///
    /// The driver does not tell.
    pub fn info(&self) -> Result<PortInfo, SetupError> {
        info(self.rx.session())
    }
}

/// What is known about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// The interface's MAC address.
    pub mac: [u8; 6],
    /// Longest frame without check sequence, in bytes.
    pub max_frame: usize,
    /// What the card can do.
    pub caps: Caps,
    /// `ef_vi_version_str`.
    pub version: String,
    /// `ef_vi_driver_interface_str`: which driver interface the library was made for.
    pub driver_interface: String,
    /// `EF_VI_ARCH_*`, variant and revision of the card.
    pub nic: (u8, char, u8),
}

fn info(session: &Session) -> Result<PortInfo, SetupError> {
    let (version, driver_interface) = session.versions();
    // SAFETY: a live VI.
    let nic = unsafe { session.lib().nic_type(session.vi()) };
    Ok(PortInfo {
        mac: session.mac()?,
        max_frame: session.max_frame(),
        caps: session.caps(),
        version,
        driver_interface,
        nic: (nic.arch, char::from(nic.variant as u8), nic.revision),
    })
}

/// Opens a receive and a send queue on `interface`, the physical one of a Solarflare or AMD card.
///
/// No frame arrives before a flow is added ([`Steer::add`](linerate_common::Steer::add)).
///
/// # Errors
///
/// No SDK in this build, no driver, no rights, no free VI, no memory: each with its remedy.
pub fn open(interface: &str, options: &Options) -> Result<Port, SetupError> {
    named(interface, || {
        let pool = pool(interface, options)?;
        let options = Options { pool: Some(pool.clone()), ..options.clone() };
        let mut notices = pool.notices().to_vec();
        let rx = receive_queue(interface, &options, &mut notices)?;
        let tx = send_queue(interface, &options)?;
        for var in ENVIRONMENT {
            if let Ok(value) = std::env::var(var) {
                notices.push(format!("{var}={value} in the environment changes what ef_vi does"));
            }
        }
        Ok(Port { rx, tx, notices })
    })
}

/// Opens a receive queue alone.
///
/// # Errors
///
/// As [`open`].
pub fn open_rx(interface: &str, options: &Options) -> Result<EfviRx, SetupError> {
    named(interface, || receive_queue(interface, options, &mut Vec::new()))
}

/// Opens a send queue alone.
///
/// # Errors
///
/// As [`open`].
pub fn open_tx(interface: &str, options: &Options) -> Result<EfviTx, SetupError> {
    named(interface, || send_queue(interface, options))
}

/// Opens `queues` receive queues that share flows: the card spreads frames over them by a hash of
/// their addresses and ports, so that one conversation stays on one queue. A thread each. A flow
/// added to any of them is added for all.
///
/// # Errors
///
/// As [`open`], and cards of the X3 kind have no sets.
pub fn open_set(
    interface: &str,
    queues: usize,
    options: &Options,
) -> Result<Vec<EfviRx>, SetupError> {
    named(interface, || {
        let options = Options { pool: Some(pool(interface, options)?), ..options.clone() };
        let set = SetHandle::new(session(interface, &options)?, queues)?;
        (0..queues)
            .map(|_| {
                let mut session = session(interface, &options)?;
                let caps = session.caps();
                session.allocate_from(&set, rx_request(&options, &caps)?)?;
                ready(session, &options, &caps)
            })
            .collect()
    })
}

fn named<T>(
    interface: &str,
    open: impl FnOnce() -> Result<T, SetupError>,
) -> Result<T, SetupError> {
    open().map_err(|e| e.on(format!("efvi:{interface}")))
}

fn session(interface: &str, options: &Options) -> Result<Session, SetupError> {
    check_environment()?;
    let library = match options.library {
        Some(library) => library,
        None => Library::linked().map_err(no_sdk)?,
    };
    Session::open(library, interface, options.pd_flags())
}

/// libciul aborts the whole program over a value it does not know.
fn check_environment() -> Result<(), SetupError> {
    match std::env::var("EF_VI_CTPIO_MODE").as_deref() {
        Err(_) | Ok("fast" | "paced" | "in_order") => Ok(()),
        Ok(other) => Err(bad_argument("EF_VI_CTPIO_MODE", format!("`{other}` is no mode"))
            .remedy("unset EF_VI_CTPIO_MODE, or set it to fast, paced or in_order")),
    }
}

fn pool(interface: &str, options: &Options) -> Result<Pool, SetupError> {
    match &options.pool {
        Some(pool) => Ok(pool.clone()),
        None => Pool::builder()
            .frames(options.frames)
            .huge(options.huge)
            .numa(Numa::OfInterface(interface.into()))
            .build(),
    }
}

fn receive_queue(
    interface: &str,
    options: &Options,
    notices: &mut Vec<String>,
) -> Result<EfviRx, SetupError> {
    let mut session = session(interface, options)?;
    let caps = session.caps();
    if options.rx_timestamps && !caps.rx_timestamps {
        notices.push(format!("{interface}: the card takes no receive timestamps"));
    }
    if !caps.multicast_replication {
        notices.push(format!("{interface}: a multicast frame reaches only one queue of this host"));
    }
    session.allocate(rx_request(options, &caps)?)?;
    ready(session, options, &caps)
}

fn rx_request(options: &Options, caps: &Caps) -> Result<ViRequest, SetupError> {
    let mut flags = 0;
    if options.rx_timestamps && caps.rx_timestamps {
        flags |= sys::EF_VI_RX_TIMESTAMPS;
    }
    if options.merge_events {
        if !caps.rx_merge {
            return Err(unsupported("ef_vi_alloc_from_pd", "the card does not merge events"));
        }
        flags |= sys::EF_VI_RX_EVENT_MERGE;
    }
    let rxq = ring("receive", options.rx_ring, caps.rx_rings)?;
    Ok(ViRequest { rxq, txq: 0, evq: -1, flags })
}

/// Makes a queue of a session with a VI.
fn ready(session: Session, options: &Options, caps: &Caps) -> Result<EfviRx, SetupError> {
    match session.arch()? {
        Arch::Ring => {
            let pool = pool(session.name(), options)?;
            check_pages(&pool, caps)?;
            RingRx::new(session, &pool, options).map(EfviRx::Ring)
        }
        Arch::Shared => Ok(EfviRx::Shared(SharedRx::new(session, options))),
    }
}

fn send_queue(interface: &str, options: &Options) -> Result<EfviTx, SetupError> {
    let mut session = session(interface, options)?;
    let caps = session.caps();
    if options.tx_timestamps && options.alternatives > 0 {
        let what = "alternatives and send timestamps exclude each other";
        return Err(unsupported("ef_vi_alloc_from_pd", what));
    }
    if options.alternatives > 0 && !caps.alternatives {
        return Err(unsupported("ef_vi_transmit_alt_alloc", "the card has no alternatives"));
    }
    let wanted = matches!(options.path, SendPath::Auto | SendPath::Ctpio);
    let ctpio = wanted && caps.ctpio && !caps.ctpio_only && options.alternatives == 0;
    let txq = ring("send", options.tx_ring, caps.tx_rings)?;
    let flags = vi_flags(options, ctpio);
    session.allocate(ViRequest { rxq: 0, txq, evq: -1, flags })?;
    let pool = pool(interface, options)?;
    check_pages(&pool, &caps)?;
    EfviTx::new(session, &pool, options)
}

/// Recent cards map hugepages only.
fn check_pages(pool: &Pool, caps: &Caps) -> Result<(), SetupError> {
    if caps.min_page_bytes <= pool.region().page_size().bytes() as u64 {
        return Ok(());
    }
    let what = format!("the card takes memory on pages of {} B only", caps.min_page_bytes);
    Err(unsupported("ef_memreg_alloc", what)
        .remedy("reserve hugepages: echo 512 > /proc/sys/vm/nr_hugepages"))
}

/// The slots as the library takes them.
fn ring(which: &str, slots: u32, sizes: u64) -> Result<i32, SetupError> {
    let fits = slots.is_power_of_two() && (sizes == 0 || sizes & u64::from(slots) != 0);
    match i32::try_from(slots) {
        Ok(slots) if fits => Ok(slots),
        _ => {
            let known: Vec<_> = (0..31)
                .filter(|bit| sizes == 0 || sizes >> bit & 1 == 1)
                .map(|bit| (1_u32 << bit).to_string())
                .filter(|_| sizes != 0)
                .collect();
            let known = if known.is_empty() { "powers of two".into() } else { known.join(", ") };
            let what = format!("{slots} slots for the {which} ring; the card has {known}");
            Err(bad_argument("ef_vi_alloc_from_pd", what))
        }
    }
}
