//! Capture files: [`Reader`] for pcap and pcapng, [`Writer`] for pcapng.
//!
//! The reader takes what recorders in the field produce: classic pcap with µs or ns stamps in
//! either byte order, pcapng with any timestamp resolution, several interfaces and sections,
//! simple and obsolete packet blocks, all of it gzipped or not. It streams, never panics, and
//! never allocates on the word of a length field. A damaged or cut file yields every record
//! before the damage and then one error that names the byte.
//!
//! The writer records what a receive queue knows: ns timestamps, true lengths of cut frames,
//! losses before a frame, and the loss ledger as interface statistics at the end.
//!
//! A program that must not wait for a disk encodes into [`Blocks`] on its receive thread and lets
//! another hand them to a [`CaptureFile`], which writes past the page cache.
//!
//! To replay a file through the same code that reads a card, open the port `pcap:FILE`.
mod block;
mod blocks;
mod disk;
mod error;
mod gzip;
mod options;
mod pcap;
mod pcapng;
mod reader;
mod record;
mod rx;
mod sink;
mod source;
mod statistics;
mod writer;

pub use blocks::{Blocks, preamble};
pub use disk::{CaptureFile, Via};
pub use error::{FileError, FileErrorKind};
pub use reader::{Format, Reader};
pub use record::{ETHERNET, Interface, MAX_RECORD, Record, RecordInfo, Ticks};
pub use rx::FileRx;
pub use sink::FileSink;
pub use statistics::Statistics;
pub use writer::{InterfaceId, InterfaceOptions, Writer};
