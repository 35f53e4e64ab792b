//! The loops in C: their memory, and how they are found.
//!
//! `cc` makes a shared object of `twins/*.c`, which is loaded at run time, so that nothing but
//! the measuring needs a C compiler. The structs are those of `twins/twins.h`.

use std::cell::Cell;
use std::ffi::{CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::{env, fs};

use linerate_ibverbs_sys::{ibv_recv_wr, ibv_send_wr, ibv_sge};

use crate::{Case, Sink};

type F = *const c_void;

/// What `cc` is told. The instruction set is the one that Rust compiles for.
const FLAGS: [&str; 7] = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-g"];

/// Where the shared object is, unless this variable says otherwise.
const WHERE: &str = "LINERATE_TWINS";

/// Compiles the twins into `dir` and tells this process and its children where they are.
///
/// # Errors
///
/// Why there are none: no C compiler, or what it said.
pub fn build(dir: &Path) -> Result<PathBuf, String> {
    let object = dir.join("libtwins.so");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("twins");
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut cc = Command::new(env::var("CC").unwrap_or_else(|_| "cc".into()));
    cc.args(FLAGS).arg("-o").arg(&object);
    for name in ["exanic.c", "efvi.c", "verbs.c", "afxdp_memory.c"] {
        cc.arg(sources.join(name));
    }
    let out = cc.output().map_err(|e| format!("no C compiler: {e}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    // SAFETY: called before any thread is started.
    unsafe { env::set_var(WHERE, &object) };
    Ok(object)
}

macro_rules! twins {
    ($($name:ident($($arg:ty),*);)+) => {
        /// The loops.
        #[derive(Debug, Clone, Copy)]
        #[allow(missing_docs, reason = "each is the C function `twin_` and its name")]
        pub(crate) struct Twins {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) -> usize,)+
        }

        impl Twins {
            /// Loads the shared object that [`build`] made.
            ///
            /// # Panics
            ///
            /// If it is not there.
            #[must_use]
            pub(crate) fn load() -> Self {
                let path = env::var(WHERE).expect("LINERATE_TWINS names no shared object");
                let path = CString::new(path).unwrap();
                // SAFETY: our own object, without constructors.
                let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
                assert!(!library.is_null(), "cannot load {path:?}");
                Self {
                    $($name: {
                        let symbol = concat!("twin_", stringify!($name), "\0");
                        // SAFETY: a handle from dlopen and a NUL-terminated name.
                        let at = unsafe { libc::dlsym(library, symbol.as_ptr().cast()) };
                        assert!(!at.is_null(), "no {symbol}");
                        // SAFETY: the function of this name has these parameters.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($arg),*) -> usize,
                            >(at)
                        }
                    },)+
                }
            }
        }
    };
}

twins! {
    exanic_receive(*mut ExanicReceive, usize);
    exanic_send(*mut ExanicSend, *const u8, usize, usize);
    efvi_ring_receive(*mut EfviReceive, usize);
    efvi_shared_receive(*mut EfviReceive, usize);
    efvi_ring_send(*mut EfviSend, *const u8, usize, usize);
    efvi_shared_send(*mut EfviSend, *const u8, usize, usize);
    efvi_ring_receive_same(*mut EfviReceive, usize);
    efvi_shared_receive_same(*mut EfviReceive, usize);
    efvi_ring_send_same(*mut EfviSend, *const u8, usize, usize);
    efvi_shared_send_same(*mut EfviSend, *const u8, usize, usize);
    verbs_receive(*mut VerbsReceive, usize);
    verbs_send(*mut VerbsSend, *const u8, usize, usize);
    afxdp_receive(*mut AfxdpReceive, usize);
    afxdp_receive_same(*mut AfxdpReceive, usize);
    afxdp_send(*mut AfxdpSend, *const u8, usize, usize);
}

impl Twins {
    /// A case of a twin that tells its sums.
    pub(crate) fn case(
        stage: impl FnMut() + 'static,
        mut hot: impl FnMut() -> (usize, Sink) + 'static,
    ) -> Case {
        let seen = Rc::new(Cell::new(Sink::default()));
        let sums = Rc::clone(&seen);
        let hot = Box::new(move || {
            let (n, sink) = hot();
            sums.set(sink);
            n
        });
        Case { stage: Box::new(stage), hot, seen: Box::new(move || seen.get()) }
    }
}

/// `struct exanic_receive`.
#[repr(C)]
pub(crate) struct ExanicReceive {
    pub(crate) sink: Sink,
    pub(crate) ring: *const c_void,
    pub(crate) page: *const u64,
    pub(crate) hz: u64,
    pub(crate) ns_per_tick: u128,
    pub(crate) second_ticks: u64,
    pub(crate) second_ns: u64,
    pub(crate) before: u64,
    pub(crate) position: u32,
    pub(crate) buffer: *mut u8,
    pub(crate) buffer_bytes: usize,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// `struct exanic_send`.
#[repr(C)]
pub(crate) struct ExanicSend {
    pub(crate) card: *mut c_void,
    pub(crate) write_register: F,
    pub(crate) command: u32,
    pub(crate) offset: u32,
    pub(crate) memory: *mut u8,
    pub(crate) bytes: u32,
    pub(crate) feedback: *mut u16,
    pub(crate) slot: u16,
    pub(crate) type_raw: u8,
    pub(crate) next: u32,
    pub(crate) sequence: u32,
    pub(crate) done: u32,
    pub(crate) queue: u32,
    pub(crate) starts: [u32; 1024],
    pub(crate) frames: u64,
    pub(crate) sent_bytes: u64,
}

/// `struct efvi_receive`.
#[repr(C)]
pub(crate) struct EfviReceive {
    pub(crate) sink: Sink,
    pub(crate) vi: *mut c_void,
    pub(crate) eventq_poll: F,
    pub(crate) receive_init: F,
    pub(crate) receive_push: F,
    pub(crate) get_timestamp: F,
    pub(crate) packet_get: F,
    pub(crate) packet_release: F,
    pub(crate) base: *mut u8,
    pub(crate) dma: *const u64,
    pub(crate) rx_ref: u32,
    pub(crate) frame_bytes: u32,
    pub(crate) dma_offset: u32,
    pub(crate) prefix: u32,
    pub(crate) buffer_bytes: u32,
    pub(crate) pending: u32,
    pub(crate) ids: [u32; 512],
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) ahead_s: i64,
    pub(crate) end_s: u64,
    pub(crate) malformed: u64,
    pub(crate) ring: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) posted: u32,
    pub(crate) sync: u32,
}

/// `struct efvi_send`.
#[repr(C)]
pub(crate) struct EfviSend {
    pub(crate) vi: *mut c_void,
    pub(crate) eventq_poll: F,
    pub(crate) transmit_init: F,
    pub(crate) transmit_push: F,
    pub(crate) transmit_unbundle: F,
    pub(crate) transmitv_ctpio: F,
    pub(crate) transmit_ctpio_fallback: F,
    pub(crate) added: *const u32,
    pub(crate) removed: *const u32,
    pub(crate) ct_added: *const u32,
    pub(crate) ct_removed: *const u32,
    pub(crate) base: *mut u8,
    pub(crate) dma: *const u64,
    pub(crate) mask: u32,
    pub(crate) fifo_bytes: u32,
    pub(crate) frame_bytes: u32,
    pub(crate) headroom: u32,
    pub(crate) threshold: u32,
    pub(crate) n_free: u32,
    pub(crate) free: [u32; 512],
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) completed: u64,
    pub(crate) head: u64,
    pub(crate) tail: u64,
    pub(crate) unknown: u64,
    pub(crate) lost: u32,
    pub(crate) by_ctpio: u32,
    pub(crate) paths: [u64; 2],
    pub(crate) flying: [u32; 512],
}

/// `struct verbs_receive`.
#[repr(C)]
pub(crate) struct VerbsReceive {
    pub(crate) sink: Sink,
    pub(crate) cq: *mut c_void,
    pub(crate) qp: *mut c_void,
    pub(crate) wr_id: *const u64,
    pub(crate) status: *const u32,
    pub(crate) start_poll: F,
    pub(crate) next_poll: F,
    pub(crate) end_poll: F,
    pub(crate) read_byte_len: F,
    pub(crate) read_wc_flags: F,
    pub(crate) read_wallclock: F,
    pub(crate) read_flow_tag: F,
    pub(crate) post_recv: F,
    pub(crate) base: *mut u8,
    pub(crate) frame_bytes: u32,
    pub(crate) headroom: u32,
    pub(crate) lkey: u32,
    pub(crate) requests: [ibv_recv_wr; 64],
    pub(crate) pieces: Pieces,
    pub(crate) marks: u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// `struct verbs_send`.
#[repr(C)]
pub(crate) struct VerbsSend {
    pub(crate) cq: *mut c_void,
    pub(crate) qp: *mut c_void,
    pub(crate) wr_id: *const u64,
    pub(crate) status: *const u32,
    pub(crate) start_poll: F,
    pub(crate) next_poll: F,
    pub(crate) end_poll: F,
    pub(crate) post_send: F,
    pub(crate) base: *mut u8,
    pub(crate) frame_bytes: u32,
    pub(crate) headroom: u32,
    pub(crate) lkey: u32,
    pub(crate) inline_bytes: u32,
    pub(crate) head: u64,
    pub(crate) tail: u64,
    pub(crate) requests: [ibv_send_wr; 64],
    pub(crate) pieces: Pieces,
    pub(crate) n_free: u32,
    pub(crate) free: [u32; 512],
    pub(crate) in_flight: [u32; 512],
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// A burst's pieces.
#[repr(C)]
pub(crate) struct Pieces([ibv_sge; 64]);

impl Default for Pieces {
    fn default() -> Self {
        Self([ibv_sge::default(); 64])
    }
}

/// `struct ring`.
#[repr(C)]
pub(crate) struct Ring {
    pub(crate) parts: linerate_afxdp::played::Parts,
    pub(crate) mine: u32,
    pub(crate) theirs: u32,
}

/// `struct xsk`.
#[repr(C)]
pub(crate) struct Xsk {
    pub(crate) fd: c_int,
    pub(crate) memory: *mut u8,
    /// Receive, transmit, fill, completion.
    pub(crate) rings: [Ring; 4],
}

/// `struct afxdp_receive`.
#[repr(C)]
pub(crate) struct AfxdpReceive {
    pub(crate) sink: Sink,
    pub(crate) xsk: Xsk,
    pub(crate) lent: *const u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) malformed: u64,
}

/// `struct afxdp_send`.
#[repr(C)]
pub(crate) struct AfxdpSend {
    pub(crate) xsk: Xsk,
    pub(crate) spares: u32,
    pub(crate) spare: [u64; 4096],
}
