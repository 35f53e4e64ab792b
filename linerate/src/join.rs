//! Joins the groups among a port's flows.

use std::collections::BTreeMap;

use linerate_common::{FlowSpec, Membership, SetupError};

use crate::interface;

/// One membership for the interface itself and one for each VLAN interface on it. A group on a
/// VLAN must be joined by a tagged report, which only that VLAN's own interface sends.
pub(crate) fn join(
    interface: &str,
    flows: &[FlowSpec],
    notices: &mut Vec<String>,
) -> Result<Vec<Membership>, SetupError> {
    let mut by_vlan = BTreeMap::new();
    for flow in flows {
        if let Some(group) = flow.multicast() {
            by_vlan.entry(flow.vlan).or_insert_with(Vec::new).push(group);
        }
    }
    let mut memberships = Vec::new();
    for (vlan, groups) in by_vlan {
        let name = match vlan {
            None => interface.to_owned(),
            Some(vid) => format!("{interface}.{vid}"),
        };
        if vlan.is_some() && interface::named(&name).is_none() {
            notices.push(format!(
                "{} groups on {name} are not joined: there is no such interface \
                 (ip link add link {interface} name {name} type vlan id {})",
                groups.len(),
                vlan.unwrap_or_default(),
            ));
            continue;
        }
        let membership = Membership::new(name.as_str())?;
        membership.join_all(groups)?;
        memberships.push(membership);
    }
    Ok(memberships)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(text: &str) -> FlowSpec {
        text.parse().expect("a flow")
    }

    /// The groups that the kernel says the interface has joined.
    fn joined(interface: &str) -> String {
        // Of this thread: /proc/net is the namespace of the process's first one.
        let path = "/proc/thread-self/net/igmp";
        let list = std::fs::read_to_string(path).expect("IGMP state");
        let mut ours = false;
        let lines = list.lines().filter(|line| {
            if !line.starts_with('\t') {
                ours = line.split_whitespace().nth(1) == Some(interface);
            }
            ours
        });
        lines.collect()
    }

    #[test]
    fn groups_are_joined_on_the_interface_and_on_its_vlans() {
        let lab = linerate_lab::lab_or_skip!();
        // By its name alone: not every kernel has VLAN interfaces.
        lab.ip_a(&["link", "add", "v0.905", "type", "veth", "peer", "name", "w0"]).unwrap();
        lab.ip_a(&["addr", "add", "10.98.0.1/24", "dev", "v0.905"]).unwrap();
        lab.ip_a(&["link", "set", "v0.905", "up"]).unwrap();
        let flows = [
            flow("239.1.1.1:5000"),
            flow("10.0.0.7,232.1.1.2:5000"),
            flow("vlan:905,239.1.1.3:5000"),
            flow("vlan:7,239.1.1.4:5000"),
            flow("udp:10.0.0.1:80"),
        ];
        lab.in_a(|| {
            let mut notices = Vec::new();
            let memberships = join("v0", &flows, &mut notices).unwrap();
            assert_eq!(memberships.len(), 2);
            let (plain, tagged) = (joined("v0"), joined("v0.905"));
            // /proc/net/igmp shows addresses as little-endian words.
            assert!(plain.contains("010101EF") && plain.contains("020101E8"), "{plain}");
            assert!(tagged.contains("030101EF") && !tagged.contains("010101EF"), "{tagged}");
            assert_eq!(notices.len(), 1);
            assert!(notices[0].starts_with("1 groups on v0.7 are not joined"), "{notices:?}");
            drop(memberships);
            assert!(!joined("v0").contains("010101EF"));
        });
    }
}
