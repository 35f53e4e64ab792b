//! Finds a kernel function's type id in the kernel's BTF, which a call to it needs.

use std::fs;

const MAGIC: u16 = 0xeb9f;
const KIND_FUNC: u32 = 12;

/// The type id of the function `name` in the running kernel, if it has it and says so.
pub(super) fn kernel_function(name: &str) -> Option<u32> {
    find_function(&fs::read("/sys/kernel/btf/vmlinux").ok()?, name)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// Walks all types once. Anything malformed ends the walk.
fn find_function(btf: &[u8], name: &str) -> Option<u32> {
    if btf.get(..2)? != MAGIC.to_ne_bytes() {
        return None;
    }
    let header = word(btf, 4)? as usize;
    let section = |off: usize, len: usize| -> Option<&[u8]> {
        let start = header.checked_add(word(btf, off)? as usize)?;
        btf.get(start..start.checked_add(word(btf, len)? as usize)?)
    };
    let (types, strings) = (section(8, 12)?, section(16, 20)?);
    let named = |offset: u32| {
        strings
            .get(offset as usize..)
            .and_then(|s| s.strip_prefix(name.as_bytes()))?
            .first()
            .copied()
    };
    let mut at = 0;
    for id in 1.. {
        let info = word(types, at + 4)?;
        let (kind, entries) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == KIND_FUNC && named(word(types, at)?) == Some(0) {
            return Some(id);
        }
        at += 12
            + match kind {
                1 | 14 | 17 => 4,                // int, variable, declaration tag
                3 => 12,                         // array
                4 | 5 | 15 | 19 => entries * 12, // struct, union, data section, 64-bit enum
                6 | 13 => entries * 8,           // enum, function prototype
                2 | 7..=12 | 16 | 18 => 0, // pointer, forward, typedef, qualifiers, function, float
                _ => return None,
            };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_running_kernel_are_found() {
        if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            linerate_lab::skip("functions_of_the_running_kernel_are_found", "a kernel without BTF");
            return;
        }
        assert!(kernel_function("bpf_prog_run_xdp_of_no_kernel").is_none());
        // In every kernel since BPF programs have types; a prefix of it is not it.
        assert!(kernel_function("bpf_prog_put").is_some());
        assert!(kernel_function("bpf_prog_pu").is_none());
    }

    #[test]
    fn garbage_is_no_btf() {
        assert_eq!(find_function(b"", "x"), None);
        let mut bytes = vec![0xff; 64];
        bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        assert_eq!(find_function(&bytes, "x"), None);
    }
}
