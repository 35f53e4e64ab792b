//! What the kernel and the driver say about an interface.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use linerate_common::{ErrorKind, SetupError, last_errno};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GET_TS_INFO: u32 = 0x41;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// An interface, asked through ioctls in the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Interface {
    name: String,
    index: u32,
    socket: OwnedFd,
}

impl Interface {
    /// # Errors
    ///
    /// There is no such interface, or it is down.
    pub(crate) fn open(name: &str) -> Result<Self, SetupError> {
        let unknown = |errno| crate::error::no_interface(errno);
        let c_name = CString::new(name).map_err(|_| unknown(libc::ENODEV))?;
        // SAFETY: a NUL-terminated string.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if index == 0 {
            return Err(unknown(last_errno()));
        }
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(SetupError::last_os("socket(AF_INET)"));
        }
        // SAFETY: a new descriptor, ours alone.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let interface = Self { name: name.to_owned(), index, socket };
        if !interface.is_up()? {
            return Err(SetupError::new(ErrorKind::LinkDown, "open", "the interface is down")
                .remedy(format!("bring it up: ip link set {name} up")));
        }
        Ok(interface)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is plain data, for which zeros are valid.
        let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
        // if_nametoindex took the name, so it is short enough; the last byte stays 0.
        for (to, from) in request.ifr_name[..15].iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        request
    }

    fn is_up(&self) -> Result<bool, SetupError> {
        let mut request = self.request();
        // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of an ifreq.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request) }
            < 0
        {
            return Err(SetupError::last_os("ioctl(SIOCGIFFLAGS)"));
        }
        // SAFETY: just written.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        Ok(i32::from(flags) & libc::IFF_UP != 0)
    }

    /// Largest packet in bytes, without the Ethernet header.
    pub(crate) fn mtu(&self) -> Result<usize, SetupError> {
        let mut request = self.request();
        // SAFETY: SIOCGIFMTU reads the name and writes the MTU of an ifreq.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFMTU as _, &mut request) } < 0
        {
            return Err(SetupError::last_os("ioctl(SIOCGIFMTU)"));
        }
        // SAFETY: just written.
        Ok(usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
    }

    /// One ethtool command over `data`, whose first word is the command.
    fn ethtool(&self, data: &mut [u32]) -> bool {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: each caller's buffer is as long as the structure of its command.
        unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &mut request) == 0 }
    }

    /// The driver's name, empty when it has none.
    pub(crate) fn driver(&self) -> String {
        let mut info = [0; 49]; // struct ethtool_drvinfo: the driver is 32 bytes at 4
        info[0] = ETHTOOL_GDRVINFO;
        if !self.ethtool(&mut info) {
            return String::new();
        }
        let bytes: Vec<u8> = info[1..9].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Receive queues in use, at least 1: also where the driver does not know the question. Any
    /// other failure is one, since frames of a queue that nobody knows of would go to the kernel.
    pub(crate) fn rx_queues(&self) -> Result<u32, SetupError> {
        // struct ethtool_channels: cmd, 4 maxima, then rx, tx, other, combined.
        let mut channels = [0; 9];
        channels[0] = ETHTOOL_GCHANNELS;
        if !self.ethtool(&mut channels) {
            return match last_errno() {
                libc::EOPNOTSUPP => Ok(1),
                errno => Err(SetupError::os("ioctl(ETHTOOL_GCHANNELS)", errno)),
            };
        }
        Ok((channels[5] + channels[8]).max(1))
    }

    /// The number of its PTP clock, if it has one.
    pub(crate) fn phc(&self) -> Option<u32> {
        // struct ethtool_ts_info: cmd, so_timestamping, phc_index, and 8 more words.
        let mut info = [0; 11];
        info[0] = ETHTOOL_GET_TS_INFO;
        (self.ethtool(&mut info) && info[2] as i32 >= 0).then_some(info[2])
    }

    /// Does the card take VLAN tags out before a program can see them?
    pub(crate) fn strips_vlan(&self) -> bool {
        let mut flags = [ETHTOOL_GFLAGS, 0];
        self.ethtool(&mut flags) && flags[1] & ETH_FLAG_RXVLAN != 0
    }
}
