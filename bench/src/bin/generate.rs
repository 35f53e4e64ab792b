//! Frames from the kernel: `generate INTERFACE TO-MAC BYTES|imix SECONDS [PPS]`.
//!
//! UDP to the lab's receiver, numbered, as fast as the kernel makes them or PPS a second. Says how many in words
//! of `name=value`.

use std::process::ExitCode;
use std::{env, io, ptr};

use linerate_bench::compare::lab::{VA, VB};
use linerate_bench::compare::xdp::{Bytes, Generator, IMIX};
use linerate_bench::frames::udp_frame;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("generate: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let (words, pps) = match words {
        [four @ .., pps] if words.len() == 5 => {
            (four, Some(pps.parse().map_err(|_| "no number of frames a second")?))
        }
        _ => (words, None),
    };
    let [interface, to, bytes, seconds] = words else {
        return Err("INTERFACE TO-MAC BYTES|imix SECONDS [PPS]".into());
    };
    let bytes = match bytes.as_str() {
        "imix" => Bytes::Mix,
        number => Bytes::Each(number.parse().map_err(|_| "no number of bytes")?),
    };
    let longest = if let Bytes::Each(bytes) = bytes { bytes } else { IMIX[2].1 };
    let seconds: f64 = seconds.parse().map_err(|_| "no number of seconds")?;
    let mac: Vec<u8> = to.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let mac: [u8; 6] = mac.try_into().map_err(|_| "no MAC address")?;
    let frame = udp_frame(longest, VA, (mac, VB.ip), 9000);
    let generator = Generator::new(interface, frame, bytes, pps).map_err(|e| e.to_string())?;
    alarm(seconds).map_err(|e| e.to_string())?;
    let sent = generator.run().map_err(|e| format!("live frames: {e} (Linux 5.18 has them)"))?;
    println!("frames={} mpps={} seconds={}", sent.frames, sent.rate / 1e6, sent.seconds);
    Ok(())
}

/// A signal after so many seconds, which ends the kernel's run and nothing else.
fn alarm(seconds: f64) -> io::Result<()> {
    extern "C" fn wake(_: libc::c_int) {}
    let time = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: seconds as i64, tv_usec: (seconds.fract() * 1e6) as i64 },
    };
    // SAFETY: the handler does nothing, and the timer's value is ours. `sigaction` without
    // SA_RESTART, so that the system call is interrupted.
    let rc = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = wake as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGALRM, &action, ptr::null_mut())
            | libc::setitimer(libc::ITIMER_REAL, &time, ptr::null_mut())
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
