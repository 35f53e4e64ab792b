//! A test frame that is ready but for its mark.

use std::net::SocketAddr;

use linerate::packet::UdpTemplate;

use super::{MARK_BYTES, Mark, Origin};
use crate::failure::Failure;
use crate::values::Mac;

/// A frame kept in ordinary memory: it is marked here and copied to the card once, so that
/// nothing is ever read back from a card's memory.
#[derive(Debug, Clone)]
pub(crate) struct Stencil {
    frame: Vec<u8>,
    payload_at: usize,
}

impl Stencil {
    /// A frame of `len` bytes to `dst`.
    ///
    /// # Errors
    ///
    /// It is too short for its headers and mark, or too long for a datagram.
    pub(crate) fn new(
        len: usize,
        origin: &Origin,
        src_port: u16,
        dst: SocketAddr,
        dst_mac: Option<Mac>,
    ) -> Result<Self, Failure> {
        let src = SocketAddr::new(origin.ip(dst.ip()), src_port);
        let Some(mut template) = UdpTemplate::new(src, dst) else {
            return Err(Failure::usage(format!("{dst}: no source address of that family")));
        };
        template.src_mac = origin.mac();
        if let Some(Mac(mac)) = dst_mac {
            template.dst_mac = mac;
        }
        // The mark has a better check sum; over IPv4 "none" is a right one.
        template.checksum = false;
        let payload_at = template.header_len();
        let shortest = payload_at + MARK_BYTES;
        if len < shortest {
            return Err(Failure::usage(format!("frames of {len} bytes are too short"))
                .remedy(format!("use at least {shortest}")));
        }
        // A pattern in which shifted or swapped bytes show.
        let mut frame: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let (headers, payload) = frame.split_at_mut(payload_at);
        if template.write_headers(headers, payload).is_none() {
            return Err(Failure::usage(format!("frames of {len} bytes are too long")));
        }
        Ok(Self { frame, payload_at })
    }

    /// The frame with this mark.
    #[inline]
    pub(crate) fn marked(&mut self, mark: &Mark) -> &[u8] {
        let payload = &mut self.frame[self.payload_at..];
        mark.write(payload);
        if self.frame[12..14] == [0x86, 0xdd] {
            self.sum_v6();
        }
        &self.frame
    }

    /// UDP over IPv6 must have a check sum.
    fn sum_v6(&mut self) {
        let at = self.payload_at - 8;
        let address = |i: usize| -> [u8; 16] {
            self.frame.get(i..i + 16).and_then(|a| a.try_into().ok()).unwrap_or_default()
        };
        let (src, dst) = (address(22).into(), address(38).into());
        self.frame[at + 6..at + 8].fill(0);
        let sum = linerate::packet::transport_checksum(src, dst, 17, &self.frame[at..]);
        let sum = if sum == 0 { 0xffff } else { sum };
        self.frame[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Unmarked};
    use super::*;
    use linerate::packet::{Ethernet, transport_checksum};

    const MARK: Mark =
        Mark { kind: Kind::Ping, stream: 3, seq: 9, time_ns: 1_790_000_000_000_000_000 };

    #[test]
    fn the_shortest_frames_carry_a_mark() {
        let origin = Origin::of(None);
        let mut v4 = Stencil::new(60, &origin, 7, "239.1.1.1:5000".parse().unwrap(), None).unwrap();
        assert_eq!(Mark::of_frame(v4.marked(&MARK), MARK.time_ns), Ok(MARK));
        let to: SocketAddr = "[ff15::1]:5000".parse().unwrap();
        assert!(Stencil::new(79, &origin, 7, to, None).is_err());
        let mut v6 = Stencil::new(80, &origin, 7, to, None).unwrap();
        let frame = v6.marked(&MARK).to_vec();
        assert_eq!(Mark::of_frame(&frame, MARK.time_ns), Ok(MARK));
        let ip = Ethernet::parse(&frame).unwrap().ip().unwrap();
        assert_eq!(transport_checksum(ip.src(), ip.dst(), 17, ip.upper().payload), 0);
    }

    #[test]
    fn a_frame_that_lost_its_end_is_damaged() {
        let origin = Origin::of(None);
        let mut long =
            Stencil::new(600, &origin, 7, "239.1.1.1:5000".parse().unwrap(), None).unwrap();
        let frame = long.marked(&MARK);
        assert_eq!(Mark::of_frame(&frame[..500], MARK.time_ns), Err(Unmarked::Damaged));
    }
}
