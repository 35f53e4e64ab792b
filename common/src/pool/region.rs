//! One mapping for DMA: hugepages, NUMA node, prefault, lock, and who has registered it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::error::{ErrorKind, SetupError};

use super::numa::{self, Numa};

/// Size of the pages behind a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PageSize {
    /// Ordinary pages.
    FourKiB,
    /// Hugepages.
    TwoMiB,
    /// Gigantic pages.
    OneGiB,
}

impl PageSize {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    const fn shift(self) -> u8 {
        match self {
            Self::FourKiB => 12,
            Self::TwoMiB => 21,
            Self::OneGiB => 30,
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FourKiB => "4 KiB",
            Self::TwoMiB => "2 MiB",
            Self::OneGiB => "1 GiB",
        })
    }
}

/// Which page size to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Huge {
    /// 2 MiB; 4 KiB, with a notice, when there are none free.
    #[default]
    Auto,
    /// 1 GiB, then as [`Auto`](Self::Auto).
    TryOneGiB,
    /// This size or an error.
    Require(PageSize),
    /// 4 KiB, and no notice about it.
    Never,
}

impl Huge {
    fn candidates(self) -> &'static [PageSize] {
        match self {
            Self::Auto => &[PageSize::TwoMiB, PageSize::FourKiB],
            Self::TryOneGiB => &[PageSize::OneGiB, PageSize::TwoMiB, PageSize::FourKiB],
            Self::Require(PageSize::OneGiB) => &[PageSize::OneGiB],
            Self::Require(PageSize::TwoMiB) => &[PageSize::TwoMiB],
            Self::Require(PageSize::FourKiB) | Self::Never => &[PageSize::FourKiB],
        }
    }
}

/// How a region is mapped.
#[derive(Debug, Clone)]
pub struct RegionOptions {
    /// Page size.
    pub huge: Huge,
    /// NUMA node.
    pub numa: Numa,
    /// Lock the pages in memory (a notice says when that is not permitted).
    pub lock: bool,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self { huge: Huge::Auto, numa: Numa::Any, lock: true }
    }
}

/// Memory for DMA. It is unmapped when the last `Arc` of it goes, and every registration with a
/// card holds one.
pub struct DmaRegion {
    map: MmapRaw,
    page_size: PageSize,
    node: Option<u32>,
    locked: bool,
    notices: Vec<String>,
    registrations: Mutex<Vec<(String, Weak<dyn Any + Send + Sync>)>>,
}

impl DmaRegion {
    /// Maps at least `len` bytes, rounded up to whole pages, zeroed and faulted in.
    ///
    /// # Errors
    ///
    /// The memory cannot be had, or a required page size has no free pages.
    pub fn map(len: usize, options: &RegionOptions) -> Result<Self, SetupError> {
        if len == 0 {
            return Err(SetupError::new(ErrorKind::BadArgument, "mmap", "a region of 0 bytes"));
        }
        let mut notices = Vec::new();
        let mut failure = None;
        for &page_size in options.huge.candidates() {
            match Self::map_pages(len, page_size, options, &mut notices) {
                Ok(region) => return Ok(Self { notices, ..region }),
                Err(e) => {
                    if failure.is_none() && options.huge.candidates().len() > 1 {
                        notices.push(e.to_string());
                    }
                    failure = Some(e);
                }
            }
        }
        Err(failure.unwrap_or_else(|| SetupError::os("mmap", libc::ENOMEM)))
    }

    fn map_pages(
        len: usize,
        page_size: PageSize,
        options: &RegionOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        let no_pages = |e: &std::io::Error| out_of_pages(e, len, page_size, options.numa.node());
        let rounded = len
            .checked_next_multiple_of(page_size.bytes())
            .filter(|len| isize::try_from(*len).is_ok())
            .ok_or_else(|| no_pages(&std::io::Error::from_raw_os_error(libc::ENOMEM)))?;
        let mut how = MmapOptions::new();
        how.len(rounded);
        if page_size != PageSize::FourKiB {
            how.huge(Some(page_size.shift()));
        }
        let map = MmapRaw::from(how.map_anon().map_err(|e| no_pages(&e))?);

        let wanted = options.numa.node();
        if let Some(node) = wanted
            && let Err(errno) = numa::prefer(map.as_mut_ptr(), rounded, node)
        {
            let e = std::io::Error::from_raw_os_error(errno);
            notices.push(format!("cannot ask for memory on NUMA node {node}: {e}"));
        }
        if page_size == PageSize::FourKiB {
            // A wish: where transparent hugepages are off this is refused, and nothing is lost.
            let _ = map.advise(Advice::HugePage);
        }
        // A child's copy-on-write would move the pages away from under the card.
        map.advise(Advice::DontFork).map_err(|e| refused("madvise(MADV_DONTFORK)", &e))?;
        prefault(&map, rounded, page_size).map_err(|e| no_pages(&e))?;
        let locked = options.lock && lock(&map, rounded, notices);

        let node = numa::node_of_page(map.as_mut_ptr());
        if let (Some(want), Some(have)) = (wanted, node)
            && want != have
        {
            notices.push(format!(
                "memory is on NUMA node {have}, the card on node {want}: node {want} has too \
                     few free {page_size} pages"
            ));
        }
        Ok(Self {
            map,
            page_size,
            node,
            locked,
            notices: Vec::new(),
            registrations: Mutex::new(Vec::new()),
        })
    }

    /// First byte. Others write behind it: access it only where you own the bytes.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes mapped, a multiple of the page size.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never: a region has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Size of its pages.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The NUMA node of its first page, where the kernel tells.
    #[must_use]
    pub fn numa_node(&self) -> Option<u32> {
        self.node
    }

    /// Is it locked in memory?
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// What could not be had as asked, each with its remedy.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The registration of this region under `key` (a device, a protection domain): the one that
    /// is alive, or a new one from `make`. For backends.
    ///
    /// The object should hold this region's `Arc`, and undo the registration when it drops. Two
    /// threads that ask at once get the same one.
    ///
    /// # Errors
    ///
    /// What `make` fails with.
    pub fn registration<T: Any + Send + Sync>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, SetupError>,
    ) -> Result<Arc<T>, SetupError> {
        let mut all = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, object)| object.strong_count() > 0);
        let alive = all
            .iter()
            .filter(|(name, _)| name == key)
            .filter_map(|(_, object)| object.upgrade())
            .find_map(|object| object.downcast::<T>().ok());
        if let Some(object) = alive {
            return Ok(object);
        }
        let object = Arc::new(make()?);
        let erased: Arc<dyn Any + Send + Sync> = object.clone();
        all.push((key.to_owned(), Arc::downgrade(&erased)));
        Ok(object)
    }
}

impl fmt::Debug for DmaRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaRegion")
            .field("len", &self.len())
            .field("page_size", &self.page_size)
            .field("node", &self.node)
            .field("locked", &self.locked)
            .finish_non_exhaustive()
    }
}

/// Faults every page in now, so that neither the card nor the hot path does it later.
fn prefault(map: &MmapRaw, len: usize, page_size: PageSize) -> std::io::Result<()> {
    match map.advise(Advice::PopulateWrite) {
        // Linux before 5.14: write one byte a page.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            for offset in (0..len).step_by(page_size.bytes()) {
                // SAFETY: inside a mapping that nobody else knows of yet.
                unsafe { map.as_mut_ptr().add(offset).write_volatile(0) };
            }
            Ok(())
        }
        other => other,
    }
}

fn lock(map: &MmapRaw, len: usize, notices: &mut Vec<String>) -> bool {
    match map.lock() {
        Ok(()) => true,
        Err(e) => {
            notices.push(format!(
                "cannot lock {len} bytes in memory: {e}; raise the limit (ulimit -l unlimited, \
                 LimitMEMLOCK= in a unit) or grant CAP_IPC_LOCK"
            ));
            false
        }
    }
}

fn refused(op: &'static str, e: &std::io::Error) -> SetupError {
    SetupError::os(op, e.raw_os_error().unwrap_or(libc::EIO))
}

fn out_of_pages(
    e: &std::io::Error,
    len: usize,
    page_size: PageSize,
    node: Option<u32>,
) -> SetupError {
    if page_size == PageSize::FourKiB {
        return refused("mmap", e).remedy("ask for a smaller pool or free memory");
    }
    let pages = len.div_ceil(page_size.bytes());
    let place =
        node.map_or("/sys/kernel/mm".to_owned(), |n| format!("/sys/devices/system/node/node{n}"));
    let file = format!("{place}/hugepages/hugepages-{}kB/nr_hugepages", page_size.bytes() / 1024);
    SetupError::new(
        ErrorKind::Os,
        "mmap",
        format!("{pages} hugepages of {page_size} are not free ({e})"),
    )
    .remedy(format!("reserve them: echo {pages} | sudo tee {file}"))
}
