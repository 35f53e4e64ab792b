//! Which backend an interface gets, and why not the others.

use std::fmt;

use crate::arm::{self, Opened, Request};
use crate::backend::Backend;
use crate::error::OpenError;
use crate::interface::{self, Interface};
use crate::port::Direction;
use crate::uri::Uri;

/// What became of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It is open.
    Chosen,
    /// Nothing speaks against it.
    Works,
    /// It cannot work here: wrong driver, missing right, missing library, not compiled in.
    Unfit,
    /// It looked fit, but opening it failed.
    Failed,
    /// A better one was open already.
    Spare,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chosen => "chosen",
            Self::Works => "works",
            Self::Unfit => "unfit",
            Self::Failed => "failed",
            Self::Spare => "spare",
        })
    }
}

/// One backend that was considered, and the reason for its verdict in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The backend.
    pub backend: Backend,
    /// What became of it.
    pub verdict: Verdict,
    /// Why; with the remedy, where there is one.
    pub reason: String,
    /// Is the card another maker's? Then nothing on this machine could make the backend fit.
    pub other_maker: bool,
}

impl Candidate {
    pub(crate) fn new(backend: Backend, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { backend, verdict, reason: reason.into(), other_maker: false }
    }
}

/// The backends that serve interfaces of this host, best first.
const PREFERENCE: [Backend; 6] = [
    Backend::Efvi,
    Backend::Verbs,
    Backend::Exanic,
    Backend::Afxdp,
    Backend::Afpacket,
    Backend::Udp,
];

/// The verdict on every backend for this interface, best first, with nothing opened.
pub(crate) fn survey(interface: &Interface) -> Vec<Candidate> {
    PREFERENCE.iter().map(|backend| survey_one(*backend, interface)).collect()
}

fn survey_one(backend: Backend, interface: &Interface) -> Candidate {
    if let Err(why) = arm::fits_driver(backend, interface) {
        let candidate = Candidate::new(backend, Verdict::Unfit, why);
        return Candidate { other_maker: true, ..candidate };
    }
    let fits = if backend.compiled() {
        arm::survey(backend, interface)
    } else {
        Err(format!("this build lacks the cargo feature {:?}", backend.name()))
    };
    match fits {
        Ok(remark) => Candidate::new(backend, Verdict::Works, remark),
        Err(why) => Candidate::new(backend, Verdict::Unfit, why),
    }
}

/// Opens the best backend that works for this interface and request.
pub(crate) fn open(
    uri: &Uri,
    request: &Request,
) -> Result<(Backend, Opened, Vec<Candidate>), OpenError> {
    let Some(interface) = interface::named(&uri.target) else {
        let list = interface::all();
        let names: Vec<_> = list.iter().map(|i| i.name.as_str()).collect();
        let detail = format!("no such interface{}", crate::uri::choices(&uri.target, &names));
        return Err(OpenError::uri(&uri.text, detail));
    };
    let mut tried = Vec::new();
    let mut opened: Option<(Backend, Opened)> = None;
    for backend in PREFERENCE {
        if let Some((best, _)) = &opened {
            let reason = format!("{best} is preferred");
            tried.push(Candidate::new(backend, Verdict::Spare, reason));
            continue;
        }
        let candidate = survey_one(backend, &interface);
        if candidate.verdict != Verdict::Works {
            tried.push(candidate);
            continue;
        }
        let receives = request.direction != Direction::Tx;
        if backend == Backend::Afxdp && receives && request.wants_all() {
            let why = "would take every frame from the kernel, ssh too; to insist, name it: afxdp:";
            tried.push(Candidate::new(backend, Verdict::Unfit, format!("{why}{}", uri.target)));
            continue;
        }
        let named = uri.with_backend(backend);
        match arm::open(backend, &named, request) {
            Ok(port) => {
                tried.push(Candidate::new(backend, Verdict::Chosen, candidate.reason));
                opened = Some((backend, port));
            }
            Err(e) => {
                let why = without_port(&e, &named.text);
                tried.push(Candidate::new(backend, Verdict::Failed, why));
            }
        }
    }
    match opened {
        Some((backend, port)) => Ok((backend, port, tried)),
        None => {
            // Cards of other makers are no news to someone whose card is not theirs.
            tried.retain(|candidate| !candidate.other_maker);
            Err(OpenError::NoneWorks { port: uri.text.clone(), tried })
        }
    }
}

/// The error's text without the port in front, which the reader knows.
fn without_port(e: &OpenError, port: &str) -> String {
    let text = e.to_string();
    let rest = text.strip_prefix(port).and_then(|rest| rest.strip_prefix(": "));
    rest.map_or_else(|| text.clone(), str::to_owned)
}
