//! `exanic:exanic0/0`, `exanic:eth4`: libexanic on ExaNIC cards.

use linerate_exanic::{BadFrames, Options, Port, RxBuffer, port_of_interface};

use super::{Opened, Request};
use crate::any::{AnyRx, AnyTx};
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::preload::Preloaded;
use crate::uri::value::{number, switch, word};
use crate::uri::{OptionDoc, Uri};

pub(super) const OPTIONS: &[OptionDoc] = &[
    OptionDoc { name: "buffer", values: "auto, default, unused, or a number from 1" },
    OptionDoc { name: "keep_fcs", values: "on or off" },
    OptionDoc { name: "bad_frames", values: "count or deliver" },
    OptionDoc { name: "max_frame", values: "60 to 16384 bytes" },
    OptionDoc { name: "promiscuous", values: "on or off" },
    OptionDoc { name: "tx_buffer", values: "4096 to 1048576 bytes" },
    OptionDoc { name: "tx_stamps", values: "on or off" },
    OptionDoc { name: "clock_lead_s", values: "seconds: 37 for a clock on TAI" },
];

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let options = options(uri, request, &[], |_, _| None)?;
    opened(&linerate_exanic::open(&uri.target, &options)?, request)
}

/// The backend's options, and `more` of the caller's own, which go to `set_more`.
pub(super) fn options(
    uri: &Uri,
    request: &Request,
    more: &[OptionDoc],
    mut set_more: impl FnMut(&str, &str) -> Option<()>,
) -> Result<Options, OpenError> {
    let mut options = Options::default();
    options.promiscuous = request.promiscuous;
    options.flows = request.flows_or_all();
    uri.apply(&[OPTIONS, more].concat(), |name, value| {
        match name {
            "buffer" => {
                let words = [
                    ("auto", RxBuffer::Auto),
                    ("default", RxBuffer::Default),
                    ("unused", RxBuffer::Unused),
                ];
                let filter = || number(value, 1..=1024).map(RxBuffer::Filter);
                options.buffer = word(value, &words).or_else(filter)?;
            }
            "keep_fcs" => options.keep_fcs = switch(value)?,
            "bad_frames" => {
                let words = [("count", BadFrames::Count), ("deliver", BadFrames::Deliver)];
                options.bad_frames = word(value, &words)?;
            }
            "max_frame" => options.max_frame_bytes = number(value, 60..=16_384)?,
            "promiscuous" => options.promiscuous = switch(value)?,
            "tx_buffer" => options.tx_buffer_bytes = Some(number(value, 4096..=1 << 20)?),
            "tx_stamps" => options.tx_stamps = switch(value)?,
            "clock_lead_s" => options.clock_lead_s = number(value, -1000..=1000)?,
            _ => set_more(name, value)?,
        }
        Some(())
    })?;
    Ok(options)
}

pub(super) fn opened(port: &Port, request: &Request) -> Result<Opened, OpenError> {
    let mut opened = Opened { notices: port.notices().to_vec(), ..Opened::default() };
    if request.direction != Direction::Tx {
        opened.rx.push(AnyRx::Exanic(Box::new(port.rx()?)));
    }
    if let (Some((slots, max_len)), true) = (request.preload, request.direction != Direction::Rx) {
        opened.preloaded = Some(Preloaded::in_exanic(port.preloaded(slots, max_len)?));
    } else if request.direction != Direction::Rx {
        opened.tx = Some(AnyTx::Exanic(Box::new(port.tx()?)));
    }
    opened.join_on = port.device().interface(port.number()).ok();
    Ok(opened)
}

pub(super) fn survey(interface: &Interface) -> Result<String, String> {
    match port_of_interface(&interface.name) {
        Ok((device, port)) => Ok(format!("{device}/{port}")),
        Err(e) => Err(e.to_string()),
    }
}
