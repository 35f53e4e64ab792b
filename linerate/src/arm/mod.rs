//! The seam to the backends: one file each that turns a URI and a request into queues.

#[cfg(feature = "afpacket")]
mod afpacket;
#[cfg(feature = "afxdp")]
mod afxdp;
#[cfg(feature = "efvi")]
mod efvi;
#[cfg(feature = "exanic")]
mod exanic;
mod pcap;
#[cfg(feature = "sim")]
mod sim;
#[cfg(feature = "udp")]
mod udp;
#[cfg(feature = "verbs")]
mod verbs;

use std::any::Any;

use linerate_common::FlowSpec;
use linerate_common::pool::Pool;

use crate::any::{AnyRx, AnyTx};
use crate::backend::Backend;
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::preload::Preloaded;
use crate::uri::Uri;

/// What a program asks of a port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) flows: Vec<FlowSpec>,
    pub(crate) promiscuous: bool,
    pub(crate) low_latency: bool,
    pub(crate) pool: Option<Pool>,
    pub(crate) direction: Direction,
    /// Slots for preloaded frames instead of a transmit queue, and their size in bytes.
    pub(crate) preload: Option<(usize, usize)>,
}

/// The queues of a freshly opened port.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) rx: Vec<AnyRx>,
    pub(crate) tx: Option<AnyTx>,
    /// In place of `tx`, where the backend has slots of its own.
    pub(crate) preloaded: Option<Preloaded>,
    pub(crate) notices: Vec<String>,
    /// Where its buffers come from, if the backend works with a pool.
    pub(crate) pool: Option<Pool>,
    /// The interface on which to join the multicast groups among the flows. `None` where there
    /// is none (a file) or where the queues join themselves.
    pub(crate) join_on: Option<String>,
    /// What a simulated card's cable loses before the card sees it.
    #[cfg(feature = "sim")]
    pub(crate) cable: Option<linerate_sim::Losses>,
    /// What must live as long as the queues.
    pub(crate) keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Request {
    /// The flows asked for; all frames when there are none, or when some flow is "all" anyway.
    fn flows_or_all(&self) -> Vec<FlowSpec> {
        if self.wants_all() { vec![FlowSpec::ALL] } else { self.flows.clone() }
    }

    /// Is every frame asked for?
    pub(crate) fn wants_all(&self) -> bool {
        self.flows.is_empty() || self.flows.contains(&FlowSpec::ALL)
    }
}

impl Opened {
    /// Keeps the queues of the direction that was asked for; the others close.
    fn take(&mut self, direction: Direction, rx: impl IntoIterator<Item = AnyRx>, tx: AnyTx) {
        if direction != Direction::Tx {
            self.rx.extend(rx);
        }
        if direction != Direction::Rx {
            self.tx = Some(tx);
        }
    }
}

/// Opens the port through the backend that its URI names.
pub(crate) fn open(backend: Backend, uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    match backend {
        Backend::Pcap => pcap::open(uri, request),
        #[cfg(feature = "afpacket")]
        Backend::Afpacket => afpacket::open(uri, request),
        #[cfg(feature = "udp")]
        Backend::Udp => udp::open(uri, request),
        #[cfg(feature = "afxdp")]
        Backend::Afxdp => afxdp::open(uri, request),
        #[cfg(feature = "efvi")]
        Backend::Efvi => efvi::open(uri, request),
        #[cfg(feature = "verbs")]
        Backend::Verbs => verbs::open(uri, request),
        #[cfg(feature = "exanic")]
        Backend::Exanic => exanic::open(uri, request),
        #[cfg(feature = "sim")]
        Backend::Sim => sim::open(uri, request),
        #[allow(unreachable_patterns, reason = "reached where a feature is off")]
        absent => {
            let name = absent.name();
            let detail = format!("this build has no {name}: add the cargo feature {name:?}");
            Err(OpenError::uri(&uri.text, detail))
        }
    }
}

/// Does this backend serve cards of that driver at all?
pub(crate) fn fits_driver(backend: Backend, interface: &Interface) -> Result<(), String> {
    let (drivers, maker): (&[&str], _) = match backend {
        Backend::Efvi => (&["sfc", "sfc_ef100", "xilinx_efct", "efct"], "Solarflare or AMD"),
        Backend::Verbs => {
            (&["mlx5_core", "mlx4_en", "mlx4_core", "mana"], "Mellanox, NVIDIA or mana")
        }
        Backend::Exanic => (&["exanic"], "ExaNIC"),
        _ => return Ok(()),
    };
    match interface.driver.as_deref() {
        Some(driver) if drivers.contains(&driver) => Ok(()),
        Some(driver) => Err(format!("driver {driver}: no {maker} card")),
        None => Err(format!("no {maker} card")),
    }
}

/// Would it work here? `Ok` with a remark, `Err` with the reason why not. Opens nothing that
/// anyone could notice.
pub(crate) fn survey(backend: Backend, interface: &Interface) -> Result<String, String> {
    if !interface.up {
        return Err(format!("the interface is down: ip link set {} up", interface.name));
    }
    match backend {
        #[cfg(feature = "afpacket")]
        Backend::Afpacket => afpacket::survey(interface),
        #[cfg(feature = "udp")]
        Backend::Udp => udp::survey(interface),
        #[cfg(feature = "afxdp")]
        Backend::Afxdp => afxdp::survey(interface),
        #[cfg(feature = "efvi")]
        Backend::Efvi => efvi::survey(interface),
        #[cfg(feature = "verbs")]
        Backend::Verbs => verbs::survey(interface),
        #[cfg(feature = "exanic")]
        Backend::Exanic => exanic::survey(interface),
        // A file and a simulated card are no interfaces; the others are not compiled in.
        other => Err(format!("{other} does not serve interfaces in this build")),
    }
}

#[cfg(all(test, feature = "full"))]
mod tests {
    use super::*;
    use crate::uri::OptionDoc;

    /// The sections of the page on ports, by backend.
    fn section<'a>(page: &'a str, backend: &str) -> &'a str {
        let start = page.find(&format!("### {backend}:")).expect("every backend has its section");
        let rest = &page[start + 4..];
        &rest[..rest.find("### ").unwrap_or(rest.len())]
    }

    const ALL: [(&str, &[OptionDoc]); 7] = [
        ("afpacket", afpacket::OPTIONS),
        ("udp", udp::OPTIONS),
        ("afxdp", afxdp::OPTIONS),
        ("efvi", efvi::OPTIONS),
        ("verbs", verbs::OPTIONS),
        ("exanic", exanic::OPTIONS),
        ("sim", sim::OPTIONS),
    ];

    #[test]
    fn every_option_takes_what_its_message_says() {
        let open = |uri: &str| open_by_text(uri).map(drop);
        for (backend, options) in ALL {
            // No such interface or card: the options are read before that comes out.
            let target = if backend == "sim" { "efvi" } else { "no-such-port" };
            for option in options {
                let good = match option.name {
                    "queue" => "0..3",
                    "clock_lead_s" => "37",
                    _ => option.values.split([' ', ',']).next().unwrap_or_default(),
                };
                let uri = format!("{backend}:{target}?{}={good}", option.name);
                assert!(!matches!(open(&uri), Err(OpenError::Uri { .. })), "{uri}");
                if option.name == "cable" || option.name == "peer" {
                    continue; // Any name will do.
                }
                let uri = format!("{backend}:{target}?{}=nonsense", option.name);
                let e = open(&uri).expect_err("nonsense is refused").to_string();
                assert!(e.ends_with(&format!("it takes {}", option.values)), "{e}");
            }
        }
    }

    fn open_by_text(text: &str) -> Result<Opened, OpenError> {
        let uri = Uri::parse(text)?;
        let backend = uri.backend.expect("the text names one");
        open(backend, &uri, &Request::default())
    }

    #[test]
    fn the_page_on_ports_names_every_option() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ports.md");
        let Ok(page) = std::fs::read_to_string(path) else {
            return linerate_lab::skip("the_page_on_ports_names_every_option", "no docs here");
        };
        for (backend, options) in ALL {
            let section = section(&page, backend);
            for option in options {
                let name = format!("`{}`", option.name);
                assert!(section.contains(&name), "{backend} has {name}, the page does not");
            }
            // And no option that is gone: the first column holds nothing else.
            for row in section.lines().filter(|line| line.starts_with("| `")) {
                let column = row.split('|').nth(1).unwrap_or_default();
                for word in column.split('`').skip(1).step_by(2) {
                    assert!(options.iter().any(|o| o.name == word), "{backend}: no {word}");
                }
            }
        }
    }
}
