//! Raw packet queue pairs under the real libibverbs.

use std::ptr::null_mut;
use std::rc::Rc;

use linerate::AnyRx;
use linerate_common::FlowSpec;
use linerate_common::pool::{Huge, Pool};
use linerate_ibverbs_sys::{self as sys, inline};
use linerate_sim::verbs::{Device, api};
use linerate_sim::{Plug, WireState};
use linerate_verbs::{Context, Library, Options, VerbsRx, open_on};

use super::{address, frame};
use crate::twins::{Twins, VerbsReceive, VerbsSend};
use crate::{Case, ROUND_RX, ROUND_TX, feed};

const SLOTS: u32 = 512;

/// The card's thread takes frames in order, so it is through with all before this bad one when it
/// has counted it.
fn settle(device: &Device, far: &Plug) {
    let before = device.crc_errors();
    assert!(far.send(&[0; 60], WireState::BadCrc));
    while device.crc_errors() == before {
        std::thread::yield_now();
    }
}

pub(super) fn case(way: &str, frame_bytes: usize) -> Option<Case> {
    let (wire, far) = Plug::pair();
    let device = match Device::new("simbench", wire) {
        Ok(device) => Rc::new(device),
        Err(why) => {
            println!("SKIPPED verbs {way}: {why}");
            return None;
        }
    };
    let far = Rc::new(far);
    let bytes = frame(frame_bytes);
    let (card, plug, arriving) = (Rc::clone(&device), Rc::clone(&far), bytes.clone());
    let arrive = move || {
        (0..ROUND_RX).for_each(|_| assert!(plug.send(&arriving, WireState::Good)));
        settle(&card, &plug);
    };
    let card = Rc::clone(&device);
    let mut sent = 0;
    let leave = move || {
        while sent > 0 {
            match far.recv() {
                Some(_) => sent -= 1,
                None => std::thread::yield_now(),
            }
        }
        settle(&card, &far);
        sent = ROUND_TX;
    };
    let pool = Pool::builder().frames(4096).huge(Huge::Never).lock(false).build().unwrap();
    let library = Library::injected(api().unwrap());
    // SAFETY: a simulated device is valid for as long as the process lives.
    let context = unsafe { Context::from_device(library, device.raw()) }.unwrap();
    let mut options = Options::default();
    options.flows = vec![FlowSpec::ALL];
    options.rx_slots = SLOTS;
    options.tx_slots = SLOTS;
    options.pool = Some(pool.clone());
    match way {
        "send" => {
            let (_rx, tx) = open_on(&context, 1, &options).unwrap().split();
            Some(feed::transmit(tx, bytes, leave))
        }
        "c-receive" => Some(receive_in_c(&device, &pool, arrive)),
        "c-send" => Some(send_in_c(&device, &pool, bytes, leave)),
        _ => {
            let (rx, _tx) = open_on(&context, 1, &options).unwrap().split();
            let any = |rx: VerbsRx| AnyRx::Verbs(Box::new(rx));
            feed::receive(way, rx, any, arrive)
        }
    }
}

/// What a C program opens. Nothing of it is ever given back.
struct Raw {
    cq: *mut sys::ibv_cq_ex,
    qp: *mut sys::ibv_qp,
    lkey: u32,
}

fn open(device: &Device, pool: &Pool, recv: u32, send: u32) -> Raw {
    let api = api().unwrap();
    std::mem::forget(pool.clone());
    // SAFETY: a device that lives as long as the process; each object is made of live ones with
    // complete attributes, and checked.
    unsafe {
        let context = (api.ibv_open_device)(device.raw().as_ptr());
        let pd = (api.ibv_alloc_pd)(context);
        let region = pool.region();
        let access = sys::IBV_ACCESS_LOCAL_WRITE as i32;
        let mr = (api.ibv_reg_mr)(pd, region.as_ptr().cast(), region.len(), access);
        assert!(!mr.is_null());
        let stamps = sys::IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK;
        let mut attr: sys::ibv_cq_init_attr_ex = std::mem::zeroed();
        attr.cqe = SLOTS;
        attr.wc_flags = sys::IBV_WC_EX_WITH_BYTE_LEN | sys::IBV_WC_EX_WITH_FLOW_TAG;
        if recv > 0 {
            attr.wc_flags |= stamps;
        }
        let cq = inline::create_cq_ex(context, &mut attr);
        assert!(!cq.is_null());
        let mut attr: sys::ibv_qp_init_attr = std::mem::zeroed();
        attr.send_cq = inline::cq_ex_to_cq(cq);
        attr.recv_cq = attr.send_cq;
        attr.cap.max_send_wr = send;
        attr.cap.max_recv_wr = recv;
        attr.cap.max_send_sge = 1;
        attr.cap.max_recv_sge = 1;
        attr.cap.max_inline_data = if send > 0 { 128 } else { 0 };
        attr.qp_type = sys::IBV_QPT_RAW_PACKET;
        let qp = (api.ibv_create_qp)(pd, &mut attr);
        assert!(!qp.is_null());
        for (state, mask) in [
            (sys::IBV_QPS_INIT, sys::IBV_QP_STATE | sys::IBV_QP_PORT),
            (sys::IBV_QPS_RTR, sys::IBV_QP_STATE),
            (sys::IBV_QPS_RTS, sys::IBV_QP_STATE),
        ] {
            let mut attr: sys::ibv_qp_attr = std::mem::zeroed();
            attr.qp_state = state;
            attr.port_num = 1;
            assert_eq!((api.ibv_modify_qp)(qp, &mut attr, mask), 0);
        }
        if recv > 0 {
            let mut flow = sys::ibv_flow_attr {
                type_: sys::IBV_FLOW_ATTR_ALL_DEFAULT,
                size: size_of::<sys::ibv_flow_attr>() as u16,
                port: 1,
                ..Default::default()
            };
            assert!(!inline::create_flow(qp, &mut flow).is_null());
        }
        Raw { cq, qp, lkey: (*mr).lkey }
    }
}

fn receive_in_c(device: &Device, pool: &Pool, stage: impl FnMut() + 'static) -> Case {
    let raw = open(device, pool, SLOTS, 0);
    // SAFETY: a live queue and pair.
    let (cq, post) = unsafe { (&*raw.cq, (*(*raw.qp).context).ops.post_recv.unwrap()) };
    let mut twin = Box::new(VerbsReceive {
        sink: crate::Sink::default(),
        cq: raw.cq.cast(),
        qp: raw.qp.cast(),
        wr_id: &raw const cq.wr_id,
        status: &raw const cq.status,
        start_poll: address!(cq.start_poll.unwrap()),
        next_poll: address!(cq.next_poll.unwrap()),
        end_poll: address!(cq.end_poll.unwrap()),
        read_byte_len: address!(cq.read_byte_len.unwrap()),
        read_wc_flags: address!(cq.read_wc_flags.unwrap()),
        read_wallclock: address!(cq.read_completion_wallclock_ns.unwrap()),
        read_flow_tag: address!(cq.read_flow_tag.unwrap()),
        post_recv: address!(post),
        base: pool.region().as_ptr(),
        frame_bytes: pool.frame_bytes() as u32,
        headroom: pool.headroom() as u32,
        lkey: raw.lkey,
        // SAFETY: plain numbers and null pointers.
        requests: unsafe { std::mem::zeroed() },
        pieces: Default::default(),
        marks: 0,
        frames: 0,
        bytes: 0,
    });
    for id in 0..SLOTS {
        let at = id as usize * pool.frame_bytes() + pool.headroom();
        let mut piece = sys::ibv_sge {
            addr: pool.region().as_ptr() as u64 + at as u64,
            length: (pool.frame_bytes() - pool.headroom()) as u32,
            lkey: raw.lkey,
        };
        let mut request = sys::ibv_recv_wr {
            wr_id: u64::from(id),
            next: null_mut(),
            sg_list: &mut piece,
            num_sge: 1,
        };
        // SAFETY: a live pair, and a request for registered memory that nobody else uses.
        assert_eq!(unsafe { inline::post_recv(raw.qp, &mut request, &mut null_mut()) }, 0);
    }
    let function = Twins::load().verbs_receive;
    Twins::case(stage, move || {
        // SAFETY: the struct as `verbs.c` has it, over live queues.
        let n = unsafe { function(&mut *twin, ROUND_RX) };
        (n, twin.sink)
    })
}

fn send_in_c(device: &Device, pool: &Pool, frame: Vec<u8>, stage: impl FnMut() + 'static) -> Case {
    let raw = open(device, pool, 0, SLOTS);
    // SAFETY: a live queue and pair.
    let (cq, post) = unsafe { (&*raw.cq, (*(*raw.qp).context).ops.post_send.unwrap()) };
    let mut twin = Box::new(VerbsSend {
        cq: raw.cq.cast(),
        qp: raw.qp.cast(),
        wr_id: &raw const cq.wr_id,
        status: &raw const cq.status,
        start_poll: address!(cq.start_poll.unwrap()),
        next_poll: address!(cq.next_poll.unwrap()),
        end_poll: address!(cq.end_poll.unwrap()),
        post_send: address!(post),
        base: pool.region().as_ptr(),
        frame_bytes: pool.frame_bytes() as u32,
        headroom: pool.headroom() as u32,
        lkey: raw.lkey,
        inline_bytes: 128,
        head: 0,
        tail: 0,
        // SAFETY: plain numbers and null pointers.
        requests: unsafe { std::mem::zeroed() },
        pieces: Default::default(),
        n_free: SLOTS,
        free: std::array::from_fn(|i| i as u32),
        in_flight: [0; SLOTS as usize],
        frames: 0,
        bytes: 0,
    });
    let function = Twins::load().verbs_send;
    Twins::case(stage, move || {
        // SAFETY: the struct as `verbs.c` has it, over live queues, and a frame that outlives it.
        let n = unsafe { function(&mut *twin, frame.as_ptr(), frame.len(), ROUND_TX) };
        (n, crate::Sink::default())
    })
}
