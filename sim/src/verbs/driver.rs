//! The device as a driver of libibverbs, for programs that find their devices themselves.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use crate::cable::Plug;

use super::abi::{
    ALLOC_CONTEXT, ALLOC_DEVICE, DEVICE_OPS_WORDS, MATCH_DEVICE, MATCH_TABLE, Unavailable, find,
};
use super::device::Device;
use super::provider;

/// The variable that names the interface at the other end of the cable.
const PEER: &str = "LINERATE_SIM_PEER";

/// Kinds of entries in a driver's table of devices, at their place in the last word.
const BY_NAME: usize = 2 << 32;
const BY_DRIVER: usize = 3 << 32;
/// The kernel's number of rdma_rxe.
const RXE: usize = 14;

/// Registers the simulated device with the libibverbs that is loading this library as a driver.
/// Each device that libibverbs finds becomes one, with its cable plugged into the network
/// interface that the environment variable `LINERATE_SIM_PEER` names.
///
/// # Errors
///
/// libibverbs has another provider interface.
pub fn register_driver() -> Result<(), Unavailable> {
    let register = find(super::abi::library()?, c"verbs_register_driver_34")?;
    // Which devices it is for: any by name, and by the kernel's number those of rdma_rxe, which
    // can lend theirs. Entries are pointer, pointer or number, two vendor ids, and their kind.
    let table = [[0, c"*".as_ptr() as usize, BY_NAME], [0, RXE, BY_DRIVER], [0, 0, 0]];
    let table = Box::leak(Box::new(table));
    // struct verbs_device_ops: the name, the range of kernel interfaces, then functions.
    let mut ops = Box::new([0_usize; DEVICE_OPS_WORDS]);
    ops[0] = c"linerate-sim".as_ptr() as usize;
    ops[1] = (u32::MAX as usize) << 32;
    ops[MATCH_TABLE] = table.as_ptr() as usize;
    ops[MATCH_DEVICE] = match_device as *const () as usize;
    ops[ALLOC_CONTEXT] = provider::alloc_context as *const () as usize;
    ops[ALLOC_DEVICE] = alloc_device as *const () as usize;
    // SAFETY: the signature is that of driver.h at this version; the table lives for ever.
    unsafe {
        let register: unsafe extern "C" fn(*const usize) = std::mem::transmute(register);
        register(Box::leak(ops).as_ptr());
    }
    Ok(())
}

unsafe extern "C" fn match_device(_sysfs: *mut c_void) -> bool {
    std::env::var_os(PEER).is_some()
}

/// A device for as long as the process lives; NULL, with the reason on stderr, when it cannot be.
unsafe extern "C" fn alloc_device(_sysfs: *mut c_void) -> *mut c_void {
    let made = std::env::var(PEER).map_err(|e| e.to_string()).and_then(|interface| {
        let plug = Plug::veth(&interface).map_err(|e| format!("{interface}: {e}"))?;
        // libibverbs writes the name that it found over this one.
        Device::new("sim", plug).map_err(|e| e.to_string())
    });
    match made {
        Ok(device) => {
            let raw = device.raw().as_ptr();
            std::mem::forget(device);
            raw.cast()
        }
        Err(why) => {
            eprintln!("linerate: no simulated verbs device: {why}");
            null_mut::<c_char>().cast()
        }
    }
}
