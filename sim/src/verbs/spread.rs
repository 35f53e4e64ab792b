//! Work queues, and the hash that spreads frames over them.

use std::net::IpAddr;
use std::sync::Arc;

use linerate_common::packet::{Headers, IPPROTO_TCP, IPPROTO_UDP};
use linerate_ibverbs_sys::{self as sys, ibv_rwq_ind_table, ibv_wq};

use super::qp::QpState;

/// What libibverbs sees of a work queue, with the state of a receive queue behind it.
#[repr(C)]
pub(super) struct SimWq {
    pub(super) base: ibv_wq,
    pub(super) state: Arc<QpState>,
}

/// A table of work queues.
#[repr(C)]
pub(super) struct SimTable {
    pub(super) base: ibv_rwq_ind_table,
    pub(super) queues: Vec<Arc<QpState>>,
}

/// How a queue pair spreads what is steered to it.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) queues: Vec<Arc<QpState>>,
    pub(super) key: Vec<u8>,
    pub(super) fields: u64,
}

/// The hashes that cards offer: one IP version and one transport at a time.
pub(super) const FIELDS: u64 = 0xff;

impl Spread {
    /// The queue that a frame goes to. What the hash does not cover goes to the first.
    pub(super) fn queue(&self, frame: &[u8]) -> Option<&Arc<QpState>> {
        let hash = self.input(frame).map_or(0, |input| toeplitz(&self.key, &input));
        self.queues.get(hash as usize % self.queues.len().max(1))
    }

    /// The fields in the order of the specification: addresses, ports, source first.
    fn input(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let headers = Headers::parse(frame)?;
        let (src, dst) = headers.addresses?;
        let udp = self.fields & sys::IBV_RX_HASH_SRC_PORT_UDP != 0;
        let tcp = self.fields & sys::IBV_RX_HASH_SRC_PORT_TCP != 0;
        let covered = match headers.proto? {
            IPPROTO_UDP => udp,
            IPPROTO_TCP => tcp,
            _ => false,
        };
        let mut input = Vec::new();
        for address in [src, dst] {
            match address {
                IpAddr::V4(ip) if self.fields & sys::IBV_RX_HASH_SRC_IPV4 != 0 => {
                    input.extend(ip.octets());
                }
                IpAddr::V6(ip) if self.fields & sys::IBV_RX_HASH_SRC_IPV6 != 0 => {
                    input.extend(ip.octets());
                }
                _ => return None,
            }
        }
        let (from, to) = headers.ports.filter(|_| covered)?;
        input.extend(from.to_be_bytes());
        input.extend(to.to_be_bytes());
        Some(input)
    }
}

/// The hash of Microsoft's receive side scaling: for each set bit of the input, the 32 bits of
/// the key that begin there.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], n: usize| bytes.get(n / 8).is_some_and(|b| b >> (7 - n % 8) & 1 == 1);
    let window = |at: usize| (0..32).fold(0, |w, i| w << 1 | u32::from(bit(key, at + i)));
    (0..input.len() * 8).filter(|n| bit(input, *n)).fold(0, |hash, n| hash ^ window(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_examples_come_out() {
        let key: Vec<u8> =
            "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
        // 66.9.149.187:2794 to 161.142.100.80:1766, from the specification's verification suite.
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&key, &input), 0x51cc_c178);
        assert_eq!(toeplitz(&key, &input[..8]), 0x323e_8fc2);
    }
}
