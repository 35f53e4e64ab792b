//! The frames that are sent.

use crate::compare::lab::Station;

/// A UDP frame of `bytes` bytes, without check sequence, with a checksum in its IPv4 header and
/// none in UDP's.
///
/// # Panics
///
/// If `bytes` is less than the headers' 42.
#[must_use]
pub fn udp_frame(bytes: usize, from: Station, to: ([u8; 6], [u8; 4]), port: u16) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.mac);
    frame[12..14].copy_from_slice(&[8, 0]);
    let length = (bytes - 14) as u16;
    frame[14..16].copy_from_slice(&[0x45, 0]);
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..30].copy_from_slice(&from.ip);
    frame[30..34].copy_from_slice(&to.1);
    let words = frame[14..34].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[34..36].copy_from_slice(&1234u16.to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&(length - 20).to_be_bytes());
    frame
}
