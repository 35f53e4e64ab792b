//! pnet's datalink: `pnet receive IF | send IF BYTES|imix`. It shows and takes one frame a call.

mod common;

use std::time::Duration;

use common::{Meter, frame, lengths, ticks};
use pnet_datalink::{Channel, Config};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let all = pnet_datalink::interfaces();
    let interface = all.iter().find(|i| i.name == words[2]).expect("no such interface");
    let config = Config {
        read_buffer_size: 2048,
        write_buffer_size: 2048,
        read_timeout: Some(Duration::from_millis(100)),
        ..Config::default()
    };
    let (mut tx, mut rx) = match pnet_datalink::channel(interface, config).expect("a channel") {
        Channel::Ethernet(tx, rx) => (tx, rx),
        _ => panic!("no Ethernet channel"),
    };
    let mut meter = Meter::start();
    if words[1] == "receive" {
        while meter.goes_on() {
            let start = ticks();
            // A call waits when there is nothing: its time counts when a frame ended the wait.
            if let Ok(bytes) = rx.next() {
                meter.see(bytes);
                meter.turn(start, 1);
            }
        }
    } else {
        let lengths = lengths(&words[3]);
        let model = frame(*lengths.iter().max().expect("a length"));
        let mut kinds = lengths.iter().copied().cycle();
        while meter.goes_on() {
            let start = ticks();
            let sent = tx.send_to(&model[..kinds.next().unwrap_or(60)], None);
            meter.turn(start, sent.is_some_and(|sent| sent.is_ok()).into());
        }
    }
    meter.report();
}
