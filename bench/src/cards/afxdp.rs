//! AF_XDP: rings in memory, whose kernel is played.

use std::rc::Rc;

use linerate::AnyRx;
use linerate_afxdp::XdpRx;
use linerate_afxdp::played::Kernel;

use super::frame;
use crate::twins::{AfxdpReceive, AfxdpSend, Ring, Twins, Xsk};
use crate::{Case, ROUND_RX, ROUND_TX, Sink, feed};

/// As in `twins/rings.h`.
const SLOTS: u32 = 4096;
const FRAMES: usize = 8192;
const FRAME_BYTES: u64 = 2048;

pub(super) fn case(way: &str, frame_bytes: usize) -> Option<Case> {
    let kernel = Rc::new(Kernel::new(SLOTS));
    let bytes = frame(frame_bytes);
    let (sending, arriving) = (Rc::clone(&kernel), bytes.clone());
    let hardware = Rc::clone(&kernel);
    let arrive = move || (0..ROUND_RX).for_each(|_| assert!(hardware.bring(&arriving)));
    let leave = move || {
        sending.send();
    };
    match way {
        "send" => Some(feed::transmit(kernel.queue().1, bytes, leave)),
        "c-receive" | "c-receive-same" => Some(receive_in_c(&kernel, way, arrive)),
        "c-send" => Some(send_in_c(&kernel, bytes, leave)),
        "c-send-same" => None,
        _ => {
            let any = |rx: XdpRx| AnyRx::Afxdp(Box::new(rx));
            feed::receive(way, kernel.queue().0, any, arrive)
        }
    }
}

fn xsk(kernel: &Kernel) -> Xsk {
    let rings = kernel.rings().map(|parts| Ring { parts, mine: 0, theirs: 0 });
    Xsk { fd: -1, memory: kernel.memory(), rings }
}

fn receive_in_c(kernel: &Kernel, way: &str, stage: impl FnMut() + 'static) -> Case {
    let mut xsk = xsk(kernel);
    // The first frames are lent.
    let fill = &mut xsk.rings[2];
    for i in 0..SLOTS as usize {
        // SAFETY: as many slots as the ring has.
        unsafe { fill.parts.slots.cast::<u64>().add(i).write(i as u64 * FRAME_BYTES) };
    }
    fill.mine = SLOTS;
    // SAFETY: the ring's own word; one thread.
    unsafe { fill.parts.producer.write(SLOTS) };
    let mut lent = vec![0_u64; FRAMES / 64];
    lent[..SLOTS as usize / 64].fill(u64::MAX);
    let mut twin = AfxdpReceive {
        sink: Sink::default(),
        xsk,
        lent: lent.leak().as_ptr(),
        frames: 0,
        bytes: 0,
        malformed: 0,
    };
    let twins = Twins::load();
    let function = if way == "c-receive" { twins.afxdp_receive } else { twins.afxdp_receive_same };
    Twins::case(stage, move || {
        // SAFETY: the struct as `afxdp_memory.c` has it, over rings that live for ever.
        let n = unsafe { function(&mut twin, ROUND_RX) };
        (n, twin.sink)
    })
}

fn send_in_c(kernel: &Kernel, frame: Vec<u8>, stage: impl FnMut() + 'static) -> Case {
    let spare = std::array::from_fn(|i| i as u64 * FRAME_BYTES);
    let mut twin = Box::new(AfxdpSend { xsk: xsk(kernel), spares: SLOTS, spare });
    let function = Twins::load().afxdp_send;
    Twins::case(stage, move || {
        // SAFETY: as above, and a frame that outlives the call.
        let n = unsafe { function(&mut *twin, frame.as_ptr(), frame.len(), ROUND_TX) };
        (n, Sink::default())
    })
}
