//! `udp:eth2`: sockets, for everyone.

use linerate_common::{ErrorKind, SetupError};
use linerate_udp::{Gso, Options, Stamps};

use super::{Opened, Request};
use crate::any::{AnyRx, AnyTx};
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::uri::value::{number, switch, word};
use crate::uri::{OptionDoc, Uri};

pub(super) const OPTIONS: &[OptionDoc] = &[
    OptionDoc { name: "rcvbuf", values: "0 to 1073741824 bytes" },
    OptionDoc { name: "sndbuf", values: "0 to 1073741824 bytes" },
    OptionDoc { name: "datagram", values: "1 to 65535 bytes" },
    OptionDoc { name: "max_frame", values: "64 to 65575 bytes" },
    OptionDoc { name: "busy_poll", values: "0 to 1000000 µs" },
    OptionDoc { name: "stamps", values: "best, software or off" },
    OptionDoc { name: "ttl_tos", values: "on or off" },
    OptionDoc { name: "socket_per_group", values: "on or off" },
    OptionDoc { name: "slots", values: "1 to 4096 frames" },
    OptionDoc { name: "source_port", values: "1 to 65535" },
    OptionDoc { name: "ttl", values: "0 to 255" },
    OptionDoc { name: "loop", values: "on or off" },
    OptionDoc { name: "gso", values: "auto, on or off" },
];

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let mut options = Options::default();
    uri.apply(OPTIONS, |name, value| {
        match name {
            "rcvbuf" => options.receive_buffer_bytes = number(value, 0..=1 << 30)?,
            "sndbuf" => options.send_buffer_bytes = number(value, 0..=1 << 30)?,
            "datagram" => options.datagram_bytes = number(value, 1..=65_535)?,
            "max_frame" => options.max_frame_bytes = number(value, 64..=65_575)?,
            "busy_poll" => options.busy_poll_us = number(value, 0..=1_000_000)?,
            "stamps" => {
                let words =
                    [("best", Stamps::Best), ("software", Stamps::Software), ("off", Stamps::Off)];
                options.stamps = word(value, &words)?;
            }
            "ttl_tos" => options.ttl_tos = switch(value)?,
            "socket_per_group" => options.socket_per_group = switch(value)?,
            "slots" => options.send_slots = number(value, 1..=4096)?,
            "source_port" => options.source_port = number(value, 1..=65_535)?,
            "ttl" => options.multicast_ttl = number(value, 0..=255)?,
            "loop" => options.multicast_loop = switch(value)?,
            _ => {
                let words = [("auto", Gso::Auto), ("on", Gso::On), ("off", Gso::Off)];
                options.gso = word(value, &words)?;
            }
        }
        Some(())
    })?;
    if request.direction != Direction::Tx {
        if request.wants_all() {
            let detail = "a socket receives only the flows it is asked for";
            let e = SetupError::new(ErrorKind::Unsupported, "open", detail).on(&uri.text);
            return Err(e.remedy("name a group or address, as 239.1.1.1:5000").into());
        }
        options.flows = request.flows.clone();
    }
    let port = linerate_udp::open(&uri.target, &options)?;
    // The sockets join by themselves.
    let mut opened = Opened { notices: port.notices().to_vec(), ..Opened::default() };
    let (rx, tx) = port.split();
    opened.take(request.direction, [AnyRx::Udp(Box::new(rx))], AnyTx::Udp(Box::new(tx)));
    Ok(opened)
}

pub(super) fn survey(_: &Interface) -> Result<String, String> {
    Ok("UDP flows only; needs no rights".into())
}
