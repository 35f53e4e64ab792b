//! Flows as text.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::{FlowKind, FlowSpec, Proto};
use crate::packet::is_vlan_tpid;

/// A flow that could not be understood: which text, and what was expected.
///
/// Displays as one line with an example of the right form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseFlowError {
    text: String,
    expected: Cow<'static, str>,
}

impl ParseFlowError {
    fn new(text: &str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.chars().take(80).collect(), expected: expected.into() }
    }

    /// The text that was not understood, cut after 80 characters.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ParseFlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {:?}: {}", self.text, self.expected)
    }
}

impl std::error::Error for ParseFlowError {}

/// Most groups that one `+N` names.
const MAX_LIST: u32 = 4096;

const FORMS: &str = "expected all, GROUP:PORT, SOURCE,GROUP:PORT, udp:ADDR:PORT, tcp:ADDR:PORT, \
                     vlan:ID, mac:ADDR or ether:0xTYPE, for example 239.1.1.1:5000";

impl FromStr for FlowSpec {
    type Err = ParseFlowError;

    fn from_str(text: &str) -> Result<Self, ParseFlowError> {
        let mut flows = Self::parse_list(text)?;
        match flows.pop() {
            Some(flow) if flows.is_empty() => Ok(flow),
            _ => Err(ParseFlowError::new(
                text,
                "names several groups where one flow is expected, for example 239.1.1.1:5000",
            )),
        }
    }
}

impl FlowSpec {
    /// Reads one flow, or with `+N` at the end of a group the flows to N consecutive groups:
    /// `239.1.1.1:5000+4` is 239.1.1.1 to 239.1.1.4, all on port 5000. N is 1 to 4096.
    ///
    /// ```
    /// # use linerate_common::FlowSpec;
    /// let flows = FlowSpec::parse_list("10.0.0.7,239.1.1.254:5000+3")?;
    /// assert_eq!(flows[2].to_string(), "10.0.0.7,239.1.2.0:5000");
    /// # Ok::<(), linerate_common::ParseFlowError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The text is no flow: the error says what was expected.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ParseFlowError> {
        let fail = |expected: &'static str| ParseFlowError::new(text, expected);
        let flow = text.trim();
        let (flow, vlan) = match strip_keyword(flow, "vlan:") {
            None => (flow, None),
            Some(rest) => {
                let (vid, rest) = rest.split_once(',').unwrap_or((rest, "all"));
                let vid = number(vid)
                    .ok_or_else(|| fail("expected a VLAN id of 0 to 4094, for example vlan:905"))?;
                (rest, Some(vid))
            }
        };
        let (flow, count) = match flow.split_once('+') {
            None => (flow, 1),
            Some((flow, count)) => match number(count) {
                Some(n @ 1..=MAX_LIST) => (flow, n),
                _ => return Err(fail("+N takes 1 to 4096 groups, for example 239.1.1.1:5000+16")),
            },
        };
        let first =
            Self { kind: parse_kind(flow).map_err(|e| ParseFlowError::new(text, e))?, vlan };
        first.check().map_err(|e| ParseFlowError::new(text, e.expected))?;
        if count == 1 {
            return Ok(vec![first]);
        }
        let FlowKind::Group { group, source, port } = first.kind else {
            return Err(fail("+N goes with a multicast group only, as in 239.1.1.1:5000+16"));
        };
        (0..count)
            .map(|n| {
                let group = nth_address(group, n)
                    .filter(IpAddr::is_multicast)
                    .ok_or_else(|| fail("+N runs past the last multicast address; lower N"))?;
                Ok(Self { kind: FlowKind::Group { group, source, port }, vlan })
            })
            .collect()
    }

    /// Is the flow possible at all? Text always gives one that is; a flow put together by hand
    /// may not be, and would silently match nothing.
    ///
    /// # Errors
    ///
    /// The VLAN id is over 4094, a group is no multicast address, a source is no unicast address,
    /// the two are of different families, a port is 0, TCP goes to a group, or an ethertype is a
    /// length or a VLAN tag's.
    pub fn check(&self) -> Result<(), ParseFlowError> {
        self.fault().map_or(Ok(()), |fault| Err(ParseFlowError::new(&self.to_string(), fault)))
    }

    fn fault(&self) -> Option<String> {
        if let Some(vid) = self.vlan.filter(|vid| *vid > 4094) {
            return Some(format!("{vid} is no VLAN id; it goes from 0 to 4094, as in vlan:905"));
        }
        match self.kind {
            FlowKind::All | FlowKind::Mac(_) => None,
            FlowKind::Group { group, source, port } => {
                if !group.is_multicast() {
                    return Some(not_a_group(group));
                }
                source.and_then(|s| source_fault(s, group)).or_else(|| port_fault(port?))
            }
            FlowKind::To { proto, dst } => dst_fault(proto, dst),
            FlowKind::Between { proto, dst, src } => dst_fault(proto, dst)
                .or_else(|| source_fault(src.ip(), dst.ip()))
                .or_else(|| port_fault(src.port())),
            FlowKind::EtherType(t) if is_vlan_tpid(t) => {
                Some(format!("0x{t:04x} is a VLAN tag; write vlan:ID, for example vlan:905"))
            }
            FlowKind::EtherType(t) if t < 0x0600 => Some(format!(
                "0x{t:04x} is a length, not an ethertype; it starts at 0x0600, as in ether:0x88cc"
            )),
            FlowKind::EtherType(_) => None,
        }
    }
}

fn not_a_group(a: IpAddr) -> String {
    let at = SocketAddr::new(a, 5000);
    format!("{a} is no multicast group; to receive from a unicast address write udp:{at}")
}

fn source_fault(source: IpAddr, dst: IpAddr) -> Option<String> {
    if source.is_ipv4() != dst.is_ipv4() {
        return Some(format!(
            "{source} and {dst} are not of one family; use IPv4 or IPv6 for both"
        ));
    }
    let broadcast = source == IpAddr::V4(Ipv4Addr::BROADCAST);
    (source.is_multicast() || source.is_unspecified() || broadcast).then(|| {
        format!(
            "{source} cannot be a source; write a unicast address, as in 10.0.0.7,239.1.1.1:5000"
        )
    })
}

fn dst_fault(proto: Proto, dst: SocketAddr) -> Option<String> {
    let ip = dst.ip();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() {
        return Some(format!("{ip} is no destination; write an address, as in udp:10.0.0.1:5000"));
    }
    if proto == Proto::Tcp && (ip.is_multicast() || broadcast) {
        return Some(format!("TCP goes to one host, not to {ip}; write udp:{dst}"));
    }
    port_fault(dst.port())
}

fn port_fault(port: u16) -> Option<String> {
    (port == 0).then(|| "a port is 1 to 65535, as in 239.1.1.1:5000".to_owned())
}

fn parse_kind(text: &str) -> Result<FlowKind, Cow<'static, str>> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(FlowKind::All);
    }
    if let Some(mac) = strip_keyword(text, "mac:") {
        let mac = parse_mac(mac);
        return mac.map(FlowKind::Mac).ok_or_else(|| {
            "expected six bytes in hexadecimal, for example mac:01:00:5e:01:01:01".into()
        });
    }
    if let Some(ethertype) = strip_keyword(text, "ether:") {
        let digits = strip_keyword(ethertype, "0x").filter(|d| d.len() <= 4);
        return digits.and_then(hexadecimal).map(FlowKind::EtherType).ok_or_else(|| {
            "expected an ethertype in hexadecimal, for example ether:0x88cc".into()
        });
    }
    if strip_keyword(text, "vlan:").is_some() {
        return Err("a flow is on one VLAN, as in vlan:905,239.1.1.1:5000".into());
    }
    let (proto, endpoints) = match (strip_keyword(text, "udp:"), strip_keyword(text, "tcp:")) {
        (Some(rest), _) => (Some(Proto::Udp), rest),
        (_, Some(rest)) => (Some(Proto::Tcp), rest),
        _ => (None, text),
    };
    match endpoints.split_once(',') {
        None => one_endpoint(proto, parse_endpoint(endpoints)?),
        Some((first, second)) => {
            two_endpoints(proto, parse_endpoint(first)?, parse_endpoint(second)?)
        }
    }
}

fn one_endpoint(proto: Option<Proto>, (ip, port): Endpoint) -> Result<FlowKind, Cow<'static, str>> {
    match (proto, port) {
        (None | Some(Proto::Udp), _) if ip.is_multicast() => {
            Ok(FlowKind::Group { group: ip, source: None, port })
        }
        (None, _) => Err(not_a_group(ip).into()),
        (Some(proto), Some(port)) => Ok(FlowKind::To { proto, dst: SocketAddr::new(ip, port) }),
        (Some(proto), None) => {
            let at = SocketAddr::new(ip, 5000);
            Err(format!("{ip} has no port; write {}:{at}", proto.name()).into())
        }
    }
}

/// `SOURCE,GROUP[:PORT]`, or `DST:PORT,SRC:PORT` behind `udp:` or `tcp:`.
fn two_endpoints(
    proto: Option<Proto>,
    (first, first_port): Endpoint,
    (second, second_port): Endpoint,
) -> Result<FlowKind, Cow<'static, str>> {
    match (proto, first_port, second_port) {
        (None | Some(Proto::Udp), None, port) if second.is_multicast() => {
            Ok(FlowKind::Group { group: second, source: Some(first), port })
        }
        (Some(proto), Some(dst), Some(src)) => Ok(FlowKind::Between {
            proto,
            dst: SocketAddr::new(first, dst),
            src: SocketAddr::new(second, src),
        }),
        (None, None, _) => Err(format!(
            "{second} is no multicast group; expected SOURCE,GROUP:PORT, as in 10.0.0.7,239.1.1.1:5000"
        )
        .into()),
        (None, Some(_), _) => Err("expected SOURCE,GROUP:PORT with no port on the source, or udp: or tcp: \
             in front of DST:PORT,SRC:PORT, as in udp:10.0.0.1:5000,10.0.0.2:4001"
            .into()),
        (Some(proto), ..) => Err(format!(
            "both ends need a port, as in {}:10.0.0.1:5000,10.0.0.2:4001",
            proto.name()
        )
        .into()),
    }
}

type Endpoint = (IpAddr, Option<u16>);

/// `1.2.3.4`, `1.2.3.4:5`, `fe80::1`, `[fe80::1]` or `[fe80::1]:5`.
fn parse_endpoint(text: &str) -> Result<Endpoint, Cow<'static, str>> {
    if let Ok(ip) = text.parse() {
        return Ok((ip, None));
    }
    let port = |text: &str| match number(text) {
        Some(port @ 1..) => Ok(Some(port)),
        _ => Err("a port is 1 to 65535, as in 239.1.1.1:5000"),
    };
    if let Some((v6, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        let ip = v6.parse().map(IpAddr::V6).map_err(|_| FORMS)?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((ip, port(text)?)),
            None if rest.is_empty() => Ok((ip, None)),
            None => Err(FORMS.into()),
        };
    }
    let (ip, text) = text.split_once(':').ok_or(FORMS)?;
    let ip = ip.parse().map(IpAddr::V4).map_err(|_| FORMS)?;
    Ok((ip, port(text)?))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2)?;
        *byte = u8::try_from(hexadecimal(part)?).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Digits only: `str::parse` would take a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn hexadecimal(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u16::from_str_radix(text, 16).ok())?
}

fn strip_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let head = text.get(..keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| &text[keyword.len()..])
}

fn nth_address(first: IpAddr, n: u32) -> Option<IpAddr> {
    Some(match first {
        IpAddr::V4(a) => IpAddr::V4(a.to_bits().checked_add(n)?.into()),
        IpAddr::V6(a) => IpAddr::V6(a.to_bits().checked_add(n.into())?.into()),
    })
}

impl Proto {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text that reads back as the same flow.
impl fmt::Display for FlowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(vid) = self.vlan {
            write!(f, "vlan:{vid}")?;
            if self.kind == FlowKind::All {
                return Ok(());
            }
            f.write_str(",")?;
        }
        match self.kind {
            FlowKind::All => f.write_str("all"),
            FlowKind::Group { group, source, port } => {
                if let Some(source) = source {
                    write!(f, "{source},")?;
                }
                match port {
                    Some(port) => write!(f, "{}", SocketAddr::new(group, port)),
                    None => write!(f, "{group}"),
                }
            }
            FlowKind::To { proto, dst } => write!(f, "{proto}:{dst}"),
            FlowKind::Between { proto, dst, src } => write!(f, "{proto}:{dst},{src}"),
            FlowKind::Mac([a, b, c, d, e, g]) => {
                write!(f, "mac:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            FlowKind::EtherType(t) => write!(f, "ether:0x{t:04x}"),
        }
    }
}

#[cfg(test)]
mod tests;
