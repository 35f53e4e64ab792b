//! /proc and /sys, or a copy of them in a test.

use std::fs;
use std::io::ErrorKind;
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::{Access, access};

/// Where the kernel's files are.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// Its text, trimmed.
    Text(String),
    /// This user may not read it.
    Denied,
    /// There is none.
    Missing,
}

impl Read {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Denied | Self::Missing => None,
        }
    }
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A copy.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn read(&self, path: &str) -> Read {
        match fs::read(self.path(path)) {
            Ok(bytes) => Read::Text(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Read::Denied,
            Err(_) => Read::Missing,
        }
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.read(path).text()
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// May this user do that with a file?
    pub(super) fn may(&self, path: &str, what: Access) -> bool {
        access(self.path(path), what).is_ok()
    }

    /// The names in a directory, sorted; empty when there is none.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The value of a word on the kernel's command line: `Some("")` for a bare word.
    pub(super) fn boot_option(&self, name: &str) -> Option<String> {
        let line = self.text("/proc/cmdline")?;
        line.split_whitespace().find_map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key == name).then(|| value.to_owned())
        })
    }

    /// Is a program of this name running?
    pub(super) fn runs(&self, program: &str) -> bool {
        let processes = self.names("/proc").into_iter().filter(|n| n.parse::<u32>().is_ok());
        processes
            .map(|pid| self.text(&format!("/proc/{pid}/comm")))
            .any(|comm| comm.as_deref() == Some(program))
    }

    /// The word in brackets: `always [madvise] never`.
    pub(super) fn chosen(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }
}

/// A copy of /proc and /sys that goes away with the test.
#[cfg(test)]
pub(super) struct Copy(pub(super) PathBuf);

#[cfg(test)]
impl Copy {
    pub(super) fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("doctor-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        Self(root)
    }
}

#[cfg(test)]
impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
