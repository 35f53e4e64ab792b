//! The driver's counters of one VI (`ef_vi_stats_query`): EF10 only.

use std::ffi::CStr;
use std::ptr;

use crate::session::Session;

/// One counter. The card's registers are 32 bits wide and wrap; the totals do not.
#[derive(Debug, Clone)]
struct Counter {
    name: String,
    offset: usize,
    bytes: usize,
    last: u64,
    total: u64,
}

/// All counters of a VI since it was opened. Empty where the card has none.
#[derive(Debug, Default)]
pub(crate) struct ViStats {
    counters: Vec<Counter>,
    buffer: Vec<u64>,
}

impl ViStats {
    pub(crate) fn new(session: &Session) -> Self {
        let mut layout = ptr::null();
        // SAFETY: a live VI and a pointer to write to.
        let rc = unsafe { (session.lib().vi_stats_query_layout)(session.vi(), &mut layout) };
        if rc != 0 || layout.is_null() {
            return Self::default();
        }
        // SAFETY: the library gave a static table: a header and as many entries as it says,
        // each with a NUL-terminated name.
        let (counters, bytes) = unsafe {
            let n = usize::try_from((*layout).evsl_fields_num).unwrap_or(0);
            let first = (&raw const (*layout).evsl_fields).cast::<Field>();
            let bytes = usize::try_from((*layout).evsl_data_size).unwrap_or(0);
            let counters = (0..n).filter_map(|i| {
                let field = &*first.add(i);
                Some(Counter {
                    name: CStr::from_ptr(field.evsfl_name).to_string_lossy().into_owned(),
                    offset: usize::try_from(field.evsfl_offset).ok()?,
                    bytes: usize::try_from(field.evsfl_size).ok()?,
                    last: 0,
                    total: 0,
                })
            });
            (counters.collect::<Vec<_>>(), bytes)
        };
        let buffer = vec![0; bytes.div_ceil(8)];
        let mut stats = Self { counters, buffer };
        if !stats.update(session) {
            return Self::default();
        }
        // What came before us is not ours.
        stats.counters.iter_mut().for_each(|c| c.total = 0);
        stats
    }

    /// Reads the counters; a system call. `false`: the card has none.
    pub(crate) fn update(&mut self, session: &Session) -> bool {
        if self.counters.is_empty() {
            return false;
        }
        let data = self.buffer.as_mut_ptr().cast();
        // SAFETY: a live VI, and a buffer of the size that the layout states.
        let rc = unsafe { (session.lib().vi_stats_query)(session.vi(), session.dh(), data, 0) };
        if rc != 0 {
            return false;
        }
        // SAFETY: the same bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.buffer.as_ptr().cast::<u8>(), self.buffer.len() * 8)
        };
        for c in &mut self.counters {
            let Some(field) = bytes.get(c.offset..c.offset + c.bytes) else { continue };
            let mut value = [0; 8];
            let n = field.len().min(8);
            value[..n].copy_from_slice(&field[..n]);
            let value = u64::from_le_bytes(value);
            let mask = if n >= 8 { u64::MAX } else { (1 << (8 * n)) - 1 };
            c.total += value.wrapping_sub(c.last) & mask;
            c.last = value;
        }
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// Frames lost for want of a posted buffer.
    pub(crate) fn no_descriptor(&self) -> u64 {
        self.counters.iter().filter(|c| c.name.contains("no desc")).map(|c| c.total).sum()
    }

    /// Every counter under the driver's own name.
    pub(crate) fn named(&self) -> Vec<(String, u64)> {
        self.counters.iter().map(|c| (c.name.clone(), c.total)).collect()
    }
}

type Field = linerate_efvi_sys::ef_vi_stats_field_layout;
