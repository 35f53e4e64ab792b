//! What happens inside one process, without a kernel or a card: `cargo bench -p linerate-bench`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a measuring program may just stop")]

use std::hint::black_box;
use std::io;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use linerate::file::{InterfaceOptions, Writer};
use linerate_common::loopback::{self, Options};
use linerate_common::packet::{Headers, UdpTemplate};
use linerate_common::pool::{Huge, Pool};
use linerate_common::{FlowSpec, FrameRx, FrameTx, MAX_BURST, RxFrame, RxMeta};

/// A frame of a feed, of `bytes` bytes.
fn frame(bytes: usize) -> Vec<u8> {
    let (from, to) = ("10.0.0.1:4000".parse().unwrap(), "239.1.1.1:5000".parse().unwrap());
    let template = UdpTemplate::new(from, to).unwrap();
    let mut frame = vec![0; bytes];
    template.write(&mut frame, &vec![7; bytes - template.header_len()]).unwrap();
    frame
}

fn pool(c: &mut Criterion) {
    let pool = Pool::builder().frames(1024).huge(Huge::Never).build().unwrap();
    c.bench_function("pool: alloc and free", |b| {
        b.iter(|| {
            let buf = pool.alloc(black_box(60)).unwrap();
            pool.free(buf).unwrap();
        });
    });
    let mut cache = pool.cache();
    c.bench_function("pool: alloc and free in a queue's stock", |b| {
        b.iter(|| {
            let id = cache.alloc().unwrap();
            black_box(cache.free(id))
        });
    });
}

fn loopback_pair(c: &mut Criterion) {
    let (mut tx, mut rx) = loopback::pair(&Options::default()).unwrap();
    let mut group = c.benchmark_group("loopback");
    group.throughput(Throughput::Elements(MAX_BURST as u64));
    for bytes in [60, 1514] {
        let frame = frame(bytes);
        group.bench_function(format!("send and poll 64 frames of {bytes} bytes"), |b| {
            b.iter(|| {
                tx.reap();
                for _ in 0..MAX_BURST {
                    assert!(tx.send(&frame).unwrap());
                }
                tx.kick().unwrap();
                rx.poll(MAX_BURST, |frame| {
                    black_box(frame.bytes.len());
                })
            });
        });
    }
    group.finish();
    c.bench_function("loopback: a poll that finds nothing", |b| {
        b.iter(|| rx.poll(MAX_BURST, |_| ()));
    });
}

fn headers(c: &mut Criterion) {
    let frame = frame(60);
    c.bench_function("headers: parse a UDP frame", |b| {
        b.iter(|| Headers::parse(black_box(&frame)))
    });
    for text in ["all", "239.1.1.1:5000", "vlan:5,239.1.1.1:5000", "udp:10.0.0.1:80,10.0.0.2:81"] {
        let flow: FlowSpec = text.parse().unwrap();
        c.bench_function(&format!("FlowSpec::matches, {text}"), |b| {
            b.iter(|| black_box(&flow).matches(black_box(&frame)));
        });
    }
}

fn writer(c: &mut Criterion) {
    const FRAMES: u64 = 1000;
    let mut group = c.benchmark_group("pcapng writer");
    group.throughput(Throughput::Elements(FRAMES));
    for bytes in [60, 1514] {
        let frame = frame(bytes);
        group.bench_function(format!("1000 frames of {bytes} bytes"), |b| {
            b.iter_batched(
                || Writer::new(io::sink(), "bench").unwrap(),
                |mut writer| {
                    let port = writer.add_interface(&InterfaceOptions::named("eth2")).unwrap();
                    for _ in 0..FRAMES {
                        let frame = RxFrame { bytes: &frame, meta: RxMeta::plain(bytes) };
                        writer.write(port, &frame).unwrap();
                    }
                    writer.finish().unwrap()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, pool, loopback_pair, headers, writer);
criterion_main!(benches);
