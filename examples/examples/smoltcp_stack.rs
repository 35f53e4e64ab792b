//! TCP in user space over any port: `smoltcp_stack PORT OWN_ADDRESS/PREFIX SERVER:PORT [PATH]`.
//!
//! ```text
//! smoltcp_stack afxdp:eth2 10.0.0.77/24 10.0.0.2:80 /index.html
//! ```
//!
//! Gets a page by HTTP with smoltcp's TCP/IP over a port, past the kernel's. OWN_ADDRESS is an
//! unused one: only ARP and this connection come here, and the kernel keeps the rest.
use std::time::{Duration, Instant as Clock};

use linerate::smoltcp::Device;
use linerate::{AnyRx, AnyTx, Backend, Error, FlowSpec, FrameRx, wait_readable};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};

/// The port that the connection comes from.
const OWN_PORT: u16 = 49_200;
/// Give up after this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest sleep.
const NAP: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, own, server, rest @ ..] = args.as_slice() else {
        return Err("usage: smoltcp_stack PORT OWN_ADDRESS/PREFIX SERVER:PORT [PATH]".into());
    };
    let own: IpCidr = own.parse().map_err(|()| "write OWN_ADDRESS/PREFIX as 10.0.0.77/24")?;
    let server: IpEndpoint = server.parse().map_err(|()| "write SERVER:PORT as 10.0.0.2:80")?;
    let path = rest.first().map_or("/", String::as_str);

    let to_us = format!("tcp:{}:{OWN_PORT}", own.address());
    let flows: [FlowSpec; 2] = ["ether:0x0806".parse()?, to_us.parse()?];
    // Promiscuous: the stack has a MAC address of its own.
    let mut port = linerate::port(name).flows(flows).promiscuous(true).low_latency(true).open()?;
    let tx = port.tx.take().ok_or("the port cannot send")?;
    let rx = port.rx.pop().filter(|_| port.rx.is_empty()).ok_or("name one queue: ?queue=0")?;
    let mut device = Device::new(rx, tx);
    // A kernel at the other end of a veth leaves its checksums to a card that is not there.
    let virtual_cable = port.backend() != Backend::Sim
        && linerate::ports().iter().any(|info| {
            info.interface.name == port.name() && info.interface.driver.as_deref() == Some("veth")
        });
    if virtual_cable {
        device = device.without_verification();
    }

    let clock = Clock::now();
    let now = || Instant::from_micros(clock.elapsed().as_micros() as i64);
    let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 77]).into());
    let mut stack = Interface::new(config, &mut device, now());
    stack.update_ip_addrs(|addresses| {
        // There is room for the first.
        let _ = addresses.push(own);
    });
    let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 16]);
    let mut sockets = SocketSet::new(vec![]);
    let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
    let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
    socket.connect(stack.context(), server, OWN_PORT)?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", server.addr);

    let (mut asked, mut page) = (false, Vec::new());
    while clock.elapsed() < PATIENCE {
        stack.poll(now(), &mut device, &mut sockets);
        device.check()?;
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        if socket.may_send() && !asked {
            socket.send_slice(request.as_bytes())?;
            asked = true;
        }
        while socket.can_recv() {
            socket.recv(|bytes| {
                page.extend_from_slice(bytes);
                (bytes.len(), ())
            })?;
        }
        if asked && !socket.may_recv() {
            socket.close();
            stack.poll(now(), &mut device, &mut sockets);
            println!("{}", String::from_utf8_lossy(&page));
            return Ok(());
        }
        if !socket.is_open() {
            return Err(format!("{server} refused the connection").into());
        }
        let next = stack.poll_delay(now(), &sockets).map_or(NAP, Duration::from);
        sleep(&mut device, next.min(NAP))?;
    }
    Err(format!("{server} did not answer").into())
}

/// Until a frame comes, or the stack has something to do; not at all on queues that only spin.
fn sleep(device: &mut Device<AnyRx, AnyTx>, limit: Duration) -> Result<(), Error> {
    if device.waiting() > 0 {
        return Ok(());
    }
    let Some(waitable) = device.rx().waitable() else { return Ok(()) };
    waitable.arm()?;
    // What came before the arming is at hand now, and wakes nobody.
    if device.look()? == 0
        && let Some(waitable) = device.rx().waitable()
    {
        wait_readable(waitable.fd(), Some(limit))?;
    }
    Ok(())
}
