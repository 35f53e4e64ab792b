//! The card's own thread.

use std::sync::Arc;

use super::card::{Discard, Inner, Kind, NAP, lock};
use super::vi::Vi;
use crate::cable::{WireFrame, WireState};

/// Frames taken off the wire in one step.
const FRAMES: usize = 64;

/// Works until the card is gone.
pub(super) fn run(card: &Inner) {
    card.plug.wake_on_arrival(std::thread::current());
    while !lock(&card.state).stop {
        if !step(card) {
            std::thread::park_timeout(NAP);
        }
    }
}

/// Does what there is to do. `false`: nothing.
pub(super) fn step(card: &Inner) -> bool {
    let vis = card.vis();
    let (hold, slow) = {
        let state = lock(&card.state);
        (state.hold_completions, state.slow_tails)
    };
    let mut worked = false;
    // What arrived slowly is complete one step later.
    for vi in &vis {
        worked |= vi.settle(true);
    }
    let error = || {
        let mut state = lock(&card.state);
        let due = state.tx_errors > 0;
        state.tx_errors -= u32::from(due);
        due
    };
    for vi in &vis {
        worked |= vi.transmit(hold, error);
    }
    for _ in 0..FRAMES {
        let Some(frame) = card.plug.recv() else { break };
        // Asked anew: a queue that was opened before the frame was sent must get it.
        deliver(card, &card.vis(), &frame, slow);
        worked = true;
        if slow {
            break;
        }
    }
    for vi in &card.vis() {
        worked |= vi.settle(false);
    }
    worked
}

/// Gives a frame to the VIs whose filters want it.
fn deliver(card: &Inner, vis: &[Arc<Vi>], frame: &WireFrame, slow: bool) {
    let fault = {
        let mut state = lock(&card.state);
        state.received += 1;
        let ordered = state.discards.pop_front().flatten();
        ordered.or((frame.state != WireState::Good).then_some(Discard::Crc))
    };
    let multicast = frame.bytes.first().is_some_and(|b| b & 1 == 1);
    let many = multicast && card.settings.replication;
    let mut taken = false;
    if lock(&card.state).other_traffic && card.kind == Kind::Shared {
        vis.iter().for_each(|vi| vi.receive(&frame.bytes, 0, fault, slow));
        return;
    }
    // Filters for what is left over are asked when all others have been.
    for leftovers in [false, true] {
        for vi in vis {
            let Some((id, sniff)) = wanted(vi, &frame.bytes, leftovers, taken) else { continue };
            if taken && !many && !sniff {
                continue;
            }
            vi.receive(&frame.bytes, id, fault, slow);
            taken |= !sniff;
        }
        if taken {
            break;
        }
    }
    lock(&card.state).unwanted += u64::from(!taken);
}

/// The filter of the VI, or of its set, that selects the frame, and whether it only sniffs.
fn wanted(vi: &Vi, frame: &[u8], leftovers: bool, taken: bool) -> Option<(u32, bool)> {
    use super::filter::FilterKind::{RestMulticast, RestUnicast, Sniff};
    let find = |filters: &[super::filter::Filter]| {
        let hit = filters.iter().find(|f| {
            let rest = matches!(f.kind, RestUnicast | RestMulticast);
            rest == leftovers && f.kind.matches(frame, taken)
        });
        hit.map(|f| (u32::try_from(f.id).unwrap_or(0), f.kind == Sniff))
    };
    let own = find(&vi.lock().filters);
    own.or_else(|| {
        let (set, me) = vi.set.as_ref()?;
        if set.picks(*me, frame) { find(&lock(&set.filters)) } else { None }
    })
}
