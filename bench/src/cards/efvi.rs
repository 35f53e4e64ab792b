//! ef_vi: posted buffers (EF10) and packet references (efct), DMA and CTPIO.

use std::ffi::CString;
use std::ptr::null_mut;
use std::rc::Rc;

use linerate::AnyRx;
use linerate_common::pool::{Huge, Pool};
use linerate_common::{FlowSpec, Steer};
use linerate_efvi::{EfviRx, Options, SendPath, open_rx, open_tx};
use linerate_efvi_sys::{
    EF_EVENT_TYPE_RX_REF, EF_VI_CTPIO_CT_THRESHOLD_SNF, EF_VI_RX_TIMESTAMPS, EF_VI_TX_CTPIO,
    ef_filter_cookie, ef_filter_spec, ef_memreg, ef_pd, ef_vi,
};
use linerate_sim::efvi::{Card, Kind, Settings, library};
use linerate_sim::{Plug, WireState};

use super::{address, frame};
use crate::twins::{EfviReceive, EfviSend, Twins};
use crate::{Case, ROUND_RX, ROUND_TX, feed};

pub(super) fn case(kind: Kind, way: &str, frame_bytes: usize) -> Option<Case> {
    let (wire, far) = Plug::pair();
    let mut settings = Settings::default();
    settings.manual = true;
    let card = Rc::new(Card::with("simbench", kind, wire, settings).unwrap());
    let bytes = frame(frame_bytes);
    let arriving = bytes.clone();
    let (arrive_card, leave_card) = (Rc::clone(&card), Rc::clone(&card));
    let far = Rc::new(far);
    let near = Rc::clone(&far);
    let arrive = move || {
        (0..ROUND_RX).for_each(|_| assert!(near.send(&arriving, WireState::Good)));
        arrive_card.step();
    };
    let leave = move || {
        leave_card.step();
        while far.recv().is_some() {}
    };
    let pool = Pool::builder().frames(4096).huge(Huge::Never).lock(false).build().unwrap();
    let mut options = Options::default();
    options.library = Some(library());
    options.pool = Some(pool.clone());
    // What throughput wants, and a C program would do: CTPIO is the shared card's only way.
    options.path = if kind == Kind::Ring { SendPath::Dma } else { SendPath::Ctpio };
    match way {
        "send" => Some(feed::transmit(open_tx("simbench", &options).unwrap(), bytes, leave)),
        "c-receive" | "c-receive-same" => Some(receive_in_c(kind, way, &pool, arrive)),
        "c-send" | "c-send-same" => Some(send_in_c(kind, way, &pool, bytes, leave)),
        _ => {
            let mut rx = open_rx("simbench", &options).unwrap();
            rx.add(&FlowSpec::ALL).unwrap();
            let any = |rx: EfviRx| AnyRx::Efvi(Box::new(rx));
            feed::receive(way, rx, any, arrive)
        }
    }
}

/// A VI as a C program makes one. Nothing of it is ever freed.
fn vi(rxq: i32, txq: i32, flags: u64, pool: &Pool) -> (*mut ef_vi, *const u64) {
    let lib = library();
    // SAFETY: zeroed structs that stay where they are, a handle and domain just opened, and a
    // region that the caller keeps. The calls are checked.
    unsafe {
        let vi: *mut ef_vi = Box::into_raw(Box::new(std::mem::zeroed()));
        let pd: *mut ef_pd = Box::into_raw(Box::new(std::mem::zeroed()));
        let mut dh = -1;
        assert!((lib.driver_open)(&mut dh) >= 0);
        let name = CString::new("simbench").unwrap();
        assert!((lib.pd_alloc_by_name)(pd, dh, name.as_ptr(), 0) >= 0);
        let rc = (lib.vi_alloc_from_pd)(vi, dh, pd, dh, -1, rxq, txq, null_mut(), -1, flags);
        assert!(rc >= 0, "ef_vi_alloc_from_pd: {rc}");
        let mut mr = ef_memreg { mr_dma_addrs: null_mut(), mr_dma_addrs_base: null_mut() };
        let region = pool.region();
        let rc = (lib.memreg_alloc)(&mut mr, dh, pd, dh, region.as_ptr().cast(), region.len());
        assert!(rc >= 0, "ef_memreg_alloc: {rc}");
        std::mem::forget(pool.clone());
        if rxq > 0 {
            let mut spec = ef_filter_spec::default();
            let mut cookie = ef_filter_cookie::default();
            (lib.filter_spec_init)(&mut spec, 0);
            assert!((lib.filter_spec_set_port_sniff)(&mut spec, 1) >= 0);
            assert!((lib.vi_filter_add)(vi, dh, &spec, &mut cookie) >= 0);
        }
        (vi, mr.mr_dma_addrs)
    }
}

fn receive_in_c(kind: Kind, way: &str, pool: &Pool, stage: impl FnMut() + 'static) -> Case {
    let lib = library();
    let (vi, dma) = vi(512, 0, EF_VI_RX_TIMESTAMPS, pool);
    // SAFETY: a live VI.
    let (ops, prefix, capacity) =
        unsafe { (&(*vi).ops, lib.receive_prefix_len(vi), lib.receive_capacity(vi)) };
    let dma_offset = (pool.headroom() - prefix) & !63;
    let mut twin = EfviReceive {
        sink: crate::Sink::default(),
        vi: vi.cast(),
        eventq_poll: address!(ops.eventq_poll.unwrap()),
        receive_init: address!(ops.receive_init.unwrap()),
        receive_push: address!(ops.receive_push.unwrap()),
        get_timestamp: address!(ops.receive_get_timestamp.unwrap()),
        packet_get: address!(lib.efct_vi_rxpkt_get),
        packet_release: address!(lib.efct_vi_rxpkt_release),
        base: pool.region().as_ptr(),
        dma,
        rx_ref: EF_EVENT_TYPE_RX_REF,
        frame_bytes: pool.frame_bytes() as u32,
        dma_offset: dma_offset as u32,
        prefix: prefix as u32,
        buffer_bytes: (pool.frame_bytes() - dma_offset) as u32,
        pending: 0,
        ids: [0; 512],
        frames: 0,
        bytes: 0,
        ahead_s: 0,
        end_s: u64::MAX / 1_000_000_000,
        malformed: 0,
        ring: capacity & !7,
        head: 0,
        tail: 0,
        posted: 0,
        sync: 0,
    };
    if kind == Kind::Ring {
        let ring = capacity & !7;
        // SAFETY: a live VI with nothing posted, and buffers of a registered region.
        unsafe {
            lib.receive_set_buffer_len(vi, twin.buffer_bytes);
            for id in 0..ring as usize {
                let at = id * pool.frame_bytes() + dma_offset;
                let addr = *dma.add(at >> 12) | (at & 0xfff) as u64;
                assert!(lib.receive_init(vi, addr, id as i32) >= 0);
            }
            lib.receive_push(vi);
        }
    }
    let twins = Twins::load();
    let function = match (kind, way) {
        (Kind::Ring, "c-receive") => twins.efvi_ring_receive,
        (Kind::Ring, _) => {
            twin.ids = std::array::from_fn(|i| i as u32);
            twin.posted = twin.ring;
            twins.efvi_ring_receive_same
        }
        (Kind::Shared, "c-receive") => twins.efvi_shared_receive,
        (Kind::Shared, _) => twins.efvi_shared_receive_same,
    };
    Twins::case(stage, move || {
        // SAFETY: the struct as `efvi.c` has it, over a live VI.
        let n = unsafe { function(&mut twin, ROUND_RX) };
        (n, twin.sink)
    })
}

fn send_in_c(
    kind: Kind,
    way: &str,
    pool: &Pool,
    frame: Vec<u8>,
    stage: impl FnMut() + 'static,
) -> Case {
    let lib = library();
    let shared = kind == Kind::Shared;
    let (vi, dma) = vi(0, 512, if shared { EF_VI_TX_CTPIO } else { 0 }, pool);
    // SAFETY: a live VI.
    let ops = unsafe { &(*vi).ops };
    // SAFETY: as above; its state lives as long.
    let (txq, fifo) = unsafe { (&raw const (*(*vi).ep_state).txq, (*vi).vi_txq.ct_fifo_bytes) };
    // SAFETY: as above.
    let (added, removed, ct_added, ct_removed, mask) = unsafe {
        (
            &raw const (*txq).added,
            &raw const (*txq).removed,
            &raw const (*txq).ct_added,
            &raw const (*txq).ct_removed,
            (*vi).vi_txq.mask,
        )
    };
    let mut twin = EfviSend {
        vi: vi.cast(),
        eventq_poll: address!(ops.eventq_poll.unwrap()),
        transmit_init: address!(lib.vi_transmit_init),
        transmit_push: address!(ops.transmit_push.unwrap()),
        transmit_unbundle: address!(lib.vi_transmit_unbundle),
        transmitv_ctpio: address!(ops.transmitv_ctpio.unwrap()),
        transmit_ctpio_fallback: address!(ops.transmit_ctpio_fallback.unwrap()),
        added,
        removed,
        ct_added,
        ct_removed,
        base: pool.region().as_ptr(),
        dma,
        mask,
        fifo_bytes: fifo,
        frame_bytes: pool.frame_bytes() as u32,
        headroom: pool.headroom() as u32,
        threshold: EF_VI_CTPIO_CT_THRESHOLD_SNF,
        n_free: 512,
        free: std::array::from_fn(|i| i as u32),
        frames: 0,
        bytes: 0,
        completed: 0,
        head: 0,
        tail: 0,
        unknown: 0,
        lost: 0,
        by_ctpio: shared.into(),
        paths: [0; 2],
        flying: [0; 512],
    };
    let twins = Twins::load();
    let function = match (shared, way) {
        (false, "c-send") => twins.efvi_ring_send,
        (false, _) => twins.efvi_ring_send_same,
        (true, "c-send") => twins.efvi_shared_send,
        (true, _) => twins.efvi_shared_send_same,
    };
    Twins::case(stage, move || {
        // SAFETY: the struct as `efvi.c` has it, over a live VI, and a frame that outlives it.
        let n = unsafe { function(&mut twin, frame.as_ptr(), frame.len(), ROUND_TX) };
        (n, crate::Sink::default())
    })
}
