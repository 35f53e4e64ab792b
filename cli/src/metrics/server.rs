//! As much HTTP as a scrape needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::page::{self, Sheet};
use crate::failure::{Failure, io_text};
use crate::json::Identity;
use crate::output::Output;
use crate::privilege;
use crate::threads;

/// Nobody keeps the server busy for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nor even for that long while others wait: a request comes with the connection.
const CROWDED_PATIENCE: Duration = Duration::from_millis(100);
/// A connection that is there as soon as it is asked for has waited.
const AT_ONCE: Duration = Duration::from_millis(1);
/// A page is waited for longer: the server may have a silent client before us.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);
/// A request is not longer, or it is not for us.
const REQUEST_BYTES: usize = 8 << 10;
/// A page of ours with thousands of groups is not longer.
const PAGE_BYTES: u64 = 64 << 20;

/// Hands out the last page that was left with it, until the process ends.
#[derive(Debug)]
pub(crate) struct Exporter {
    ports: Vec<Identity>,
    page: Arc<Mutex<String>>,
}

impl Exporter {
    /// Listens here, for these ports. Says where, as port 0 is any that is free.
    pub(crate) fn start(
        address: SocketAddr,
        ports: &[&Identity],
        out: &Output,
    ) -> Result<Self, Failure> {
        let failed = |e: io::Error| {
            Failure::new(format!("cannot serve metrics at {address}: {}", io_text(&e)))
                .remedy("choose another address with --metrics")
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        out.notice(&format!("metrics at http://{bound}/metrics"));
        let page = Arc::new(Mutex::new(page::render(&[])));
        let shown = Arc::clone(&page);
        threads::spawn("linerate-http", move || serve(&listener, &shown))?;
        Ok(Self { ports: ports.iter().map(|port| (*port).clone()).collect(), page })
    }

    /// Replaces the page: a sheet for each port.
    pub(crate) fn put(&self, sheets: &[Sheet<'_>]) {
        let parts: Vec<_> = self.ports.iter().zip(sheets.iter().copied()).collect();
        let page = page::render(&parts);
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }
}

fn serve(listener: &TcpListener, page: &Mutex<String>) {
    privilege::give_up_here();
    loop {
        let free = Instant::now();
        match listener.accept() {
            // A client that goes away has lost its answer, nobody else has.
            Ok((client, _)) => {
                let crowded = free.elapsed() < AT_ONCE;
                let patience = if crowded { CROWDED_PATIENCE } else { PATIENCE };
                drop(answer(client, page, Instant::now() + patience));
            }
            // Out of descriptors, say: give them time to come back.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn answer(mut client: TcpStream, page: &Mutex<String>, deadline: Instant) -> io::Result<()> {
    let mut request = Vec::new();
    // The header ends with an empty line; a GET has nothing after it.
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES {
            return Ok(());
        }
        client.set_read_timeout(Some(left(deadline)?))?;
        let mut part = [0; 1024];
        let n = client.read(&mut part)?;
        if n == 0 {
            return Ok(());
        }
        request.extend_from_slice(&part[..n]);
    }
    let line = String::from_utf8_lossy(&request);
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = path.split('?').next().unwrap_or("");
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/" | "/metrics") => {
            ("200 OK", page.lock().unwrap_or_else(PoisonError::into_inner).clone())
        }
        ("GET" | "HEAD", _) => ("404 Not Found", "see /metrics\n".into()),
        _ => ("405 Method Not Allowed", "GET only\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Who asked properly is given his time.
    let deadline = Instant::now() + PATIENCE;
    write_by(&mut client, head.as_bytes(), deadline)?;
    if method != "HEAD" {
        write_by(&mut client, body.as_bytes(), deadline)?;
    }
    Ok(())
}

/// Time that is left, never nothing: that would be "for ever" as a socket's timeout.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// All of it, or as much as a slow reader takes until then.
fn write_by(client: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        client.set_write_timeout(Some(left(deadline)?))?;
        let n = client.write(bytes)?;
        bytes = bytes.get(n..).unwrap_or_default();
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// The page that a linerate serves at this address.
pub(crate) fn fetch(address: &str) -> Result<String, Failure> {
    let at =
        super::parse_address(address).map_err(|why| Failure::usage(format!("{address}: {why}")))?;
    read_page(at).map_err(|e| {
        Failure::new(format!("no metrics from {at}: {}", io_text(&e)))
            .remedy("is linerate running there with --metrics?")
    })
}

fn read_page(at: SocketAddr) -> io::Result<String> {
    let mut server = TcpStream::connect_timeout(&at, PATIENCE)?;
    server.set_read_timeout(Some(PAGE_PATIENCE))?;
    server.set_write_timeout(Some(PATIENCE))?;
    server.write_all(
        format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    server.take(PAGE_BYTES).read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other("the answer is no page of metrics")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Level;

    fn ask(at: SocketAddr, request: &str) -> String {
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_scrape_gets_the_last_page() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let identity = Identity { port: "udp:lo".into(), interface: "lo".into(), backend: "udp" };
        let out = Output::new(false, Level::Quiet);
        let exporter = Exporter::start(free, &[&identity], &out).unwrap();
        let mut stats = linerate::RxStats::default();
        stats.ring_full = 42;
        exporter.put(&[Sheet { rx: &[stats], ..Sheet::default() }]);
        let page = fetch(&free.to_string()).unwrap();
        assert!(page.contains("reason=\"ring_full\"} 42\n"), "{page}");
        assert!(ask(free, "GET /nothing HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(free, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let head = ask(free, "HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        // One that says nothing keeps nobody else out for ever.
        let silent = TcpStream::connect(free).unwrap();
        assert!(fetch(&free.to_string()).is_ok());
        drop(silent);
        let taken = Exporter::start(free, &[&identity], &out).unwrap_err().to_string();
        assert!(taken.contains("--metrics") && !taken.contains('\n'), "{taken}");
    }
}
