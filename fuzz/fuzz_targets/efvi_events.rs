//! ef_vi queues whose card gives any event, between frames that arrive as they should: no panic,
//! no byte outside the buffers, and no buffer in two hands.
#![no_main]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};

use libfuzzer_sys::fuzz_target;
use linerate_common::pool::{Huge, Pool};
use linerate_common::{FlowKind, FlowSpec, FrameRx, FrameTx, Steer};
use linerate_efvi::{Options, open_rx, open_tx};
use linerate_efvi_sys::ef_event;
use linerate_sim::Plug;
use linerate_sim::efvi::{Card, Kind, Settings, library};

fuzz_target!(|data: &[u8]| {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Some((&how, steps)) = data.split_first() else { return };
    let name = format!("fuzz{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut settings = Settings::default();
    settings.manual = true;
    let kind = if how & 1 == 0 { Kind::Ring } else { Kind::Shared };
    let (near, far) = Plug::pair();
    let card = Card::with(&name, kind, near, settings.clone()).expect("a card");
    let other = Card::with(&format!("{name}b"), kind, far, settings).expect("a card");
    let pool = Pool::builder().frames(2048).huge(Huge::Never).lock(false).build().expect("a pool");
    let mut options = Options::default();
    options.library = Some(library());
    options.pool = Some(pool.clone());
    options.merge_events = kind == Kind::Ring && how & 2 != 0;
    options.deliver_bad = how & 4 != 0;
    let mut rx = open_rx(card.interface(), &options).expect("a queue");
    rx.add(&FlowSpec::of(FlowKind::EtherType(0x88b5))).expect("a rule");
    let mut tx = open_tx(other.interface(), &options).expect("a queue");
    let mut own = open_tx(card.interface(), &options).expect("a queue");
    let mut frame = [7_u8; 100];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut held = Vec::new();
    let mut ids = HashSet::new();
    for step in steps.chunks_exact(17) {
        let Some((&what, event)) = step.split_first() else { break };
        match what % 4 {
            0 => {
                let mut bytes = [0_u8; 16];
                bytes.copy_from_slice(event);
                // SAFETY: an event is 16 bytes of any content.
                card.event(unsafe { std::mem::transmute::<[u8; 16], ef_event>(bytes) });
            }
            1 => {
                let _ = tx.send(&frame[..14 + usize::from(event[0]) % 80]);
                let _ = tx.kick();
                let _ = own.send(&frame);
                let _ = own.kick();
            }
            2 => {
                let _ = rx.acquire(usize::from(event[0]) % 70).map(|n| {
                    for i in 0..n {
                        let sum: u32 = rx.frame(i).bytes.iter().map(|b| u32::from(*b)).sum();
                        std::hint::black_box(sum);
                    }
                });
                if let Some(take) = rx.buf_rx()
                    && take.len() > 0
                    && let Some(buf) = take.take(0)
                {
                    assert!(ids.insert(buf.id()), "a buffer in two hands");
                    held.push(buf);
                }
            }
            _ => {
                let _ = rx.poll(usize::from(event[0]), |f| {
                    std::hint::black_box(f.bytes.iter().map(|b| u32::from(*b)).sum::<u32>());
                });
                own.reap();
                if let Some(buf) = held.pop() {
                    ids.remove(&buf.id());
                    let _ = pool.free(buf);
                }
            }
        }
        other.step();
        card.step();
        other.step();
    }
    for buf in held {
        let _ = pool.free(buf);
    }
    drop((rx, tx, own));
    assert_eq!(pool.outstanding(), 0, "every buffer came back");
});
