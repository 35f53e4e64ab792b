//! A simulated card whose cable ends in the kernel: datagrams of a socket come out of the ring,
//! and frames sent reach a socket.

mod rig;

use std::net::UdpSocket;
use std::time::Duration;

use linerate_common::packet::UdpTemplate;
use linerate_common::{FlowSpec, FrameTx};
use linerate_lab::lab_or_skip;
use linerate_sim::Plug;
use linerate_sim::exanic::Card;
use rig::{drain, open_rx, open_tx, options, until};

#[test]
fn frames_pass_between_the_ring_and_a_kernel_socket() {
    let lab = lab_or_skip!();
    let card = Card::builder().plug(0, lab.in_a(|| Plug::veth("v0")).unwrap()).build();
    let flow: FlowSpec = "239.1.1.1:5000".parse().unwrap();
    let mut rx = open_rx(&card, 0, &options(|o| o.flows = vec![flow]));
    let mut tx = open_tx(&card, 0, &options(|_| ()));
    let socket = lab.in_b(|| {
        let socket = UdpSocket::bind("10.99.0.2:7000").unwrap();
        let index = std::fs::read_to_string("/sys/class/net/v1/ifindex").unwrap();
        bind_multicast(&socket, index.trim().parse().unwrap());
        socket
    });
    for i in 0..20_u32 {
        let got = until("the datagram", || {
            // Sent again until it came: the interface may just be coming up.
            socket.send_to(&i.to_be_bytes(), "239.1.1.1:5000").ok()?;
            drain(&mut rx).into_iter().find(|(bytes, _)| bytes[42..46] == i.to_be_bytes())
        });
        assert!(flow.matches(&got.0) && got.1.mark != 0);
    }
    let server = lab.in_b(|| {
        let socket = UdpSocket::bind("10.99.0.2:7001").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket
    });
    let addresses = ("10.99.0.1:9".parse().unwrap(), "10.99.0.2:7001".parse().unwrap());
    let mut template = UdpTemplate::new(addresses.0, addresses.1).unwrap();
    template.src_mac = card.mac(0);
    let mac = lab.in_b(|| std::fs::read_to_string("/sys/class/net/v1/address")).unwrap();
    for (byte, text) in template.dst_mac.iter_mut().zip(mac.trim().split(':')) {
        *byte = u8::from_str_radix(text, 16).unwrap();
    }
    let mut frame = [0; 128];
    for i in 0..20_u32 {
        let len = template.write(&mut frame, &i.to_be_bytes()).unwrap();
        let mut buf = [0; 64];
        until("the datagram", || {
            assert!(tx.send(&frame[..len]).unwrap());
            let n = server.recv(&mut buf).ok()?;
            (buf[..n] == i.to_be_bytes()).then_some(())
        });
        tx.reap();
    }
}

/// Multicast of this socket leaves by the interface: the namespace has no route for it.
fn bind_multicast(socket: &UdpSocket, index: i32) {
    use std::os::fd::AsRawFd;
    // SAFETY: all-zero bytes are a valid ip_mreqn.
    let mut request: libc::ip_mreqn = unsafe { std::mem::zeroed() };
    request.imr_ifindex = index;
    // SAFETY: a struct that outlives the call, with its size.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast(),
            size_of_val(&request) as u32,
        )
    };
    assert_eq!(rc, 0);
}
