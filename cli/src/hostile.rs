//! Every handler that looks into frames, on frames of a stranger: any bytes, and good frames with
//! some of theirs changed. None may panic, loop or count more than came.

use linerate::file::Reader;
use linerate::{RxFrame, RxMeta};
use proptest::prelude::*;

use crate::capture::Inspect as _;
use crate::demo::{Arbiter, Inspector};
use crate::groups::Groups;
use crate::load::{Deck, Tally};
use crate::meeting;
use crate::probe::{Follow, Mark, Origin};
use crate::sequence::{SeqSpec, SeqTracker};
use crate::top::Finder;

/// A frame of a load or of another group, with changes: (place, value).
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let frame = (0..4_u8, any::<prop::sample::Index>(), changes, any::<Vec<u8>>());
    prop::collection::vec(frame, 1..20).prop_map(|all| {
        let flows = meeting::groups(&["239.1.1.1:5000+3".into()]).unwrap();
        let sizes = "60,120".parse().unwrap();
        let mut deck = Deck::new(&flows, &sizes, &Origin::of(None), None).unwrap();
        let make = |(kind, cut, changes, noise): (u8, prop::sample::Index, Vec<_>, Vec<u8>)| {
            let mut frame = deck.frame(1_790_000_000_000_000_000).to_vec();
            deck.step();
            match kind {
                0 => frame = noise,
                1 => frame.truncate(cut.index(frame.len())),
                2 => frame.truncate(42 + cut.index(frame.len() - 42)),
                _ => {}
            }
            for (place, value) in changes {
                if !frame.is_empty() {
                    let at: prop::sample::Index = place;
                    let at = at.index(frame.len());
                    frame[at] = value;
                }
            }
            frame
        };
        all.into_iter().map(make).collect()
    })
}

proptest! {
    #[test]
    fn frames_of_strangers(frames in frames(), now in any::<u64>()) {
        let flows = meeting::groups(&["239.1.1.1:5000+3".into()]).unwrap();
        let seq: SeqSpec = "u64be@0+u32be@4".parse().unwrap();
        let mut groups = Groups::new(&flows, Some(seq));
        let mut tally = Tally::new(&flows);
        let mut inspector = Inspector::new();
        let (mut finder, found) = Finder::new();
        for bytes in &frames {
            let frame = RxFrame { bytes, meta: RxMeta::plain(bytes.len()) };
            let _ = groups.count(bytes, bytes.len() as u64);
            tally.see(&frame);
            inspector.see(usize::from(bytes.first().copied().unwrap_or(0)), &frame);
            finder.see_other(&frame);
            let _ = Mark::of_frame(bytes, now);
        }
        let n = frames.len() as u64;
        prop_assert_eq!(tally.totals().frames + tally.damaged + tally.foreign, n);
        prop_assert!(groups.counts().iter().map(|count| count.frames).sum::<u64>() <= n);
        finder.report();
        let lines = crate::top::lines_of(&found);
        prop_assert_eq!(lines.iter().map(|line| line.frames).sum::<u64>(), n);
    }

    #[test]
    fn numbers_of_strangers(numbers in prop::collection::vec(
        (any::<u8>(), prop_oneof![any::<u64>(), Just(u64::MAX), 0..9_u64], any::<u32>()), 1..40)) {
        let (mut line, mut follow, mut a) =
            (SeqTracker::default(), Follow::default(), Arbiter::new(1));
        for (stream, seq, count) in numbers {
            line.see(seq, if stream == 0 { u64::MAX } else { u64::from(count) });
            follow.see(stream & 1, seq as u32);
            a.see(usize::from(stream), seq as u32);
            prop_assert!(follow.missing() <= 40 << 32);
        }
        a.missing(1);
    }

    /// What `replay` and `pcap:` read: an error, an end, or frames no longer than the file.
    #[test]
    fn files_of_strangers(bytes in any::<Vec<u8>>(), head in 0..3_usize) {
        let heads: [&[u8]; 3] = [b"", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], &[0x0a, 0x0d, 0x0d, 0x0a]];
        let file = [heads[head], &bytes].concat();
        if let Ok(mut reader) = Reader::new(std::io::Cursor::new(file.clone())) {
            while let Ok(Some(record)) = reader.next() {
                prop_assert!(record.bytes.len() <= file.len());
            }
        }
    }
}
