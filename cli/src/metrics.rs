//! `--metrics ADDR`: counters as Prometheus text over HTTP, and reading them back.
//!
//! The thread that counts frames is not involved: whoever shows progress leaves a page here once
//! a second, and a thread of its own hands it out.

mod feed;
mod page;
mod server;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub(crate) use feed::{Feed, Poster};
pub(crate) use page::{Sheet, losses};
pub(crate) use server::{Exporter, fetch};

/// Where to serve, or where to read: `9898` and `:9898` are on this machine only.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| "use a port as 9898, or ADDRESS:PORT as 0.0.0.0:9898".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_this_machine_only() {
        for text in ["9898", ":9898", "127.0.0.1:9898"] {
            assert_eq!(parse_address(text).map(|a| a.to_string()), Ok("127.0.0.1:9898".into()));
        }
        assert_eq!(parse_address("0.0.0.0:80").map(|a| a.to_string()), Ok("0.0.0.0:80".into()));
        assert_eq!(parse_address("[::1]:80").map(|a| a.to_string()), Ok("[::1]:80".into()));
        for text in ["", ":", "localhost", "1.2.3.4", "70000", "eth2"] {
            assert!(parse_address(text).is_err(), "accepted: {text}");
        }
    }
}
