//! `afxdp:eth2`: the kernel's AF_XDP sockets.

use linerate_afxdp::{BusyPoll, Mode, Options, Queues, Stamps, Steering};

use super::{Opened, Request};
use crate::any::{AnyRx, AnyTx};
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::rights;
use crate::uri::value::{number, range, switch, word};
use crate::uri::{OptionDoc, Uri};

pub(super) const OPTIONS: &[OptionDoc] = &[
    OptionDoc { name: "queue", values: "a queue such as 3, or a range such as 0..3, or all" },
    OptionDoc { name: "mode", values: "auto, zerocopy, native or generic" },
    OptionDoc { name: "ring_slots", values: "64 to 32768, a power of two" },
    OptionDoc { name: "steering", values: "rules or own (an XDP program of yours)" },
    OptionDoc { name: "replace", values: "on or off" },
    OptionDoc { name: "need_wakeup", values: "on or off" },
    OptionDoc { name: "busy_poll", values: "0 to 1000000 µs" },
    OptionDoc { name: "stamps", values: "best, software, hardware or off" },
    OptionDoc { name: "tx_stamps", values: "on or off" },
    OptionDoc { name: "marks", values: "on or off" },
];

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let mut options = Options::default();
    options.pool = request.pool.clone();
    uri.apply(OPTIONS, |name, value| {
        match name {
            "queue" if value == "all" => options.queues = Queues::All,
            "queue" => options.queues = Queues::List(range(value, 1023)?.collect()),
            "mode" => {
                let words = [
                    ("auto", Mode::Auto),
                    ("zerocopy", Mode::ZeroCopy),
                    ("native", Mode::Native),
                    ("generic", Mode::Generic),
                ];
                options.mode = word(value, &words)?;
            }
            "ring_slots" => {
                let slots = number(value, 64..=32_768_u32)?;
                options.ring_slots = slots.is_power_of_two().then_some(slots)?;
            }
            "steering" => {
                let words = [("rules", Steering::Rules), ("own", Steering::QueueOnly)];
                options.steering = word(value, &words)?;
            }
            "replace" => options.replace = switch(value)?,
            "need_wakeup" => options.need_wakeup = switch(value)?,
            "busy_poll" => {
                let micros = number(value, 0..=1_000_000)?;
                options.busy_poll = (micros > 0).then(|| BusyPoll { micros, ..Default::default() });
            }
            "stamps" => {
                let words = [
                    ("best", Stamps::Best),
                    ("software", Stamps::Software),
                    ("hardware", Stamps::Hardware),
                    ("off", Stamps::Off),
                ];
                options.stamps = word(value, &words)?;
            }
            "tx_stamps" => options.tx_stamps = switch(value)?,
            _ => options.marks = switch(value)?,
        }
        Some(())
    })?;
    options.direction = match request.direction {
        Direction::Both => linerate_afxdp::Direction::Both,
        Direction::Rx => linerate_afxdp::Direction::Rx,
        Direction::Tx => linerate_afxdp::Direction::Tx,
    };
    let mut notices = Vec::new();
    if request.direction != Direction::Tx && options.steering == Steering::Rules {
        options.flows = request.flows_or_all();
        if request.wants_all() {
            notices.push(format!(
                "every frame of {} is taken from the kernel as long as this port is open",
                uri.target
            ));
        }
    }
    let port = linerate_afxdp::open(&uri.target, &options)?;
    notices.extend_from_slice(port.notices());
    let pool = Some(port.pool().clone());
    let (rx, tx) = port.into_parts();
    Ok(Opened {
        rx: rx.into_iter().map(|rx| AnyRx::Afxdp(Box::new(rx))).collect(),
        tx: tx.into_iter().next().map(|tx| AnyTx::Afxdp(Box::new(tx))),
        notices,
        pool,
        join_on: Some(uri.target.clone()),
        ..Opened::default()
    })
}

pub(super) fn survey(interface: &Interface) -> Result<String, String> {
    if interface.mac.is_none() {
        return Err("not an Ethernet interface".into());
    }
    rights::may_open_raw()?;
    rights::may_load_xdp()?;
    Ok("for flows, which it takes from the kernel".into())
}
