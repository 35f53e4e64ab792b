//! What is to be joined, and the sockets that have joined it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::interface::{Interface, Interfaces, dgram_socket};
use super::joins::SocketJoins;
use crate::error::{Error, ErrorKind, SetupError, last_errno};

/// How the joins of a [`Membership`](super::Membership) stand as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MembershipState {
    /// Everything that was asked for is joined.
    Joined,
    /// There is no interface of this name now; all is joined again when it returns.
    WaitingForInterface,
    /// The interface returned but has no IPv4 address yet to send IGMP reports from.
    WaitingForAddress,
    /// Some joins failed and are tried again each second: see
    /// [`MembershipStatus::last_error`].
    Failing,
}

/// How the joins stand, and what happened to them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MembershipStatus {
    /// All of them together.
    pub state: MembershipState,
    /// Name of the interface.
    pub interface: String,
    /// Its index now; `None` while there is no such interface.
    pub index: Option<u32>,
    /// Groups and sources asked for.
    pub wanted: usize,
    /// Groups and sources joined.
    pub joined: usize,
    /// Kernel sockets that hold them.
    pub sockets: usize,
    /// How often the interface went away and everything was joined anew.
    pub rejoins: u64,
    /// The last join that failed after it had been asked for successfully.
    pub last_error: Option<SetupError>,
}

/// One socket and what it has joined.
struct Shard {
    socket: OwnedFd,
    /// The interface it joins on.
    index: u32,
    v6: bool,
    joins: SocketJoins,
}

/// Where it joins, it leaves: at the latest when it is dropped.
impl Drop for Shard {
    fn drop(&mut self) {
        self.joins.leave_all(self.socket.as_fd(), self.index);
    }
}

/// Everything behind the lock.
pub(super) struct State {
    interfaces: Interfaces,
    name: String,
    index: Option<u32>,
    wanted: BTreeSet<(IpAddr, Option<IpAddr>)>,
    shards: Vec<Shard>,
    /// The interface went away since all was last joined.
    lost: bool,
    rejoins: u64,
    last_error: Option<SetupError>,
}

impl State {
    pub(super) fn new(interface: &Interface) -> Result<Self, SetupError> {
        let interfaces = Interfaces::here()?;
        let (name, index) = interfaces.resolve(interface)?;
        Ok(Self {
            interfaces,
            name,
            index: Some(index),
            wanted: BTreeSet::new(),
            shards: Vec::new(),
            lost: false,
            rejoins: 0,
            last_error: None,
        })
    }

    /// The interface's index, 0 while it is away.
    pub(super) fn index(&self) -> u32 {
        self.index.unwrap_or(0)
    }

    pub(super) fn groups(&self) -> Vec<(IpAddr, Option<IpAddr>)> {
        self.wanted.iter().copied().collect()
    }

    pub(super) fn join(&mut self, group: IpAddr, source: Option<IpAddr>) -> Result<(), SetupError> {
        let refuse = |detail: String, remedy: &'static str| {
            Err(SetupError::new(ErrorKind::BadArgument, "join", detail)
                .on(&*self.name)
                .remedy(remedy))
        };
        if !group.is_multicast() {
            return refuse(
                format!("{group} is not a multicast address"),
                "groups are 224.0.0.0 to 239.255.255.255 and ff00::/8",
            );
        }
        match source {
            Some(s) if s.is_ipv4() != group.is_ipv4() => {
                return refuse(
                    format!("group {group} and source {s} are of different families"),
                    "give both as IPv4 or both as IPv6",
                );
            }
            Some(s) if s.is_multicast() || s.is_unspecified() => {
                return refuse(format!("{s} is not a sender's address"), "name one host");
            }
            _ => {}
        }
        if self.wanted.contains(&(group, source)) {
            return Ok(());
        }
        // While the interface is away, or new and not seen by the watcher yet, the wish is noted.
        let present = self.interfaces.index_of(&self.name);
        let present = present.map_err(|e| SetupError::from(e).on(&*self.name))?;
        if !self.lost && present.is_some() && present == self.index {
            if group.is_ipv4() && self.interfaces.ipv4_of(&self.name).is_none() {
                return Err(no_address(&self.name));
            }
            self.join_now(group, source)?;
        }
        self.wanted.insert((group, source));
        Ok(())
    }

    pub(super) fn leave(&mut self, group: IpAddr, source: Option<IpAddr>) -> bool {
        if !self.wanted.remove(&(group, source)) {
            return false;
        }
        for shard in &mut self.shards {
            // An error means that the interface is gone, and the membership with it.
            let _ = shard.joins.leave(shard.socket.as_fd(), shard.index, group, source);
        }
        self.shards.retain(|s| !s.joins.is_empty());
        true
    }

    pub(super) fn status(&self) -> MembershipStatus {
        let joined = self.wanted.iter().filter(|(g, s)| self.holds(*g, *s)).count();
        let waits = |ipv4: bool| {
            self.wanted.iter().any(|(g, s)| g.is_ipv4() == ipv4 && !self.holds(*g, *s))
        };
        let state = if self.index.is_none() {
            MembershipState::WaitingForInterface
        } else if joined == self.wanted.len() {
            MembershipState::Joined
        } else if waits(true) && !waits(false) && self.interfaces.ipv4_of(&self.name).is_none() {
            MembershipState::WaitingForAddress
        } else {
            MembershipState::Failing
        };
        MembershipStatus {
            state,
            interface: self.name.clone(),
            index: self.index,
            wanted: self.wanted.len(),
            joined,
            sockets: self.shards.len(),
            rejoins: self.rejoins,
            last_error: self.last_error.clone(),
        }
    }

    /// Looks at the interface again and joins what should be joined and is not. `removed`: the
    /// interface was taken away in between, even if it looks the same now. `false`: a join
    /// failed and should be tried again soon.
    pub(super) fn refresh(&mut self, removed: bool) -> bool {
        let index = match self.interfaces.index_of(&self.name) {
            Ok(index) => index,
            // The kernel does not say. What was seen must not be forgotten: without an index the
            // interface counts as another one, whatever comes next.
            Err(e) => {
                self.last_error = Some(SetupError::from(e).on(&*self.name));
                self.lost |= removed;
                if removed {
                    self.index = None;
                    self.shards.clear();
                }
                return false;
            }
        };
        if removed || index != self.index {
            self.index = index;
            self.lost = true;
            // Before anything is joined anew: where the new interface has the old one's index,
            // the kernel would take a late leave from the old sockets for one on the new.
            self.shards.clear();
        }
        index.is_none() || self.join_missing()
    }

    fn join_missing(&mut self) -> bool {
        let ipv4 = self.interfaces.ipv4_of(&self.name).is_some();
        let mut failed = false;
        for (group, source) in self.groups() {
            if self.holds(group, source) || (group.is_ipv4() && !ipv4) {
                continue;
            }
            if let Err(e) = self.join_now(group, source) {
                self.last_error = Some(e);
                failed = true;
            }
        }
        if self.lost && self.wanted.iter().all(|(g, s)| self.holds(*g, *s)) {
            self.lost = false;
            self.rejoins += 1;
        }
        !failed
    }

    fn holds(&self, group: IpAddr, source: Option<IpAddr>) -> bool {
        self.shards.iter().any(|s| s.joins.contains(group, source))
    }

    fn join_now(&mut self, group: IpAddr, source: Option<IpAddr>) -> Result<(), SetupError> {
        let index = self.index();
        let explain = |e: Error| refused(e, &self.name, group, source);
        for shard in self.shards.iter_mut().filter(|s| s.v6 == group.is_ipv6()) {
            if shard.join(group, source).map_err(explain)? {
                return Ok(());
            }
        }
        let mut shard = Shard::new(index, group.is_ipv6()).map_err(explain)?;
        if !shard.join(group, source).map_err(explain)? {
            return Err(explain(Error::os("join", libc::ENOBUFS)));
        }
        self.shards.push(shard);
        Ok(())
    }
}

impl Shard {
    fn new(index: u32, v6: bool) -> Result<Self, Error> {
        let socket = dgram_socket(if v6 { libc::AF_INET6 } else { libc::AF_INET })?;
        let (level, option) = if v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL)
        } else {
            (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL)
        };
        let off: libc::c_int = 0;
        // SAFETY: the option takes one int, which outlives the call.
        let rc = unsafe {
            let len = size_of_val(&off) as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const off).cast(), len)
        };
        // IPV6_MULTICAST_ALL came with Linux 4.20. An unbound socket receives nothing anyway.
        if rc != 0 && last_errno() != libc::ENOPROTOOPT {
            return Err(Error::last_os("IP_MULTICAST_ALL"));
        }
        Ok(Self { socket, index, v6, joins: SocketJoins::default() })
    }

    fn join(&mut self, group: IpAddr, source: Option<IpAddr>) -> Result<bool, Error> {
        self.joins.join(self.socket.as_fd(), self.index, group, source)
    }
}

fn no_address(name: &str) -> SetupError {
    SetupError::new(
        ErrorKind::BadArgument,
        "join",
        "the interface has no IPv4 address to send IGMP reports from",
    )
    .on(name)
    .remedy(format!("ip address add A.B.C.D/N dev {name}"))
}

fn refused(e: Error, name: &str, group: IpAddr, source: Option<IpAddr>) -> SetupError {
    let error = SetupError::from(e).on(match source {
        None => format!("{name}, group {group}"),
        Some(source) => format!("{name}, group {group}, source {source}"),
    });
    match (e.errno, group.is_ipv4()) {
        // A fresh socket was full: the limit itself is too low, or kernel memory is.
        (libc::ENOBUFS, true) => error.remedy(
            "raise the limits: sysctl -w net.ipv4.igmp_max_memberships=20 net.ipv4.igmp_max_msf=10",
        ),
        (libc::ENOBUFS | libc::ENOMEM, false) => error.remedy(
            "raise the limits: sysctl -w net.ipv6.mld_max_msf=64 net.core.optmem_max=131072",
        ),
        (libc::ENODEV, _) => {
            error.remedy(format!("see whether it exists and is up: ip link show {name}"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate_lab::lab_or_skip;

    /// Is 239.66.7.7 among the groups of the calling thread's namespace?
    fn is_joined() -> bool {
        let table = std::fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
        let group = format!("{:08X}", u32::from_ne_bytes([239, 66, 7, 7]));
        table.contains(&group)
    }

    fn joined_on(interface: &str) -> State {
        let mut state = State::new(&interface.into()).unwrap();
        state.join([239, 66, 7, 7].into(), None).unwrap();
        assert!(is_joined());
        state
    }

    #[test]
    fn an_interface_swapped_unseen_is_joined_again_once_its_removal_is_told() {
        let lab = lab_or_skip!();
        let create = || {
            let pair = ["link", "add", "d0", "index", "4243", "type", "veth", "peer", "name", "d1"];
            lab.ip_a(&pair).unwrap();
            lab.ip_a(&["addr", "add", "10.98.0.1/24", "dev", "d0"]).unwrap();
        };
        create();
        lab.in_a(|| {
            let mut state = joined_on("d0");
            lab.ip_a(&["link", "del", "d0"]).unwrap();
            create();
            // Name and index are the same as before: it cannot be told by looking.
            assert!(state.refresh(false) && !is_joined());
            assert!(state.refresh(true) && is_joined());
            assert_eq!((state.status().rejoins, state.status().joined), (1, 1));
        });
    }

    #[test]
    fn a_group_is_left_although_someone_else_holds_the_socket() {
        let lab = lab_or_skip!();
        lab.in_a(|| {
            let state = joined_on("v0");
            let _held = state.shards[0].socket.try_clone().unwrap();
            drop(state);
            assert!(!is_joined());
        });
    }
}
