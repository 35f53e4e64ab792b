//! `sim:verbs?peer=v0`: a simulated card under the vendor's own code path.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use linerate_common::{ErrorKind, SetupError};
use linerate_sim::efvi::Kind;
use linerate_sim::{Losses, Plug};
use linerate_verbs::{Library, NoBuffer};

use super::{Opened, Request};
use crate::error::OpenError;
use crate::uri::value::word;
use crate::uri::{OptionDoc, Uri, choices};

/// Every card takes these beside what its backend takes.
const PEER: OptionDoc =
    OptionDoc { name: "peer", values: "loop (into itself), none, or a network interface" };
const CABLE: OptionDoc =
    OptionDoc { name: "cable", values: "a name: the two ports that give it are connected" };

/// Which kind of Solarflare card.
const KIND: OptionDoc = OptionDoc { name: "kind", values: "ring (SFN7000 to X2) or shared (X3)" };

#[cfg(test)]
pub(super) const OPTIONS: &[OptionDoc] = &[PEER, CABLE, KIND];

const CARDS: &[&str] = &["verbs", "exanic", "efvi"];

pub(super) fn open(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    match uri.target.as_str() {
        "verbs" => verbs(uri, request),
        "exanic" => exanic(uri, request),
        "efvi" => efvi(uri, request),
        other => {
            let detail = format!("no simulated card {other:?}{}", choices(other, CARDS));
            Err(OpenError::uri(&uri.text, detail))
        }
    }
}

/// The options that say where the card's cable ends.
#[derive(Default)]
struct Wiring {
    peer: Option<String>,
    cable: Option<String>,
}

impl Wiring {
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let place = if name == PEER.name { &mut self.peer } else { &mut self.cable };
        *place = (!value.is_empty()).then(|| value.to_owned());
        place.is_some().then_some(())
    }

    /// The plug, and a port that knows on which interface groups are to be joined and what is lost
    /// there.
    fn plug(&self, uri: &Uri) -> Result<(Plug, Cable), OpenError> {
        match (&self.cable, self.peer.as_deref()) {
            (Some(_), Some(_)) => {
                Err(OpenError::uri(&uri.text, "peer and cable exclude each other"))
            }
            (Some(name), None) => Ok((cable_end(name), Cable::default())),
            (None, None | Some("loop")) => Ok((Plug::looped(), Cable::default())),
            (None, Some("none")) => Ok((Plug::open(), Cable::default())),
            (None, Some(interface)) => {
                let plug = Plug::veth(interface).and_then(|plug| Ok((plug.losses()?, plug)));
                let (losses, plug) = plug.map_err(|e| {
                    let errno = e.raw_os_error().unwrap_or(libc::EIO);
                    SetupError::os("socket(AF_PACKET)", errno)
                        .on(&uri.text)
                        .remedy("peer=INTERFACE needs CAP_NET_RAW and an interface that is there")
                })?;
                Ok((plug, Cable { interface: Some(interface.to_owned()), losses }))
            }
        }
    }
}

/// What is to be known of a cable when its plug is in the card.
#[derive(Default)]
struct Cable {
    interface: Option<String>,
    losses: Option<Losses>,
}

impl Cable {
    fn attach(self, opened: &mut Opened) {
        opened.join_on = self.interface;
        opened.cable = self.losses;
    }
}

/// One end of the cable of this name. The first to ask leaves the other end for the second; the
/// third begins a new cable.
fn cable_end(name: &str) -> Plug {
    static WAITING: Mutex<Option<HashMap<String, Plug>>> = Mutex::new(None);
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let waiting = waiting.get_or_insert_default();
    waiting.remove(name).unwrap_or_else(|| {
        let (near, far) = Plug::pair();
        waiting.insert(name.to_owned(), far);
        near
    })
}

/// A simulated card is a thread.
fn no_thread(uri: &Uri) -> OpenError {
    SetupError::os("clone", libc::EAGAIN).on(&uri.text).into()
}

/// libibverbs with the simulation's channels: one for the process.
static LIBRARY: OnceLock<Library> = OnceLock::new();

fn verbs(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let mut wiring = Wiring::default();
    let mut options =
        super::verbs::options(uri, request, &[PEER, CABLE], |name, value| wiring.set(name, value))?;
    let (plug, cable) = wiring.plug(uri)?;
    let unavailable = |why: String| {
        // The loader's own words: it has no errno to give.
        let e = if why.contains("Too many open files") {
            SetupError::os("dlopen", libc::EMFILE)
        } else {
            SetupError::new(ErrorKind::Unsupported, "simulate", why)
        };
        OpenError::from(e.on(&uri.text).remedy("install libibverbs: apt install libibverbs1"))
    };
    let library = match LIBRARY.get() {
        Some(library) => *library,
        None => {
            let api = linerate_sim::verbs::api().map_err(|e| unavailable(e.to_string()))?;
            *LIBRARY.get_or_init(|| Library::injected(api))
        }
    };
    let device = linerate_sim::verbs::Device::new("sim0", plug);
    let device = device.map_err(|e| unavailable(e.to_string()))?;
    if !device.runs() {
        return Err(no_thread(uri));
    }
    options.no_buffer = Some(NoBuffer::from_fn(device.out_of_buffer_counter()));
    // SAFETY: a simulated device stays valid for as long as the process lives.
    let context = unsafe { linerate_verbs::Context::from_device(library, device.raw()) };
    let port = linerate_verbs::open_on(&context?, 1, &options)?;
    let mut opened = super::verbs::opened(port, request);
    cable.attach(&mut opened);
    // Its thread is the card: it must outlive the queues.
    opened.keep = vec![Box::new(device) as Box<dyn Any + Send + Sync>];
    Ok(opened)
}

fn exanic(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    let mut wiring = Wiring::default();
    let options = super::exanic::options(uri, request, &[PEER, CABLE], |name, value| {
        wiring.set(name, value)
    })?;
    let (plug, cable) = wiring.plug(uri)?;
    let card = linerate_sim::exanic::Card::builder().plug(0, plug).build();
    if !card.runs() {
        return Err(no_thread(uri));
    }
    let api = linerate_sim::exanic::Card::api();
    let port = linerate_exanic::open_with(api, &card.port_name(0), &options)?;
    let mut opened = super::exanic::opened(&port, request)?;
    cable.attach(&mut opened);
    opened.keep = vec![Box::new(card)];
    Ok(opened)
}

fn efvi(uri: &Uri, request: &Request) -> Result<Opened, OpenError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut wiring = Wiring::default();
    let mut kind = Kind::Ring;
    let more = [PEER, CABLE, KIND];
    let (mut options, queues) = super::efvi::options(uri, request, &more, |name, value| {
        if name == KIND.name {
            kind = word(value, &[("ring", Kind::Ring), ("shared", Kind::Shared)])?;
            return Some(());
        }
        wiring.set(name, value)
    })?;
    let (plug, cable) = wiring.plug(uri)?;
    let name = format!("simsf{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let card = linerate_sim::efvi::Card::new(&name, kind, plug).ok_or_else(|| {
        let e = SetupError::new(ErrorKind::BadArgument, "simulate", "the card's name is taken");
        OpenError::from(e.on(&uri.text))
    })?;
    if !card.runs() {
        return Err(no_thread(uri));
    }
    options.library = Some(linerate_sim::efvi::library());
    let mut opened = super::efvi::open_with(&name, &options, queues, request)?;
    cable.attach(&mut opened);
    opened.keep = vec![Box::new(card)];
    Ok(opened)
}
