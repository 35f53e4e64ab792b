//! BPF maps.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::sys::{bpf, own};

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_FREEZE: u32 = 22;

pub(super) const BPF_MAP_TYPE_ARRAY: u32 = 2;
pub(super) const BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
pub(super) const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
pub(super) const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// A map's shape, in the words of `struct map_def` in the C source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapDef {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

impl MapDef {
    /// An array of one value.
    pub(crate) fn single(value_size: usize) -> Self {
        Self {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: value_size as u32,
            max_entries: 1,
            flags: 0,
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map, and what its elements measure: every access is checked against it.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    def: MapDef,
    /// Bytes that a lookup writes: of a per-CPU map, one 8-aligned value for each possible CPU.
    lookup_bytes: usize,
}

impl Map {
    /// `inner` is the pattern of the maps that an array of maps holds.
    pub(crate) fn create(name: &str, def: MapDef, inner: Option<&Map>) -> Result<Self, i32> {
        let mut attr = Create {
            map_type: def.map_type,
            key_size: def.key_size,
            value_size: def.value_size,
            max_entries: def.max_entries,
            map_flags: def.flags,
            inner_map_fd: inner.map_or(0, |m| m.fd.as_raw_fd() as u32),
            ..Create::default()
        };
        for (to, from) in attr.map_name[..15].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        // SAFETY: the layout is bpf_attr's for BPF_MAP_CREATE; it holds no pointer.
        let fd = own(unsafe { bpf(BPF_MAP_CREATE, &mut attr)? });
        let value = def.value_size as usize;
        let lookup_bytes = if def.map_type == BPF_MAP_TYPE_PERCPU_ARRAY {
            value.next_multiple_of(8) * possible_cpus()
        } else {
            value
        };
        Ok(Self { fd, def, lookup_bytes })
    }

    fn element(&self, key: &[u8], value: u64) -> Result<Element, i32> {
        if key.len() != self.def.key_size as usize {
            return Err(libc::EINVAL);
        }
        let map_fd = self.fd.as_raw_fd() as u32;
        Ok(Element { map_fd, pad: 0, key: key.as_ptr() as u64, value, flags: 0 })
    }

    /// Sets the element at `key`. A per-CPU map takes one value for all possible CPUs in a row.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> Result<(), i32> {
        if value.len() != self.lookup_bytes {
            return Err(libc::EINVAL);
        }
        let mut attr = self.element(key, value.as_ptr() as u64)?;
        // SAFETY: the layout is bpf_attr's for the element commands; key and value are as long
        // as the map's, both checked.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(|_| ())
    }

    /// Puts a map, program or socket into a map of such.
    pub(crate) fn update_fd(&self, key: u32, fd: BorrowedFd<'_>) -> Result<(), i32> {
        self.update(&key.to_ne_bytes(), &fd.as_raw_fd().to_ne_bytes())
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), i32> {
        let mut attr = self.element(key, 0)?;
        // SAFETY: as in `update`, without a value.
        unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attr) }.map(|_| ())
    }

    /// The element at `key`, all CPUs' values of a per-CPU map in a row.
    pub(crate) fn lookup(&self, key: &[u8]) -> Result<Vec<u8>, i32> {
        let mut value = vec![0; self.lookup_bytes];
        let mut attr = self.element(key, value.as_mut_ptr() as u64)?;
        // SAFETY: as in `update`; the value buffer holds what the kernel writes for this map.
        unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)? };
        Ok(value)
    }

    /// Zeroes the element at an array's index, for every CPU.
    pub(crate) fn clear(&self, index: u32) -> Result<(), i32> {
        self.update(&index.to_ne_bytes(), &vec![0; self.lookup_bytes])
    }

    /// No more writes from user space: the verifier may take the content as constant.
    pub(super) fn freeze(&self) -> Result<(), i32> {
        let mut attr = [self.fd.as_raw_fd() as u32, 0];
        // SAFETY: the layout is bpf_attr's for BPF_MAP_FREEZE: a descriptor.
        unsafe { bpf(BPF_MAP_FREEZE, &mut attr) }.map(|_| ())
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// CPUs that a per-CPU map has values for: one more than the last in "0-3" or "0,2-5".
fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit(['-', ',']).next().and_then(|n| n.parse::<usize>().ok());
    // Too many is only a larger buffer; 8192 is the most that x86-64 kernels are built for.
    last.map_or(8192, |n| n + 1)
}
