//! The seam to the backends: one file each that turns a URI and a request into queues.

mod pcap;

use linerate_common::FlowSpec;

use crate::any::{AnyRx, AnyTx};
use crate::backend::Backend;
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::uri::Uri;

/// What a program asks of a port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) flows: Vec<FlowSpec>,
    pub(crate) promiscuous: bool,
    pub(crate) direction: Direction,
}

/// The queues of a freshly opened port.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) rx: Vec<AnyRx>,
    pub(crate) tx: Option<AnyTx>,
    pub(crate) notices: Vec<String>,
    /// The interface on which to join the multicast groups among the flows. `None` where there
    /// is none (a file) or where the queues join themselves.
    pub(crate) join_on: Option<String>,
}

/// Opens the port through the backend that its URI names.
pub(crate) fn open(backend: Backend, uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    match backend {
        Backend::Pcap => pcap::open(uri, request),
        other if !other.compiled() => {
            let name = other.name();
            let detail = format!("this build has no {name}: add the cargo feature {name:?}");
            Err(OpenError::uri(&uri.text, detail))
        }
        other => Err(OpenError::uri(&uri.text, format!("{other} is not there yet"))),
    }
}

/// Does this backend serve cards of that driver at all?
pub(crate) fn fits_driver(backend: Backend, interface: &Interface) -> Result<(), String> {
    let (drivers, maker): (&[&str], _) = match backend {
        Backend::Efvi => (&["sfc", "sfc_ef100", "efct"], "Solarflare or AMD"),
        Backend::Verbs => (&["mlx5_core", "mlx4_en", "mlx4_core"], "Mellanox or NVIDIA"),
        Backend::Exanic => (&["exanic"], "ExaNIC"),
        _ => return Ok(()),
    };
    match interface.driver.as_deref() {
        Some(driver) if drivers.contains(&driver) => Ok(()),
        Some(driver) => Err(format!("driver {driver}: not a {maker} card")),
        None => Err(format!("not a {maker} card")),
    }
}

/// Would it work here? `Ok` with a remark, `Err` with the reason why not. Opens nothing that
/// anyone could notice.
pub(crate) fn survey(backend: Backend, interface: &Interface) -> Result<String, String> {
    if !interface.up {
        return Err(format!("the interface is down: ip link set {} up", interface.name));
    }
    Err(format!("{backend} is not there yet"))
}
