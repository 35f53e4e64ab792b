//! What each vendor's kernel bypass needs on this machine: library, device files, rights.

use linerate::{efvi, exanic, verbs};
use rustix::fs::Access;
use rustix::thread::{CapabilitySet, capabilities};

use super::finding::{Finding, Verdict};
use super::machine::Machine;

/// A backend of a maker of cards.
struct Vendor {
    backend: &'static str,
    makers: &'static str,
    /// PCI vendors of their cards.
    pci: &'static [&'static str],
    /// Directory and beginning of the names of their device files.
    files: (&'static str, &'static str),
    /// What makes the files appear.
    load: &'static str,
    library: fn() -> Result<&'static str, String>,
}

const VENDORS: [Vendor; 3] = [
    Vendor {
        backend: "efvi",
        makers: "Solarflare or AMD",
        pci: &["0x1924", "0x10ee"],
        files: ("/dev", "sfc_char"),
        load: "modprobe sfc_char # of OpenOnload",
        library: || match efvi::Library::linked() {
            Ok(_) => Ok("libciul is linked"),
            Err(e) => Err(e.to_string()),
        },
    },
    Vendor {
        backend: "verbs",
        makers: "Mellanox or NVIDIA",
        pci: &["0x15b3"],
        files: ("/dev/infiniband", "uverbs"),
        load: "modprobe -a ib_uverbs mlx5_ib",
        library: || match verbs::Library::load() {
            Ok(_) => Ok("libibverbs is loaded"),
            Err(e) => Err(e.to_string()),
        },
    },
    Vendor {
        backend: "exanic",
        makers: "Exablaze or Cisco",
        pci: &["0x1ce4"],
        files: ("/dev", "exanic"),
        load: "modprobe exanic",
        library: || match exanic::Api::linked() {
            Ok(_) => Ok("libexanic is linked"),
            Err(e) => Err(e.to_string()),
        },
    },
];

/// Every backend's library, device files and rights. Where none of a maker's cards is, nothing
/// of it is missing.
pub(super) fn look(machine: &Machine) -> Vec<Finding> {
    let mut all: Vec<_> = VENDORS.iter().flat_map(|vendor| vendor.look(machine)).collect();
    all.extend(rights());
    all
}

impl Vendor {
    fn look(&self, machine: &Machine) -> [Finding; 2] {
        let cards = self.cards(machine);
        let needed = if cards > 0 { Verdict::Fail } else { Verdict::Ok };
        let none = if cards > 0 { String::new() } else { format!("; no {} card", self.makers) };
        let library = Finding::new(
            self.backend,
            "library",
            "the vendor's library is the way past the kernel",
            "this program",
        );
        let library = match (self.library)() {
            Ok(text) => library.seen(Verdict::Ok, format!("{text}{none}")),
            Err(why) => library.seen(needed, format!("{why}{none}")),
        };
        let (dir, prefix) = self.files;
        let at = format!("{dir}/{prefix}*");
        let device = Finding::new(self.backend, "device", "the library opens these files", &at);
        let names = machine.names(dir).into_iter().filter(|name| name.starts_with(prefix));
        let files: Vec<_> = names.map(|name| format!("{dir}/{name}")).collect();
        let may = Access::READ_OK | Access::WRITE_OK;
        let denied: Vec<_> = files.iter().filter(|file| !machine.may(file, may)).collect();
        let device = match (files.as_slice(), denied.first()) {
            ([], _) => device.seen(needed, format!("none{none}")).fix(self.load),
            (_, Some(file)) => device
                .seen(Verdict::Warn, format!("{file}: this user may not open it"))
                .fix(format!("setfacl -m u:$USER:rw {file}")),
            (files, None) => device.seen(Verdict::Ok, files.join(", ")),
        };
        [library, device]
    }

    /// Network cards of these makers.
    fn cards(&self, machine: &Machine) -> usize {
        const BUS: &str = "/sys/bus/pci/devices";
        let of = |device: &str, file| machine.text(&format!("{BUS}/{device}/{file}"));
        let ours = |device: &String| {
            let vendor = of(device, "vendor").unwrap_or_default();
            // FPGAs of AMD's are cards of many kinds.
            let network = of(device, "class").is_some_and(|class| class.starts_with("0x02"));
            network && self.pci.contains(&vendor.as_str())
        };
        machine.names(BUS).iter().filter(|device| ours(device)).count()
    }
}

/// What the kernel asks of whoever takes raw frames.
fn rights() -> [Finding; 2] {
    const AT: &str = "/proc/self/status";
    let held = capabilities(None).map(|sets| sets.effective);
    let of = |check, why, wanted: CapabilitySet, names: &str| {
        let finding = Finding::new("rights", check, why, AT);
        match &held {
            Ok(held) if held.contains(wanted) => finding.seen(Verdict::Ok, names),
            // Whether the user wants what they allow is not known here.
            Ok(_) => {
                let seen = format!("not held: sudo setcap {}+ep PROGRAM", names.to_lowercase());
                finding.seen(Verdict::Unknown, seen)
            }
            Err(_) => finding.seen(Verdict::Unknown, "the kernel does not say"),
        }
    };
    let raw = CapabilitySet::NET_RAW;
    let xdp = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
    [
        of("raw_frames", "afpacket, verbs and simulated cards on an interface", raw, "CAP_NET_RAW"),
        of(
            "xdp",
            "afxdp loads a program into the driver",
            xdp,
            "CAP_NET_RAW,CAP_NET_ADMIN,CAP_BPF",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::machine::Copy;
    use super::*;

    fn of<'f>(all: &'f [Finding], area: &str, check: &str) -> &'f Finding {
        all.iter().find(|f| f.title().starts_with(&format!("{area}: {check} "))).unwrap()
    }

    #[test]
    fn without_cards_nothing_is_missing() {
        let copy = Copy::new("no-cards", &[("/sys/bus/pci/devices/0/vendor", "0x8086")]);
        let all = look(&Machine::at(&copy.0));
        for vendor in &VENDORS {
            for check in ["library", "device"] {
                let found = of(&all, vendor.backend, check);
                assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
                assert!(found.title().contains(" card"), "{found:?}");
            }
        }
    }

    #[test]
    fn a_card_without_its_module_is_a_failure_with_the_command() {
        let pci = |n: u32, file: &str| format!("/sys/bus/pci/devices/0000:0{n}:00.0/{file}");
        let (x, y) = ((pci(1, "vendor"), pci(1, "class")), (pci(2, "vendor"), pci(2, "class")));
        let copy = Copy::new(
            "cards",
            &[
                (&x.0, "0x15b3"),
                (&x.1, "0x020000"),
                (&y.0, "0x1ce4"),
                (&y.1, "0x020000"),
                ("/dev/exanic0", ""),
                ("/dev/exanic1", ""),
            ],
        );
        let all = look(&Machine::at(&copy.0));
        let verbs = of(&all, "verbs", "device");
        assert_eq!(verbs.verdict, Verdict::Fail, "{verbs:?}");
        assert_eq!(verbs.command(), Some("modprobe -a ib_uverbs mlx5_ib"));
        let exanic = of(&all, "exanic", "device");
        assert_eq!(exanic.verdict, Verdict::Ok, "{exanic:?}");
        assert!(exanic.title().contains("/dev/exanic0, /dev/exanic1"), "{exanic:?}");
        // A card is there, and this build has no SDK to drive it with.
        let library = of(&all, "exanic", "library");
        assert_eq!(
            library.verdict,
            if exanic::Api::linked().is_ok() { Verdict::Ok } else { Verdict::Fail }
        );
        assert_eq!(of(&all, "efvi", "device").verdict, Verdict::Ok);
    }
}
