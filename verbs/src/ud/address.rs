//! Where datagrams go, and how that is written.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The queue pair number that datagrams to a group carry.
const MULTICAST: u32 = 0x00ff_ffff;

/// Where datagrams go: a port's address, a queue pair's number, and the key.
///
/// As text, to be passed on to the other end: `::ffff:10.0.0.1/18/11111111` (the key in hex).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub(super) gid: [u8; 16],
    pub(super) qpn: u32,
    pub(super) qkey: u32,
}

impl Address {
    /// A multicast group: every queue pair that joined it and has the key.
    #[must_use]
    pub fn group(group: IpAddr, qkey: u32) -> Self {
        Self { gid: gid_of(group), qpn: MULTICAST, qkey }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:x}", Ipv6Addr::from(self.gid), self.qpn, self.qkey)
    }
}

/// The text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseAddressError;

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address is IPV6/QUEUE-PAIR/KEY, as ::ffff:10.0.0.1/18/11111111")
    }
}

impl std::error::Error for ParseAddressError {}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let parse = || {
            let (gid, rest) = text.split_once('/')?;
            let (qpn, qkey) = rest.split_once('/')?;
            Some(Self {
                gid: gid.parse::<Ipv6Addr>().ok()?.octets(),
                qpn: qpn.parse().ok().filter(|n| *n <= MULTICAST)?,
                qkey: u32::from_str_radix(qkey, 16).ok()?,
            })
        };
        parse().ok_or(ParseAddressError)
    }
}

pub(super) fn gid_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_being_text() {
        let text = "::ffff:10.66.0.2/18/11111111";
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        assert_eq!((address.qpn, address.qkey), (18, 0x1111_1111));
        let group = Address::group("239.1.2.3".parse().unwrap(), 5);
        assert_eq!(group.to_string(), "::ffff:239.1.2.3/16777215/5");
        for bad in ["", "::1", "::1/2", "10.0.0.1/2/3", "::1/16777216/3", "::1/x/3", "::1/2/g"] {
            assert_eq!(bad.parse::<Address>(), Err(ParseAddressError), "{bad}");
        }
    }
}
