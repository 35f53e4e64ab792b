//! Who in this process reads which filter buffer.
//!
//! The driver keeps one reference per open file and buffer, however many readers there are: the
//! release of any of them frees the ring under the others, deletes the rules and ends hashing.
//! So within a process a filter buffer has one reader at a time, and buffers that hashing uses
//! are given back together. The default ring is not reference-counted and has any number.

use std::sync::{Mutex, MutexGuard, PoisonError};

use linerate_common::SetupError;

use crate::error;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    device: String,
    port: u32,
    /// A filter buffer from 1; `None`: flow hashing.
    buffer: Option<u32>,
}

static CLAIMS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn claims() -> MutexGuard<'static, Vec<Entry>> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to a filter buffer, or to a port's hashing; gone when dropped.
#[derive(Debug)]
pub(crate) struct Claim(Entry);

impl Claim {
    /// Claims filter buffer `buffer` (from 1).
    pub(crate) fn buffer(device: &str, port: u32, buffer: u32) -> Result<Self, SetupError> {
        let entry = Entry { device: device.to_owned(), port, buffer: Some(buffer) };
        let mut all = claims();
        if all.iter().any(|e| e.device == device && e.port == port && e.buffer.is_none()) {
            return Err(busy("flow hashing is on: its buffers belong to the group of readers"));
        }
        if all.contains(&entry) {
            return Err(busy("this process reads that filter buffer already"));
        }
        all.push(entry.clone());
        Ok(Self(entry))
    }

    /// Claims a whole port for hashing.
    pub(crate) fn hashing(device: &str, port: u32) -> Result<Self, SetupError> {
        let mut all = claims();
        if all.iter().any(|e| e.device == device && e.port == port) {
            return Err(busy("this process uses filter buffers of the port already"));
        }
        let entry = Entry { device: device.to_owned(), port, buffer: None };
        all.push(entry.clone());
        Ok(Self(entry))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = claims();
        if let Some(at) = all.iter().position(|e| *e == self.0) {
            all.swap_remove(at);
        }
    }
}

fn busy(detail: &'static str) -> SetupError {
    error::argument("exanic_acquire_rx_buffer", detail)
        .remedy("drop the other reader first, or ask for an unused buffer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_one_reader_and_hashing_has_the_port() {
        let one = Claim::buffer("claims-test", 0, 1).unwrap();
        assert!(Claim::buffer("claims-test", 0, 1).is_err());
        assert!(Claim::hashing("claims-test", 0).is_err());
        let _two = Claim::buffer("claims-test", 0, 2).unwrap();
        let hash = Claim::hashing("claims-test", 1).unwrap();
        assert!(Claim::buffer("claims-test", 1, 9).is_err());
        drop((one, hash));
        let _again = Claim::buffer("claims-test", 0, 1).unwrap();
        let _free = Claim::buffer("claims-test", 1, 9).unwrap();
    }
}
