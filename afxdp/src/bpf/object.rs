//! Loads the committed object: maps, read-only data, relocations, the program.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use linerate_common::{ErrorKind, SetupError};
use object::read::elf::{ElfFile64, ElfSection64};
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SymbolIndex,
};

use super::btf::Btf;
use super::map::{BPF_F_RDONLY_PROG, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, Map, MapDef};
use super::sys::{self, BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS, LoadError};

/// Compiled from `bpf/steer.bpf.c`; the build script beside it says how.
static OBJECT: &[u8] = include_bytes!("../../bpf/steer.bpf.o");

const R_BPF_64_64: u32 = 1;
const R_BPF_64_32: u32 = 10;
/// In the source register of a 64-bit load: the immediate is a map, or an offset in its value.
const PSEUDO_MAP_FD: u64 = 1;
const PSEUDO_MAP_VALUE: u64 = 2;
/// In the source register of a call: the immediate is a kernel function's type id.
const PSEUDO_KFUNC_CALL: u64 = 2;
/// `r0 = -EOPNOTSUPP`: what a call to a function that the kernel lacks becomes.
const NOT_SUPPORTED: u64 = 0xb7 | (-libc::EOPNOTSUPP as u32 as u64) << 32;
/// Helpers of Linux 5.18. Before, rules count no bytes, and frames with IPv4 options or IPv6
/// extension headers have no ports that a rule could match.
const CALL_GET_BUFF_LEN: u64 = 0x85 | 188 << 32;
const CALL_LOAD_BYTES: u64 = 0x85 | 189 << 32;
const RETURN_ZERO: u64 = 0xb7;

/// `struct xdp_buff` as the program reads it: where these members are, in bytes.
const XDP_BUFF: ([&str; 3], [u32; 3]) = (["data", "data_end", "flags"], [0, 8, 52]);

/// What the program is loaded for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Written in front of each delivered frame, with the rule's mark; 0 for nothing.
    pub(crate) meta_cookie: u64,
    /// Bind the program to this interface and read the card's receive time.
    pub(crate) hw_ts: Option<u32>,
}

/// The loaded program with its maps.
#[derive(Debug)]
pub(crate) struct Program {
    fd: OwnedFd,
    maps: HashMap<String, Map>,
    /// Does it read the card's receive time?
    pub(crate) hw_ts: bool,
}

impl Program {
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The map of that name in the C source.
    pub(crate) fn map(&self, name: &str) -> Result<&Map, SetupError> {
        self.maps.get(name).ok_or_else(|| broken(format!("it has no map {name}")))
    }
}

/// Creates the maps and loads the program. `inner` is what the maps in the array of maps look
/// like.
pub(crate) fn load(wanted: Wanted, inner: MapDef) -> Result<Program, SetupError> {
    let mut kernel = Functions::of_kernel();
    if wanted.hw_ts.is_none() {
        // Even where it is never reached, a call to it takes a program bound to its interface.
        kernel.rx_timestamp = None;
    } else if kernel.rx_timestamp.is_none() {
        return Err(SetupError::new(
            ErrorKind::Unsupported,
            "bpf(BPF_PROG_LOAD)",
            "this kernel does not offer programs the card's receive time",
        )
        .remedy("use Linux 6.3 or newer with CONFIG_DEBUG_INFO_BTF, or software stamps"));
    }
    let elf = Elf(ElfFile64::parse(OBJECT).map_err(|e| broken(e.to_string()))?);
    let maps = create_maps(&elf, inner)?;
    let mut loaded = link(&elf, &maps, wanted, kernel)?;
    // To look into the kernel's struct takes CAP_PERFMON.
    if kernel.cast.is_some()
        && matches!(&loaded, Err(e) if matches!(e.errno, libc::EACCES | libc::EPERM))
    {
        loaded = link(&elf, &maps, wanted, Functions { cast: None, ..kernel })?;
    }
    Ok(Program { fd: loaded.map_err(refused)?, maps, hw_ts: wanted.hw_ts.is_some() })
}

/// The object file.
struct Elf(ElfFile64<'static, Endianness>);

impl Elf {
    fn section(&self, name: &str) -> Result<ElfSection64<'static, '_, Endianness>, SetupError> {
        self.0.section_by_name(name).ok_or_else(|| broken(format!("it has no section {name}")))
    }

    fn data(&self, name: &str) -> Result<&'static [u8], SetupError> {
        self.section(name)?.data().map_err(|e| broken(e.to_string()))
    }

    /// Name and place of each symbol of a section.
    fn symbols(&self, section: &str) -> Result<Vec<(&'static str, usize)>, SetupError> {
        let index = self.section(section)?.index();
        let all = self.0.symbols().filter(|symbol| symbol.section_index() == Some(index));
        all.map(|symbol| Ok((symbol.name()?, symbol.address() as usize)))
            .collect::<Result<_, object::Error>>()
            .map_err(|e| broken(e.to_string()))
    }
}

/// Type ids of the kernel's functions that the program may call.
#[derive(Debug, Clone, Copy)]
struct Functions {
    rx_timestamp: Option<u32>,
    /// Where what it gives is laid out as the program thinks.
    cast: Option<u32>,
}

impl Functions {
    /// The kernel stays the same, and it takes some milliseconds to find out.
    fn of_kernel() -> Self {
        static FOUND: OnceLock<Functions> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let btf = Btf::of_kernel();
            let function = |name| btf.as_ref().and_then(|btf| btf.function(name));
            let (members, offsets) = XDP_BUFF;
            let as_expected = |btf: &Btf| btf.offsets("xdp_buff", members) == Some(offsets);
            Self {
                rx_timestamp: function("bpf_xdp_metadata_rx_timestamp"),
                cast: function("bpf_cast_to_kern_ctx")
                    .filter(|_| btf.as_ref().is_some_and(as_expected)),
            }
        })
    }
}

/// Puts the maps and the kernel's functions into the code, and offers it to the kernel.
fn link(
    elf: &Elf,
    maps: &HashMap<String, Map>,
    wanted: Wanted,
    kernel: Functions,
) -> Result<Result<OwnedFd, LoadError>, SetupError> {
    let values = [
        ("meta_cookie", wanted.meta_cookie),
        ("want_hw_ts", u64::from(wanted.hw_ts.is_some())),
        ("knows_xdp_buff", u64::from(kernel.cast.is_some())),
    ];
    let constants = freeze_constants(elf, &values)?;
    let mut code: Vec<u64> = elf
        .data("xdp")?
        .chunks_exact(8)
        .map(|insn| insn.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        .collect();
    let symbols = Symbols { elf: &elf.0, maps, constants: &constants, kernel };
    for (offset, relocation) in elf.section("xdp")?.relocations() {
        let RelocationTarget::Symbol(target) = relocation.target() else {
            return Err(broken("a relocation without a symbol"));
        };
        let RelocationFlags::Elf { r_type, .. } = relocation.flags() else {
            return Err(broken("a relocation that is not ELF's"));
        };
        let at = (offset / 8) as usize;
        symbols.relocate(&mut code, at, r_type, target)?;
    }
    let license = CStr::from_bytes_until_nul(elf.data("license")?).unwrap_or_default();
    Ok(load_program(&code, license, wanted.hw_ts))
}

/// The maps of the `maps` section, by name.
fn create_maps(elf: &Elf, inner: MapDef) -> Result<HashMap<String, Map>, SetupError> {
    let data = elf.data("maps")?;
    let mut maps = HashMap::new();
    for (name, at) in elf.symbols("maps")? {
        let field = |i: usize| {
            data.get(at + 4 * i..)
                .and_then(|d| d.first_chunk())
                .map(|b| u32::from_le_bytes(*b))
                .ok_or_else(|| broken(format!("map {name} is cut off")))
        };
        let def = MapDef {
            map_type: field(0)?,
            key_size: field(1)?,
            value_size: field(2)?,
            max_entries: field(3)?,
            flags: field(4)?,
        };
        let pattern = match def.map_type {
            BPF_MAP_TYPE_ARRAY_OF_MAPS => Some(create_map("plan", inner, None)?),
            _ => None,
        };
        maps.insert(name.to_owned(), create_map(name, def, pattern.as_ref())?);
    }
    Ok(maps)
}

fn create_map(name: &str, def: MapDef, inner: Option<&Map>) -> Result<Map, SetupError> {
    Map::create(name, def, inner).map_err(|errno| crate::error::bpf("bpf(BPF_MAP_CREATE)", errno))
}

/// The read-only data as a frozen map, with these values of its constants.
fn freeze_constants(elf: &Elf, values: &[(&str, u64)]) -> Result<Map, SetupError> {
    let mut bytes = elf.data(".rodata")?.to_vec();
    for (symbol, at) in elf.symbols(".rodata")? {
        let Some((_, value)) = values.iter().find(|(name, _)| *name == symbol) else { continue };
        let place = bytes.get_mut(at..at + 8).ok_or_else(|| broken("a constant is cut off"))?;
        place.copy_from_slice(&value.to_le_bytes());
    }
    let def = MapDef {
        map_type: BPF_MAP_TYPE_ARRAY,
        flags: BPF_F_RDONLY_PROG,
        ..MapDef::single(bytes.len())
    };
    let map = create_map("constants", def, None)?;
    map.update(&0u32.to_ne_bytes(), &bytes)
        .and_then(|()| map.freeze())
        .map_err(|errno| crate::error::bpf("bpf(BPF_MAP_FREEZE)", errno))?;
    Ok(map)
}

/// What the symbols of the object mean in this process and kernel.
struct Symbols<'a> {
    elf: &'a ElfFile64<'static, Endianness>,
    maps: &'a HashMap<String, Map>,
    constants: &'a Map,
    kernel: Functions,
}

impl Symbols<'_> {
    /// Puts one symbol's meaning into the instruction at `at`.
    fn relocate(
        &self,
        code: &mut [u64],
        at: usize,
        r_type: u32,
        target: SymbolIndex,
    ) -> Result<(), SetupError> {
        let symbol = self.elf.symbol_by_index(target).map_err(|e| broken(e.to_string()))?;
        let name = symbol.name().map_err(|e| broken(e.to_string()))?;
        let with = |word: u64, source: u64, imm: u32| {
            word & 0xffff_0fff | source << 12 | u64::from(imm) << 32
        };
        let fd = |map: &Map| map.as_fd().as_raw_fd() as u32;
        let Some([first, second, ..]) = code.get_mut(at..) else {
            return Err(broken("a relocation outside of the program"));
        };
        match (r_type, self.maps.get(name)) {
            (R_BPF_64_64, Some(map)) => *first = with(*first, PSEUDO_MAP_FD, fd(map)),
            (R_BPF_64_64, None) => {
                *first = with(*first, PSEUDO_MAP_VALUE, fd(self.constants));
                *second = with(*second, 0, symbol.address() as u32);
            }
            (R_BPF_64_32, None) => {
                let id = match name {
                    "bpf_xdp_metadata_rx_timestamp" => self.kernel.rx_timestamp,
                    "bpf_cast_to_kern_ctx" => self.kernel.cast,
                    _ => return Err(broken(format!("it calls {name}"))),
                };
                *first = id.map_or(NOT_SUPPORTED, |id| with(*first, PSEUDO_KFUNC_CALL, id));
            }
            _ => return Err(broken(format!("relocation {r_type} of {name}"))),
        }
        Ok(())
    }
}

/// Loads with frames of several buffers allowed, where the kernel knows them (5.18): without,
/// drivers refuse the program at a large MTU. The sockets take only frames that fit one buffer, and
/// count the others.
fn load_program(code: &[u64], license: &CStr, bound_to: Option<u32>) -> Result<OwnedFd, LoadError> {
    let bound = if bound_to.is_some() { BPF_F_XDP_DEV_BOUND_ONLY } else { 0 };
    let ifindex = bound_to.unwrap_or(0);
    let load =
        |code: &[u64], frags| sys::load_xdp(code, license, PROGRAM_NAME, bound | frags, ifindex);
    let older = || {
        let without = |insn: &u64| match *insn {
            CALL_GET_BUFF_LEN => RETURN_ZERO,
            CALL_LOAD_BYTES => NOT_SUPPORTED,
            other => other,
        };
        load(&code.iter().map(without).collect::<Vec<_>>(), 0)
    };
    load(code, BPF_F_XDP_HAS_FRAGS)
        .or_else(|e| if e.errno == libc::EINVAL { older() } else { Err(e) })
}

fn refused(LoadError { errno, log }: LoadError) -> SetupError {
    let e = crate::error::bpf("bpf(BPF_PROG_LOAD)", errno);
    // Without the right there is no log: the verifier was never asked.
    if log.is_empty() {
        return e;
    }
    SetupError::new(ErrorKind::Unsupported, e.op(), format!("errno {errno}: {log}"))
        .remedy("use a newer kernel (5.10 at least), or report this with `uname -r`")
}

/// As tools such as `bpftool net` and `ip link` show it.
pub(crate) const PROGRAM_NAME: &str = "linerate_xdp";

fn broken(what: impl std::fmt::Display) -> SetupError {
    SetupError::new(ErrorKind::Unsupported, "load", format!("the built-in program: {what}"))
        .remedy("rebuild it: afxdp/bpf/build.sh")
}
