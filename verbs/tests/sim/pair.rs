//! Two simulated devices on one cable, under the real libibverbs.

use std::sync::OnceLock;

use linerate_sim::Plug;
use linerate_sim::verbs::{Device, StampKind, api};
use linerate_verbs::{Context, Library, Options, Port, open_on};

/// The library with the simulation's completion channels, or the reason why not here.
pub(crate) fn library() -> Result<Library, String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(|| api().map(Library::injected).map_err(|e| e.to_string())).clone()
}

/// Devices `a` and `b` and what is needed to open them.
pub(crate) struct Pair {
    pub(crate) a: Device,
    pub(crate) b: Device,
    pub(crate) library: Library,
}

impl Pair {
    pub(crate) fn new() -> Result<Self, String> {
        Self::with_stamps(StampKind::Wallclock)
    }

    pub(crate) fn with_stamps(stamps: StampKind) -> Result<Self, String> {
        let library = library()?;
        let (a, b) = Plug::pair();
        let a = Device::with_stamps("simv0", a, stamps).map_err(|e| e.to_string())?;
        let b = Device::with_stamps("simv1", b, stamps).map_err(|e| e.to_string())?;
        Ok(Self { a, b, library })
    }

    pub(crate) fn open(&self, device: &Device, options: &Options) -> Port {
        // SAFETY: a simulated device is valid for as long as the process lives.
        let context = unsafe { Context::from_device(self.library, device.raw()) }.unwrap();
        open_on(&context, 1, options).unwrap()
    }
}

/// A pair, or an early return with the reason printed.
// Textual scope: `main.rs` declares this module first.
macro_rules! pair_or_skip {
    ($($stamps:expr)?) => {{
        #[allow(unused_mut, unused_assignments)]
        let mut made = $crate::pair::Pair::new();
        $(made = $crate::pair::Pair::with_stamps($stamps);)?
        match made {
            Ok(pair) => pair,
            Err(why) => {
                linerate_lab::skip(std::thread::current().name().unwrap_or("test"), &why);
                return;
            }
        }
    }};
}
