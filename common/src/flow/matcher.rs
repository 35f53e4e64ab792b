//! The reference matcher: what every filter of every backend must agree with.

use std::net::{IpAddr, SocketAddr};

use super::{FlowKind, FlowSpec, Proto};
use crate::packet::{Headers, IPPROTO_TCP, IPPROTO_UDP};

impl Proto {
    /// The IP protocol number.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Udp => IPPROTO_UDP,
            Self::Tcp => IPPROTO_TCP,
        }
    }
}

impl FlowSpec {
    /// Does a frame (from its destination MAC address on) belong to the flow?
    ///
    /// This is the definition. A backend that steers in the card or in the kernel selects the
    /// same frames, or refuses the flow, or says in its docs where it differs.
    ///
    /// * **Fragments.** Only the first fragment of a datagram carries the ports. Later fragments
    ///   belong to flows without a port (`239.1.1.1`) and to no other.
    /// * **VLAN.** The outermost tag decides, whichever of its three tag protocols it has (0x8100,
    ///   0x88a8, 0x9100). Up to [`MAX_VLAN_TAGS`](crate::packet::MAX_VLAN_TAGS) tags are looked
    ///   through to find the ethertype. A flow without a VLAN takes tagged frames too.
    /// * **IPv6** extension headers (hop-by-hop, routing, destination options, fragment) are looked
    ///   through, at most [`MAX_IPV6_EXTENSIONS`](crate::packet::MAX_IPV6_EXTENSIONS).
    /// * **Groups** are UDP only: IGMP or PIM to the same address does not belong.
    /// * Lengths and checksums are not judged. What is cut off does not match.
    ///
    /// ```
    /// use linerate_common::{FlowSpec, packet::UdpTemplate};
    ///
    /// let flow: FlowSpec = "239.1.1.1:5000".parse()?;
    /// let mut buf = [0; 64];
    /// let template = UdpTemplate::new("10.0.0.1:9".parse()?, "239.1.1.1:5000".parse()?).unwrap();
    /// let len = template.write(&mut buf, b"tick").unwrap();
    /// assert!(flow.matches(&buf[..len]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        Headers::parse(frame).is_some_and(|headers| self.matches_headers(&headers))
    }

    /// [`matches`](Self::matches) for a frame whose headers have been read: the quick way to try
    /// many flows on one frame.
    #[must_use]
    pub fn matches_headers(&self, headers: &Headers) -> bool {
        if self.vlan.is_some() && self.vlan != headers.vlan {
            return false;
        }
        match self.kind {
            FlowKind::All => true,
            FlowKind::Group { group, source, port } => {
                headers.proto == Some(IPPROTO_UDP)
                    && to(headers, group)
                    && source.is_none_or(|source| from(headers, source))
                    && port.is_none_or(|port| headers.ports.is_some_and(|(_, dst)| dst == port))
            }
            FlowKind::To { proto, dst } => to_port(headers, proto, dst),
            FlowKind::Between { proto, dst, src } => {
                to_port(headers, proto, dst)
                    && from(headers, src.ip())
                    && headers.ports.is_some_and(|(port, _)| port == src.port())
            }
            FlowKind::Mac(mac) => headers.dst_mac == mac,
            FlowKind::EtherType(ethertype) => headers.ethertype == Some(ethertype),
        }
    }
}

fn to(headers: &Headers, address: IpAddr) -> bool {
    headers.addresses.is_some_and(|(_, dst)| dst == address)
}

fn from(headers: &Headers, address: IpAddr) -> bool {
    headers.addresses.is_some_and(|(src, _)| src == address)
}

fn to_port(headers: &Headers, proto: Proto, dst: SocketAddr) -> bool {
    headers.proto == Some(proto.number())
        && to(headers, dst.ip())
        && headers.ports.is_some_and(|(_, port)| port == dst.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::UdpTemplate;

    fn flow(text: &str) -> FlowSpec {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    fn frame(src: &str, dst: &str, vlan_tci: Option<u16>) -> Vec<u8> {
        let mut template = UdpTemplate::new(src.parse().unwrap(), dst.parse().unwrap()).unwrap();
        template.vlan_tci = vlan_tci;
        let mut buf = vec![0; 200];
        let len = template.write(&mut buf, b"payload").unwrap();
        buf.truncate(len);
        buf
    }

    /// Which of the flows take the frame, as a string of 0 and 1.
    fn verdicts(flows: &[&str], frame: &[u8]) -> String {
        flows.iter().map(|f| if flow(f).matches(frame) { '1' } else { '0' }).collect()
    }

    #[test]
    fn each_form_takes_its_own_frames_only() {
        let f = frame("10.0.0.7:4001", "239.1.1.1:5000", None);
        let yes = [
            "all",
            "239.1.1.1:5000",
            "239.1.1.1",
            "10.0.0.7,239.1.1.1:5000",
            "udp:239.1.1.1:5000,10.0.0.7:4001",
            "mac:01:00:5e:01:01:01",
            "ether:0x0800",
        ];
        assert_eq!(verdicts(&yes, &f), "1111111");
        let no = [
            "239.1.1.1:5001",
            "239.1.1.2:5000",
            "239.129.1.1",
            "10.0.0.8,239.1.1.1:5000",
            "udp:239.1.1.1:5000,10.0.0.7:4002",
            "udp:239.1.1.1:5000,10.0.0.8:4001",
            "mac:01:00:5e:01:01:02",
            "ether:0x86dd",
            "vlan:0",
            "vlan:905,239.1.1.1:5000",
        ];
        assert_eq!(verdicts(&no, &f), "0000000000");
        let f = frame("[fe80::7]:4001", "[ff02::1]:5000", None);
        let flows = ["[ff02::1]:5000", "fe80::7,ff02::1", "fe80::8,ff02::1", "ether:0x86dd"];
        assert_eq!(verdicts(&flows, &f), "1101");
        let mut tcp = frame("10.0.0.7:4001", "10.0.0.1:80", None);
        tcp[23] = IPPROTO_TCP;
        let flows = ["tcp:10.0.0.1:80", "udp:10.0.0.1:80", "tcp:10.0.0.1:80,10.0.0.7:4001"];
        assert_eq!(verdicts(&flows, &tcp), "101");
    }

    #[test]
    fn the_outermost_tag_decides_and_inner_ones_are_looked_through() {
        let flows =
            ["vlan:905", "vlan:7", "vlan:905,239.1.1.1:5000", "239.1.1.1:5000", "ether:0x0800"];
        let mut f = frame("10.0.0.7:4001", "239.1.1.1:5000", Some(0xe000 | 905));
        assert_eq!(verdicts(&flows, &f), "10111");
        let inner = [0x81, 0, 0, 7];
        for _ in 1..4 {
            f.splice(16..16, inner);
            assert_eq!(verdicts(&flows, &f), "10111");
        }
        f.splice(16..16, inner);
        assert_eq!(verdicts(&flows, &f), "10000", "a fifth tag");
        f[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert_eq!(verdicts(&flows, &f), "10000");
        assert_eq!(verdicts(&flows, &f[..16]), "10000", "cut off behind the tag");
        assert_eq!(verdicts(&flows, &f[..15]), "00000", "cut off within the tag");
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        let flows = ["239.1.1.1:5000", "239.1.1.1", "10.0.0.7,239.1.1.1"];
        let mut f = frame("10.0.0.7:4001", "239.1.1.1:5000", None);
        f[20] = 0x20; // more fragments, offset 0
        assert_eq!(verdicts(&flows, &f), "111");
        f[21] = 1;
        assert_eq!(verdicts(&flows, &f), "011");
        let mut f = frame("[fe80::7]:4001", "[ff02::1]:5000", None);
        f[20] = 44;
        f.splice(54..54, [17, 0, 0, 1, 0, 0, 0, 9]);
        let flows = ["[ff02::1]:5000", "ff02::1"];
        assert_eq!(verdicts(&flows, &f), "11");
        f[57] = 9;
        assert_eq!(verdicts(&flows, &f), "01");
    }

    #[test]
    fn options_and_extension_headers_are_looked_through() {
        let mut f = frame("10.0.0.7:4001", "239.1.1.1:5000", None);
        f[14] = 0x46;
        assert_eq!(verdicts(&["239.1.1.1:5000", "239.1.1.1"], &f), "01");
        f.splice(34..34, [0x94, 4, 0, 0]); // router alert
        assert_eq!(verdicts(&["239.1.1.1:5000", "239.1.1.1"], &f), "11");
        let mut f = frame("[fe80::7]:4001", "[ff02::1]:5000", None);
        for n in 0..7 {
            let expected = if n <= 5 { "11" } else { "00" };
            assert_eq!(verdicts(&["[ff02::1]:5000", "ff02::1"], &f), expected, "{n} extensions");
            let next = std::mem::replace(&mut f[20], 60);
            f.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn igmp_to_the_group_is_no_datagram_of_it() {
        let mut f = frame("10.0.0.7:4001", "239.1.1.1:5000", None);
        f[23] = 2;
        assert_eq!(verdicts(&["239.1.1.1:5000", "239.1.1.1", "all"], &f), "001");
    }

    #[test]
    fn what_is_cut_off_does_not_match_and_nothing_panics() {
        let f = frame("10.0.0.7:4001", "239.1.1.1:5000", Some(905));
        let flows = ["239.1.1.1:5000", "239.1.1.1", "vlan:905", "mac:01:00:5e:01:01:01", "all"];
        for len in 0..f.len() {
            let expected = match len {
                0..14 => "00000",
                14..16 => "00011",
                16..38 => "00111",
                38..42 => "01111",
                _ => "11111",
            };
            assert_eq!(verdicts(&flows, &f[..len]), expected, "{len} bytes");
        }
    }
}
