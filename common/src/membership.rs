//! Joining multicast groups so that their frames reach the card.
//!
//! Kernel bypass does not join: a card's filter only picks frames out of what arrives, and a
//! switch with IGMP or MLD snooping sends nothing that nobody asked for. So a kernel socket must
//! join each group and stay open to answer the queries. [`Membership`] holds such sockets for as
//! long as it lives, beside whatever queue receives the frames:
//!
//! ```no_run
//! # fn main() -> Result<(), linerate_common::SetupError> {
//! use linerate_common::Membership;
//!
//! let feed = Membership::new("eth2")?;
//! for last in 1..=128 {
//!     feed.join([239, 1, 1, last].into(), None)?;
//! }
//! // Source-specific (IGMPv3, MLDv2): routers and this host's IGMP state carry the source.
//! feed.join([232, 1, 1, 1].into(), Some([10, 0, 0, 7].into()))?;
//! # Ok(())
//! # }
//! ```
//!
//! Linux lets one socket join 20 groups (`net.ipv4.igmp_max_memberships`), with 10 sources each
//! (`net.ipv4.igmp_max_msf`); a full socket makes `Membership` open another. The sockets are
//! never bound to a port, so no data reaches them and none is copied.
//!
//! An interface that is destroyed takes its memberships along, and the kernel restores nothing
//! when one of the same name appears. A small thread (`linerate-member`) sleeps until netlink
//! says that interfaces changed, and then joins again; [`Membership::status`] tells how often
//! that happened. It ends when the `Membership` is dropped. It and the sockets belong to the
//! network namespace of the threads that call `new` and `join`: use one namespace for both.
//!
//! # For backend authors
//!
//! A queue whose own sockets must join (`udp`) uses [`SocketJoins`] on each of them and
//! [`LinkEvents`] to learn that the interface went away.

mod interface;
mod joins;
mod link;
mod state;

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, SetupError};

pub use interface::{Interface, Interfaces};
pub use joins::SocketJoins;
pub use link::{LinkChange, LinkEvents};
use state::State;
pub use state::{MembershipState, MembershipStatus};

/// How long the watcher waits, in ms, before it tries a join again that failed.
const RETRY_MS: i32 = 1000;
/// How long the watcher rests when it could not wait.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Joined multicast groups on one interface; dropping it leaves them all.
///
/// Calls take `&self` and a lock: share it freely, but keep it off the hot path.
pub struct Membership {
    state: Arc<Mutex<State>>,
    stop: OwnedFd,
    watcher: Option<JoinHandle<()>>,
}

impl Membership {
    /// Prepares to join on an interface, named or by index. A name is followed: when the
    /// interface is created anew its groups are joined again. An index stands for the name that
    /// it has now.
    ///
    /// # Errors
    ///
    /// There is no such interface, or no descriptor or thread is left.
    pub fn new(interface: impl Into<Interface>) -> Result<Self, SetupError> {
        // Opened before the first look at the interface, so that no change falls in between.
        let mut events = LinkEvents::open()?;
        let state = Arc::new(Mutex::new(State::new(&interface.into())?));
        let stop = event_fd()?;
        let theirs = Arc::clone(&state);
        let stopped = stop.try_clone().map_err(|_| SetupError::last_os("dup"))?;
        let watcher = std::thread::Builder::new()
            .name("linerate-member".into())
            .spawn(move || watch(&theirs, &mut events, &stopped))
            .map_err(|e| SetupError::os("clone", e.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        Ok(Self { state, stop, watcher: Some(watcher) })
    }

    /// Joins a group: from any source, or from one only
    /// (`MCAST_JOIN_SOURCE_GROUP`). Joining twice is joining once. While the interface is away
    /// the wish is noted and fulfilled when it returns.
    ///
    /// # Errors
    ///
    /// `group` is not multicast, `source` is of the other family, the interface has no IPv4
    /// address to send IGMP reports from, or the kernel refuses (with the sysctl that helps when
    /// its limit is 0).
    pub fn join(&self, group: IpAddr, source: Option<IpAddr>) -> Result<(), SetupError> {
        self.lock().join(group, source)
    }

    /// [`join`](Self::join) for many groups. Stops at the first that fails; those before it stay
    /// joined.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_all(
        &self,
        groups: impl IntoIterator<Item = (IpAddr, Option<IpAddr>)>,
    ) -> Result<(), SetupError> {
        let mut state = self.lock();
        groups.into_iter().try_for_each(|(group, source)| state.join(group, source))
    }

    /// Leaves what [`join`](Self::join) joined with the same arguments. `false`: it was not
    /// joined.
    pub fn leave(&self, group: IpAddr, source: Option<IpAddr>) -> bool {
        self.lock().leave(group, source)
    }

    /// The groups and sources that were asked for, in order of address.
    #[must_use]
    pub fn groups(&self) -> Vec<(IpAddr, Option<IpAddr>)> {
        self.lock().groups()
    }

    /// How the joins stand.
    #[must_use]
    pub fn status(&self) -> MembershipStatus {
        self.lock().status()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a join undone, which the status shows.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let one = 1u64;
        // SAFETY: an eventfd takes the 8 bytes of a u64.
        let n = unsafe { libc::write(self.stop.as_raw_fd(), (&raw const one).cast(), 8) };
        // Without the signal a join would wait for ever; an eventfd at 0 always takes it.
        if n == 8
            && let Some(watcher) = self.watcher.take()
        {
            let _ = watcher.join();
        }
    }
}

/// The watcher's life: sleep until interfaces change, put the joins right, sleep again.
fn watch(state: &Mutex<State>, events: &mut LinkEvents, stop: &OwnedFd) {
    crate::own_threads::give_up_rights();
    let mut timeout = -1;
    loop {
        let mut fds = [events.fd().as_raw_fd(), stop.as_raw_fd()].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: two pollfds that outlive the call.
        let n = unsafe { libc::poll(fds.as_mut_ptr(), 2, timeout) };
        if n < 0 {
            // Whatever it was (no memory, say), the groups keep their watcher.
            std::thread::sleep(PAUSE);
        }
        if is_stopped(stop) {
            return;
        }
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let change = events.drain(state.index());
        let settled = state.refresh(change.removed);
        timeout = if settled { -1 } else { RETRY_MS };
    }
}

/// Has the owner gone? Asked of the descriptor itself: `poll` may have failed.
fn is_stopped(stop: &OwnedFd) -> bool {
    let mut count = 0u64;
    // SAFETY: eight bytes to read into; the descriptor does not block.
    unsafe { libc::read(stop.as_raw_fd(), (&raw mut count).cast(), 8) == 8 }
}

fn event_fd() -> Result<OwnedFd, Error> {
    // SAFETY: no pointers.
    match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } {
        -1 => Err(Error::last_os("eventfd")),
        // SAFETY: a descriptor that the kernel just made and nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}
