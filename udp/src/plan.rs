//! From flows to sockets: which groups and addresses must be open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use linerate_common::{ErrorKind, FlowKind, FlowSpec, Proto, SetupError};

/// What a set of flows asks of sockets, each thing once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Groups by port and address.
    pub(crate) groups: BTreeMap<(u16, IpAddr), Sources>,
    /// Addresses to bind, and whom to connect to.
    pub(crate) unicast: BTreeSet<(SocketAddr, Option<SocketAddr>)>,
}

/// Whose datagrams to a group are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    Any,
    Only(BTreeSet<IpAddr>),
}

impl Plan {
    /// The union of some flows. A flow that another one covers adds nothing, so that no datagram
    /// is delivered twice.
    ///
    /// # Errors
    ///
    /// A flow that sockets cannot select.
    pub(crate) fn of<'a>(
        flows: impl IntoIterator<Item = &'a FlowSpec>,
    ) -> Result<Self, SetupError> {
        let mut plan = Self::default();
        for flow in flows {
            plan.add(flow)?;
        }
        // A connection to an address that is open to everybody is covered.
        let open: BTreeSet<_> =
            plan.unicast.iter().filter(|(_, src)| src.is_none()).map(|(dst, _)| *dst).collect();
        plan.unicast.retain(|(dst, src)| src.is_none() || !open.contains(dst));
        Ok(plan)
    }

    fn add(&mut self, flow: &FlowSpec) -> Result<(), SetupError> {
        flow.check().map_err(|e| SetupError::new(ErrorKind::BadArgument, "flow", e.to_string()))?;
        if flow.vlan.is_some() {
            return Err(unsupported(flow, "open the VLAN's own interface, such as udp:eth2.905"));
        }
        match flow.kind {
            FlowKind::Group { group, source, port: Some(port) } => {
                let sources = self
                    .groups
                    .entry((port, group))
                    .or_insert_with(|| Sources::Only(BTreeSet::new()));
                match (source, sources) {
                    (None, sources) => *sources = Sources::Any,
                    (Some(_), Sources::Any) => {}
                    (Some(source), Sources::Only(set)) => {
                        set.insert(source);
                    }
                }
                Ok(())
            }
            FlowKind::To { proto: Proto::Udp, dst } => {
                self.unicast.insert((dst, None));
                Ok(())
            }
            FlowKind::Between { proto: Proto::Udp, dst, src } => {
                self.unicast.insert((dst, Some(src)));
                Ok(())
            }
            _ => Err(unsupported(flow, "use afpacket: or a card's own backend for other flows")),
        }
    }
}

fn unsupported(flow: &FlowSpec, remedy: &'static str) -> SetupError {
    let detail = format!(
        "sockets cannot select {flow}; they can: GROUP:PORT, SOURCE,GROUP:PORT, \
         udp:ADDRESS:PORT, udp:ADDRESS:PORT,FROM:PORT"
    );
    SetupError::new(ErrorKind::Unsupported, "flow", detail).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(flows: &[&str]) -> Result<Plan, SetupError> {
        let flows: Vec<FlowSpec> = flows.iter().map(|f| f.parse().unwrap()).collect();
        Plan::of(&flows)
    }

    #[test]
    fn a_flow_that_another_covers_adds_nothing() {
        let any = plan(&["239.1.1.1:5000"]).unwrap();
        assert_eq!(plan(&["10.0.0.7,239.1.1.1:5000", "239.1.1.1:5000"]).unwrap(), any);
        assert_eq!(plan(&["239.1.1.1:5000", "10.0.0.7,239.1.1.1:5000"]).unwrap(), any);

        let open = plan(&["udp:10.0.0.1:80"]).unwrap();
        assert_eq!(plan(&["udp:10.0.0.1:80,10.0.0.2:81", "udp:10.0.0.1:80"]).unwrap(), open);
    }

    #[test]
    fn sources_of_a_group_add_up() {
        let plan = plan(&["10.0.0.7,239.1.1.1:1", "10.0.0.8,239.1.1.1:1", "10.0.0.7,239.1.1.1:2"]);
        let plan = plan.unwrap();
        let sources = |port| match &plan.groups[&(port, "239.1.1.1".parse().unwrap())] {
            Sources::Any => panic!("any source"),
            Sources::Only(set) => set.len(),
        };
        assert_eq!((sources(1), sources(2)), (2, 1));
    }

    #[test]
    fn what_sockets_cannot_select_names_what_they_can() {
        for flow in ["all", "mac:01:00:5e:01:01:01", "ether:0x88cc", "239.1.1.1", "tcp:10.0.0.1:80"]
        {
            let e = plan(&[flow]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{flow}");
            assert!(e.to_string().contains("SOURCE,GROUP:PORT"), "{e}");
        }
        let e = plan(&["vlan:905,239.1.1.1:5000"]).unwrap_err();
        assert!(e.to_string().contains("udp:eth2.905"), "{e}");
    }
}
