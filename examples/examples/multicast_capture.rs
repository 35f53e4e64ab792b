//! Joins multicast groups on any port and prints rates and sequence gaps each second.
//!
//! ```text
//! multicast_capture eth2 239.1.1.1:5000+4 u64be@10      # MoldUDP64 on four groups
//! multicast_capture udp:lo 239.1.1.1:5000 u32le@0       # without any rights
//! multicast_capture pcap:feed.pcapng all u32le@0        # the same over a file
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use linerate::loops::{EventLoop, Every, StopHandle, Strategy};
use linerate::packet::{Ethernet, Udp};
use linerate::{Backend, Direction, FlowSpec, FrameRx, RxFrame};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, flows, rest @ ..] = args.as_slice() else {
        return Err("usage: multicast_capture PORT FLOW [u32le|u32be|u64le|u64be]@OFFSET".into());
    };
    let place = rest.first().map(|text| Place::parse(text).ok_or("write u64be@10")).transpose()?;

    // Open: finds the best backend, joins the groups, steers the flows.
    let flows = FlowSpec::parse_list(flows)?;
    let mut port = linerate::port(port).flows(flows).direction(Direction::Rx).open()?;
    println!("{} by {}", port.name(), port.backend());

    // One loop over every queue; it sleeps while nothing comes where the card lets it.
    let sleeps = port.rx.iter_mut().all(|rx| Strategy::adaptive().check(rx).is_ok());
    let strategy = if sleeps { Strategy::adaptive() } else { Strategy::low_latency() };
    let mut events = EventLoop::new(strategy, &StopHandle::new()?);
    for rx in std::mem::take(&mut port.rx) {
        events.add(rx, Lines { place, by_group: BTreeMap::new() })?;
    }
    let file = port.backend() == Backend::Pcap;
    let mut second = Every::new(Duration::from_secs(1));
    while !events.queues_mut().all(|(rx, _)| rx.finished()) {
        events.run_with(
            |lines, frame| lines.see(&frame),
            |turn| match second.is_due(turn) || (file && turn.frames == 0) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            },
        )?;
        for (rx, lines) in events.queues_mut() {
            lines.print(rx.stats().lost());
        }
    }
    Ok(())
}

/// Where a payload has its sequence number.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    width: usize,
    big_endian: bool,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (kind, offset) = text.split_once('@')?;
        let (width, big_endian) = match kind {
            "u32le" => (4, false),
            "u32be" => (4, true),
            "u64le" => (8, false),
            "u64be" => (8, true),
            _ => return None,
        };
        Some(Self { offset: offset.parse().ok()?, width, big_endian })
    }

    fn read(self, payload: &[u8]) -> Option<u64> {
        let bytes = payload.get(self.offset..self.offset + self.width)?;
        let shift = |n, byte: &u8| n << 8 | u64::from(*byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, shift),
            false => bytes.iter().rev().fold(0, shift),
        })
    }
}

#[derive(Default)]
struct Line {
    frames: u64,
    bytes: u64,
    gaps: u64,
    next: Option<u64>,
}

struct Lines {
    place: Option<Place>,
    by_group: BTreeMap<SocketAddr, Line>,
}

impl Lines {
    fn see(&mut self, frame: &RxFrame<'_>) {
        let Some(ip) = Ethernet::parse(frame.bytes).and_then(|e| e.ip()) else { return };
        let Some(udp) = Udp::parse(ip.upper().payload) else { return };
        let line = self.by_group.entry(SocketAddr::new(ip.dst(), udp.dst_port())).or_default();
        line.frames += 1;
        line.bytes += frame.bytes.len() as u64;
        if let Some(seq) = self.place.and_then(|place| place.read(udp.payload())) {
            line.gaps += u64::from(line.next.is_some_and(|next| seq > next));
            line.next = line.next.max(Some(seq + 1));
        }
    }

    fn print(&mut self, lost: u64) {
        for (group, line) in &mut self.by_group {
            let (pps, mbps, gaps) = (line.frames, line.bytes as f64 * 8e-6, line.gaps);
            println!("{group}: {pps} frames/s, {mbps:.3} Mb/s, {gaps} gaps; queue lost {lost}");
            (line.frames, line.bytes) = (0, 0);
        }
    }
}
