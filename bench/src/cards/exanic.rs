//! ExaNIC: receiving reads a ring in memory, sending writes the card's memory and a register.

use std::ffi::CString;
use std::rc::Rc;

use linerate::AnyRx;
use linerate_exanic::{ExanicRx, Options, open_with};
use linerate_exanic_sys::{regs, tx};
use linerate_sim::exanic::Card;

use super::{address, frame};
use crate::twins::{ExanicReceive, ExanicSend, Twins};
use crate::{Case, ROUND_RX, feed};

/// 2026 at the card's usual rate.
const TICK_HZ: u64 = 161_132_800;
const START: u64 = 1_790_000_000 * TICK_HZ;

pub(super) fn case(way: &str, frame_bytes: usize) -> Option<Case> {
    // The card stands still but for what the staging makes it do.
    let card = Card::builder().without_thread().manual_clock(START).build();
    let card = Rc::new(card);
    let bytes = frame(frame_bytes);
    let (hardware, step) = (Rc::clone(&card), Rc::clone(&card));
    let arriving = bytes.clone();
    let arrive = move || (0..ROUND_RX).for_each(|_| hardware.inject(0, &arriving));
    let port = || open_with(Card::api(), &card.port_name(0), &Options::default()).unwrap();
    match way {
        "send" => Some(feed::transmit(port().tx().unwrap(), bytes, move || step.step())),
        "c-receive" => Some(receive_in_c(&card, arrive)),
        "c-send" => Some(send_in_c(&card, bytes, move || step.step())),
        _ => {
            let any = |rx: ExanicRx| AnyRx::Exanic(Box::new(rx));
            feed::receive(way, port().rx().unwrap(), any, arrive)
        }
    }
}

fn receive_in_c(card: &Card, stage: impl FnMut() + 'static) -> Case {
    let api = Card::api();
    let name = CString::new(card.name()).unwrap();
    // SAFETY: a name of a card that is there; port 0 and its default ring exist.
    let mut twin = unsafe {
        let handle = (api.acquire_handle)(name.as_ptr());
        let rx = (api.acquire_rx_buffer)(handle, 0, 0);
        (api.rx_catchup)(rx);
        let position = u32::from((*rx).generation) << 14 | (*rx).next_chunk;
        let ring = (*rx).buffer.cast_const().cast::<u8>();
        let before = ring.add((position.wrapping_sub(1) & 16383) as usize * 128 + 120);
        ExanicReceive {
            sink: crate::Sink::default(),
            ring: ring.cast(),
            page: (*handle).info_page.cast_const().cast(),
            hz: TICK_HZ,
            ns_per_tick: (1_000_000_000_u128 << 64).div_ceil(u128::from(TICK_HZ)),
            second_ticks: 0,
            second_ns: 0,
            before: before.cast::<u64>().read(),
            position,
            buffer: Box::leak(vec![0_u64; 2048].into_boxed_slice()).as_mut_ptr().cast(),
            buffer_bytes: 2048 * 8,
            frames: 0,
            bytes: 0,
        }
    };
    let function = Twins::load().exanic_receive;
    Twins::case(stage, move || {
        // SAFETY: the struct as `exanic.c` has it, with a mapped ring and page.
        let n = unsafe { function(&mut twin, ROUND_RX) };
        (n, twin.sink)
    })
}

fn send_in_c(card: &Card, frame: Vec<u8>, stage: impl FnMut() + 'static) -> Case {
    let api = Card::api();
    let name = CString::new(card.name()).unwrap();
    // SAFETY: as above; the sender is never given back.
    let mut twin = unsafe {
        let handle = (api.acquire_handle)(name.as_ptr());
        let sender = (api.acquire_tx_buffer)(handle, 0, 32 << 10);
        ExanicSend {
            card: handle.cast(),
            write_register: address!(api.hooks.register_write.unwrap()),
            command: regs::port(0, regs::PORT_TX_COMMAND),
            offset: (*sender).buffer_offset,
            memory: (*sender).buffer.cast(),
            bytes: 32 << 10,
            feedback: (*sender).feedback,
            slot: (*sender).feedback_slot as u16,
            type_raw: tx::TYPE_RAW,
            next: 0,
            sequence: 0,
            done: 0,
            queue: (*sender).queue_len as u32,
            starts: [0; 1024],
            frames: 0,
            sent_bytes: 0,
        }
    };
    let function = Twins::load().exanic_send;
    Twins::case(stage, move || {
        // SAFETY: the struct as `exanic.c` has it, and a frame that outlives the call.
        let n = unsafe { function(&mut twin, frame.as_ptr(), frame.len(), crate::ROUND_TX) };
        (n, crate::Sink::default())
    })
}
