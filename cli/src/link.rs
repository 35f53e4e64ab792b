//! The network interface behind a port's name.

pub(crate) use linerate::Interface;

/// The interface that frames of this port pass, if there is one: its own, that of the RDMA or
/// ExaNIC port, or the one that a simulated card's cable ends in.
pub(crate) fn behind(uri: &str) -> Option<Interface> {
    let (backend, rest) = uri.split_once(':').unwrap_or(("", uri));
    let (target, options) = rest.split_once('?').unwrap_or((rest, ""));
    let name = match backend {
        "pcap" => return None,
        "sim" => options.split('&').find_map(|pair| pair.strip_prefix("peer="))?,
        _ => target,
    };
    let ports = linerate::ports();
    let named = ports.iter().position(|p| p.interface.name == name).or_else(|| {
        // Vendors' names of ports: where the interface's survey says the same one.
        ports.iter().position(|p| {
            p.backends.iter().any(|c| c.backend.name() == backend && c.reason == name)
        })
    });
    named.and_then(|at| ports.into_iter().nth(at)).map(|port| port.interface)
}

/// Is there a link on this interface now?
pub(crate) fn has_carrier(name: &str) -> bool {
    let ports = linerate::ports();
    ports.iter().any(|p| p.interface.name == name && p.interface.carrier)
}

#[cfg(test)]
mod tests {
    use super::behind;

    #[test]
    fn the_interface_is_found_behind_any_name() {
        for uri in ["lo", "udp:lo", "afpacket:lo?ring_mb=4", "sim:verbs?mode=steal&peer=lo"] {
            assert_eq!(behind(uri).map(|i| i.name).as_deref(), Some("lo"), "{uri}");
        }
        for uri in ["sim:verbs?peer=loop", "sim:efvi", "pcap:lo", "verbs:none/1"] {
            assert!(behind(uri).is_none(), "{uri}");
        }
    }
}
