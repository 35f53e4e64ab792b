//! Flows as the card's filters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use libc::c_int;
use linerate_common::{FlowKind, FlowSpec, Proto, RuleId, SetupError};
use linerate_efvi_sys::{EF_FILTER_VLAN_ID_ANY, Library, ef_filter_cookie, ef_filter_spec};

use crate::error::{bad_argument, checked, unsupported};
use crate::options::{Everything, Options};
use crate::session::Session;

const OP: &str = "ef_vi_filter_add";

const SUPPORTED: &str = "ef_vi selects UDP or TCP to an address and port, 5-tuples, MAC \
    addresses, ethertypes, each also on one VLAN, and all frames";

/// The rules of one queue.
#[derive(Debug)]
pub(crate) struct Rules {
    installed: Vec<Rule>,
    next: u32,
    flags: u32,
    everything: Everything,
}

#[derive(Debug)]
struct Rule {
    id: RuleId,
    flow: FlowSpec,
    cookies: Vec<ef_filter_cookie>,
}

impl Rules {
    pub(crate) fn new(options: &Options) -> Self {
        let (flags, everything) = (options.filter_flags(), options.everything);
        Self { installed: Vec::new(), next: 0, flags, everything }
    }

    /// Installs what `flow` takes, all of it or nothing.
    pub(crate) fn add(
        &mut self,
        session: &mut Session,
        flow: &FlowSpec,
    ) -> Result<RuleId, SetupError> {
        let cookies = self.install(session, flow).map_err(|e| e.on(session.port()))?;
        let id = RuleId(self.next);
        self.next += 1;
        self.installed.push(Rule { id, flow: *flow, cookies });
        Ok(id)
    }

    fn install(
        &self,
        session: &mut Session,
        flow: &FlowSpec,
    ) -> Result<Vec<ef_filter_cookie>, SetupError> {
        if session.is_in_cluster() {
            // The library would say yes and do nothing.
            return Err(unsupported(
                OP,
                "the queue belongs to a cluster, which has its own filters",
            )
            .remedy("give the flows to the cluster daemon, or name the interface itself"));
        }
        let mut cookies = Vec::new();
        for spec in specs(session.lib(), flow, self.flags, self.everything)? {
            match session.add_filter(&spec) {
                Ok(cookie) => cookies.push(cookie),
                Err(e) => {
                    for cookie in cookies {
                        // One that cannot be deleted stays until the queue closes.
                        let _ = session.remove_filter(cookie);
                    }
                    return Err(e);
                }
            }
        }
        Ok(cookies)
    }

    /// Removes a rule.
    pub(crate) fn remove(&mut self, session: &mut Session, id: RuleId) -> Result<(), SetupError> {
        self.uninstall(session, id).map_err(|e| e.on(session.port()))
    }

    fn uninstall(&mut self, session: &mut Session, id: RuleId) -> Result<(), SetupError> {
        let at = self.installed.iter().position(|r| r.id == id);
        let at = at.ok_or_else(|| bad_argument("ef_vi_filter_del", "there is no such rule"))?;
        let rule = &self.installed[at];
        // The driver gives all special kinds the id -1 and then cannot find them by it. Only
        // sniffing can be taken back.
        if rule.cookies.iter().any(|c| c.filter_id < 0) && !is_sniff(rule) {
            let what = "the driver cannot remove this kind of filter from an open queue";
            return Err(unsupported("ef_vi_filter_del", what).remedy("close the queue"));
        }
        // What the driver does not give back stays a rule, to be removed again.
        let cookies = &mut self.installed[at].cookies;
        while let Some(cookie) = cookies.last() {
            session.remove_filter(*cookie)?;
            cookies.pop();
        }
        self.installed.swap_remove(at);
        Ok(())
    }

    /// The flows that are in place.
    pub(crate) fn flows(&self) -> impl Iterator<Item = FlowSpec> + '_ {
        self.installed.iter().map(|r| r.flow)
    }
}

fn is_sniff(rule: &Rule) -> bool {
    rule.cookies.len() == 1 && rule.flow.kind == FlowKind::All
}

/// The filters that together are `flow`.
fn specs(
    lib: Library,
    flow: &FlowSpec,
    flags: u32,
    everything: Everything,
) -> Result<Vec<ef_filter_spec>, SetupError> {
    let mut spec = Spec::new(lib, flags);
    match flow.kind {
        FlowKind::All => return all(lib, flow.vlan, flags, everything),
        FlowKind::Group { group, source: None, port: Some(port) } => {
            spec.to(Proto::Udp, SocketAddr::new(group, port))?;
        }
        FlowKind::Group { source: Some(_), .. } => {
            return Err(unsupported(OP, format!("no filter by source alone; {SUPPORTED}")).remedy(
                "steer the group without its source, join it with the source, and check the \
                 source in the program (FlowSpec::matches)",
            ));
        }
        FlowKind::Group { .. } => {
            return Err(unsupported(
                OP,
                format!("no filter on a group with any port; {SUPPORTED}"),
            )
            .remedy("name the port, or steer the group's MAC address (mac:01:00:5e:…)"));
        }
        FlowKind::To { proto, dst } => spec.to(proto, dst)?,
        FlowKind::Between { proto, dst, src } => spec.between(proto, dst, src)?,
        FlowKind::Mac(mac) => {
            spec.mac(mac, flow.vlan)?;
            return Ok(vec![spec.spec]);
        }
        FlowKind::EtherType(kind) => spec.ethertype(kind)?,
        _ => return Err(unsupported(OP, SUPPORTED)),
    }
    if let Some(vid) = flow.vlan {
        spec.vlan(vid)?;
    }
    Ok(vec![spec.spec])
}

/// The filters that take everything.
fn all(
    lib: Library,
    vlan: Option<u16>,
    flags: u32,
    everything: Everything,
) -> Result<Vec<ef_filter_spec>, SetupError> {
    if vlan.is_some() {
        return Err(unsupported(OP, format!("no filter on a whole VLAN; {SUPPORTED}"))
            .remedy("name the flows on the VLAN, or take all frames and check the tag"));
    }
    let made = |set: fn(&mut Spec) -> Result<(), SetupError>| {
        let mut spec = Spec::new(lib, flags);
        set(&mut spec).map(|()| spec.spec)
    };
    match everything {
        Everything::Sniff => Ok(vec![made(|s| s.sniff())?]),
        Everything::Take => Ok(vec![made(|s| s.unicast_all())?, made(|s| s.multicast_all())?]),
        Everything::Rest => Ok(vec![made(|s| s.unicast_rest())?, made(|s| s.multicast_rest())?]),
    }
}

/// A filter under construction.
struct Spec {
    lib: Library,
    spec: ef_filter_spec,
}

/// One of the library's setters that take nothing but the spec.
macro_rules! plain_setters {
    ($($name:ident = $set:ident),+ $(,)?) => {$(
        fn $name(&mut self) -> Result<(), SetupError> {
            // SAFETY: our own spec.
            let rc = unsafe { (self.lib.$set)(&mut self.spec) };
            checked(concat!("ef_", stringify!($set)), rc).map(drop)
        }
    )+};
}

impl Spec {
    fn new(lib: Library, flags: u32) -> Self {
        let mut spec = ef_filter_spec::default();
        // SAFETY: our own spec.
        unsafe { (lib.filter_spec_init)(&mut spec, flags) };
        Self { lib, spec }
    }

    plain_setters! {
        unicast_all = filter_spec_set_unicast_all,
        multicast_all = filter_spec_set_multicast_all,
        unicast_rest = filter_spec_set_unicast_mismatch,
        multicast_rest = filter_spec_set_multicast_mismatch,
    }

    fn sniff(&mut self) -> Result<(), SetupError> {
        // SAFETY: our own spec. 1: promiscuous.
        let rc = unsafe { (self.lib.filter_spec_set_port_sniff)(&mut self.spec, 1) };
        checked("ef_filter_spec_set_port_sniff", rc).map(drop)
    }

    fn to(&mut self, proto: Proto, dst: SocketAddr) -> Result<(), SetupError> {
        let port = be16(dst.port());
        // SAFETY: our own spec, and addresses that outlive the call.
        let rc = unsafe {
            match dst.ip() {
                IpAddr::V4(ip) => {
                    let set = self.lib.filter_spec_set_ip4_local;
                    set(&mut self.spec, number(proto), be32(ip), port)
                }
                IpAddr::V6(ip) => {
                    let host = libc::in6_addr { s6_addr: ip.octets() };
                    let set = self.lib.filter_spec_set_ip6_local;
                    set(&mut self.spec, number(proto), &host, port)
                }
            }
        };
        checked("ef_filter_spec_set_ip_local", rc).map(drop)
    }

    fn between(
        &mut self,
        proto: Proto,
        dst: SocketAddr,
        src: SocketAddr,
    ) -> Result<(), SetupError> {
        const OP: &str = "ef_filter_spec_set_ip_full";
        // The library would quietly make a 3-tuple of it.
        if src.ip().is_unspecified() || src.port() == 0 {
            return Err(bad_argument(OP, "a 5-tuple needs the remote address and port"));
        }
        let (port, remote) = (be16(dst.port()), be16(src.port()));
        // SAFETY: our own spec, and addresses that outlive the call.
        let rc = unsafe {
            match (dst.ip(), src.ip()) {
                (IpAddr::V4(dst), IpAddr::V4(src)) => {
                    let set = self.lib.filter_spec_set_ip4_full;
                    set(&mut self.spec, number(proto), be32(dst), port, be32(src), remote)
                }
                (IpAddr::V6(dst), IpAddr::V6(src)) => {
                    let dst = libc::in6_addr { s6_addr: dst.octets() };
                    let src = libc::in6_addr { s6_addr: src.octets() };
                    let set = self.lib.filter_spec_set_ip6_full;
                    set(&mut self.spec, number(proto), &dst, port, &src, remote)
                }
                _ => return Err(bad_argument(OP, "one address is IPv4, the other IPv6")),
            }
        };
        checked(OP, rc).map(drop)
    }

    fn mac(&mut self, mac: [u8; 6], vlan: Option<u16>) -> Result<(), SetupError> {
        let vid = vlan.map_or(EF_FILTER_VLAN_ID_ANY, c_int::from);
        // SAFETY: our own spec and six bytes.
        let rc = unsafe {
            (self.lib.filter_spec_set_eth_local)(&mut self.spec, vid, mac.as_ptr().cast())
        };
        checked("ef_filter_spec_set_eth_local", rc).map(drop)
    }

    fn ethertype(&mut self, kind: u16) -> Result<(), SetupError> {
        // SAFETY: our own spec.
        let rc = unsafe { (self.lib.filter_spec_set_eth_type)(&mut self.spec, kind.to_be()) };
        checked("ef_filter_spec_set_eth_type", rc).map(drop)
    }

    fn vlan(&mut self, vid: u16) -> Result<(), SetupError> {
        // SAFETY: our own spec.
        let rc = unsafe { (self.lib.filter_spec_set_vlan)(&mut self.spec, vid.into()) };
        checked("ef_filter_spec_set_vlan", rc).map(drop)
    }
}

fn number(proto: Proto) -> c_int {
    match proto {
        Proto::Udp => libc::IPPROTO_UDP,
        Proto::Tcp => libc::IPPROTO_TCP,
    }
}

/// The address as its bytes lie in memory.
fn be32(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

/// The port as its bytes lie in memory.
fn be16(port: u16) -> c_int {
    c_int::from(port.to_be())
}
