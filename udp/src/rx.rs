//! The receive queue.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use linerate_common::{
    ClockInfo, Clocked, Error, ErrorKind, FlowSpec, FrameRx, MAX_BURST, RuleId, RxFrame, RxStats,
    SetupError, Steer, Waitable,
};

use crate::batch::Batch;
use crate::inlets::Inlets;
use crate::plan::Plan;
use crate::shown::{Shown, by_time, dress};
use crate::stamps::Clocks;

/// Empty turns between two looks at whether the interface went away.
const LINK_EVERY: u32 = 4096;

/// Errors that an ICMP message left on a connected socket, taken off before giving up a turn.
const ICMP_TRIES: usize = 8;

/// Datagrams as frames: see the crate's documentation for which header fields are real.
///
/// `RxStats` from `SO_RXQ_OVFL` and `SO_MEMINFO` (`kernel_drop`: the socket buffer was full, or
/// the checksum was wrong), and `filtered`: unicast datagrams to the port of a group, other
/// senders' ones where a preloaded socket stack does not filter by source, and those that still
/// waited in a socket when the last flow that it was open for was removed.
pub struct UdpRx {
    inlets: Inlets,
    rules: Vec<(RuleId, FlowSpec)>,
    last_rule: u32,
    batch: Batch,
    stamps: Clocks,
    window: [Shown; MAX_BURST],
    len: usize,
    /// Slots that `poll` has received, from the only socket, and not shown yet.
    pending: Range<usize>,
    /// An error that waits until the frames before it have been shown.
    failed: Option<Error>,
    stats: RxStats,
    icmp_errors: u64,
    idle: u32,
    /// Something was received since the queue was armed.
    busy: bool,
}

impl UdpRx {
    pub(crate) fn new(inlets: Inlets, batch: Batch, stamps: Clocks) -> Self {
        Self {
            inlets,
            rules: Vec::new(),
            last_rule: 0,
            batch,
            stamps,
            window: [Shown::NOTHING; MAX_BURST],
            len: 0,
            pending: 0..0,
            failed: None,
            stats: RxStats::default(),
            icmp_errors: 0,
            idle: 0,
            busy: false,
        }
    }

    /// Adds many flows at once.
    ///
    /// # Errors
    ///
    /// As [`Steer::add`]; then none of them is added.
    pub fn add_all(&mut self, flows: &[FlowSpec]) -> Result<Vec<RuleId>, SetupError> {
        self.settle();
        let before = self.rules.len();
        for flow in flows {
            self.last_rule += 1;
            self.rules.push((RuleId(self.last_rule), *flow));
        }
        let done = self.plan().and_then(|plan| self.inlets.apply(&plan));
        if let Err(e) = done {
            self.rules.truncate(before);
            // Closes what was opened in vain; the rules that are left need nothing new.
            let _ = self.plan().and_then(|plan| self.inlets.apply(&plan));
            return Err(e.on(format!("udp:{}", self.inlets.place.name)));
        }
        Ok(self.rules[before..].iter().map(|(id, _)| *id).collect())
    }

    /// What could not be had as asked for, each with what helps: a smaller receive buffer, no
    /// busy polling.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.inlets.notices
    }

    /// Sockets open now.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.inlets.list.len()
    }

    /// How often the interface went away, came back, and everything was opened and joined anew.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.inlets.reopened()
    }

    /// Is the interface away (or back, but without an address)? Nothing can arrive until it
    /// returns; the queue then goes on by itself.
    #[must_use]
    pub fn is_interface_lost(&self) -> bool {
        self.inlets.is_lost()
    }

    /// ICMP errors that came back on connected sockets: for 5-tuple flows, a peer's "port
    /// unreachable". They lose no datagram.
    #[must_use]
    pub fn icmp_errors(&self) -> u64 {
        self.icmp_errors
    }

    fn plan(&self) -> Result<Plan, SetupError> {
        Plan::of(self.rules.iter().map(|(_, flow)| flow))
    }

    fn heed_link(&mut self) {
        self.settle();
        let rules = &self.rules;
        self.inlets.heed_link(|| Plan::of(rules.iter().map(|(_, flow)| flow)).ok());
    }

    /// Receives from one socket into the slots from `first` on.
    #[inline]
    fn receive(&mut self, inlet: usize, first: usize, max: usize) -> Result<usize, Error> {
        // Among several, epoll has said that something is there.
        let only = self.inlets.list.len() == 1;
        let Some(inlet) = self.inlets.list.get_mut(inlet) else { return Ok(0) };
        for _ in 0..ICMP_TRIES {
            let done = if only {
                inlet.receive_growing(&mut self.batch, first, max)
            } else {
                inlet.receive(&mut self.batch, first, max)
            };
            match done {
                Err(e) if is_icmp(e.errno) => self.icmp_errors += 1,
                other => return other,
            }
        }
        Ok(0)
    }

    /// Receives from one socket into the slots from `first` on and appends the frames to the
    /// window. Gives how many slots it took, and the last frame's place in time.
    fn fill(&mut self, inlet: usize, first: usize, max: usize, mut last_ns: u64) -> (usize, u64) {
        let n = match self.receive(inlet, first, max) {
            Ok(n) => n,
            Err(e) => {
                // What came before the error is shown first.
                self.failed = Some(e);
                return (0, last_ns);
            }
        };
        let mac = self.inlets.place.mac;
        for i in first..first + n {
            let source = &mut self.inlets.list[inlet];
            let shown = dress(source, &mut self.batch, &mut self.stamps, &mut self.stats, mac, i);
            if let Some(mut shown) = shown {
                last_ns = shown.after(last_ns);
                self.window[self.len] = shown;
                self.len += 1;
            }
        }
        (n, last_ns)
    }

    /// Closes the window and reports an error that had to wait.
    #[inline]
    fn begin(&mut self) -> Result<(), Error> {
        self.settle();
        self.len = 0;
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Looks after the interface when `received` is 0 for long, and reports an error unless there
    /// are frames to show first.
    #[inline]
    fn end(&mut self, received: usize) -> Result<(), Error> {
        if received > 0 {
            self.idle = 0;
            self.busy = true;
            return Ok(());
        }
        self.idle += 1;
        if self.idle >= LINK_EVERY {
            self.idle = 0;
            self.heed_link();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Counts what a panicking handler was not shown: it had its one delivery.
    #[inline]
    fn settle(&mut self) {
        for i in std::mem::take(&mut self.pending) {
            if let Some(inlet) = self.inlets.list.first_mut() {
                let mac = self.inlets.place.mac;
                dress(inlet, &mut self.batch, &mut self.stamps, &mut self.stats, mac, i);
            }
        }
    }
}

/// Errors that the network reported about something this socket sent.
fn is_icmp(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EMSGSIZE
    )
}

impl FrameRx for UdpRx {
    fn acquire(&mut self, max: usize) -> Result<usize, Error> {
        self.begin()?;
        let max = max.min(MAX_BURST);
        if max == 0 {
            return Ok(0);
        }
        self.inlets.look()?;
        let mut used = 0;
        let mut tried = [(0, 0); MAX_BURST];
        let mut sockets = 0;
        while used < max {
            // A busy socket leaves room for the others, so that time can order their frames.
            let share = (max - used).div_ceil(self.inlets.ready().max(1));
            let Some(inlet) = self.inlets.next_ready() else { break };
            let (n, last_ns) = self.fill(inlet, used, share, 0);
            used += n;
            if n == share {
                tried[sockets] = (inlet, last_ns);
                sockets += 1;
            }
        }
        // What the others left is for those that had more.
        for &(inlet, last_ns) in &tried[..sockets] {
            if used < max {
                used += self.fill(inlet, used, max - used, last_ns).0;
            }
        }
        if self.inlets.list.len() > 1 {
            by_time(&mut self.window[..self.len]);
        }
        self.end(used)?;
        Ok(self.len)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn frame(&self, i: usize) -> RxFrame<'_> {
        self.window[..self.len][i].frame(&self.batch)
    }

    #[inline]
    fn release(&mut self) {
        self.len = 0;
    }

    fn stats(&mut self) -> RxStats {
        let mut stats = self.stats;
        stats.kernel_drop = self.inlets.drops();
        stats.filtered += self.inlets.abandoned();
        stats
    }

    fn waitable(&mut self) -> Option<&mut dyn Waitable> {
        Some(self)
    }

    #[inline]
    fn poll<F: FnMut(RxFrame<'_>)>(&mut self, max: usize, mut f: F) -> Result<usize, Error> {
        if self.inlets.list.len() != 1 {
            let n = self.acquire(max)?;
            for shown in &self.window[..n] {
                f(shown.frame(&self.batch));
            }
            self.release();
            return Ok(n);
        }
        self.begin()?;
        let mut count = 0;
        let n = self.receive(0, 0, max.min(MAX_BURST))?;
        self.pending = 0..n;
        for i in 0..n {
            self.pending.start = i + 1;
            let (source, mac) = (&mut self.inlets.list[0], self.inlets.place.mac);
            let shown = dress(source, &mut self.batch, &mut self.stamps, &mut self.stats, mac, i);
            if let Some(shown) = shown {
                count += 1;
                f(shown.frame(&self.batch));
            }
        }
        if max > 0 {
            self.end(n)?;
        }
        Ok(count)
    }

    fn poll_dyn(&mut self, max: usize, f: &mut dyn FnMut(RxFrame<'_>)) -> Result<usize, Error> {
        self.poll(max, f)
    }
}

impl Clocked for UdpRx {
    fn clock(&self) -> ClockInfo {
        self.stamps.clock()
    }
}

impl Waitable for UdpRx {
    fn fd(&self) -> BorrowedFd<'_> {
        self.inlets.epoll()
    }

    /// Nothing to ask of the kernel. Changes of the interface are dealt with here, since they
    /// wake up too; but for that a wake-up must have brought no datagram.
    fn arm(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.busy) {
            self.heed_link();
        }
        Ok(())
    }
}

/// Groups, 3-tuples and 5-tuples of UDP. Adding a group joins it, on the receiving socket;
/// removing the last rule that wants it leaves it. Both take system calls and memory: keep them
/// out of the hot loop.
impl Steer for UdpRx {
    fn add(&mut self, flow: &FlowSpec) -> Result<RuleId, SetupError> {
        // One flow in, one id out.
        self.add_all(std::slice::from_ref(flow)).map(|_| RuleId(self.last_rule))
    }

    fn remove(&mut self, rule: RuleId) -> Result<(), SetupError> {
        let Some(at) = self.rules.iter().position(|(id, _)| *id == rule) else {
            return Err(SetupError::new(ErrorKind::BadArgument, "remove", "there is no such rule")
                .on(format!("udp:{}", self.inlets.place.name)));
        };
        self.rules.remove(at);
        // The open window stays: only sockets close.
        self.settle();
        let plan = self.plan()?;
        self.inlets.apply(&plan)
    }
}

impl std::fmt::Debug for UdpRx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpRx")
            .field("interface", &self.inlets.place.name)
            .field("sockets", &self.sockets())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
