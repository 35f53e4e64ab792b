//! All receiving sockets of a queue, kept as its flows ask.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linerate_common::membership::{Interfaces, LinkEvents};
use linerate_common::{Error, SetupError};

use crate::inlet::{Inlet, Place, Target};
use crate::plan::{Plan, Sources};
use crate::port::Options;
use crate::{error, preload, sys};

/// Descriptors that one `epoll_wait` reports.
const EVENTS: usize = 64;

/// The `epoll` key of the netlink socket; the others are indices into the list.
const LINK: u64 = u64::MAX;

/// The sockets, what wakes up when one of them has something, and what watches the interface.
pub(crate) struct Inlets {
    pub(crate) list: Vec<Inlet>,
    pub(crate) place: Place,
    pub(crate) notices: Vec<String>,
    options: Options,
    interfaces: Interfaces,
    link: LinkEvents,
    epoll: OwnedFd,
    events: Box<[libc::epoll_event; EVENTS]>,
    reported: usize,
    next: usize,
    /// Drops of sockets that are closed.
    closed_drops: u64,
    /// Datagrams that still waited in sockets when they were closed.
    abandoned: u64,
    /// The interface went away, or returned and could not be used yet.
    lost: bool,
    reopened: u64,
}

impl Inlets {
    pub(crate) fn new(
        place: Place,
        interfaces: Interfaces,
        options: &Options,
    ) -> Result<Self, Error> {
        let link = LinkEvents::open()?;
        // SAFETY: no pointers.
        let epoll = sys::own("epoll_create1", unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let mut options = options.clone();
        // It does not tell which group a datagram was sent to.
        options.socket_per_group |= preload::stack() == Some("exasock");
        let inlets = Self {
            list: Vec::new(),
            place,
            notices: Vec::new(),
            options,
            interfaces,
            link,
            epoll,
            events: Box::new([libc::epoll_event { events: 0, u64: 0 }; EVENTS]),
            reported: 0,
            next: 0,
            closed_drops: 0,
            abandoned: 0,
            lost: false,
            reopened: 0,
        };
        inlets.watch(libc::EPOLL_CTL_ADD, inlets.link.fd(), LINK)?;
        Ok(inlets)
    }

    /// Opens, joins, leaves and closes until the sockets are what the plan asks for.
    ///
    /// # Errors
    ///
    /// A socket could not be opened or a group not joined. What could be done is done.
    pub(crate) fn apply(&mut self, plan: &Plan) -> Result<(), SetupError> {
        let opened = self.open_missing(plan);
        self.close_unwanted(plan);
        opened
    }

    fn open_missing(&mut self, plan: &Plan) -> Result<(), SetupError> {
        let needs_v4 = plan.groups.keys().any(|(_, group)| group.is_ipv4());
        if needs_v4 && self.interfaces.ipv4_of(&self.place.name).is_none() {
            return Err(error::no_address(&self.place.name));
        }
        for ((port, group), sources) in &plan.groups {
            match sources {
                Sources::Any => self.join(*port, *group, None)?,
                Sources::Only(set) => {
                    set.iter().try_for_each(|s| self.join(*port, *group, Some(*s)))?;
                }
            }
        }
        for (dst, src) in &plan.unicast {
            if !self.list.iter().any(|i| i.is_for(*dst, *src)) {
                let inlet =
                    Inlet::for_address(&self.place, &self.options, *dst, *src, &mut self.notices)?;
                self.push(inlet)?;
            }
        }
        Ok(())
    }

    /// Joins on the first socket of that port that takes it, or on a new one.
    fn join(&mut self, port: u16, group: IpAddr, source: Option<IpAddr>) -> Result<(), SetupError> {
        if self.list.iter().any(|i| i.has_joined(port, group, source)) {
            return Ok(());
        }
        let alone = self.options.socket_per_group;
        for inlet in self.list.iter_mut().filter(|i| i.may_join(port, group, alone)) {
            if inlet.join(group, source).map_err(|e| error::join(e, &self.place.name, group))? {
                return Ok(());
            }
        }
        let v6 = group.is_ipv6();
        let mut inlet = Inlet::for_groups(&self.place, &self.options, v6, port, &mut self.notices)?;
        match inlet.join(group, source) {
            Ok(true) => self.push(inlet),
            Ok(false) => {
                let full = Error::os("join", libc::ENOBUFS);
                Err(error::join(full, &self.place.name, group))
            }
            Err(e) => Err(error::join(e, &self.place.name, group)),
        }
    }

    fn push(&mut self, inlet: Inlet) -> Result<(), SetupError> {
        self.watch(libc::EPOLL_CTL_ADD, inlet.fd(), self.list.len() as u64)?;
        self.list.push(inlet);
        Ok(())
    }

    fn close_unwanted(&mut self, plan: &Plan) {
        for inlet in &mut self.list {
            inlet.leave_unwanted(plan);
        }
        let mut kept = Vec::with_capacity(self.list.len());
        for mut inlet in self.list.drain(..) {
            if inlet.is_wanted(plan) {
                kept.push(inlet);
            } else {
                self.closed_drops += inlet.drops();
                self.abandoned += inlet.drain();
                // Closing would do, were it not that a process just being started may hold the
                // descriptor too. It cannot fail: the socket was added.
                let _ = control(&self.epoll, libc::EPOLL_CTL_DEL, inlet.fd(), 0);
            }
        }
        self.list = kept;
        for (i, inlet) in self.list.iter().enumerate() {
            // As above.
            let _ = self.watch(libc::EPOLL_CTL_MOD, inlet.fd(), i as u64);
        }
        self.reported = 0;
        self.next = 0;
    }

    /// Sockets that `next_ready` has still to give.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        self.reported - self.next
    }

    /// Index of the next socket that may have something; `None` when the round is over.
    #[inline]
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        let event = self.events[..self.reported].get(self.next)?;
        self.next += 1;
        Some(event.u64 as usize)
    }

    /// Asks which sockets have something, unless some of the last answer are left. With one
    /// socket it is simply tried, and with busy polling all are, since only a receive call polls.
    #[inline]
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        if self.next < self.reported {
            return Ok(());
        }
        self.next = 0;
        self.reported = 0;
        let few = self.list.len() <= 1 || self.options.busy_poll_us > 0;
        if few && self.list.len() <= EVENTS {
            self.reported = self.list.len();
            for (i, event) in self.events[..self.reported].iter_mut().enumerate() {
                event.u64 = i as u64;
            }
            return Ok(());
        }
        // SAFETY: the array outlives the call and its length is given.
        let n = unsafe {
            let at = self.events.as_mut_ptr();
            libc::epoll_wait(self.epoll.as_raw_fd(), at, EVENTS as libc::c_int, 0)
        };
        if n < 0 {
            let e = Error::last_os("epoll_wait");
            return if e.errno == libc::EINTR { Ok(()) } else { Err(e) };
        }
        let sockets = self.list.len() as u64;
        for i in 0..(n as usize).min(EVENTS) {
            // The netlink socket is read when there is time: see `heed_link`.
            if self.events[i].u64 < sockets {
                self.events[self.reported] = self.events[i];
                self.reported += 1;
            }
        }
        Ok(())
    }

    /// Puts the sockets right when the interface went away or returned.
    pub(crate) fn heed_link(&mut self, plan: impl FnOnce() -> Option<Plan>) {
        let change = self.link.drain(self.place.index);
        if !change.any {
            return;
        }
        let now = self.interfaces.index_of(&self.place.name).ok().flatten();
        self.lost |= change.removed || now != Some(self.place.index);
        let (true, Some(index), Some(plan)) = (self.lost, now, plan()) else { return };
        // Membership and binding went with the old interface: nothing but new sockets helps.
        self.close_unwanted(&Plan::default());
        self.place.index = index;
        self.place.mac = self.interfaces.mac_of(&self.place.name).unwrap_or_default();
        // What cannot be opened yet (no address) is tried again at the next change.
        if self.apply(&plan).is_ok() {
            self.lost = false;
            self.reopened += 1;
        }
    }

    /// How often the interface returned and everything was opened anew.
    pub(crate) fn reopened(&self) -> u64 {
        self.reopened
    }

    /// Is the interface away?
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Datagrams that the kernel dropped on all sockets, closed ones too.
    pub(crate) fn drops(&mut self) -> u64 {
        self.closed_drops + self.list.iter_mut().map(Inlet::drops).sum::<u64>()
    }

    /// Datagrams that nobody will be shown because their flow was removed first.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned
    }

    pub(crate) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn watch(&self, op: libc::c_int, fd: BorrowedFd<'_>, key: u64) -> Result<(), Error> {
        control(&self.epoll, op, fd, key)
    }
}

fn control(epoll: &OwnedFd, op: libc::c_int, fd: BorrowedFd<'_>, key: u64) -> Result<(), Error> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
    // SAFETY: the event outlives the call.
    let rc = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), op, fd.as_raw_fd(), &mut event) };
    if rc == 0 { Ok(()) } else { Err(Error::last_os("epoll_ctl")) }
}

impl Inlet {
    fn is_for(&self, wanted: SocketAddr, peer: Option<SocketAddr>) -> bool {
        matches!(&self.target, Target::Unicast { dst, src } if (*dst, *src) == (wanted, peer))
    }

    fn has_joined(&self, port: u16, group: IpAddr, source: Option<IpAddr>) -> bool {
        self.port == port
            && matches!(&self.target, Target::Groups { joins, .. } if joins.contains(group, source))
    }

    fn may_join(&self, port: u16, group: IpAddr, alone: bool) -> bool {
        self.port == port
            && matches!(&self.target, Target::Groups { v6, joins, .. }
                if *v6 == group.is_ipv6() && (!alone || joins.only_group() == Some(group)))
    }

    fn leave_unwanted(&mut self, plan: &Plan) {
        let Target::Groups { joins, .. } = &self.target else { return };
        let unwanted: Vec<_> = joins
            .iter()
            .filter(|(group, source)| match (plan.groups.get(&(self.port, *group)), source) {
                (Some(Sources::Any), None) => false,
                (Some(Sources::Only(set)), Some(source)) => !set.contains(source),
                _ => true,
            })
            .collect();
        for (group, source) in unwanted {
            self.leave(group, source);
        }
    }

    fn is_wanted(&self, plan: &Plan) -> bool {
        match &self.target {
            Target::Groups { joins, .. } => !joins.is_empty(),
            Target::Unicast { dst, src } => plan.unicast.contains(&(*dst, *src)),
        }
    }
}
