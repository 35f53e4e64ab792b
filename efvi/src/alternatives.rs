//! Transmit alternatives: frames that wait inside the card, close to the wire, until fired.
//!
//! An alternative holds frames (*stop*), lets them and what follows go (*go*), or throws them
//! away (*discard*). It may be stopped again only when everything it let go has left, so each
//! keeps count.

use libc::c_int;
use linerate_common::{Error, ErrorKind, SetupError};
use linerate_efvi_sys::{Library, ef_vi, ef_vi_transmit_alt_overhead};

use crate::error::{bad_argument, checked};
use crate::session::Session;

/// The alternatives of one queue.
#[derive(Debug)]
pub(crate) struct Alternatives {
    each: Vec<Alternative>,
    overhead: ef_vi_transmit_alt_overhead,
    room: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Alternative {
    state: State,
    /// Frames held, or let go and not yet on the wire.
    frames: u32,
    /// What they take of the card's buffers.
    bytes: u32,
    /// Number of the frame after the last one written into it.
    end_seq: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Holding,
    Going,
    Discarded,
}

impl Alternatives {
    pub(crate) fn new(session: &Session, n: u32, bytes: u32) -> Result<Self, SetupError> {
        const OP: &str = "ef_vi_transmit_alt_alloc";
        let count = c_int::try_from(n).map_err(|_| bad_argument(OP, "too many alternatives"))?;
        let (lib, vi) = (session.lib(), session.vi());
        let mut overhead = ef_vi_transmit_alt_overhead::default();
        // SAFETY: a live VI on its handle, and a struct to write to.
        unsafe {
            checked(OP, (lib.vi_transmit_alt_alloc)(vi, session.dh(), count, bytes as usize))?;
            let rc = (lib.vi_transmit_alt_query_overhead)(vi, &mut overhead);
            checked("ef_vi_transmit_alt_query_overhead", rc)?;
        }
        Ok(Self { each: vec![Alternative::default(); n as usize], overhead, room: bytes })
    }

    pub(crate) fn len(&self) -> u32 {
        self.each.len() as u32
    }

    /// Directs what is sent next into alternative `alt`. `Ok(false)`: not now.
    pub(crate) fn begin(
        &mut self,
        lib: Library,
        vi: *mut ef_vi,
        alt: u32,
        len: usize,
    ) -> Result<bool, Error> {
        let taken = self.overhead.usage(len as u32);
        let used: u32 = self.each.iter().map(|a| a.bytes).sum();
        let room = self.room;
        let a = self.get(alt)?;
        if a.state != State::Holding {
            if a.frames > 0 {
                return Ok(false);
            }
            // SAFETY: a live VI and one of its alternatives, from which all has left.
            let rc = unsafe { lib.transmit_alt_stop(vi, alt) };
            done("ef_vi_transmit_alt_stop", rc)?;
            *a = Alternative::default();
        }
        if used + taken > room {
            return Ok(false);
        }
        // SAFETY: a live VI and one of its alternatives.
        done("ef_vi_transmit_alt_select", unsafe { lib.transmit_alt_select(vi, alt) })?;
        Ok(true)
    }

    /// Directs what is sent next to the wire again; `sent`: the frame of `len` bytes went in, and
    /// this is its number.
    pub(crate) fn end(
        &mut self,
        lib: Library,
        vi: *mut ef_vi,
        alt: u32,
        len: usize,
        sent: Option<u64>,
    ) -> Result<(), Error> {
        let taken = self.overhead.usage(len as u32);
        let a = self.get(alt)?;
        if let Some(seq) = sent {
            a.frames += 1;
            a.bytes += taken;
            a.end_seq = seq + 1;
        }
        // SAFETY: a live VI.
        done("ef_vi_transmit_alt_select_normal", unsafe { lib.transmit_alt_select_normal(vi) })
    }

    pub(crate) fn fire(&mut self, lib: Library, vi: *mut ef_vi, alt: u32) -> Result<(), Error> {
        let a = self.get(alt)?;
        if a.state == State::Discarded {
            return Ok(());
        }
        a.state = State::Going;
        // SAFETY: a live VI and one of its alternatives.
        done("ef_vi_transmit_alt_go", unsafe { lib.transmit_alt_go(vi, alt) })
    }

    /// `oldest`: number of the first frame that the card has not fetched. What it fetches after
    /// a discard would be held again, so nothing is thrown away before all of it is there.
    /// `Ok(false)`: not yet.
    pub(crate) fn discard(
        &mut self,
        lib: Library,
        vi: *mut ef_vi,
        alt: u32,
        oldest: u64,
    ) -> Result<bool, Error> {
        let a = self.get(alt)?;
        if a.state == State::Going {
            return Err(Error::new(ErrorKind::BadArgument, "ef_vi_transmit_alt_discard"));
        }
        if a.end_seq > oldest {
            return Ok(false);
        }
        *a = Alternative { state: State::Discarded, ..Alternative::default() };
        // SAFETY: a live VI and one of its alternatives.
        done("ef_vi_transmit_alt_discard", unsafe { lib.transmit_alt_discard(vi, alt) })?;
        Ok(true)
    }

    /// A frame of alternative `alt` is on the wire.
    pub(crate) fn sent(&mut self, alt: u32) {
        if let Some(a) = self.each.get_mut(alt as usize) {
            a.frames = a.frames.saturating_sub(1);
            if a.frames == 0 {
                a.bytes = 0;
            }
        }
    }

    fn get(&mut self, alt: u32) -> Result<&mut Alternative, Error> {
        let missing = Error::new(ErrorKind::BadArgument, "ef_vi_transmit_alt");
        self.each.get_mut(alt as usize).ok_or(missing)
    }
}

fn done(op: &'static str, rc: c_int) -> Result<(), Error> {
    if rc < 0 { Err(Error::os(op, -rc)) } else { Ok(()) }
}
