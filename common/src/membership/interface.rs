//! Naming an interface, and asking the kernel about it.

use std::ffi::CStr;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Error, ErrorKind, SetupError, last_errno};

/// An interface by its name (`"eth2"`) or by its index (`4`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Interface {
    /// Its name, as in `ip link`.
    Name(String),
    /// Its index, as in `ip link`; 0 names no interface and is refused.
    Index(u32),
}

impl From<&str> for Interface {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Interface {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<u32> for Interface {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "interface {index}"),
        }
    }
}

/// The view of the interfaces that one network namespace gives, whichever thread asks: the
/// questions go through a socket that was opened in that namespace.
#[derive(Debug)]
pub struct Interfaces {
    control: OwnedFd,
}

impl Interfaces {
    /// The interfaces of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// `socket` failed (no descriptors left).
    pub fn here() -> Result<Self, Error> {
        Ok(Self { control: dgram_socket(libc::AF_INET)? })
    }

    /// The interface's present name and index.
    ///
    /// # Errors
    ///
    /// There is no such interface ([`ErrorKind::DeviceGone`]), or it is no name or index that an
    /// interface could have ([`ErrorKind::BadArgument`]).
    pub fn resolve(&self, interface: &Interface) -> Result<(String, u32), SetupError> {
        let found = match interface {
            Interface::Name(name) => self.index_of(name).map(|i| i.map(|i| (name.clone(), i))),
            Interface::Index(0) => {
                let why = "index 0 would leave the choice to the routing table";
                return Err(SetupError::new(ErrorKind::BadArgument, "interface", why)
                    .remedy("name the interface"));
            }
            Interface::Index(index) => self.name_of(*index).map(|n| n.map(|n| (n, *index))),
        };
        let missing = || {
            SetupError::new(ErrorKind::DeviceGone, "interface", "no such interface")
                .remedy("list them: ip link")
        };
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(missing().on(interface.to_string())),
            Err(e) => Err(SetupError::from(e).on(interface.to_string())),
        }
    }

    /// Index of the interface that has this name now; `None` when none has.
    ///
    /// # Errors
    ///
    /// No interface can have this name ([`ErrorKind::BadArgument`]), or the ioctl
    /// `SIOCGIFINDEX` failed.
    pub fn index_of(&self, name: &str) -> Result<Option<u32>, Error> {
        let mut req = request_for(name)?;
        match self.ioctl("SIOCGIFINDEX", libc::SIOCGIFINDEX, &mut req) {
            // SAFETY: SIOCGIFINDEX fills the index member of the union.
            Ok(()) => Ok(u32::try_from(unsafe { req.ifr_ifru.ifru_ifindex }).ok()),
            Err(e) if e.errno == libc::ENODEV => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// MTU of an interface in bytes: the longest IP packet it carries.
    ///
    /// # Errors
    ///
    /// There is no such interface, or the ioctl `SIOCGIFMTU` failed.
    pub fn mtu_of(&self, name: &str) -> Result<u32, Error> {
        let mut req = request_for(name)?;
        self.ioctl("SIOCGIFMTU", libc::SIOCGIFMTU, &mut req)?;
        // SAFETY: SIOCGIFMTU fills the MTU member of the union.
        Ok(u32::try_from(unsafe { req.ifr_ifru.ifru_mtu }).unwrap_or(0))
    }

    /// Hardware address of an interface; zeros for one that has none (`lo`).
    ///
    /// # Errors
    ///
    /// There is no such interface, or the ioctl `SIOCGIFHWADDR` failed.
    pub fn mac_of(&self, name: &str) -> Result<[u8; 6], Error> {
        let mut req = request_for(name)?;
        self.ioctl("SIOCGIFHWADDR", libc::SIOCGIFHWADDR, &mut req)?;
        // SAFETY: SIOCGIFHWADDR fills the hwaddr member of the union.
        let data = unsafe { req.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(std::array::from_fn(|i| data[i] as u8))
    }

    /// The interface's first IPv4 address: the one that its IGMP reports come from. `None` when
    /// it has none, or does not exist.
    #[must_use]
    pub fn ipv4_of(&self, name: &str) -> Option<Ipv4Addr> {
        let mut req = request_for(name).ok()?;
        self.ioctl("SIOCGIFADDR", libc::SIOCGIFADDR, &mut req).ok()?;
        // SAFETY: SIOCGIFADDR fills the address member of the union.
        let data = unsafe { req.ifr_ifru.ifru_addr.sa_data };
        // A sockaddr_in: two bytes of port, then the address.
        Some(Ipv4Addr::from([2, 3, 4, 5].map(|i| data[i] as u8)))
    }

    /// Is the interface up and has it a carrier? `false` also when it does not exist.
    #[must_use]
    pub fn is_running(&self, name: &str) -> bool {
        let Ok(mut req) = request_for(name) else { return false };
        let asked = self.ioctl("SIOCGIFFLAGS", libc::SIOCGIFFLAGS, &mut req);
        let both = libc::IFF_UP | libc::IFF_RUNNING;
        // SAFETY: SIOCGIFFLAGS fills the flags member of the union.
        asked.is_ok() && libc::c_int::from(unsafe { req.ifr_ifru.ifru_flags }) & both == both
    }

    fn name_of(&self, index: u32) -> Result<Option<String>, Error> {
        let mut req = request_for("")?;
        req.ifr_ifru.ifru_ifindex = index as libc::c_int;
        match self.ioctl("SIOCGIFNAME", libc::SIOCGIFNAME, &mut req) {
            Ok(()) => {
                let bytes = req.ifr_name.map(|c| c as u8);
                Ok(CStr::from_bytes_until_nul(&bytes).ok().map(|n| n.to_string_lossy().into()))
            }
            Err(e) if e.kind == ErrorKind::DeviceGone => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn ioctl(
        &self,
        op: &'static str,
        code: libc::c_ulong,
        req: &mut libc::ifreq,
    ) -> Result<(), Error> {
        // SAFETY: all the SIOCGIF* calls used here take one ifreq and write within it.
        match unsafe { libc::ioctl(self.control.as_raw_fd(), code as _, req) } {
            0 => Ok(()),
            _ => Err(Error::last_os(op)),
        }
    }
}

/// An unbound datagram socket: no data reaches it.
pub(super) fn dgram_socket(family: libc::c_int) -> Result<OwnedFd, Error> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    match fd {
        -1 => Err(Error::os("socket", last_errno())),
        // SAFETY: a descriptor that the kernel just made and nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn request_for(name: &str) -> Result<libc::ifreq, Error> {
    // SAFETY: ifreq is plain data for which zeros are valid.
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the kernel wants a terminated string.
    if name.len() >= req.ifr_name.len() || name.bytes().any(|b| b == 0 || b == b'/') {
        return Err(Error::new(ErrorKind::BadArgument, "interface name"));
    }
    for (to, from) in req.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(req)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_resolves_by_name_and_by_index() {
        let here = Interfaces::here().unwrap();
        let (name, index) = here.resolve(&"lo".into()).unwrap();
        assert_eq!(name, "lo");
        assert_eq!(here.resolve(&index.into()).unwrap(), (name, index));
        assert!(here.mtu_of("lo").unwrap() >= 1500);
        assert_eq!(here.mac_of("lo").unwrap(), [0; 6]);
        assert_eq!(here.ipv4_of("lo"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(here.ipv4_of("nosuch0"), None);
        assert!(here.is_running("lo") && !here.is_running("nosuch0"));
    }

    #[test]
    fn what_names_no_interface_is_refused_with_a_remedy() {
        let here = Interfaces::here().unwrap();
        let e = here.resolve(&"nosuch0".into()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DeviceGone);
        assert_eq!(e.to_string(), "nosuch0: interface: no such interface; list them: ip link");
        assert_eq!(here.resolve(&0.into()).unwrap_err().kind(), ErrorKind::BadArgument);
        assert_eq!(here.resolve(&u32::MAX.into()).unwrap_err().kind(), ErrorKind::DeviceGone);
        let long = "a-name-of-sixteen".into();
        assert_eq!(here.resolve(&long).unwrap_err().kind(), ErrorKind::BadArgument);
    }
}
