//! The flows of a queue, and the filter made of them.

use linerate_common::{ErrorKind, FlowSpec, RuleId, SetupError};

use crate::filter;
use crate::sys::Socket;

/// The flows that a queue's filter takes.
#[derive(Debug)]
pub(crate) struct Rules {
    list: Vec<(RuleId, FlowSpec)>,
    last: u32,
    snaplen: u32,
    outgoing: bool,
}

impl Rules {
    pub(crate) fn new(
        flows: &[FlowSpec],
        snaplen: u32,
        outgoing: bool,
    ) -> Result<Self, SetupError> {
        for flow in flows {
            check(flow)?;
        }
        let list: Vec<_> = (1..).map(RuleId).zip(flows.iter().copied()).collect();
        let last = list.len() as u32;
        Ok(Self { list, last, snaplen, outgoing })
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (RuleId, FlowSpec)> + '_ {
        self.list.iter().copied()
    }

    pub(crate) fn add(&mut self, flow: &FlowSpec, socket: &Socket) -> Result<RuleId, SetupError> {
        check(flow)?;
        let id = RuleId(self.last + 1);
        self.list.push((id, *flow));
        if let Err(e) = self.attach(socket) {
            self.list.pop();
            return Err(e);
        }
        self.last = id.0;
        Ok(id)
    }

    pub(crate) fn remove(&mut self, rule: RuleId, socket: &Socket) -> Result<(), SetupError> {
        let at = self.list.iter().position(|(id, _)| *id == rule).ok_or_else(|| {
            let detail = format!("there is no rule {}", rule.0);
            SetupError::new(ErrorKind::BadArgument, "Steer::remove", detail)
        })?;
        let entry = self.list.remove(at);
        self.attach(socket).inspect_err(|_| self.list.insert(at, entry))
    }

    /// Puts the filter in place.
    pub(crate) fn attach(&self, socket: &Socket) -> Result<(), SetupError> {
        let flows: Vec<_> = self.list.iter().map(|(_, flow)| *flow).collect();
        let program = filter::compile(&flows, self.snaplen, self.outgoing).map_err(|len| {
            let (n, max) = (flows.len(), filter::MAX_PROGRAM);
            let detail = format!("a filter for {n} flows takes {len} instructions of {max}");
            SetupError::new(ErrorKind::Unsupported, "SO_ATTACH_FILTER", detail).remedy(
                "name consecutive groups as a range (239.1.1.0:5000+256), \
                 or open a second port for the rest",
            )
        })?;
        socket.attach(&program).map_err(|e| {
            let e = SetupError::from(e);
            match e.errno() {
                libc::ENOMEM => e.remedy("sudo sysctl net.core.optmem_max=1048576"),
                _ => e,
            }
        })
    }
}

fn check(flow: &FlowSpec) -> Result<(), SetupError> {
    flow.check()
        .map_err(|e| SetupError::new(ErrorKind::BadArgument, "SO_ATTACH_FILTER", e.to_string()))
}
