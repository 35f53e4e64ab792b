//! What a driver says about its card through the ethtool ioctls. Reading needs no rights.

use super::Control;
use crate::interface::DriverSettings;

const GDRVINFO: u32 = 0x03;
const GCOALESCE: u32 = 0x0e;
const GRINGPARAM: u32 = 0x10;
const GPAUSEPARAM: u32 = 0x12;
const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GFLAGS: u32 = 0x25;
const GGRO: u32 = 0x2b;
const GSSET_INFO: u32 = 0x37;
const GCHANNELS: u32 = 0x3c;
const GET_TS_INFO: u32 = 0x41;

/// The set of strings that names the driver's counters.
const SS_STATS: u32 = 1;
const STRING_BYTES: usize = 32;
/// More counters than any driver has; a larger number is not believed.
const MOST_COUNTERS: usize = 65_536;

const FLAG_LRO: u32 = 1 << 15;
const FLAG_NTUPLE: u32 = 1 << 27;
const STAMPS_RX_HARDWARE: u32 = 1 << 2;

impl Control {
    /// One question whose answer is `N` words, the first of which is the command.
    fn words<const N: usize>(&self, name: &str, command: u32) -> Option<[u32; N]> {
        const { assert!(N >= 2) };
        // Twice as long as the answer: a kernel whose structure has grown finds room.
        let mut words = vec![0_u32; 2 * N + 16];
        words[0] = command;
        self.ask(name, libc::SIOCETHTOOL as _, words.as_mut_ptr().cast())?;
        words.first_chunk().copied()
    }

    pub(in crate::interface) fn settings(&self, name: &str) -> DriverSettings {
        let mut found = DriverSettings::default();
        if let Some(info) = self.words::<49>(name, GDRVINFO) {
            let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).collect();
            found.driver_version = text(&bytes[36..68]);
            found.firmware = text(&bytes[68..100]);
        }
        if let Some([_, rx_max, _, _, tx_max, rx, _, _, tx]) = self.words::<9>(name, GRINGPARAM) {
            found.rx_ring = Some((rx, rx_max));
            found.tx_ring = Some((tx, tx_max));
        }
        if let Some(words) = self.words::<23>(name, GCOALESCE) {
            found.rx_coalesce_us = Some(words[1]);
            found.adaptive_coalescing = Some(words[10] != 0);
        }
        if let Some([_, _, rx, tx]) = self.words::<4>(name, GPAUSEPARAM) {
            found.pause = Some((rx != 0, tx != 0));
        }
        if let Some([_, max_rx, _, _, max_both, rx, _, _, both]) = self.words::<9>(name, GCHANNELS)
        {
            found.rx_queues = Some((rx + both, max_rx.max(max_both)));
        }
        found.gro = self.words::<2>(name, GGRO).map(|[_, on]| on != 0);
        if let Some([_, flags]) = self.words::<2>(name, GFLAGS) {
            found.lro = Some(flags & FLAG_LRO != 0);
            found.ntuple = Some(flags & FLAG_NTUPLE != 0);
        }
        if let Some(words) = self.words::<11>(name, GET_TS_INFO) {
            found.hardware_stamps = Some(words[1] & STAMPS_RX_HARDWARE != 0);
            // -1: the card has no clock.
            found.ptp_clock = u32::try_from(words[2] as i32).ok();
        }
        found
    }

    /// The driver's own counters, in its order.
    pub(in crate::interface) fn counters(&self, name: &str) -> Option<Vec<(String, u64)>> {
        // struct ethtool_sset_info: command, reserved, a 64-bit mask of sets, a count each.
        let mut info = [0_u32; 8];
        (info[0], info[2]) = (GSSET_INFO, 1 << SS_STATS);
        #[cfg(target_endian = "big")]
        info.swap(2, 3);
        self.ask(name, libc::SIOCETHTOOL as _, info.as_mut_ptr().cast())?;
        let count = info[4] as usize;
        if count == 0 || count > MOST_COUNTERS {
            return None;
        }
        // The kernel counts again at each question, and drivers add counters with queues: there
        // is room for far more than were announced.
        let room = 2 * count + 1024;
        // struct ethtool_gstrings: command, set, count, then 32 bytes each.
        let mut strings = vec![0_u32; 3 + room * STRING_BYTES / 4];
        (strings[0], strings[1], strings[2]) = (GSTRINGS, SS_STATS, count as u32);
        self.ask(name, libc::SIOCETHTOOL as _, strings.as_mut_ptr().cast())?;
        // struct ethtool_stats: command, count, then 64 bits each.
        let mut values = vec![0_u64; 1 + room];
        values[0] = u64::from_ne_bytes(pair(GSTATS, count as u32));
        self.ask(name, libc::SIOCETHTOOL as _, values.as_mut_ptr().cast())?;
        let names: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let names = names.chunks_exact(STRING_BYTES).map(text);
        let both = names.zip(&values[1..]).take(count);
        Some(both.filter_map(|(name, value)| Some((name?, *value))).collect())
    }
}

/// Two words as they lie in memory, one after the other.
fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

/// A NUL-padded text, `None` when it is empty.
fn text(field: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(field.split(|b| *b == 0).next().unwrap_or_default());
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
