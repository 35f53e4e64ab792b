//! `afpacket:eth2`: the kernel's packet sockets.

use linerate_afpacket::{Fanout, Options, Ring, Stamps};

use super::{Opened, Request};
use crate::any::{AnyRx, AnyTx};
use crate::error::OpenError;
use crate::interface::Interface;
use crate::port::Direction;
use crate::rights;
use crate::uri::value::{number, switch, word};
use crate::uri::{OptionDoc, Uri};

pub(super) const OPTIONS: &[OptionDoc] = &[
    OptionDoc { name: "ring", values: "blocks (throughput) or frames (latency)" },
    OptionDoc { name: "ring_mb", values: "1 to 2048 MiB" },
    OptionDoc { name: "retire_ms", values: "1 to 1000 ms" },
    OptionDoc { name: "snaplen", values: "14 to 262144 bytes" },
    OptionDoc { name: "queues", values: "1 to 256" },
    OptionDoc { name: "fanout", values: "hash, balance, cpu or queue" },
    OptionDoc { name: "stamps", values: "kernel or hardware" },
    OptionDoc { name: "promiscuous", values: "on or off" },
    OptionDoc { name: "all_multicast", values: "on or off" },
    OptionDoc { name: "outgoing", values: "on or off" },
    OptionDoc { name: "tx_slots", values: "1 to 1024 frames" },
    OptionDoc { name: "qdisc_bypass", values: "on or off" },
];

const BLOCK_BYTES: u32 = 128 << 10;
const FRAME_BYTES: u32 = 2048;

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let mut options = Options::default();
    options.promiscuous = request.promiscuous;
    let (mut frames, mut ring_mb, mut retire_ms) = (request.low_latency, 32_u32, 1);
    uri.apply(OPTIONS, |name, value| {
        match name {
            "ring" => frames = word(value, &[("blocks", false), ("frames", true)])?,
            "ring_mb" => ring_mb = number(value, 1..=2048)?,
            "retire_ms" => retire_ms = number(value, 1..=1000)?,
            "snaplen" => options.snaplen = number(value, 14..=262_144)?,
            "queues" => options.queues = number(value, 1..=256)?,
            "fanout" => {
                let words = [
                    ("hash", Fanout::Hash),
                    ("balance", Fanout::LoadBalance),
                    ("cpu", Fanout::Cpu),
                    ("queue", Fanout::CardQueue),
                ];
                options.fanout = word(value, &words)?;
            }
            "stamps" => {
                let words = [("kernel", Stamps::Kernel), ("hardware", Stamps::Hardware)];
                options.stamps = word(value, &words)?;
            }
            "promiscuous" => options.promiscuous = switch(value)?,
            "all_multicast" => options.all_multicast = switch(value)?,
            "outgoing" => options.outgoing = switch(value)?,
            "tx_slots" => options.tx_slots = number(value, 1..=1024)?,
            _ => options.qdisc_bypass = switch(value)?,
        }
        Some(())
    })?;
    let ring_bytes = u64::from(ring_mb) << 20;
    options.ring = if frames {
        let frames = (ring_bytes / u64::from(FRAME_BYTES)) as u32;
        Ring::Frames { frame_bytes: FRAME_BYTES, frames }
    } else {
        let blocks = (ring_bytes / u64::from(BLOCK_BYTES)) as u32;
        Ring::Blocks { block_bytes: BLOCK_BYTES, blocks, retire_ms }
    };
    options.flows = request.flows_or_all();
    options.receive = request.direction != Direction::Tx;
    options.transmit = request.direction != Direction::Rx;
    let (rx, tx) = linerate_afpacket::open(&uri.target, &options)?.into_parts();
    Ok(Opened {
        rx: rx.into_iter().map(|rx| AnyRx::Afpacket(Box::new(rx))).collect(),
        tx: tx.map(|tx| AnyTx::Afpacket(Box::new(tx))),
        join_on: Some(uri.target.clone()),
        ..Opened::default()
    })
}

pub(super) fn survey(interface: &Interface) -> Result<String, String> {
    if interface.mac.is_none() && !interface.loopback {
        return Err("not an Ethernet interface".into());
    }
    rights::may_open_raw()?;
    Ok("the kernel keeps its copy of each frame".into())
}
