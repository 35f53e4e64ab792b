//! The table of library functions: the only way into libibverbs.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;

use crate::cq::ibv_cq;
use crate::device::{ibv_context, ibv_device, ibv_device_attr, ibv_gid, ibv_mr, ibv_pd};
use crate::event::{ibv_async_event, ibv_comp_channel};
use crate::qp::{ibv_ah, ibv_ah_attr, ibv_qp, ibv_qp_attr, ibv_qp_init_attr};

/// Declares each function once: as a field of the table, as a symbol to look up, and as a
/// symbol to link.
macro_rules! api {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)+) => {
        /// The functions of libibverbs, as the C headers declare them. They validate nothing.
        #[derive(Clone, Copy)]
        pub struct Api {
            $($(#[$doc])* pub $name: unsafe extern "C" fn($($arg: $ty),*) $(-> $ret)?,)+
        }

        impl Api {
            fn look_up(library: *mut c_void) -> Result<Self, LoadError> {
                Ok(Self {
                    $($name: {
                        let symbol = concat!(stringify!($name), "\0");
                        let address = symbol_of(library, symbol)?;
                        // SAFETY: the symbol of this name has this signature in every release
                        // (checked against the headers by `tests/abi.rs`); it is not null.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($arg: $ty),*) $(-> $ret)?,
                            >(address)
                        }
                    },)+
                })
            }

            /// Bound when the program was linked.
            #[cfg(feature = "linked")]
            #[must_use]
            pub fn linked() -> &'static Self {
                unsafe extern "C" {
                    $(fn $name($($arg: $ty),*) $(-> $ret)?;)+
                }
                static API: Api = Api { $($name,)+ };
                &API
            }
        }
    };
}

api! {
    /// NULL with `ENOSYS` where the kernel has no RDMA.
    fn ibv_get_device_list(num_devices: *mut c_int) -> *mut *mut ibv_device;
    fn ibv_free_device_list(list: *mut *mut ibv_device);
    fn ibv_get_device_name(device: *mut ibv_device) -> *const c_char;
    /// In network byte order.
    fn ibv_get_device_guid(device: *mut ibv_device) -> u64;
    fn ibv_open_device(device: *mut ibv_device) -> *mut ibv_context;
    fn ibv_close_device(context: *mut ibv_context) -> c_int;
    fn ibv_query_device(context: *mut ibv_context, attr: *mut ibv_device_attr) -> c_int;
    fn ibv_query_gid(context: *mut ibv_context, port: u8, index: c_int, gid: *mut ibv_gid) -> c_int;
    fn ibv_get_async_event(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int;
    fn ibv_ack_async_event(event: *mut ibv_async_event);
    fn ibv_alloc_pd(context: *mut ibv_context) -> *mut ibv_pd;
    fn ibv_dealloc_pd(pd: *mut ibv_pd) -> c_int;
    /// The symbol itself masks optional access flags that the kernel lacks.
    fn ibv_reg_mr(pd: *mut ibv_pd, addr: *mut c_void, length: usize, access: c_int) -> *mut ibv_mr;
    fn ibv_dereg_mr(mr: *mut ibv_mr) -> c_int;
    fn ibv_create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel;
    fn ibv_destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int;
    fn ibv_create_cq(
        context: *mut ibv_context, cqe: c_int, cq_context: *mut c_void,
        channel: *mut ibv_comp_channel, comp_vector: c_int
    ) -> *mut ibv_cq;
    /// Waits for ever while events of the queue are not acknowledged.
    fn ibv_destroy_cq(cq: *mut ibv_cq) -> c_int;
    fn ibv_get_cq_event(
        channel: *mut ibv_comp_channel, cq: *mut *mut ibv_cq, cq_context: *mut *mut c_void
    ) -> c_int;
    fn ibv_ack_cq_events(cq: *mut ibv_cq, nevents: c_uint);
    fn ibv_create_qp(pd: *mut ibv_pd, attr: *mut ibv_qp_init_attr) -> *mut ibv_qp;
    fn ibv_modify_qp(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int;
    fn ibv_query_qp(
        qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int, init: *mut ibv_qp_init_attr
    ) -> c_int;
    fn ibv_destroy_qp(qp: *mut ibv_qp) -> c_int;
    fn ibv_create_ah(pd: *mut ibv_pd, attr: *mut ibv_ah_attr) -> *mut ibv_ah;
    fn ibv_destroy_ah(ah: *mut ibv_ah) -> c_int;
    fn ibv_attach_mcast(qp: *mut ibv_qp, gid: *const ibv_gid, lid: u16) -> c_int;
    fn ibv_detach_mcast(qp: *mut ibv_qp, gid: *const ibv_gid, lid: u16) -> c_int;
    fn ibv_wc_status_str(status: c_uint) -> *const c_char;
    fn ibv_event_type_str(event: c_uint) -> *const c_char;
}

impl Api {
    /// Opens `libibverbs.so.1` and looks its functions up. The library stays loaded: its
    /// providers do not survive being unloaded.
    ///
    /// # Errors
    ///
    /// The library is not installed, or lacks a function.
    pub fn load() -> Result<Self, LoadError> {
        // SAFETY: a NUL-terminated name; the library's constructors are those of rdma-core.
        let library =
            unsafe { libc::dlopen(c"libibverbs.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(LoadError { what: last_dl_error() });
        }
        Self::look_up(library)
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Why libibverbs could not be used: the dynamic loader's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    what: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for LoadError {}

/// `name` ends in NUL.
fn symbol_of(library: *mut c_void, name: &'static str) -> Result<*mut c_void, LoadError> {
    // SAFETY: a handle from dlopen and a NUL-terminated name.
    let address = unsafe { libc::dlsym(library, name.as_ptr().cast()) };
    if address.is_null() { Err(LoadError { what: last_dl_error() }) } else { Ok(address) }
}

fn last_dl_error() -> String {
    // SAFETY: dlerror gives a string of this thread's, valid until its next dl call, or null.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the dynamic loader gave no reason".into();
    }
    // SAFETY: not null, NUL-terminated, and no dl call comes between.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
