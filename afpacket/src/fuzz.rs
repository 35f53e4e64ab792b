//! Doors for `fuzz/`: the rings over memory that says anything at all.

use linerate_common::{RxFlags, RxFrame, RxStats};

use crate::blocks::{self, Blocks};
use crate::decode::Decoder;
use crate::frames::{self, Frames};
use crate::ledger::Ledger;
use crate::map::Map;
use crate::sys::Socket;

const BLOCK: usize = 4096;
const SLOT: usize = 256;

/// Two blocks (TPACKET_V3) or sixteen slots (V2) of these bytes, all of them the reader's, read
/// until they are used up.
pub fn rings(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let map = Map::anonymous(2 * BLOCK);
    // SAFETY: a fresh map of two blocks.
    let memory = unsafe { std::slice::from_raw_parts_mut(map.at(0), 2 * BLOCK) };
    let n = bytes.len().min(memory.len());
    memory[..n].copy_from_slice(&bytes[..n]);
    let range = memory.as_ptr() as usize..memory.as_ptr() as usize + 2 * BLOCK;
    let v3 = how & 1 != 0;
    // The status word of a block and that of a slot.
    let (step, at) = if v3 { (BLOCK, 8) } else { (SLOT, 0) };
    for status in (at..2 * BLOCK).step_by(step) {
        memory[status] |= libc::TP_STATUS_USER as u8;
    }
    let decoder = Decoder {
        header: if v3 { blocks::HEADER } else { frames::HEADER },
        snaplen: 1 << 18,
        max_frame: 1522,
        outgoing: how & 2 != 0,
        hardware_ahead_ns: 37_000_000_000,
        hardware_flags: RxFlags::TS_HW,
    };
    let mut ledger = Ledger { socket: Socket::fake(), stats: RxStats::default() };
    let mut sum = 0_u64;
    let mut see = |f: RxFrame<'_>| {
        let start = f.bytes.as_ptr() as usize;
        assert!(range.start <= start && start + f.bytes.len() <= range.end);
        sum += f.bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
    };
    let shown = if v3 {
        let mut ring = Blocks::new(map, BLOCK, 2);
        let shown = ring.poll(usize::MAX, &decoder, &mut ledger, &mut see);
        assert_eq!(ring.poll(1, &decoder, &mut ledger, &mut see), 0, "both blocks went back");
        shown
    } else {
        let mut ring = Frames::new(map, SLOT, 2 * BLOCK / SLOT);
        let shown = ring.poll(usize::MAX, &decoder, &mut ledger, &mut see);
        assert_eq!(ring.poll(1, &decoder, &mut ledger, &mut see), 0, "all slots went back");
        shown
    };
    assert_eq!(ledger.stats.frames, shown as u64);
    std::hint::black_box(sum);
}
