//! Where test frames say that they come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linerate::Interface;

use super::any_number;

/// Source addresses of a port's frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    mac: [u8; 6],
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Origin {
    /// The interface's own addresses. Where there is none, a locally administered MAC address
    /// that no other run uses, and an address that is set aside for documentation.
    pub(crate) fn of(interface: Option<&Interface>) -> Self {
        let addresses = || interface.into_iter().flat_map(|i| &i.addresses);
        let v4 = addresses().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses().find_map(|ip| match ip {
            IpAddr::V6(ip) => Some(*ip),
            IpAddr::V4(_) => None,
        });
        let made_up = || {
            let [_, _, _, a, b, c, d, e] = any_number().to_be_bytes();
            [2, a, b, c, d, e]
        };
        Self { mac: interface.and_then(|i| i.mac).unwrap_or_else(made_up), v4, v6 }
    }

    /// The source MAC address.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The source address for frames to `to`.
    pub(crate) fn ip(&self, to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(_) => self.v4.unwrap_or(Ipv4Addr::new(192, 0, 2, 1)).into(),
            IpAddr::V6(_) => {
                self.v6.unwrap_or(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)).into()
            }
        }
    }
}
