//! What the kernel tells of its own functions and structs in its BTF.

use std::fs;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNC: u32 = 12;

/// Structs in structs, of which the kernel has a few.
const MAX_DEPTH: u32 = 4;

/// The types of the running kernel, or of what was given as one.
pub(super) struct Btf(Vec<u8>);

/// One entry of the list of types.
struct Type<'a> {
    id: u32,
    kind: u32,
    name: u32,
    /// What follows, by kind.
    rest: &'a [u8],
}

impl Btf {
    /// The running kernel's, if it has it and says so.
    pub(super) fn of_kernel() -> Option<Self> {
        fs::read("/sys/kernel/btf/vmlinux").ok().map(Self)
    }

    /// The type id of a function, which a call to it needs.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.find(|found| found.kind == KIND_FUNC && self.is_named(found.name, name))
            .map(|found| found.id)
    }

    /// Where in a struct these members are, in bytes, if all of them are there.
    pub(super) fn offsets<const N: usize>(
        &self,
        structure: &str,
        members: [&str; N],
    ) -> Option<[u32; N]> {
        let found =
            self.find(|found| found.kind == KIND_STRUCT && self.is_named(found.name, structure))?;
        let mut offsets = [0; N];
        for (offset, member) in offsets.iter_mut().zip(members) {
            *offset = self.offset(&found, member, MAX_DEPTH)? / 8;
        }
        Some(offsets)
    }

    /// In bits; also of a member of a struct or union without a name of its own.
    fn offset(&self, of: &Type<'_>, member: &str, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        of.rest.chunks_exact(12).find_map(|entry| {
            let (name, kind) = (word(entry, 0)?, word(entry, 4)?);
            let bits = word(entry, 8)? & 0xff_ffff;
            if self.is_named(name, member) {
                return Some(bits);
            }
            if !self.is_named(name, "") {
                return None;
            }
            let inner = self
                .find(|found| found.id == kind && matches!(found.kind, KIND_STRUCT | KIND_UNION))?;
            bits.checked_add(self.offset(&inner, member, depth)?)
        })
    }

    fn section(&self, offset: usize, length: usize) -> Option<&[u8]> {
        if self.0.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let start = (word(&self.0, 4)? as usize).checked_add(word(&self.0, offset)? as usize)?;
        self.0.get(start..start.checked_add(word(&self.0, length)? as usize)?)
    }

    fn is_named(&self, at: u32, name: &str) -> bool {
        self.section(16, 20)
            .and_then(|strings| strings.get(at as usize..)?.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Walks all types once. Anything malformed ends the walk.
    fn find(&self, wanted: impl Fn(&Type<'_>) -> bool) -> Option<Type<'_>> {
        let types = self.section(8, 12)?;
        let mut at = 0;
        for id in 1.. {
            let info = word(types, at + 4)?;
            let (kind, entries) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let bytes = match kind {
                1 | 14 | 17 => 4,                // int, variable, declaration tag
                3 => 12,                         // array
                4 | 5 | 15 | 19 => entries * 12, // struct, union, data section, 64-bit enum
                6 | 13 => entries * 8,           // enum, function prototype
                2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef, qualifiers, function, float
                _ => return None,
            };
            let rest = types.get(at + 12..at + 12 + bytes)?;
            let found = Type { id, kind, name: word(types, at)?, rest };
            if wanted(&found) {
                return Some(found);
            }
            at += 12 + bytes;
        }
        None
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_members_of_the_running_kernel_are_found() {
        if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            linerate_lab::skip(
                "functions_and_members_of_the_running_kernel_are_found",
                "a kernel without BTF",
            );
            return;
        }
        let kernel = Btf::of_kernel().unwrap();
        assert!(kernel.function("bpf_prog_run_xdp_of_no_kernel").is_none());
        // In every kernel since BPF programs have types; a prefix of it is not it.
        assert!(kernel.function("bpf_prog_put").is_some());
        assert!(kernel.function("bpf_prog_pu").is_none());
        // As in `linux/list.h`, and unlikely to change.
        assert_eq!(kernel.offsets("list_head", ["prev", "next"]), Some([8, 0]));
        assert_eq!(kernel.offsets("list_head", ["next", "pre"]), None);
        assert_eq!(kernel.offsets("list_hea", ["next"]), None);
        // In a struct in a union, both without a name.
        assert_eq!(kernel.offsets("sk_buff", ["next", "prev"]), Some([0, 8]));
    }

    #[test]
    fn garbage_is_no_btf() {
        assert_eq!(Btf(Vec::new()).function("x"), None);
        let mut bytes = vec![0xff; 64];
        bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        let btf = Btf(bytes);
        assert_eq!((btf.function("x"), btf.offsets("x", ["y"])), (None, None));
    }
}
