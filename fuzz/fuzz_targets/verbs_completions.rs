//! Verbs queues that find any completion between real ones: no panic, no byte outside the
//! buffers, and no buffer in two hands. The real libibverbs, the simulated provider, each way of
//! stamping and both kinds of completion queue.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use linerate_common::pool::{Huge, Pool};
use linerate_common::{BufRx, BufTx, FlowKind, FlowSpec, FrameRx, FrameTx};
use linerate_sim::Plug;
use linerate_sim::verbs::{Device, Forged, StampKind, api};
use linerate_verbs::{Context, Library, NoBuffer, Options, open_on};

/// Two devices on a cable whose threads stand still: the target does their work.
type Pair = [Device; 2];

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::injected(api().expect("libibverbs (apt install libibverbs1)")));

/// libibverbs never lets go of a device, so each kind is made once.
static PAIRS: LazyLock<[Pair; 5]> = LazyLock::new(|| {
    use StampKind::{None, RealTime, Ticks, Wallclock};
    let kinds = [Wallclock, Ticks, RealTime, None, Wallclock];
    let mut made = kinds.map(|kind| {
        let (a, b) = Plug::pair();
        let device = |name, plug| Device::with_stamps(name, plug, kind).expect("a device");
        [device("fuzz0", a), device("fuzz1", b)]
    });
    made.iter().flatten().for_each(|device| device.faults().stall(true));
    made[4].iter_mut().for_each(|device| device.faults().refuse_extended_cq());
    made
});

fuzz_target!(|data: &[u8]| {
    let Some((&how, steps)) = data.split_first() else { return };
    let [near, far] = &PAIRS[usize::from(how) % PAIRS.len()];
    let pool = Pool::builder().frames(256).huge(Huge::Never).lock(false).build().expect("a pool");
    let mut options = Options::default();
    options.flows = vec![FlowSpec::of(FlowKind::All)];
    options.rx_slots = 32;
    options.tx_slots = 32;
    options.recover = how & 0x20 == 0;
    options.tx_timestamps = how & 0x40 != 0;
    options.no_buffer = Some(NoBuffer::from_fn(|| 0));
    options.pool = Some(pool.clone());
    let open = |device: &Device| {
        // SAFETY: a simulated device is valid for as long as the process lives.
        let context = unsafe { Context::from_device(*LIBRARY, device.raw()) }.expect("a context");
        open_on(&context, 1, &options).expect("a port").split()
    };
    let ((mut rx, mut own), (other_rx, mut tx)) = (open(near), open(far));
    let mut held = Vec::new();
    let mut ids = HashSet::new();
    for step in steps.chunks_exact(24) {
        let (&what, rest) = step.split_first().expect("24 bytes");
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("4 bytes"));
        match what % 5 {
            0 => {
                // Mostly a number that a request has, and a length that is near the bounds.
                let near_by = |n: u32, of: u32| if n & 0x300 == 0 { n } else { n % of };
                let forged = Forged {
                    sent: what & 0x80 != 0,
                    wr_id: u64::from(near_by(word(0), 256)) | u64::from(what & 0x40) << 26,
                    status: u32::from(rest[4]) % 24,
                    opcode: word(5),
                    bytes: near_by(word(9), 2200),
                    wc_flags: u32::from(rest[13]),
                    tag: u32::from(rest[14]),
                    at_ns: u64::from(word(15)) << 32 | u64::from(word(19)),
                };
                near.forge(forged);
            }
            1 => {
                let frame = [what; 1600];
                let _ = tx.send(&frame[..14 + word(0) as usize % 1500]);
                let _ = tx.kick();
                let _ = own.send(&frame[..64]);
                let _ = own.kick();
            }
            2 => {
                for i in 0..rx.acquire(usize::from(rest[0]) % 70).unwrap_or(0) {
                    std::hint::black_box(rx.frame(i).bytes.iter().fold(0, |a, b| a ^ b));
                }
                let i = usize::from(rest[1]) % 8;
                if i < rx.len()
                    && let Some(buf) = rx.take(i)
                {
                    assert!(ids.insert(buf.id()), "a buffer in two hands");
                    held.push(buf);
                }
            }
            3 => {
                let _ = rx.poll(usize::from(rest[0]), |f| {
                    std::hint::black_box(f.bytes.iter().fold(0, |a, b| a ^ b));
                });
                own.reap();
            }
            _ => {
                if let Some(buf) = held.pop() {
                    ids.remove(&buf.id());
                    if rest[0] & 1 == 0 {
                        let _ = pool.free(buf);
                    } else if let Err(buf) = own.push(buf) {
                        let _ = pool.free(buf);
                    }
                }
                if rest[1] & 7 == 0 {
                    let _ = rx.recover();
                }
                if rest[2] & 7 == 0 {
                    let _ = own.recover();
                }
            }
        }
        while far.step() | near.step() {}
        let (rx, tx) = (rx.stats(), own.stats());
        assert!(tx.completed <= tx.frames, "{tx:?}");
        std::hint::black_box((rx, tx));
    }
    for buf in held {
        let _ = pool.free(buf);
    }
    drop((rx, own, other_rx, tx));
    assert_eq!(pool.outstanding(), 0, "every buffer came back");
    assert_eq!((near.live_objects(), far.live_objects()), (0, 0), "everything was destroyed");
    // What is still on the cable is not the next input's.
    while far.step() | near.step() {}
});
