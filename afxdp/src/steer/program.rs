//! The program on an interface, shared by every port that this process opens there.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linerate_common::{ErrorKind, RuleId, SetupError};

use crate::bpf::{self, Link, Map, MapDef, PROGRAM_NAME, Program, Wanted};
use crate::netlink;
use crate::options::Mode;

use super::layout::{PLAN_BYTES, Shape, plan_bytes};
use super::table::{Change, Table};
use super::{Rule, RuleHits, RuleStatus};

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// How the program is wanted on an interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attach<'a> {
    pub(crate) interface: &'a str,
    pub(crate) ifindex: u32,
    pub(crate) mode: Mode,
    /// Put the rule's number and the card's receive time in front of the frames.
    pub(crate) marks: bool,
    pub(crate) hw_ts: bool,
    /// Take a foreign program off.
    pub(crate) replace: bool,
}

/// The programs of this process. Also held while one is put on or taken off an interface.
static PROGRAMS: Mutex<Vec<(Place, Weak<Attached>)>> = Mutex::new(Vec::new());

/// An interface, told apart from those of other network namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    namespace: (u64, u64),
    ifindex: u32,
}

#[derive(Debug)]
struct Attached {
    program: Program,
    /// `None` in tests that only run the program.
    _link: Option<Link>,
    generic: bool,
    meta_cookie: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Port numbers in use; 0 stands for none.
    ports: [bool; 64],
    /// Oldest first: a rule's slot rests as long as possible before the next rule has it.
    free_slots: VecDeque<u32>,
    next_id: u32,
}

/// One port's share of the program. Its rules go when it drops, and the program with the last.
#[derive(Debug)]
pub(crate) struct Steering {
    port: u8,
    /// `None` only while dropping.
    attached: Option<Arc<Attached>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    plan: Vec<Shape>,
    queues: Vec<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn map_error(errno: i32) -> SetupError {
    match errno {
        libc::E2BIG | libc::ENOMEM => too_many_rules(),
        _ => crate::error::bpf("bpf(BPF_MAP_UPDATE_ELEM)", errno),
    }
}

fn too_many_rules() -> SetupError {
    SetupError::new(ErrorKind::Unsupported, "add", "4096 rules are in place on the interface")
        .remedy("remove rules, or ask for wider flows (a group without its port)")
}

impl Steering {
    /// Joins this process's program on the interface, or attaches it. Also returns what was not
    /// had as asked.
    pub(crate) fn open(ask: &Attach<'_>) -> Result<(Self, Vec<String>), SetupError> {
        let place = Place { namespace: namespace()?, ifindex: ask.ifindex };
        let mut programs = lock(&PROGRAMS);
        programs.retain(|(_, attached)| attached.strong_count() > 0);
        let ours = programs.iter().find(|(at, _)| *at == place).and_then(|(_, a)| a.upgrade());
        let mut notices = Vec::new();
        let attached = match ours {
            Some(attached) => {
                attached.fits(ask)?;
                attached
            }
            None => {
                let attached = Arc::new(Attached::new(ask, &mut notices)?);
                programs.push((place, Arc::downgrade(&attached)));
                attached
            }
        };
        Ok((Self::join(attached)?, notices))
    }

    fn join(attached: Arc<Attached>) -> Result<Self, SetupError> {
        let mut state = lock(&attached.state);
        let Some(port) = (1..64).find(|p| !state.ports[usize::from(*p)]) else {
            return Err(SetupError::new(
                ErrorKind::BadArgument,
                "open",
                "this process has 63 ports open on the interface",
            )
            .remedy("open one port with several queues"));
        };
        state.ports[usize::from(port)] = true;
        drop(state);
        let inner = Inner { table: Table::new(port), plan: Vec::new(), queues: Vec::new() };
        Ok(Self { port, attached: Some(attached), inner: Mutex::new(inner) })
    }

    /// # Panics
    ///
    /// Never: only `drop` takes it out.
    fn attached(&self) -> &Attached {
        match &self.attached {
            Some(attached) => attached,
            None => unreachable!("taken out by drop alone"),
        }
    }

    /// Does the program run in generic mode?
    pub(crate) fn is_generic(&self) -> bool {
        self.attached().generic
    }

    /// What precedes a delivered frame, 0 for nothing.
    pub(crate) fn meta_cookie(&self) -> u64 {
        self.attached().meta_cookie
    }

    /// Does the program read the card's receive time?
    pub(crate) fn has_hw_ts(&self) -> bool {
        self.attached().program.hw_ts
    }

    /// Frames of `queue` are ours from now on, as far as the rules say so.
    pub(crate) fn take_queue(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SetupError> {
        let program = &self.attached().program;
        let mut inner = lock(&self.inner);
        program.map("xsks")?.update_fd(queue, socket).map_err(map_error)?;
        let port = u32::from(self.port);
        program
            .map("queue_port")?
            .update(&queue.to_ne_bytes(), &port.to_ne_bytes())
            .map_err(map_error)?;
        inner.queues.push(queue);
        Ok(())
    }

    /// Frames of `queue` go to the kernel again.
    pub(crate) fn leave_queue(&self, queue: u32) {
        let mut inner = lock(&self.inner);
        let Some(place) = inner.queues.iter().position(|q| *q == queue) else { return };
        inner.queues.swap_remove(place);
        let program = &self.attached().program;
        // Nothing can be done about a failure, and none is known: the keys exist.
        let _ = program.map("queue_port").map(|m| m.clear(queue));
        let _ = program.map("xsks").map(|m| m.delete(&queue.to_ne_bytes()));
    }

    pub(crate) fn add(&self, rule: &Rule) -> Result<RuleId, SetupError> {
        let attached = self.attached();
        let mut inner = lock(&self.inner);
        let (id, slot) = {
            let mut state = lock(&attached.state);
            let slot = state.free_slots.pop_front().ok_or_else(too_many_rules)?;
            state.next_id += 1;
            (state.next_id, slot)
        };
        let added = attached.program.map("hits").and_then(|hits| {
            hits.clear(slot).map_err(map_error)?;
            let change = inner.table.add(rule, id, slot)?;
            attached.apply(&change)
        });
        // The rule before the plan: a shape is never looked up in vain for long.
        if let Err(e) = added.and_then(|()| self.publish(&mut inner)) {
            let _ = self.take_out(&mut inner, id);
            lock(&attached.state).free_slots.push_back(slot);
            return Err(e);
        }
        Ok(RuleId(id))
    }

    pub(crate) fn remove(&self, id: RuleId) -> Result<(), SetupError> {
        let mut inner = lock(&self.inner);
        let Some(slot) = inner.table.find(id.0).map(|e| e.slot) else {
            return Err(SetupError::new(
                ErrorKind::BadArgument,
                "remove",
                format!("this port has no rule {}", id.0),
            ));
        };
        let done = self.take_out(&mut inner, id.0);
        lock(&self.attached().state).free_slots.push_back(slot);
        done
    }

    fn take_out(&self, inner: &mut Inner, id: u32) -> Result<(), SetupError> {
        let Some((_, change)) = inner.table.remove(id) else { return Ok(()) };
        self.attached().apply(&change)?;
        self.publish(inner)
    }

    /// Puts a new plan in the old one's place, if it changed. When this returns, no program on
    /// any CPU works by the old plan any more (the kernel waits for that).
    fn publish(&self, inner: &mut Inner) -> Result<(), SetupError> {
        let shapes = inner.table.shapes();
        if shapes == inner.plan {
            return Ok(());
        }
        let map = Map::create("plan", plan_def(), None)
            .map_err(|errno| crate::error::bpf("bpf(BPF_MAP_CREATE)", errno))?;
        map.update(&0u32.to_ne_bytes(), &plan_bytes(&shapes)).map_err(map_error)?;
        let plans = self.attached().program.map("plans")?;
        plans.update_fd(u32::from(self.port), map.as_fd()).map_err(map_error)?;
        inner.plan = shapes;
        Ok(())
    }

    /// The rules in place, first to match first, with their counts.
    pub(crate) fn rules(&self) -> Result<Vec<RuleStatus>, SetupError> {
        let inner = lock(&self.inner);
        let hits = self.attached().program.map("hits")?;
        let status = |e: &super::table::Entry| {
            let per_cpu = hits.lookup(&e.slot.to_ne_bytes()).map_err(map_error)?;
            let mut sum = RuleHits::default();
            for cpu in per_cpu.chunks_exact(16) {
                let count = |at: usize| {
                    cpu[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
                };
                sum.frames += count(0);
                sum.bytes += count(8);
            }
            Ok(RuleStatus { id: RuleId(e.id), flow: e.flow, action: e.action, hits: sum })
        };
        inner.table.entries().iter().map(status).collect()
    }

    /// For tests: the program alone, on no interface.
    #[cfg(test)]
    pub(super) fn unattached() -> Result<Self, SetupError> {
        let program = bpf::load(Wanted::default(), plan_def())?;
        Self::join(Arc::new(Attached {
            program,
            _link: None,
            generic: false,
            meta_cookie: 0,
            state: Mutex::new(State::new()),
        }))
    }

    /// For tests: lets queue 0 be this port's without a socket, and runs the program.
    #[cfg(test)]
    pub(super) fn run(&self, frame: &[u8]) -> Result<u32, i32> {
        let program = &self.attached().program;
        let port = u32::from(self.port).to_ne_bytes();
        program.map("queue_port").map_err(|_| 0)?.update(&[0; 4], &port)?;
        bpf::test_run(program.as_fd(), frame)
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(attached) = self.attached.take() else { return };
        for queue in &inner.queues {
            let _ = attached.program.map("queue_port").map(|m| m.clear(*queue));
            let _ = attached.program.map("xsks").map(|m| m.delete(&queue.to_ne_bytes()));
        }
        let mut slots = Vec::new();
        while let Some(id) = inner.table.entries().first().map(|e| e.id) {
            let Some((entry, change)) = inner.table.remove(id) else { break };
            let _ = attached.apply(&change);
            slots.push(entry.slot);
        }
        if let Ok(plans) = attached.program.map("plans") {
            let _ = plans.delete(&u32::from(self.port).to_ne_bytes());
        }
        let mut state = lock(&attached.state);
        state.free_slots.extend(slots);
        state.ports[usize::from(self.port)] = false;
        drop(state);
        // Detaches with the last port, before another open can look for a program here.
        let _programs = lock(&PROGRAMS);
        drop(attached);
    }
}

impl State {
    fn new() -> Self {
        Self { ports: [false; 64], free_slots: (0..4096).collect(), next_id: 0 }
    }
}

fn plan_def() -> MapDef {
    MapDef::single(PLAN_BYTES)
}

impl Attached {
    fn new(ask: &Attach<'_>, notices: &mut Vec<String>) -> Result<Self, SetupError> {
        clear_the_way(ask, notices)?;
        let mut refused = None;
        if ask.mode != Mode::Generic {
            if ask.hw_ts {
                match Self::try_attach(ask, true, false) {
                    Ok(attached) => return Ok(attached),
                    Err(e) => notices.push(format!("no hardware receive time: {e}")),
                }
            }
            match Self::try_attach(ask, false, false) {
                Ok(attached) => return Ok(attached),
                Err(e) if ask.mode != Mode::Auto || is_final(&e) => return Err(e),
                Err(e) => refused = Some(e),
            }
        }
        let attached = Self::try_attach(ask, false, true)?;
        if let Some(e) = refused {
            notices.push(format!("generic mode, about half as fast as the driver's own: {e}"));
        }
        Ok(attached)
    }

    fn try_attach(ask: &Attach<'_>, hw_ts: bool, generic: bool) -> Result<Self, SetupError> {
        let meta_cookie = if ask.marks || hw_ts { random_cookie()? } else { 0 };
        let wanted = Wanted { meta_cookie, hw_ts: hw_ts.then_some(ask.ifindex) };
        let program = bpf::load(wanted, plan_def())?;
        let flags = if generic { XDP_FLAGS_SKB_MODE } else { XDP_FLAGS_DRV_MODE };
        let link = Link::attach(program.as_fd(), ask.ifindex, flags)
            .map_err(|errno| refusal(ask, errno, generic))?;
        let state = Mutex::new(State::new());
        Ok(Self { program, _link: Some(link), generic, meta_cookie, state })
    }

    /// A further port takes the program as it is.
    fn fits(&self, ask: &Attach<'_>) -> Result<(), SetupError> {
        let conflict = |what: &str| {
            SetupError::new(
                ErrorKind::BadArgument,
                "open",
                format!("this process has its program on {} already, {what}", ask.interface),
            )
            .remedy("open every port of an interface with the same mode, marks and stamps")
        };
        match ask.mode {
            Mode::Native | Mode::ZeroCopy if self.generic => Err(conflict("in generic mode")),
            Mode::Generic if !self.generic => Err(conflict("in native mode")),
            _ if ask.marks && self.meta_cookie == 0 => Err(conflict("without marks")),
            _ => Ok(()),
        }
    }

    fn apply(&self, change: &Change) -> Result<(), SetupError> {
        let rules = self.program.map("rules")?;
        match change {
            Change::None => Ok(()),
            Change::Set { key, rule } => rules.update(key, rule).map_err(map_error),
            Change::Delete { key } => match rules.delete(key) {
                // A rule whose adding failed half-way is not there.
                Ok(()) | Err(libc::ENOENT) => Ok(()),
                Err(errno) => Err(map_error(errno)),
            },
        }
    }
}

/// A program in the way is refused, or taken off when that was asked for.
fn clear_the_way(ask: &Attach<'_>, notices: &mut Vec<String>) -> Result<(), SetupError> {
    let Some(there) = netlink::xdp_program(ask.ifindex)? else { return Ok(()) };
    let what = describe(there.program);
    if !ask.replace {
        return Err(occupied(ask, &what));
    }
    // A link can only be detached as a link, anything else only by netlink.
    match bpf::find_xdp_link(there.program, ask.ifindex) {
        Ok(Some(link)) => {
            link.detach().map_err(|errno| crate::error::bpf("bpf(BPF_LINK_DETACH)", errno))?;
        }
        _ => netlink::detach_xdp(ask.ifindex, there.mode_flag)?,
    }
    notices.push(format!("took {what} off {}, as asked", ask.interface));
    Ok(())
}

fn describe(program: u32) -> String {
    match bpf::program_name(program) {
        Some(name) if name == PROGRAM_NAME => {
            format!("the program of another linerate process (id {program})")
        }
        Some(name) => format!("the XDP program {name} (id {program})"),
        None => format!("an XDP program (id {program})"),
    }
}

fn occupied(ask: &Attach<'_>, what: &str) -> SetupError {
    SetupError::new(
        ErrorKind::Os,
        "bpf(BPF_LINK_CREATE)",
        format!("{what} is on the interface already"),
    )
    .remedy(format!(
        "end its process, or take it off with: ip link set {} xdp off, or allow replacing it \
         (?replace=on)",
        ask.interface
    ))
}

/// Errors that generic mode would not cure.
fn is_final(e: &SetupError) -> bool {
    matches!(e.errno(), libc::EPERM | libc::EACCES | libc::ENODEV | libc::ENOMEM)
        || e.op() != "bpf(BPF_LINK_CREATE)"
        || matches!(e.kind(), ErrorKind::Os if e.errno() == 0)
}

fn refusal(ask: &Attach<'_>, errno: i32, generic: bool) -> SetupError {
    const OP: &str = "bpf(BPF_LINK_CREATE)";
    let e = SetupError::os(OP, errno);
    match errno {
        libc::EBUSY | libc::EEXIST => {
            let there = netlink::xdp_program(ask.ifindex).ok().flatten();
            occupied(ask, &there.map_or("an XDP program".to_owned(), |t| describe(t.program)))
        }
        libc::EPERM | libc::EACCES => crate::error::bpf(OP, errno),
        libc::EINVAL if generic => e.remedy("use Linux 5.9 or newer: it can tie XDP to a process"),
        libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::E2BIG | libc::ENOSPC => {
            e.remedy(format!(
                "the driver cannot run XDP programs, or not at this MTU or with these offloads: \
                 ip link set {0} mtu 1500; ethtool -K {0} lro off; or use ?mode=generic",
                ask.interface
            ))
        }
        _ => e,
    }
}

fn namespace() -> Result<(u64, u64), SetupError> {
    let file = fs::metadata("/proc/thread-self/ns/net").map_err(|e| {
        SetupError::os("stat(/proc/thread-self/ns/net)", e.raw_os_error().unwrap_or(libc::EIO))
            .remedy("mount /proc")
    })?;
    Ok((file.dev(), file.ino()))
}

fn random_cookie() -> Result<u64, SetupError> {
    let mut bytes = [0; 8];
    // SAFETY: writes at most the 8 bytes of the buffer.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n != 8 {
        return Err(SetupError::last_os("getrandom"));
    }
    Ok(u64::from_ne_bytes(bytes).max(1))
}
