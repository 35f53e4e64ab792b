//! Hardware receive stamps: switching them on, and finding out which time they tell.

use std::fs::File;
use std::os::fd::AsRawFd;

use linerate_common::{ClockDomain, ClockInfo, ErrorKind, SetupError};

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

/// A card's clock, and by how much it is ahead of UTC.
pub(crate) struct Phc {
    pub(crate) clock: ClockInfo,
    pub(crate) ahead_ns: u64,
}

/// Makes the card stamp every frame it receives, and the socket hand those stamps over.
pub(crate) fn switch_on(socket: &Socket, interface: &Interface) -> Result<Phc, SetupError> {
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
    let (diff_ns, tai_s) = compare(index)?;
    Ok(judge(index, diff_ns, tai_s))
}

/// How far the card's clock is ahead of `CLOCK_REALTIME`, and TAI of UTC as the kernel knows it.
fn compare(index: u32) -> Result<(i64, i64), SetupError> {
    let path = format!("/dev/ptp{index}");
    let file = File::open(&path).map_err(|e| {
        SetupError::os("open", e.raw_os_error().unwrap_or(libc::EIO)).remedy(format!(
            "without reading {path} nobody knows whether the card runs on UTC or TAI; \
             run as root or: sudo chmod a+r {path}"
        ))
    })?;
    // A clock of a descriptor, as in clock_getres(2).
    let id = (!file.as_raw_fd() << 3) | 3;
    let (before, card, after) = (now(libc::CLOCK_REALTIME), now(id), now(libc::CLOCK_REALTIME));
    // SAFETY: a timex is plain data, and modes 0 only reads.
    let tai_s = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&mut timex);
        timex.tai.into()
    };
    Ok((card - (before + (after - before) / 2), tai_s))
}

fn now(id: libc::clockid_t) -> i64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` outlives the call.
    unsafe { libc::clock_gettime(id, &mut ts) };
    ts.tv_sec * 1_000_000_000 + ts.tv_nsec
}

/// A clock within half a second of UTC runs on UTC, within half a second of TAI on TAI. One that
/// is off both is not synchronised, and its stamps are passed on as they are and flagged.
fn judge(index: u32, diff_ns: i64, tai_s: i64) -> Phc {
    const HALF_SECOND: u64 = 500_000_000;
    // A kernel that nobody told counts 0; TAI has been 37 s ahead since 2017.
    let tai_ns = if tai_s == 0 { 37 } else { tai_s } * 1_000_000_000;
    let (domain, synced, ahead_ns) = if diff_ns.unsigned_abs() < HALF_SECOND {
        (ClockDomain::Phc(index), None, 0)
    } else if (diff_ns - tai_ns).unsigned_abs() < HALF_SECOND {
        (ClockDomain::PhcTai(index), None, tai_ns.unsigned_abs())
    } else {
        (ClockDomain::Phc(index), Some(false), 0)
    };
    Phc { clock: ClockInfo { domain, synced, resolution_ns: 1 }, ahead_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_on_tai_is_told_from_one_on_utc_and_from_one_that_is_off() {
        let on = |diff_ns, tai_s| {
            let phc = judge(3, diff_ns, tai_s);
            (phc.clock.domain, phc.clock.synced, phc.ahead_ns)
        };
        let tai = (ClockDomain::PhcTai(3), None, 37_000_000_000);
        assert_eq!(on(1_200, 37), (ClockDomain::Phc(3), None, 0));
        assert_eq!(on(-400_000_000, 37), (ClockDomain::Phc(3), None, 0));
        assert_eq!(on(37_000_000_900, 37), tai);
        assert_eq!(on(36_999_999_100, 0), tai, "a kernel that was not told the offset");
        assert_eq!(on(38_000_000_000, 38), (ClockDomain::PhcTai(3), None, 38_000_000_000));
        assert_eq!(on(-1_700_000_000_000_000_000, 37), (ClockDomain::Phc(3), Some(false), 0));
    }
}
