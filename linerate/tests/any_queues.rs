//! Queues chosen at run time obey the same rules as what they are made of.

use linerate::conformance::{Rig, Wire, run_all};
use linerate::loopback;
use linerate::prelude::*;
use linerate::{AnyRx, AnyTx, FlowSpec, SetupError};

struct Cable;

impl Rig for Cable {
    type Tx = AnyTx;
    type Rx = AnyRx;

    fn pair(&mut self) -> Result<(AnyTx, AnyRx), SetupError> {
        let (tx, rx) = loopback::pair(&loopback::Options::default())?;
        Ok((AnyTx::Custom(Box::new(tx)), AnyRx::Custom(Box::new(rx))))
    }

    fn wire(&self) -> Wire {
        Wire { quiet: true, ..Wire::default() }
    }
}

#[test]
fn queues_of_your_own_keep_the_rules_inside_the_enum() {
    let report = run_all(&mut Cable);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_queue_says_what_it_cannot() {
    let (_, mut rx) = Cable.pair().unwrap();
    assert_eq!(rx.backend(), None);
    assert!(rx.buf_rx().is_none() && !rx.finished());
    let e = rx.add(&FlowSpec::ALL).unwrap_err();
    assert!(e.to_string().contains("FlowSpec::matches"), "{e}");
}

#[test]
fn queues_move_to_other_threads() {
    fn owned<T: Send>(_: T) {}
    let (tx, rx) = Cable.pair().unwrap();
    owned((tx, rx));
    let _: fn(linerate::Port) = owned;
}
