//! The real library's functions, with completion channels that need no kernel.

use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::{LazyLock, Mutex, OnceLock};

use linerate_ibverbs_sys::{Api, LoadError, ibv_comp_channel, ibv_context};

use crate::verbs::device::lock;

/// The real library's functions, with completion channels that need no kernel: a pipe carries
/// the events. Everything else is the library's own.
///
/// # Errors
///
/// libibverbs is not installed.
pub fn api() -> Result<Api, LoadError> {
    let mut api = Api::load()?;
    DESTROY_CHANNEL.get_or_init(|| api.ibv_destroy_comp_channel);
    api.ibv_create_comp_channel = create_comp_channel;
    api.ibv_destroy_comp_channel = destroy_comp_channel;
    Ok(api)
}

/// The library's own function, which closes the read end and frees the channel.
static DESTROY_CHANNEL: OnceLock<unsafe extern "C" fn(*mut ibv_comp_channel) -> c_int> =
    OnceLock::new();

unsafe extern "C" fn destroy_comp_channel(channel: *mut ibv_comp_channel) -> c_int {
    let Some(destroy) = DESTROY_CHANNEL.get() else { return libc::ENOSYS };
    // SAFETY: a live channel, made by `create_comp_channel`.
    let fd = unsafe { (*channel).fd };
    // Before the descriptor is closed: its number may be another channel's the moment after.
    let write_end = lock(&CHANNELS).remove(&fd);
    // SAFETY: the caller's promise, passed on.
    let rc = unsafe { destroy(channel) };
    if let Some(write_end) = write_end {
        if rc == 0 {
            // SAFETY: a descriptor of ours that nobody else knows.
            unsafe { libc::close(write_end) };
        } else {
            lock(&CHANNELS).insert(fd, write_end);
        }
    }
    rc
}

/// Write ends of the pipes of completion channels, by the channel's descriptor.
static CHANNELS: LazyLock<Mutex<HashMap<i32, i32>>> = LazyLock::new(Mutex::default);

unsafe extern "C" fn create_comp_channel(context: *mut ibv_context) -> *mut ibv_comp_channel {
    let mut pipe = [-1; 2];
    // SAFETY: an array of two descriptors; an allocation of the struct's size, checked.
    unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return null_mut();
        }
        // libibverbs frees it with free(3) and closes the descriptor.
        let channel = libc::calloc(1, size_of::<ibv_comp_channel>()).cast::<ibv_comp_channel>();
        if channel.is_null() {
            return null_mut();
        }
        (*channel).context = context;
        (*channel).fd = pipe[0];
        lock(&CHANNELS).insert(pipe[0], pipe[1]);
        channel
    }
}

/// The write end behind a channel, -1 for a null one.
pub(super) unsafe fn pipe_of(channel: *mut ibv_comp_channel) -> i32 {
    if channel.is_null() {
        return -1;
    }
    // SAFETY: not null: a live channel.
    let fd = unsafe { (*channel).fd };
    lock(&CHANNELS).get(&fd).copied().unwrap_or(-1)
}
