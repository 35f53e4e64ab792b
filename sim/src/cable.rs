//! Wires between simulated ports.
//!
//! A [`Plug`] is one end. The card's hardware thread sends what its port transmits and receives
//! what the other end sent; a test can hold the other end and play the peer:
//!
//! ```
//! use linerate_sim::{Plug, WireState};
//!
//! let (card, test) = Plug::pair();
//! assert!(test.send(b"a frame without check sequence", WireState::Good));
//! let arrived = card.recv().expect("it is there at once");
//! assert_eq!(arrived.bytes, b"a frame without check sequence");
//! assert!(card.recv().is_none());
//! ```
//!
//! A wire holds [`CAPACITY`] frames and then refuses more, so that a slow receiver slows the
//! sender down instead of losing frames that no counter accounts for. Cards lose frames by their
//! own rules, wires never do.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Frames that one direction of a wire holds.
pub const CAPACITY: usize = 4096;

/// Longest frame that a kernel interface gives, with room for a segment of TCP offload.
const VETH_FRAME_BYTES: usize = 65_536 + 18;

/// Room for frames that wait in a kernel interface's socket.
const VETH_BUFFER_BYTES: libc::c_int = 16 << 20;

/// How a frame left the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WireState {
    /// Complete, with a good frame check sequence.
    #[default]
    Good,
    /// Complete, with a wrong frame check sequence.
    BadCrc,
    /// The sender gave up in mid-frame.
    Aborted,
}

/// A frame on its way, from the destination MAC to the last byte before the check sequence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WireFrame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How it left the sender.
    pub state: WireState,
}

/// One end of a wire. Both ends work from any thread.
#[derive(Debug)]
pub struct Plug(End);

#[derive(Debug)]
enum End {
    Open,
    Wire { out: Arc<Lane>, into: Arc<Lane> },
    Veth(Veth),
}

/// A packet socket on a kernel interface.
#[derive(Debug)]
struct Veth {
    name: CString,
    socket: File,
    state: Mutex<VethState>,
    /// Frames that the interface did not take.
    unsent: Arc<AtomicU64>,
}

#[derive(Debug)]
struct VethState {
    scratch: Box<[u8]>,
    /// The interface that the socket is bound to.
    index: u32,
    /// Since the interface went down or away: when to look for it again.
    look_at: Option<Instant>,
}

impl Veth {
    /// How often to look for an interface that has gone away.
    const LOOK: Duration = Duration::from_millis(100);

    fn recv(&self) -> Option<WireFrame> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let VethState { scratch, index, look_at } = &mut *state;
        match (&mut &self.socket).read(scratch) {
            Ok(len) => {
                *look_at = None;
                let bytes = scratch.get(..len)?.to_vec();
                Some(WireFrame { bytes, state: WireState::Good })
            }
            Err(e) => {
                let now = Instant::now();
                // Said once, and not again when a link that is down goes away.
                if e.raw_os_error() == Some(libc::ENETDOWN) {
                    *look_at = Some(now);
                }
                if look_at.is_some_and(|at| now >= at) {
                    *look_at = Some(now + Self::LOOK);
                    *index = self.follow(*index);
                }
                None
            }
        }
    }

    /// Plugs the cable into the interface that has the name now: one that is made anew is another
    /// one to the kernel. Up and down of the same one the socket follows by itself.
    fn follow(&self, bound: u32) -> u32 {
        let found = index_of(&self.name);
        let other = found != 0 && found != bound;
        if other && bind(&self.socket, found).is_ok() { found } else { bound }
    }

    fn send(&self, bytes: &[u8]) -> bool {
        let Err(e) = (&mut &self.socket).write(bytes) else { return true };
        let full = matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR));
        // Anything but a full queue (an interface that is down, a lower MTU) loses the frame.
        self.unsent.fetch_add(u64::from(!full), Ordering::Relaxed);
        !full
    }
}

/// The index of the interface of this name; 0: there is none.
fn index_of(name: &CStr) -> u32 {
    // SAFETY: a NUL-terminated string that outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Takes all frames of an interface.
fn bind(socket: &File, index: u32) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    addr.sll_family = libc::AF_PACKET as u16;
    addr.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    addr.sll_ifindex = index as i32;
    let (fd, len) = (socket.as_raw_fd(), size_of_val(&addr) as u32);
    // SAFETY: a sockaddr_ll that outlives the call, with its true size.
    match unsafe { libc::bind(fd, (&raw const addr).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One direction of a wire.
#[derive(Debug, Default)]
struct Lane(Mutex<LaneState>);

#[derive(Debug, Default)]
struct LaneState {
    frames: VecDeque<WireFrame>,
    reader: Option<Thread>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, LaneState> {
        // A queue of frames is never left half-changed, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plug {
    /// Nothing plugged in: frames sent are gone, none ever arrive.
    #[must_use]
    pub fn open() -> Self {
        Self(End::Open)
    }

    /// Both ends of a wire.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (there, back) = (Arc::<Lane>::default(), Arc::<Lane>::default());
        let far = End::Wire { out: Arc::clone(&back), into: Arc::clone(&there) };
        (Self(End::Wire { out: there, into: back }), Self(far))
    }

    /// A wire from a port back into itself.
    #[must_use]
    pub fn looped() -> Self {
        let lane = Arc::<Lane>::default();
        Self(End::Wire { out: Arc::clone(&lane), into: lane })
    }

    /// A wire to a kernel interface of this network namespace, usually one end of a veth pair:
    /// what is sent leaves through it, and what arrives at it is received. An interface that goes
    /// away is found again when one of its name comes back. Needs CAP_NET_RAW.
    ///
    /// # Errors
    ///
    /// There is no such interface, or the caller may not open a packet socket.
    pub fn veth(interface: &str) -> io::Result<Self> {
        let name =
            CString::new(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let index = index_of(&name);
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor just opened and owned by nobody else.
        let socket = unsafe { File::from_raw_fd(fd) };
        let one: libc::c_int = 1;
        // SAFETY: an int that outlives the call, with its true size. It keeps this socket from
        // receiving what it sent itself.
        let failed = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                libc::PACKET_IGNORE_OUTGOING,
                (&raw const one).cast(),
                size_of_val(&one) as u32,
            )
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        bind(&socket, index)?;
        // The kernel drops what does not fit while the card's thread is not running: leave it
        // room. Without the right to exceed the limit it is as large as the limit.
        let room = VETH_BUFFER_BYTES;
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            // SAFETY: an int that outlives the call. A refusal leaves the buffer as it was.
            unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    option,
                    (&raw const room).cast(),
                    size_of_val(&room) as u32,
                )
            };
        }
        let scratch = vec![0; VETH_FRAME_BYTES].into();
        let state = Mutex::new(VethState { scratch, index, look_at: None });
        Ok(Self(End::Veth(Veth { name, socket, state, unsent: Arc::default() })))
    }

    /// Is something plugged in? A card shows it as its link state.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !matches!(self.0, End::Open)
    }

    /// Puts a frame on the wire. `false`: the wire is full, try again later. A kernel interface
    /// takes only good frames; others vanish there, as they would in a real port.
    pub fn send(&self, bytes: &[u8], state: WireState) -> bool {
        match &self.0 {
            End::Open => true,
            End::Wire { out, .. } => {
                let mut lane = out.lock();
                if lane.frames.len() >= CAPACITY {
                    return false;
                }
                lane.frames.push_back(WireFrame { bytes: bytes.to_vec(), state });
                if let Some(reader) = &lane.reader {
                    reader.unpark();
                }
                true
            }
            End::Veth(_) if state != WireState::Good => true,
            End::Veth(veth) => veth.send(bytes),
        }
    }

    /// The next frame that arrived, if one is waiting.
    pub fn recv(&self) -> Option<WireFrame> {
        match &self.0 {
            End::Open => None,
            End::Wire { into, .. } => into.lock().frames.pop_front(),
            End::Veth(veth) => veth.recv(),
        }
    }

    /// Names the thread that is unparked whenever a frame arrives, so that it need not spin. A
    /// veth end wakes nobody: park with a time limit.
    pub fn wake_on_arrival(&self, reader: Thread) {
        if let End::Wire { into, .. } = &self.0 {
            into.lock().reader = Some(reader);
        }
    }

    /// What a veth end loses. `None` for other ends: they lose nothing.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn losses(&self) -> io::Result<Option<Losses>> {
        match &self.0 {
            End::Veth(veth) => Ok(Some(Losses {
                socket: veth.socket.try_clone()?,
                arrived: AtomicU64::new(0),
                unsent: Arc::clone(&veth.unsent),
            })),
            _ => Ok(None),
        }
    }

    /// The socket behind a veth end, to sleep on.
    #[must_use]
    pub fn raw_fd(&self) -> Option<i32> {
        match &self.0 {
            End::Veth(veth) => Some(veth.socket.as_raw_fd()),
            _ => None,
        }
    }
}

/// Counts what is lost in a veth end, which no counter of the card shows: frames that came and
/// found no room in its kernel socket, while the card's thread was not running, and frames that
/// the interface did not take, because it was down or away or its MTU too low.
#[derive(Debug)]
pub struct Losses {
    socket: File,
    arrived: AtomicU64,
    unsent: Arc<AtomicU64>,
}

impl Losses {
    /// Frames so far. One reader for each plug: the kernel's counter starts anew when it is read.
    pub fn frames(&self) -> u64 {
        // SAFETY: all-zero bytes are a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&stats) as u32;
        // SAFETY: a struct of that size that outlives the call.
        let failed = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        let new = if failed == 0 { u64::from(stats.tp_drops) } else { 0 };
        let arrived = self.arrived.fetch_add(new, Ordering::Relaxed) + new;
        arrived + self.unsent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use linerate_lab::lab_or_skip;

    #[test]
    fn frames_cross_in_order_and_each_way_apart() {
        let (a, b) = Plug::pair();
        assert!(a.send(b"one", WireState::Good) && a.send(b"two", WireState::BadCrc));
        assert!(a.recv().is_none(), "a does not hear itself");
        assert_eq!(b.recv().map(|f| f.bytes), Some(b"one".to_vec()));
        assert_eq!(b.recv().map(|f| f.state), Some(WireState::BadCrc));
        assert!(b.recv().is_none());
    }

    #[test]
    fn a_full_wire_refuses_and_loses_nothing() {
        let wire = Plug::looped();
        let sent = (0..=CAPACITY).take_while(|_| wire.send(b"x", WireState::Good)).count();
        assert_eq!(sent, CAPACITY);
        assert!(wire.recv().is_some());
        assert!(wire.send(b"x", WireState::Good));
    }

    #[test]
    fn an_arrival_wakes_the_reader() {
        let (a, b) = Plug::pair();
        let reader = std::thread::spawn(move || {
            b.wake_on_arrival(std::thread::current());
            let limit = Instant::now() + Duration::from_secs(30);
            while Instant::now() < limit {
                if b.recv().is_some() {
                    return true;
                }
                std::thread::park_timeout(Duration::from_secs(30));
            }
            false
        });
        a.send(b"x", WireState::Good);
        assert!(reader.join().unwrap());
    }

    #[test]
    fn a_veth_end_reaches_the_kernel_both_ways() {
        let lab = lab_or_skip!();
        let a = lab.in_a(|| Plug::veth("v0")).unwrap();
        let b = lab.in_b(|| Plug::veth("v1")).unwrap();
        let mut frame = [0xab_u8; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(a.send(&frame, WireState::Good));
        let limit = Instant::now() + Duration::from_secs(10);
        let got = loop {
            match b.recv() {
                Some(f) if f.bytes.len() >= 14 && f.bytes[12..14] == [0x88, 0xb5] => break f,
                _ => assert!(Instant::now() < limit, "the frame never arrived"),
            }
        };
        assert_eq!(got.bytes, frame);
        assert!(lab.in_a(|| Plug::veth("no-such-if")).is_err());
    }

    #[test]
    fn a_veth_end_follows_its_interface_and_counts_what_that_does_not_take() {
        let lab = lab_or_skip!();
        let b = lab.in_b(|| Plug::veth("v1")).unwrap();
        let losses = b.losses().unwrap().unwrap();
        let mut frame = [0xab_u8; 1500];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(b.send(&frame, WireState::Good));
        assert_eq!(losses.frames(), 0);
        lab.ip_b(&["link", "set", "v1", "mtu", "1000"]).unwrap();
        assert!(b.send(&frame, WireState::Good));
        lab.ip_b(&["link", "set", "v1", "mtu", "1500"]).unwrap();
        lab.ip_b(&["link", "del", "v1"]).unwrap();
        assert!(b.send(&frame, WireState::Good));
        assert_eq!(losses.frames(), 2);
        lab.add_pair("v0", "v1").unwrap();
        // The card's thread has the namespace of who opened it; here that is this thread.
        let a = lab.in_a(|| Plug::veth("v0")).unwrap();
        lab.in_b(|| {
            let limit = Instant::now() + Duration::from_secs(30);
            while b.recv().is_none_or(|got| got.bytes != frame) {
                assert!(a.send(&frame, WireState::Good));
                assert!(Instant::now() < limit, "it never came back");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        assert!(b.send(&frame, WireState::Good));
        assert_eq!(losses.frames(), 2);
    }

    #[test]
    fn what_finds_no_room_in_the_socket_is_counted() {
        let lab = lab_or_skip!();
        let a = lab.in_a(|| Plug::veth("v0")).unwrap();
        let b = lab.in_b(|| Plug::veth("v1")).unwrap();
        assert!(Plug::looped().losses().unwrap().is_none());
        let losses = b.losses().unwrap().unwrap();
        let mut frame = [0xab_u8; 1500];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        let mut sent = 0;
        // Nobody reads at B.
        let limit = Instant::now() + Duration::from_secs(60);
        while losses.frames() < 100 {
            sent += u64::from(a.send(&frame, WireState::Good));
            assert!(Instant::now() < limit, "{sent} frames found room");
        }
        let lost = losses.frames();
        let mut got = 0;
        while let Some(frame) = b.recv() {
            got += u64::from(frame.bytes[12..14] == [0x88, 0xb5]);
        }
        assert!(got > 0 && got + lost >= sent, "{got} + {lost} of {sent}");
        assert!(losses.frames() >= lost, "it never goes back");
    }
}
