//! What is compared.

mod capture;
mod forward;
mod grow;
mod idle;
mod knobs;
mod ping;
mod receive;
mod simulated;
mod transmit;

use std::collections::BTreeMap;
use std::time::Duration;

use super::lab::{MEASURED_CPU, Side};
use super::program::{Program, Quit};
use super::{Case, Ground, Load, Run, Sample, peers};

/// All cases, in the order of the page.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(receive::cases());
    cases.extend(transmit::cases());
    cases.extend(forward::cases());
    cases.extend(idle::cases());
    cases.extend(knobs::cases());
    cases.extend(ping::cases());
    cases.extend(capture::cases());
    cases.extend(grow::cases());
    cases.extend(simulated::cases());
    cases
}

/// Runs only once for each load: for what takes long, and hardly varies or not at all.
fn once(mut run: impl FnMut(&Ground<'_>, &Load) -> Result<Sample, String> + 'static) -> Run {
    let mut known: BTreeMap<&'static str, Sample> = BTreeMap::new();
    Box::new(move |ground, load| {
        if let Some(sample) = known.get(load.label) {
            return Ok(sample.clone());
        }
        let sample = run(ground, load)?;
        known.insert(load.label, sample.clone());
        Ok(sample)
    })
}

const AF_PACKET_VA: &str =
    "net_af_packet0,iface=va,blocksz=4096,framesz=2048,framecnt=16384,qpairs=1";
const AF_PACKET_VB: &str =
    "net_af_packet0,iface=vb,blocksz=4096,framesz=2048,framecnt=16384,qpairs=1";
const AF_PACKET_VC: &str =
    "net_af_packet1,iface=vc,blocksz=4096,framesz=2048,framecnt=16384,qpairs=1";

/// testpmd on virtual devices: ready for `start` on its standard input. It runs on the measured
/// CPU, and its threads for all else beside the load.
fn testpmd(devices: &[&str], mode: &str) -> Result<Program, String> {
    if !peers::has("dpdk-testpmd") {
        return Err("dpdk-testpmd is not installed".into());
    }
    let mut words = vec!["dpdk-testpmd".to_owned(), "--no-pci".into(), "--no-telemetry".into()];
    words.extend(["--in-memory", "-l", "0,1", "--main-lcore", "0"].map(String::from));
    words.extend(["-m", "256", "--log-level", "error"].map(String::from));
    for device in devices {
        words.push(format!("--vdev={device}"));
    }
    words.extend(["--", "-i", "--forward-mode"].map(String::from));
    words.push(mode.into());
    words.extend(["--record-core-cycles", "--no-lsc-interrupt"].map(String::from));
    words.extend(["--total-num-mbufs", "32768", "--burst", "64"].map(String::from));
    words.extend(["--rxd", "4096", "--txd", "2048"].map(String::from));
    let program = Program::new(Side::B, MEASURED_CPU, words);
    let quit = Quit::Line("quit".into());
    let soon = Duration::from_millis(400);
    Ok(program.on_all_cpus().ready_at("Checking link statuses").settle(soon).quit_by(quit))
}
