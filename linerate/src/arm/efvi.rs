//! `efvi:eth2`: ef_vi on Solarflare and AMD cards.

use linerate_common::Steer;
use linerate_efvi::{EfviRx, EfviTx, Everything, Library, Options, SendPath, open_set, open_tx};

use super::{Opened, Request};
use crate::any::{AnyRx, AnyTx};
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::uri::value::{number, switch, word};
use crate::uri::{OptionDoc, Uri};

pub(super) const OPTIONS: &[OptionDoc] = &[
    OptionDoc { name: "queues", values: "1 to 64" },
    OptionDoc { name: "frames", values: "512 to 1048576" },
    OptionDoc { name: "rx_ring", values: "512 to 4096 slots" },
    OptionDoc { name: "tx_ring", values: "512 to 2048 slots" },
    OptionDoc { name: "timestamps", values: "on or off" },
    OptionDoc { name: "tx_stamps", values: "on or off" },
    OptionDoc { name: "clock_lead_s", values: "seconds: 37 for a clock on TAI" },
    OptionDoc { name: "merge_events", values: "on or off" },
    OptionDoc { name: "deliver_bad", values: "on or off" },
    OptionDoc { name: "path", values: "auto, dma, ctpio or pio" },
    OptionDoc { name: "ctpio_threshold", values: "64 to 65535 bytes" },
    OptionDoc { name: "all", values: "sniff, take or rest" },
    OptionDoc { name: "multicast_loop", values: "on or off" },
    OptionDoc { name: "express", values: "on or off" },
    OptionDoc { name: "wakeups", values: "on or off" },
];

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let (options, queues) = options(uri, request, &[], |_, _| None)?;
    let mut opened = open_with(&uri.target, &options, queues, request)?;
    opened.join_on = Some(uri.target.clone());
    Ok(opened)
}

/// The backend's options and the number of queues, and `more` of the caller's own, which go to
/// `set_more`.
pub(super) fn options(
    uri: &Uri,
    request: &Request,
    more: &[OptionDoc],
    mut set_more: impl FnMut(&str, &str) -> Option<()>,
) -> Result<(Options, usize), OpenError> {
    let mut options = Options::default();
    options.pool = request.pool.clone();
    let mut queues = 1;
    uri.apply(&[OPTIONS, more].concat(), |name, value| {
        match name {
            "queues" => queues = number(value, 1..=64)?,
            "frames" => options.frames = number(value, 512..=1 << 20)?,
            "rx_ring" => options.rx_ring = number(value, 512..=4096)?,
            "tx_ring" => options.tx_ring = number(value, 512..=2048)?,
            "timestamps" => options.rx_timestamps = switch(value)?,
            "tx_stamps" => options.tx_timestamps = switch(value)?,
            "clock_lead_s" => options.clock_ahead_of_utc_s = number(value, -1000..=1000)?,
            "merge_events" => options.merge_events = switch(value)?,
            "deliver_bad" => options.deliver_bad = switch(value)?,
            "path" => {
                let words = [
                    ("auto", SendPath::Auto),
                    ("dma", SendPath::Dma),
                    ("ctpio", SendPath::Ctpio),
                    ("pio", SendPath::Pio),
                ];
                options.path = word(value, &words)?;
            }
            "ctpio_threshold" => options.ctpio_threshold = number(value, 64..=65_535)?,
            "all" => {
                let words = [
                    ("sniff", Everything::Sniff),
                    ("take", Everything::Take),
                    ("rest", Everything::Rest),
                ];
                options.everything = word(value, &words)?;
            }
            "multicast_loop" => options.multicast_loop = switch(value)?,
            "express" => options.express = switch(value)?,
            "wakeups" => options.wakeups = switch(value)?,
            _ => set_more(name, value)?,
        }
        Some(())
    })?;
    Ok((options, queues))
}

pub(super) fn open_with(
    interface: &str,
    options: &Options,
    queues: usize,
    request: &Request,
) -> Result<Opened, OpenError> {
    let slots = request.preload.map_or(0, |(slots, _)| u32::try_from(slots).unwrap_or(u32::MAX));
    if slots == 0 || request.direction == Direction::Rx {
        return open_plain(interface, options, queues, request);
    }
    let mut with = options.clone();
    with.alternatives = slots;
    open_plain(interface, &with, queues, request).or_else(|e| {
        // Not every card has them; the caller is told where its frames wait.
        let mut opened = open_plain(interface, options, queues, request)?;
        opened.notices.push(format!("preloaded frames wait in memory: {e}"));
        Ok(opened)
    })
}

fn open_plain(
    interface: &str,
    options: &Options,
    queues: usize,
    request: &Request,
) -> Result<Opened, OpenError> {
    let mut opened = Opened::default();
    let (mut queues, tx): (Vec<EfviRx>, Option<EfviTx>) = match request.direction {
        Direction::Tx => (Vec::new(), Some(open_tx(interface, options)?)),
        direction if queues > 1 => {
            let tx = match direction {
                Direction::Both => Some(open_tx(interface, options)?),
                _ => None,
            };
            (open_set(interface, queues, options)?, tx)
        }
        direction => {
            let port = linerate_efvi::open(interface, options)?;
            opened.notices = port.notices().to_vec();
            let (rx, tx) = port.split();
            (vec![rx], (direction == Direction::Both).then_some(tx))
        }
    };
    // Flows are added to a set as a whole.
    if let Some(first) = queues.first_mut() {
        for flow in request.flows_or_all() {
            first.add(&flow)?;
        }
    }
    opened.pool = match (&tx, queues.first()) {
        (Some(tx), _) => Some(tx.pool().clone()),
        (None, Some(EfviRx::Ring(rx))) => Some(rx.pool().clone()),
        _ => None,
    };
    opened.rx = queues.into_iter().map(|rx| AnyRx::Efvi(Box::new(rx))).collect();
    opened.tx = tx.map(|tx| AnyTx::Efvi(Box::new(tx)));
    Ok(opened)
}

pub(super) fn survey(_: &Interface) -> Result<String, String> {
    match Library::linked() {
        Ok(_) => Ok("past the kernel, which keeps what no flow asks for".into()),
        Err(no_sdk) => Err(no_sdk.to_string()),
    }
}
