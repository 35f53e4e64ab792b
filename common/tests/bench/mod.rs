//! A conformance rig made of closures: the loopback pair with something around either end.

use linerate_common::conformance::{Rig, Wire};
use linerate_common::loopback::{self, LoopRx, LoopTx, Options};
use linerate_common::pool::Pool;
use linerate_common::{BufRx, BufTx, ClockInfo, FrameRx, FrameTx, SetupError, TxStamps};

type Open<Tx, Rx> = Box<dyn Fn(LoopTx, LoopRx) -> (Tx, Rx)>;

pub(crate) struct Bench<Tx, Rx> {
    pub(crate) wire: Wire,
    open: Open<Tx, Rx>,
    pool: Option<Pool>,
    pub(crate) take: Option<fn(&mut Rx) -> &mut dyn BufRx>,
    pub(crate) push: Option<fn(&mut Tx) -> &mut dyn BufTx>,
    pub(crate) stamps: Option<fn(&mut Tx) -> &mut dyn TxStamps>,
    pub(crate) clock: Option<fn(&Rx) -> ClockInfo>,
}

impl<Tx, Rx> Bench<Tx, Rx> {
    pub(crate) fn new(open: impl Fn(LoopTx, LoopRx) -> (Tx, Rx) + 'static) -> Self {
        let wire = Wire { min_len: 14, quiet: true, ..Wire::default() };
        Self {
            wire,
            open: Box::new(open),
            pool: None,
            take: None,
            push: None,
            stamps: None,
            clock: None,
        }
    }
}

impl<Tx: FrameTx + Send, Rx: FrameRx + Send> Rig for Bench<Tx, Rx> {
    type Tx = Tx;
    type Rx = Rx;

    fn pair(&mut self) -> Result<(Tx, Rx), SetupError> {
        let (tx, rx) = loopback::pair(&Options::default())?;
        self.pool = Some(rx.pool().clone());
        Ok((self.open)(tx, rx))
    }

    fn wire(&self) -> Wire {
        self.wire.clone()
    }

    fn buf_rx<'q>(&self, rx: &'q mut Rx) -> Option<&'q mut dyn BufRx> {
        self.take.map(|take| take(rx))
    }

    fn buf_tx<'q>(&self, tx: &'q mut Tx) -> Option<&'q mut dyn BufTx> {
        self.push.map(|push| push(tx))
    }

    fn tx_stamps<'q>(&self, tx: &'q mut Tx) -> Option<&'q mut dyn TxStamps> {
        self.stamps.map(|stamps| stamps(tx))
    }

    fn rx_clock(&self, rx: &Rx) -> Option<ClockInfo> {
        self.clock.map(|clock| clock(rx))
    }

    fn rx_pool(&self, _rx: &Rx) -> Option<Pool> {
        self.pool.clone()
    }

    fn tx_pool(&self, _tx: &Tx) -> Option<Pool> {
        self.pool.clone()
    }
}
