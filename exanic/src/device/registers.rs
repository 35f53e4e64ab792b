//! A card's registers, and the time in them.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use linerate_exanic_sys::{exanic_t, ids, regs};

use super::Device;

/// One register of a card, to be stored to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegisterWriter {
    registers: NonNull<u32>,
    hook: Option<unsafe extern "C" fn(*mut exanic_t, u32, u32)>,
    card: NonNull<exanic_t>,
    index: u32,
}

impl RegisterWriter {
    /// Stores to the register, or tells a simulated card.
    ///
    /// # Safety
    ///
    /// The [`Device`] that gave this is still open.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, value: u32) {
        // SAFETY: the registers are mapped and the handle is live while the device is open; the
        // index was checked when this was made.
        unsafe {
            match self.hook {
                None => regs::write(self.registers.as_ptr(), self.index, value),
                Some(write) => write(self.card.as_ptr(), self.index, value),
            }
        }
    }
}

impl Device {
    /// # Panics
    ///
    /// Never for the constants of `regs`, which lie within the mapping.
    #[inline]
    pub(crate) fn register(&self, index: u32) -> u32 {
        assert!((index as usize) < regs::REGION_BYTES / 4);
        // SAFETY: the registers are mapped while the handle is open; the index is within.
        unsafe { regs::read(self.registers.as_ptr(), index) }
    }

    /// Stores to a register, or tells a simulated card.
    #[inline]
    pub(crate) fn write_register(&self, index: u32, value: u32) {
        assert!((index as usize) < regs::REGION_BYTES / 4);
        match self.api.hooks.register_write {
            // SAFETY: as in `register`.
            None => unsafe { regs::write(self.registers.as_ptr(), index, value) },
            // SAFETY: a live handle of this table.
            Some(write) => unsafe { write(self.raw(), index, value) },
        }
    }

    /// For a register that is written often.
    ///
    /// # Panics
    ///
    /// As [`register`](Self::register).
    pub(crate) fn writer(&self, index: u32) -> RegisterWriter {
        assert!((index as usize) < regs::REGION_BYTES / 4);
        let hook = self.api.hooks.register_write;
        RegisterWriter { registers: self.registers, hook, card: self.handle, index }
    }

    /// The page with the full time, while the handle is open.
    pub(crate) fn info_page(&self) -> Option<NonNull<AtomicU64>> {
        // SAFETY: a live handle of a checked layout.
        NonNull::new(unsafe { (*self.raw()).info_page }).map(NonNull::cast)
    }

    pub(crate) fn has_clock_registers(&self) -> bool {
        self.register(regs::CAPS) & ids::caps::HW_TIME_HI != 0
    }

    /// The full time from registers: three bus reads.
    pub(crate) fn clock_registers(&self) -> u64 {
        let high = self.register(regs::HW_TIME_HI);
        let low = self.register(regs::HW_TIME);
        let after = self.register(regs::HW_TIME_HI);
        // The low half came round in between: it belongs to the later half if it is small.
        let high = if low < 1 << 31 { after } else { high };
        u64::from(high) << 32 | u64::from(low)
    }

    /// The full time in ticks, to within a quarter of a period of 32 bits.
    pub(crate) fn rough_ticks(&self) -> Option<u64> {
        use std::sync::atomic::Ordering::Relaxed;
        // SAFETY: the page stays mapped while the handle is open.
        let page = self.info_page().map_or(0, |page| unsafe { page.as_ref() }.load(Relaxed));
        if self.tick_hz() == 0 {
            None
        } else if page != 0 {
            Some(page)
        } else {
            self.has_clock_registers().then(|| self.clock_registers())
        }
    }

    /// The full time in ticks, exact to the duration of a bus read.
    pub(crate) fn exact_ticks(&self) -> Option<u64> {
        let rough = self.rough_ticks()?;
        let low = self.register(regs::HW_TIME);
        // The page is off by less than a quarter period either way.
        let newest = rough.checked_add(1 << 31)?;
        Some(newest - u64::from((newest as u32).wrapping_sub(low)))
    }
}
