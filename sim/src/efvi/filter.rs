//! Filter specs: what the setters write into them, and which frames they select.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{c_int, c_uint, c_void, in6_addr};
use linerate_common::{FlowKind, FlowSpec, Proto};
use linerate_efvi_sys::ef_filter_spec;

/// Bits of `ef_filter_spec::type`, of this simulator's own making.
const TO: c_uint = 1;
const BETWEEN: c_uint = 1 << 1;
const MAC: c_uint = 1 << 2;
const ETHERTYPE: c_uint = 1 << 3;
const VLAN: c_uint = 1 << 4;
const ALL_UNICAST: c_uint = 1 << 5;
const ALL_MULTICAST: c_uint = 1 << 6;
const REST_UNICAST: c_uint = 1 << 7;
const REST_MULTICAST: c_uint = 1 << 8;
const SNIFF: c_uint = 1 << 9;
const OTHER: c_uint = 1 << 10;

/// What `ef_filter_spec::data` holds here.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fields {
    dst: [u8; 16],
    src: [u8; 16],
    dst_port: u16,
    src_port: u16,
    vlan: u16,
    ethertype: u16,
    mac: [u8; 6],
    proto: u8,
    v6: u8,
}

const _: () = assert!(size_of::<Fields>() == 48);

/// An installed filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) id: i32,
    pub(super) kind: FilterKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FilterKind {
    Flow(FlowSpec),
    Unicast,
    Multicast,
    RestUnicast,
    RestMulticast,
    Sniff,
}

impl FilterKind {
    /// The kinds that the driver gives no id.
    pub(super) fn is_special(&self) -> bool {
        !matches!(self, Self::Flow(_))
    }

    /// Does the filter select the frame? `taken`: another one already did.
    pub(super) fn matches(&self, frame: &[u8], taken: bool) -> bool {
        let multicast = frame.first().is_some_and(|b| b & 1 == 1);
        match self {
            Self::Flow(flow) => flow.matches(frame),
            Self::Unicast => !multicast,
            Self::Multicast => multicast,
            Self::RestUnicast => !multicast && !taken,
            Self::RestMulticast => multicast && !taken,
            Self::Sniff => true,
        }
    }
}

/// Reads a spec that the setters made.
pub(super) fn read(spec: &ef_filter_spec) -> Option<FilterKind> {
    let f = fields(spec);
    let set = spec.r#type;
    let vlan = (set & VLAN != 0).then_some(f.vlan);
    let flow = |kind| Some(FilterKind::Flow(FlowSpec { kind, vlan }));
    let proto = if i32::from(f.proto) == libc::IPPROTO_TCP { Proto::Tcp } else { Proto::Udp };
    let address = |bytes: [u8; 16], port: u16| {
        let ip = match f.v6 {
            0 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
            _ => IpAddr::V6(Ipv6Addr::from(bytes)),
        };
        SocketAddr::new(ip, port)
    };
    match set & !VLAN {
        TO => flow(FlowKind::To { proto, dst: address(f.dst, f.dst_port) }),
        BETWEEN => flow(FlowKind::Between {
            proto,
            dst: address(f.dst, f.dst_port),
            src: address(f.src, f.src_port),
        }),
        MAC => flow(FlowKind::Mac(f.mac)),
        ETHERTYPE => flow(FlowKind::EtherType(f.ethertype)),
        ALL_UNICAST => Some(FilterKind::Unicast),
        ALL_MULTICAST => Some(FilterKind::Multicast),
        REST_UNICAST => Some(FilterKind::RestUnicast),
        REST_MULTICAST => Some(FilterKind::RestMulticast),
        SNIFF => Some(FilterKind::Sniff),
        _ => None,
    }
}

fn fields(spec: &ef_filter_spec) -> Fields {
    // SAFETY: 48 bytes of integers either way, and the source is aligned more strictly.
    unsafe { std::mem::transmute(spec.data) }
}

/// Adds `bit` to what the spec selects by.
///
/// # Safety
///
/// `spec` is valid.
unsafe fn set(spec: *mut ef_filter_spec, bit: c_uint, write: impl FnOnce(&mut Fields)) -> c_int {
    // SAFETY: the caller vouches for it.
    let spec = unsafe { &mut *spec };
    let alone = if bit == VLAN { TO | BETWEEN | ETHERTYPE } else { VLAN };
    if spec.r#type & !alone != 0 {
        return -libc::EPROTONOSUPPORT;
    }
    let mut f = fields(spec);
    write(&mut f);
    // SAFETY: 48 bytes of integers either way.
    spec.data = unsafe { std::mem::transmute::<Fields, [u32; 12]>(f) };
    spec.r#type |= bit;
    0
}

fn v4(be: c_uint) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&be.to_ne_bytes());
    bytes
}

fn host(be: c_int) -> u16 {
    u16::from_be(be as u16)
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn init(spec: *mut ef_filter_spec, flags: c_uint) {
    // SAFETY: the caller vouches for it.
    unsafe { spec.write(ef_filter_spec { flags, ..ef_filter_spec::default() }) }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn ip4_local(
    spec: *mut ef_filter_spec,
    proto: c_int,
    dst: c_uint,
    port: c_int,
) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe {
        set(spec, TO, |f| {
            (f.proto, f.dst, f.dst_port, f.v6) = (proto as u8, v4(dst), host(port), 0);
        })
    }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn ip4_full(
    spec: *mut ef_filter_spec,
    proto: c_int,
    dst: c_uint,
    port: c_int,
    src: c_uint,
    remote: c_int,
) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe {
        set(spec, BETWEEN, |f| {
            (f.proto, f.dst, f.dst_port, f.v6) = (proto as u8, v4(dst), host(port), 0);
            (f.src, f.src_port) = (v4(src), host(remote));
        })
    }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn ip6_local(
    spec: *mut ef_filter_spec,
    proto: c_int,
    dst: *const in6_addr,
    port: c_int,
) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe {
        let dst = (*dst).s6_addr;
        set(spec, TO, |f| {
            (f.proto, f.dst, f.dst_port, f.v6) = (proto as u8, dst, host(port), 1);
        })
    }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn ip6_full(
    spec: *mut ef_filter_spec,
    proto: c_int,
    dst: *const in6_addr,
    port: c_int,
    src: *const in6_addr,
    remote: c_int,
) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe {
        let (dst, src) = ((*dst).s6_addr, (*src).s6_addr);
        set(spec, BETWEEN, |f| {
            (f.proto, f.dst, f.dst_port, f.v6) = (proto as u8, dst, host(port), 1);
            (f.src, f.src_port) = (src, host(remote));
        })
    }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn vlan(spec: *mut ef_filter_spec, vid: c_int) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { set(spec, VLAN, |f| f.vlan = vid as u16) }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn eth_local(
    spec: *mut ef_filter_spec,
    vid: c_int,
    mac: *const c_void,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        let mac = mac.cast::<[u8; 6]>().read();
        let rc = set(spec, MAC, |f| (f.mac, f.vlan) = (mac, vid as u16));
        if rc == 0 && vid >= 0 {
            (*spec).r#type |= VLAN;
        }
        rc
    }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn eth_type(spec: *mut ef_filter_spec, be: u16) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { set(spec, ETHERTYPE, |f| f.ethertype = u16::from_be(be)) }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn ip_proto(spec: *mut ef_filter_spec, _: u8) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { set(spec, OTHER, |_| ()) }
}

/// # Safety
///
/// As the C function.
pub(super) unsafe extern "C" fn port_sniff(spec: *mut ef_filter_spec, _: c_int) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { set(spec, SNIFF, |_| ()) }
}

/// The setters that take nothing but the spec.
macro_rules! plain {
    ($($name:ident = $bit:ident),+ $(,)?) => {$(
        /// # Safety
        ///
        /// As the C function.
        pub(super) unsafe extern "C" fn $name(spec: *mut ef_filter_spec) -> c_int {
            // SAFETY: the caller vouches for it.
            unsafe { set(spec, $bit, |_| ()) }
        }
    )+};
}

plain! {
    unicast_all = ALL_UNICAST,
    multicast_all = ALL_MULTICAST,
    unicast_mismatch = REST_UNICAST,
    multicast_mismatch = REST_MULTICAST,
    tx_port_sniff = OTHER,
    block_kernel = OTHER,
}
