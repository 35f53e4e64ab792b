//! A receive and a transmit queue whose kernel is a liar.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use linerate_common::clock::PhcScale;
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, FrameRx, FrameTx, TxStamps};

use crate::clock::TxClock;
use crate::played::{Ring, no_socket};
use crate::port::Shared;
use crate::ring::{Consumer, Desc, Producer};
use crate::rx::{Stamping, XdpRx};
use crate::socket::Socket;
use crate::tx::XdpTx;

const SLOTS: usize = 16;
const FRAMES: u32 = 64;
/// Announces metadata in front of a frame, as the program would.
const COOKIE: u64 = 0x5eed_f00d_5eed_f00d;

/// One pool and one socket, which is none of AF_XDP, for all inputs.
static COMMON: LazyLock<(Pool, Arc<Socket>)> = LazyLock::new(|| {
    let pool = Pool::builder().frames(FRAMES).huge(Huge::Never).lock(false).build();
    let pool = pool.expect("a pool");
    let socket = no_socket(&pool);
    (pool, socket)
});

/// Reads `bytes` as what kernel and application do. No count exceeds its bounds, nothing is read
/// or written outside the pool, and no buffer is in two hands.
pub fn descriptors(bytes: &[u8]) {
    let Some((&how, steps)) = bytes.split_first() else { return };
    let (pool, socket) = &*COMMON;
    let (mut rx_ring, mut tx_ring) = (Ring::<Desc>::new(SLOTS), Ring::<Desc>::new(SLOTS));
    let (mut fill_ring, mut done_ring) = (Ring::<u64>::new(2 * SLOTS), Ring::<u64>::new(SLOTS));
    let (rx_raw, tx_raw) = (rx_ring.raw(), tx_ring.raw());
    let (fill_raw, done_raw) = (fill_ring.raw(), done_ring.raw());
    // SAFETY: the rings live until the queues are dropped below; one owner each.
    let (rx_end, fill, tx_end, done) = unsafe {
        (
            Consumer::new(rx_raw),
            Producer::new(fill_raw),
            Producer::new(tx_raw),
            Consumer::new(done_raw),
        )
    };
    let shared = Arc::new(Shared::without_steering());
    let mut lent = pool.cache();
    lent.reserve(SLOTS).expect("enough frames");
    let stamps = Stamping { hardware: Some(PhcScale::unknown(0)), software: how & 1 != 0 };
    let mut rx =
        XdpRx::new(socket.clone(), shared.clone(), lent, rx_end, fill, stamps, how & 2 != 0);
    if how & 4 != 0 {
        rx.expect_meta(COOKIE);
    }
    let clock = (how & 8 != 0).then(TxClock::of_kernel);
    let tx = XdpTx::new(socket.clone(), shared, pool.cache(), tx_end, done, 1514, clock);
    let mut tx = tx.expect("enough frames");
    let (mut held, mut ids) = (Vec::new(), HashSet::new());
    for step in steps.chunks_exact(18) {
        let (&what, rest) = step.split_first().expect("18 bytes");
        let byte = usize::from(rest[16]);
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("4 bytes"));
        let any = u64::from(word(0)) | u64::from(word(4)) << 32;
        match what % 10 {
            0 => rx_raw.give(Desc { addr: any, len: word(8), options: word(12) }),
            1 => {
                // A frame of ours, at any place and of any length near its own.
                let addr = any % (u64::from(FRAMES) * pool.frame_bytes() as u64);
                rx_raw.give(Desc { addr, len: word(8) % 2100, options: word(12) & 1 });
            }
            2 => {
                // A frame that was lent, as it should be.
                if let Some(start) = fill_raw.take() {
                    let addr = start + 256;
                    if byte & 1 == 0 {
                        // SAFETY: the frame is the kernel's, which we play.
                        unsafe {
                            let place = pool.region().as_ptr().add(addr as usize - 24);
                            place.cast::<u64>().write_unaligned(COOKIE);
                        }
                    }
                    rx_raw.give(Desc { addr, len: word(8) % 1700, options: 0 });
                }
            }
            3 => {
                let n = rx.acquire(byte % 70).unwrap_or(0);
                for i in 0..n {
                    std::hint::black_box(rx.frame(i).bytes.iter().fold(0, |a, b| a ^ b));
                }
                let i = usize::from(rest[15]) % 16;
                if i < rx.len()
                    && let Some(buf) = rx.take(i)
                {
                    assert!(ids.insert(buf.id()), "a buffer in two hands");
                    held.push(buf);
                }
            }
            4 => {
                let shown = rx.poll(byte, |f| {
                    std::hint::black_box(f.bytes.iter().fold(0, |a, b| a ^ b));
                });
                assert!(shown.unwrap_or(0) <= SLOTS);
            }
            5 => {
                if let Some(buf) = held.pop() {
                    ids.remove(&buf.id());
                    if byte & 1 == 0 {
                        pool.free(buf).expect("of this pool");
                    } else if let Err(buf) = tx.push(buf) {
                        pool.free(buf).expect("of this pool");
                    }
                }
            }
            6 => {
                let _ = tx.send(&[what; 1600][..byte * 6]);
                let _ = tx.kick();
            }
            7 => {
                // Completes what was sent, or anything.
                let sent = tx_raw.take().map(|desc| desc.addr);
                done_raw.give(if byte & 1 == 0 { sent.unwrap_or(any) } else { any });
            }
            8 => {
                tx.reap_with(&mut |stamp| {
                    std::hint::black_box(stamp);
                });
            }
            _ => {
                let ring = [rx_raw.producer, rx_raw.flags, fill_raw.consumer, fill_raw.flags];
                let more = [tx_raw.consumer, tx_raw.flags, done_raw.producer];
                let words: Vec<_> = ring.into_iter().chain(more).collect();
                // SAFETY: of the rings above.
                unsafe { words[byte % words.len()].as_ref() }.store(word(0), Ordering::Release);
            }
        }
        assert!(tx.room() <= SLOTS);
    }
    for buf in held {
        pool.free(buf).expect("of this pool");
    }
    drop((rx, tx));
    socket.forget_kept();
    assert_eq!(pool.outstanding(), 0, "every buffer came back");
}
