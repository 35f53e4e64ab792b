//! `verbs:mlx5_0/1`, `verbs:eth2`: raw packet queues over libibverbs.

use linerate_common::{FlowSpec, SetupError};
use linerate_verbs::{FlowMode, Library, Options, interface_of_port, port_of_interface};

use super::{Opened, Request};
use crate::any::{AnyRx, AnyTx};
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::rights;
use crate::uri::value::{number, switch, word};
use crate::uri::{OptionDoc, Uri};

pub(super) const OPTIONS: &[OptionDoc] = &[
    OptionDoc { name: "mode", values: "steal, share or sniff" },
    OptionDoc { name: "rx_slots", values: "1 to 32768 buffers" },
    OptionDoc { name: "tx_slots", values: "1 to 32768 buffers" },
    OptionDoc { name: "queues", values: "1 to 64" },
    OptionDoc { name: "inline", values: "0 to 1024 bytes" },
    OptionDoc { name: "timestamps", values: "on or off" },
    OptionDoc { name: "tx_stamps", values: "on or off" },
    OptionDoc { name: "checksums", values: "on or off" },
    OptionDoc { name: "relaxed", values: "on or off" },
];

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let options = options(uri, request, &[], |_, _| None)?;
    let mut opened = opened(linerate_verbs::open(&uri.target, &options)?, request);
    opened.join_on = interface_behind(&uri.target);
    Ok(opened)
}

/// The backend's options, and `more` of the caller's own, which go to `set_more`.
pub(super) fn options(
    uri: &Uri,
    request: &Request,
    more: &[OptionDoc],
    mut set_more: impl FnMut(&str, &str) -> Option<()>,
) -> Result<Options, OpenError> {
    let mut options = Options::default();
    options.pool = request.pool.clone();
    let mut mode = None;
    uri.apply(&[OPTIONS, more].concat(), |name, value| {
        match name {
            "mode" => {
                let words = [
                    ("steal", FlowMode::Steal),
                    ("share", FlowMode::Share),
                    ("sniff", FlowMode::Sniff),
                ];
                mode = Some(word(value, &words)?);
            }
            "rx_slots" => options.rx_slots = number(value, 1..=32_768)?,
            "tx_slots" => options.tx_slots = number(value, 1..=32_768)?,
            "queues" => options.queues = number(value, 1..=64)?,
            "inline" => options.inline_bytes = number(value, 0..=1024)?,
            "timestamps" => options.timestamps = switch(value)?,
            "tx_stamps" => options.tx_timestamps = switch(value)?,
            "checksums" => options.tx_checksums = switch(value)?,
            "relaxed" => options.relaxed_ordering = switch(value)?,
            _ => set_more(name, value)?,
        }
        Some(())
    })?;
    if request.direction != Direction::Tx {
        options.flows = request.flows_or_all();
        // Everything is copied rather than taken from the kernel, unless that was said.
        let all = options.flows == [FlowSpec::ALL];
        options.mode = mode.unwrap_or(if all { FlowMode::Sniff } else { FlowMode::Steal });
    }
    Ok(options)
}

pub(super) fn opened(port: linerate_verbs::Port, request: &Request) -> Opened {
    let mut opened = Opened { pool: Some(port.pool().clone()), ..Opened::default() };
    opened.notices = port.notices().to_vec();
    let (queues, tx) = port.into_queues();
    let queues = queues.into_iter().map(|rx| AnyRx::Verbs(Box::new(rx)));
    opened.take(request.direction, queues, AnyTx::Verbs(Box::new(tx)));
    opened
}

/// `mlx5_0/1` as a network interface; a name that is none already.
fn interface_behind(target: &str) -> Option<String> {
    let (device, port) = target.split_once('/').unwrap_or((target, "1"));
    let behind = port.parse().ok().and_then(|port| interface_of_port(device, port));
    behind.or_else(|| crate::interface::named(target).map(|i| i.name))
}

pub(super) fn survey(interface: &Interface) -> Result<String, String> {
    Library::load().map_err(|e: SetupError| e.to_string())?;
    let Some((device, port)) = port_of_interface(&interface.name) else {
        return Err("no RDMA device behind it: modprobe ib_uverbs mlx5_ib".into());
    };
    rights::may_open_raw()?;
    Ok(format!("{device}/{port}"))
}
