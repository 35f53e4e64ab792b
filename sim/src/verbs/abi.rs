//! The private interface of libibverbs, number 34: what a provider calls and is called through.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;

use linerate_ibverbs_sys::ibv_context;

/// Why there can be no simulated verbs device here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub(super) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Bytes of `struct verbs_context` that precede its `ibv_context`.
pub(super) const CONTEXT_OFFSET: usize = 320;
/// Bytes of `struct verbs_context`.
pub(super) const CONTEXT_BYTES: usize = 648;
/// Bytes of `struct verbs_device`, an `ibv_device` first.
pub(super) const DEVICE_BYTES: usize = 712;
/// Where in a `verbs_device` its operations are pointed to, and its reference count.
pub(super) const DEVICE_OPS: usize = 664;
pub(super) const DEVICE_REFCOUNT: usize = 672;
/// Slots of functions in the device operations, in words.
pub(super) const MATCH_TABLE: usize = 2;
pub(super) const MATCH_DEVICE: usize = 4;
pub(super) const ALLOC_CONTEXT: usize = 5;
pub(super) const ALLOC_DEVICE: usize = 7;
/// Words of the device operations.
pub(super) const DEVICE_OPS_WORDS: usize = 9;
/// Words of `struct verbs_context_ops`, a table in alphabetical order.
pub(super) const CONTEXT_OPS_WORDS: usize = 76;

/// Words from the start of `struct verbs_context_ops`.
pub(super) mod op {
    pub(crate) const ALLOC_PD: usize = 40 / 8;
    pub(crate) const CREATE_CQ: usize = 120 / 8;
    pub(crate) const CREATE_CQ_EX: usize = 128 / 8;
    pub(crate) const CREATE_FLOW: usize = 136 / 8;
    pub(crate) const CREATE_QP: usize = 152 / 8;
    pub(crate) const CREATE_QP_EX: usize = 160 / 8;
    pub(crate) const CREATE_RWQ_IND_TABLE: usize = 168 / 8;
    pub(crate) const CREATE_WQ: usize = 192 / 8;
    pub(crate) const DEALLOC_PD: usize = 208 / 8;
    pub(crate) const DEREG_MR: usize = 224 / 8;
    pub(crate) const DESTROY_CQ: usize = 248 / 8;
    pub(crate) const DESTROY_FLOW: usize = 256 / 8;
    pub(crate) const DESTROY_QP: usize = 272 / 8;
    pub(crate) const DESTROY_RWQ_IND_TABLE: usize = 280 / 8;
    pub(crate) const DESTROY_WQ: usize = 296 / 8;
    pub(crate) const FREE_CONTEXT: usize = 312 / 8;
    pub(crate) const MODIFY_QP: usize = 376 / 8;
    pub(crate) const MODIFY_WQ: usize = 400 / 8;
    pub(crate) const POLL_CQ: usize = 424 / 8;
    pub(crate) const POST_RECV: usize = 432 / 8;
    pub(crate) const POST_SEND: usize = 440 / 8;
    pub(crate) const QUERY_DEVICE_EX: usize = 464 / 8;
    pub(crate) const QUERY_PORT: usize = 480 / 8;
    pub(crate) const QUERY_RT_VALUES: usize = 504 / 8;
    pub(crate) const REG_MR: usize = 544 / 8;
    pub(crate) const REQ_NOTIFY_CQ: usize = 552 / 8;
}

/// What a provider calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Private {
    pub(super) init_and_alloc_context:
        unsafe extern "C" fn(*mut c_void, c_int, usize, *mut c_void, u32) -> *mut c_void,
    pub(super) set_ops: unsafe extern "C" fn(*mut c_void, *const usize),
    pub(super) uninit_context: unsafe extern "C" fn(*mut c_void),
}

impl Private {
    /// Looks the functions up under the version that this module is written for.
    pub(super) fn load() -> Result<Self, Unavailable> {
        let library = library()?;
        // SAFETY: the signatures are those of driver.h at this version; `find` gives no null.
        unsafe {
            Ok(Self {
                init_and_alloc_context: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(
                        *mut c_void,
                        c_int,
                        usize,
                        *mut c_void,
                        u32,
                    ) -> *mut c_void,
                >(find(
                    library,
                    c"_verbs_init_and_alloc_context",
                )?),
                set_ops: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, *const usize),
                >(find(library, c"verbs_set_ops")?),
                uninit_context: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(
                    find(library, c"verbs_uninit_context")?,
                ),
            })
        }
    }
}

/// The libibverbs of this process.
pub(super) fn library() -> Result<*mut c_void, Unavailable> {
    // SAFETY: a constant name; the library's constructors are those of rdma-core.
    let library =
        unsafe { libc::dlopen(c"libibverbs.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(Unavailable("libibverbs.so.1 is not installed (Debian: libibverbs1)".into()));
    }
    Ok(library)
}

pub(super) fn find(library: *mut c_void, name: &CStr) -> Result<*mut c_void, Unavailable> {
    const VERSION: &CStr = c"IBVERBS_PRIVATE_34";
    unsafe extern "C" {
        fn dlvsym(handle: *mut c_void, name: *const c_char, version: *const c_char) -> *mut c_void;
    }
    // SAFETY: a library handle and two NUL-terminated strings.
    let address = unsafe { dlvsym(library, name.as_ptr(), VERSION.as_ptr()) };
    if address.is_null() {
        let name = name.to_string_lossy();
        return Err(Unavailable(format!(
            "this libibverbs has another provider interface than {} ({name} is missing); \
             rdma-core 34 to 57 have it",
            VERSION.to_string_lossy()
        )));
    }
    Ok(address)
}

/// The context as libibverbs hands it to programs, from the one it hands to providers.
pub(super) fn public(context: *mut c_void) -> *mut ibv_context {
    context.wrapping_byte_add(CONTEXT_OFFSET).cast()
}
