//! Where the instruments meet: addresses, flows, and ports opened for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use linerate::loops::Strategy;
use linerate::{
    AnyRx, AnyTx, ErrorKind, FlowKind, FlowSpec, FrameTx, Interface, Port, PortGuard, Proto,
};

use crate::events;
use crate::failure::Failure;
use crate::format::plural;
use crate::json::Identity;
use crate::output::Output;
use crate::sizes::Sizes;

/// Says what the user should know about a freshly opened port.
pub(crate) fn tell(port: &Port, out: &Output) {
    for notice in port.notices() {
        out.notice(notice);
    }
    for candidate in port.choice() {
        out.detail(&format!("{}: {}: {}", candidate.backend, candidate.verdict, candidate.reason));
    }
}

/// Ends a port whose queues are done with. Says what was lost where no counter of the port sees it.
pub(crate) fn close(guard: PortGuard, out: &Output) -> u64 {
    let lost = guard.lost_in_cable();
    if lost > 0 {
        events::lost_in_cable(lost);
        out.notice(&format!(
            "{} lost in the cable of the simulated card: its socket was full, or its interface \
             down",
            plural(lost, "frame")
        ));
    }
    lost
}

/// The flow of datagrams to a group or an address.
pub(crate) fn flow_to(to: SocketAddr) -> Result<FlowSpec, Failure> {
    if to.port() == 0 {
        return Err(Failure::usage(format!("{to}: port 0 is no port")));
    }
    Ok(if to.ip().is_multicast() {
        FlowSpec::group(to.ip(), to.port())
    } else {
        FlowSpec::of(FlowKind::To { proto: Proto::Udp, dst: to })
    })
}

/// The groups that options name, each with its port. Without any, the one that all agree on.
pub(crate) fn groups(texts: &[String]) -> Result<Vec<FlowSpec>, Failure> {
    const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 7, 1)), 7001);
    if texts.is_empty() {
        return Ok(vec![flow_to(DEFAULT)?]);
    }
    let mut flows = Vec::new();
    for text in texts {
        let listed = FlowSpec::parse_list(text).map_err(Failure::usage)?;
        let named = |flow: &FlowSpec| destination(flow).is_some();
        if !listed.iter().all(named) {
            return Err(Failure::usage(format!("{text} is no group with a port"))
                .remedy("use -g 239.1.1.1:5000, or -g 239.1.1.1:5000+64 for several"));
        }
        flows.extend(listed);
    }
    Ok(flows)
}

/// Where the frames of a flow go, for flows that say so.
pub(crate) fn destination(flow: &FlowSpec) -> Option<SocketAddr> {
    match flow.kind {
        FlowKind::Group { group, port: Some(port), .. } => Some(SocketAddr::new(group, port)),
        FlowKind::To { proto: Proto::Udp, dst } => Some(dst),
        _ => None,
    }
}

/// The group after this one, same port.
pub(crate) fn next_group(group: SocketAddr) -> SocketAddr {
    let next: IpAddr = match group.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(1)).into(),
    };
    SocketAddr::new(next, group.port())
}

/// The interface that a port's name speaks of, if it is one of this machine.
pub(crate) fn interface_named(uri: &str) -> Option<Interface> {
    let target = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let (target, options) = target.split_once('?').unwrap_or((target, ""));
    let name = options.split('&').find_map(|option| option.strip_prefix("peer=")).unwrap_or(target);
    linerate::ports().into_iter().map(|info| info.interface).find(|i| i.name == name)
}

/// How to wait on these queues: as asked for, or adaptively where all of them can be slept on.
pub(crate) fn strategy(asked: Option<Strategy>, queues: &mut [AnyRx]) -> Strategy {
    let default = Strategy::adaptive();
    let fits = queues.iter_mut().all(|queue| default.check(queue).is_ok());
    asked.unwrap_or(if fits { default } else { Strategy::throughput() })
}

/// A port's transmit queue.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) tx: AnyTx,
    port: String,
}

/// The transmit queue, which not every port has.
pub(crate) fn sender(tx: Option<AnyTx>, identity: &Identity) -> Result<Sender, Failure> {
    let port = identity.port.clone();
    match tx {
        Some(tx) => Ok(Sender { tx, port }),
        None => Err(Failure::new(format!("{port} cannot send"))
            .remedy("list the ports that can: linerate ports")),
    }
}

impl Sender {
    /// Do frames of all sizes fit?
    pub(crate) fn check_sizes(&self, sizes: &Sizes) -> Result<(), Failure> {
        let max = self.tx.max_len();
        match sizes.bytes.iter().find(|size| **size > max) {
            Some(size) => Err(Failure::usage(format!(
                "{} sends frames of at most {max} bytes, not {size}",
                self.port
            ))
            .remedy("use shorter frames, or raise the MTU: ip link set DEV mtu 9000")),
            None => Ok(()),
        }
    }
}

/// Is this error the queue's way of saying "later"? What was committed stays queued.
pub(crate) fn is_back_pressure(e: linerate::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, OutOfMemory, WouldBlock};
    // ENOBUFS has no kind of its own.
    const ENOBUFS: i32 = 105;
    let kind = std::io::Error::from_raw_os_error(e.errno).kind();
    e.errno == ENOBUFS || (e.errno != 0 && matches!(kind, WouldBlock | Interrupted | OutOfMemory))
}

/// May this error pass while the run goes on? A link that is down may come back; frames that
/// are lost meanwhile are counted as such.
pub(crate) fn may_pass(e: linerate::Error) -> bool {
    is_back_pressure(e) || e.kind == ErrorKind::LinkDown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_ports() {
        assert_eq!(groups(&[]).unwrap().len(), 1);
        assert_eq!(groups(&["239.1.1.1:5000+3".into()]).unwrap().len(), 3);
        for text in ["239.1.1.1", "all", "tcp:10.0.0.1:80"] {
            assert!(groups(&[text.into()]).is_err(), "accepted: {text}");
        }
        assert!(flow_to("239.1.1.1:0".parse().unwrap()).is_err());
    }

    #[test]
    fn the_interface_of_a_simulated_card_is_its_peer() {
        for uri in ["lo", "udp:lo", "afpacket:lo?ring_mb=4", "sim:exanic?peer=lo"] {
            assert_eq!(interface_named(uri).map(|i| i.name).as_deref(), Some("lo"), "{uri}");
        }
        assert!(interface_named("sim:exanic?peer=loop").is_none());
    }
}
