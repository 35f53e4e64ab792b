//! Hardware receive stamps: switching them on, and finding the clock that they tell.

use linerate_common::clock::PhcWatch;
use linerate_common::{ErrorKind, SetupError};

use crate::link::Interface;
use crate::sys::{Socket, request_for};

/// `SIOCGHWTSTAMP`: reads what `SIOCSHWTSTAMP` sets.
const SIOCGHWTSTAMP: libc::c_ulong = 0x89b1;
const ETHTOOL_GET_TS_INFO: u32 = 0x41;

/// `struct ethtool_ts_info`.
#[repr(C)]
#[derive(Default)]
struct TsInfo {
    cmd: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// Makes the card stamp every frame it receives, and the socket hand those stamps over.
pub(crate) fn switch_on(socket: &Socket, interface: &Interface) -> Result<PhcWatch, SetupError> {
    let name = &interface.name;
    let none = |what: &str| {
        let detail = format!("{name}: {what}");
        SetupError::new(ErrorKind::Unsupported, "SIOCSHWTSTAMP", detail)
            .remedy(format!("use the kernel's stamps; what the driver can do: ethtool -T {name}"))
    };
    let mut request = request_for(name).ok_or_else(|| none("no such interface"))?;

    let mut info = TsInfo { cmd: ETHTOOL_GET_TS_INFO, phc_index: -1, ..TsInfo::default() };
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    let known = socket.interface_ioctl("ETHTOOL_GET_TS_INFO", libc::SIOCETHTOOL as _, &mut request);
    let index = u32::try_from(info.phc_index);
    let (Ok(()), Ok(index)) = (known, index) else {
        return Err(none("the driver has no hardware clock"));
    };
    if info.rx_filters & (1 << libc::HWTSTAMP_FILTER_ALL) == 0 {
        return Err(none("the driver cannot stamp every received frame"));
    }

    // Stamps of sent frames belong to others, a PTP daemon perhaps: keep what they set.
    let mut config = libc::hwtstamp_config { flags: 0, tx_type: 0, rx_filter: 0 };
    request.ifr_ifru.ifru_data = (&raw mut config).cast();
    let _ = socket.interface_ioctl("SIOCGHWTSTAMP", SIOCGHWTSTAMP, &mut request);
    if config.rx_filter != libc::HWTSTAMP_FILTER_ALL as i32 {
        let rx_filter = libc::HWTSTAMP_FILTER_ALL as i32;
        let mut wanted = libc::hwtstamp_config { flags: 0, tx_type: config.tx_type, rx_filter };
        request.ifr_ifru.ifru_data = (&raw mut wanted).cast();
        socket.interface_ioctl("SIOCSHWTSTAMP", libc::SIOCSHWTSTAMP as _, &mut request).map_err(
            |e| match e.errno {
                libc::EPERM => SetupError::from(e)
                    .remedy("run as root or: sudo setcap cap_net_raw,cap_net_admin+ep PROGRAM"),
                _ => none("the driver refuses to stamp every received frame"),
            },
        )?;
    }
    socket.set_packet(
        "PACKET_TIMESTAMP",
        libc::PACKET_TIMESTAMP,
        libc::SOF_TIMESTAMPING_RAW_HARDWARE,
    )?;
    PhcWatch::open(index).map_err(|e| {
        let path = format!("/dev/ptp{index}");
        SetupError::os("open", e.raw_os_error().unwrap_or(libc::EIO)).remedy(format!(
            "without reading {path} nobody knows whether the card runs on UTC or TAI; \
             run as root or: sudo chmod a+r {path}"
        ))
    })
}
