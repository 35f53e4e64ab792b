//! Setup errors: what the library said, and what to do about it.

use linerate_common::{ErrorKind, SetupError};

const UDEV: &str = "allow it to your group: \
    echo 'KERNEL==\"exanic[0-9]*\", GROUP=\"trading\", MODE=\"0660\"' \
    | sudo tee /etc/udev/rules.d/60-exanic.rules && sudo udevadm trigger";

const LIST: &str = "list interfaces and their drivers: linerate ports";

/// Texts of the library (and of the kernel's errno inside them), what they mean and the remedy.
const KNOWN: [(&str, ErrorKind, &str); 10] = [
    (
        "device open failed: No such file",
        ErrorKind::DeviceGone,
        "load the driver (sudo modprobe exanic) and look for the card: ls /dev/exanic*",
    ),
    ("device open failed: Permission denied", ErrorKind::Denied, UDEV),
    ("device open failed: Operation not permitted", ErrorKind::Denied, UDEV),
    ("not enabled", ErrorKind::LinkDown, "bring the interface up: sudo ip link set INTERFACE up"),
    ("invalid port", ErrorKind::BadArgument, "list the ports of the card: exanic-config"),
    (
        "TX_BUFFER_ALLOC failed: Cannot allocate",
        ErrorKind::Os,
        "the port's transmit memory is taken by other programs, exasock and the kernel: ask for \
         less (tx_buffer_bytes), or free the kernel's part: \
         sudo ethtool --set-priv-flags INTERFACE bypass_only on",
    ),
    (
        "FILTER_BUFFER_ALLOC_EX failed: Cannot allocate",
        ErrorKind::Os,
        "all filter buffers are taken, or 2 MiB of contiguous memory are missing: \
         echo 1 | sudo tee /proc/sys/vm/compact_memory",
    ),
    (
        "FILTER_ADD",
        ErrorKind::Os,
        "the port's rules are all taken, by any program (128 IP, 64 MAC on most cards), or flow \
         hashing is on",
    ),
    ("not an ExaNIC", ErrorKind::Unsupported, LIST),
    // Said of interfaces whose driver does not answer ethtool as well.
    ("interface not found", ErrorKind::Unsupported, LIST),
];

/// A failed call of the library with the text it left.
pub(crate) fn library(op: &'static str, text: String) -> SetupError {
    let known = KNOWN.iter().find(|(what, ..)| text.contains(what));
    let (kind, remedy) = known.map_or((ErrorKind::Os, ""), |(_, kind, remedy)| (*kind, *remedy));
    SetupError::new(kind, op, text).remedy(remedy)
}

/// An option that cannot be.
pub(crate) fn argument(op: &'static str, detail: impl Into<String>) -> SetupError {
    SetupError::new(ErrorKind::BadArgument, op, detail.into())
}

/// Something this card or library does not do.
pub(crate) fn unsupported(op: &'static str, detail: impl Into<String>) -> SetupError {
    SetupError::new(ErrorKind::Unsupported, op, detail.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_gets_a_kind_and_a_remedy() {
        let e = library("exanic_acquire_rx_buffer", "port is not enabled".into());
        assert_eq!(e.kind(), ErrorKind::LinkDown);
        assert!(e.to_string().contains("ip link set"), "{e}");
        let e = library("exanic_acquire_handle", "device open failed: Permission denied".into());
        assert_eq!(e.kind(), ErrorKind::Denied);
        assert!(e.remedy_text().contains("udev"), "{e}");
    }
}
