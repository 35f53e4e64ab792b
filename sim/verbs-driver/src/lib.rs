//! The simulated verbs device as a driver that libibverbs loads: any program that uses verbs then
//! runs on it, such as Debian's `perftest`.
//!
//! libibverbs must be shown a device (a tree under `SYSFS_PATH`, a node under `/dev/infiniband`)
//! and this library, under the name that it gives to drivers (`RDMAV_DRIVERS=/tmp/simverbs` for
//! `/tmp/simverbs-rdmav34.so`). `LINERATE_SIM_PEER` names the network interface at the other end
//! of the device's cable. `verbs/tests/perftest.rs` does all of this.

/// Called when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = {
    extern "C" fn register() {
        if let Err(why) = linerate_sim::verbs::register_driver() {
            eprintln!("linerate: no simulated verbs device: {why}");
        }
    }
    register
};
