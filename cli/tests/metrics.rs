//! `--metrics` of a command that runs: what a scrape sees is what happened.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Running, json};
use linerate_lab::lab_or_skip;

const LIMIT: Duration = Duration::from_secs(60);
/// Of a namespace's own loopback interface: nobody else is there.
const METRICS: &str = "127.0.0.1:9898";

fn page() -> String {
    let mut server = TcpStream::connect(METRICS).unwrap();
    server.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    text
}

fn wait_for(row: &str) {
    let begun = Instant::now();
    loop {
        let page = page();
        if page.lines().any(|line| line == row) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{row} is not in\n{page}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_sink_serves_what_it_got_by_queue_and_group() {
    let lab = lab_or_skip!();
    lab.in_a(|| {
        let args = ["sink", "udp:lo", "-g", "239.1.1.1:5000", "--metrics", METRICS];
        let mut sink = Running::start(&args);
        let sent = json(&["blast", "udp:lo", "-g", "239.1.1.1:5000", "-c", "120"]);
        assert_eq!(sent.code, Some(0), "{sent:?}");
        let port = "interface=\"lo\",backend=\"udp\"";
        wait_for(&format!("linerate_rx_frames_total{{{port},queue=\"0\"}} 120"));
        wait_for(&format!("linerate_group_frames_total{{{port},group=\"239.1.1.1:5000\"}} 120"));
        wait_for(&format!(
            "linerate_rx_dropped_total{{{port},queue=\"0\",reason=\"kernel_drop\"}} 0"
        ));
        let ended = sink.interrupt();
        assert_eq!((ended.code, &ended.last["frames"]), (Some(0), &120.into()), "{ended:?}");
    });
}
