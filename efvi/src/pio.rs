//! The card's memory for programmed I/O, cut into slots.

use libc::c_int;

/// Bytes of a slot. The region has 2 or 4 KiB; orders and acknowledgements are short.
const SLOT: usize = 256;

/// Which slots are free. A slot may not be written again before its frame has left.
#[derive(Debug)]
pub(crate) struct PioSlots {
    free: u64,
}

impl PioSlots {
    /// Of a region of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let n = (bytes / SLOT).min(63);
        Self { free: (1 << n) - 1 }
    }

    /// A slot for `len` bytes and where it begins, a multiple of 64 as the card wants.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<(u8, c_int)> {
        if len > SLOT || self.free == 0 {
            return None;
        }
        let slot = self.free.trailing_zeros();
        self.free &= self.free - 1;
        Some((slot as u8, slot as c_int * SLOT as c_int))
    }

    /// The slot's frame has left.
    #[inline]
    pub(crate) fn put(&mut self, slot: u8) {
        self.free |= 1 << slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_come_back() {
        let mut pio = PioSlots::new(2048);
        let taken: Vec<_> = std::iter::from_fn(|| pio.take(200)).collect();
        assert_eq!(taken.len(), 8);
        assert!(taken.iter().all(|(_, at)| at % 64 == 0));
        assert!(taken.windows(2).all(|w| w[1].1 - w[0].1 == 256));
        pio.put(3);
        assert_eq!(pio.take(256), Some((3, 768)));
        pio.put(3);
        assert_eq!(pio.take(257), None);
    }
}
