//! The options of a pcapng block: code, length, value, padding.

use super::source::Endian;

/// Walks the options of a block; ends at the first that does not fit, as the frame itself is
/// sound and only remarks about it are lost.
pub(super) struct Options<'a> {
    endian: Endian,
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    pub(super) fn new(endian: Endian, rest: &'a [u8]) -> Self {
        Self { endian, rest }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < 4 {
            return None;
        }
        let code = self.endian.u16(self.rest, 0);
        let len = usize::from(self.endian.u16(self.rest, 2));
        let value = self.rest.get(4..4 + len)?;
        if code == 0 {
            return None;
        }
        self.rest = self.rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    }
}

/// A text option, cut to a length nobody needs more of.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let value = &value[..value.len().min(1024)];
    let text = String::from_utf8_lossy(value);
    let text = text.trim_end_matches('\0');
    (!text.is_empty()).then(|| text.to_owned())
}
