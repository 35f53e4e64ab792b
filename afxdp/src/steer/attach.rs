//! Puts the program on an interface, once for all ports that this process opens there.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use linerate_common::{ErrorKind, SetupError};

use crate::bpf::{self, Link, MapDef, PROGRAM_NAME, Program, Wanted};
use crate::netlink;
use crate::options::Mode;

use super::layout::PLAN_BYTES;
use super::table::Change;

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

/// Our program on an interface. It goes with the last port.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) program: Program,
    /// `None` in tests that only run the program.
    link: Option<Link>,
    pub(super) generic: bool,
    pub(super) meta_cookie: u64,
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn map_error(errno: i32) -> SetupError {
    match errno {
        libc::E2BIG | libc::ENOMEM => too_many_rules(),
        _ => crate::error::bpf("bpf(BPF_MAP_UPDATE_ELEM)", errno),
    }
}

pub(super) fn too_many_rules() -> SetupError {
    SetupError::new(ErrorKind::Unsupported, "add", "4096 rules are in place on the interface")
        .remedy("remove rules, or ask for wider flows (a group without its port)")
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            // Closing is not enough while a child that was just forked holds all descriptors,
            // until it executes its program. Where the kernel cannot (before 5.10), closing must do.
            let _ = link.detach();
        }
    }
}

impl State {
    fn new() -> Self {
        Self { ports: [false; 64], free_slots: (0..4096).collect(), next_id: 0 }
    }
}

pub(super) fn plan_def() -> MapDef {
    MapDef::single(PLAN_BYTES)
}

impl Attached {
    /// This process's program on the interface; attaches it if there is none. Also returns what was
    /// not had as asked.
    pub(super) fn get(ask: &Attach<'_>) -> Result<(Arc<Self>, Vec<String>), SetupError> {
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
        Ok((attached, notices))
    }

    /// Ends one port's use. The last takes the program off the interface, before another `get` can
    /// look for one there; any other cleans up behind itself first.
    pub(super) fn leave(self: Arc<Self>, port: u8, clean_up: impl FnOnce(&Self) -> Vec<u32>) {
        let _programs = lock(&PROGRAMS);
        if Arc::strong_count(&self) > 1 {
            let slots = clean_up(&self);
            let mut state = lock(&self.state);
            state.free_slots.extend(slots);
            state.ports[usize::from(port)] = false;
        }
        drop(self);
    }

    /// A number for a new port.
    pub(super) fn join(&self) -> Result<u8, SetupError> {
        let mut state = lock(&self.state);
        let Some(port) = (1..64).find(|p| !state.ports[usize::from(*p)]) else {
            return Err(SetupError::new(
                ErrorKind::BadArgument,
                "open",
                "this process has 63 ports open on the interface",
            )
            .remedy("open one port with several queues"));
        };
        state.ports[usize::from(port)] = true;
        Ok(port)
    }

    /// No port has this queue any more.
    pub(super) fn forget_queue(&self, queue: u32) {
        // Nothing can be done about a failure, and none is known: the keys are in range.
        let _ = self.program.map("queue_port").map(|m| m.clear(queue));
        let _ = self.program.map("xsks").map(|m| m.delete(&queue.to_ne_bytes()));
    }

    /// An id and a slot for a new rule.
    pub(super) fn new_rule(&self) -> Result<(u32, u32), SetupError> {
        let mut state = lock(&self.state);
        let slot = state.free_slots.pop_front().ok_or_else(too_many_rules)?;
        state.next_id += 1;
        Ok((state.next_id, slot))
    }

    pub(super) fn free_slot(&self, slot: u32) {
        lock(&self.state).free_slots.push_back(slot);
    }

    /// For tests: the program alone, on no interface.
    #[cfg(test)]
    pub(super) fn nowhere() -> Result<Arc<Self>, SetupError> {
        let program = bpf::load(Wanted::default(), plan_def())?;
        let state = Mutex::new(State::new());
        Ok(Arc::new(Self { program, link: None, generic: false, meta_cookie: 0, state }))
    }

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
        Ok(Self { program, link: Some(link), generic, meta_cookie, state })
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

    pub(super) fn apply(&self, change: &Change) -> Result<(), SetupError> {
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
