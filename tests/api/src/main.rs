//! The public interface of the published crates, as `rustdoc` sees it, against the files in `api/`.
//!
//! ```text
//! tests/trust.sh api          says what has changed, and fails
//! tests/trust.sh api-renew    writes the files anew: commit them with the change
//! ```

use std::path::Path;
use std::process::{Command, ExitCode};

/// The crates whose interface is promised. Those of the `-sys` crates follow the vendors'.
const CRATES: [&str; 9] = [
    "linerate",
    "linerate-afpacket",
    "linerate-afxdp",
    "linerate-common",
    "linerate-efvi",
    "linerate-exanic",
    "linerate-sim",
    "linerate-udp",
    "linerate-verbs",
];
const FEATURES: &str = "linerate/full,linerate/conformance,linerate/latency,linerate/smoltcp,\
                        linerate-common/conformance,linerate-common/latency,\
                        linerate-sim/efvi,linerate-sim/exanic,linerate-sim/verbs";
const TARGET: &str = "target/api";
/// What a machine cannot do, for `ci.sh`.
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let renew = std::env::args().any(|arg| arg == "--renew");
    if let Err(why) = document() {
        println!("{why}");
        return ExitCode::FAILURE;
    }
    let mut changed = false;
    for name in CRATES {
        let json = format!("{TARGET}/doc/{}.json", name.replace('-', "_"));
        let items =
            match public_api::Builder::from_rustdoc_json(&json).omit_blanket_impls(true).build() {
                Ok(api) => api
                    .items()
                    .map(|item| format!("{item}\n"))
                    .filter(|item| is_promise(item))
                    .collect::<String>(),
                Err(e) => {
                    println!("{json}: {e}");
                    return ExitCode::from(SKIPPED);
                }
            };
        let path = format!("api/{name}.txt");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if items == before {
            continue;
        }
        changed = true;
        report(&path, &before, &items);
        if renew && let Err(e) = write(&path, &items) {
            println!("{path}: {e}");
            return ExitCode::FAILURE;
        }
    }
    if changed && !renew {
        println!(
            "the public interface is not what api/ says; if that is meant: tests/trust.sh api-renew"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Of what the compiler derives, only what says where a value may go: not what nobody promises.
fn is_promise(item: &str) -> bool {
    let derived = ["Freeze", "UnsafeUnpin", "RefUnwindSafe", "UnwindSafe"];
    !derived.iter().any(|name| item.contains(&format!("::{name} for ")))
}

/// Has rustdoc write its JSON, which stable toolchains hide.
fn document() -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "doc",
        "--quiet",
        "--no-deps",
        "--lib",
        "--target-dir",
        TARGET,
        "--features",
        FEATURES,
    ]);
    cargo.args(CRATES.iter().flat_map(|name| ["-p", name]));
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTDOCFLAGS", "-Zunstable-options --output-format json");
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo doc: {status}")),
        Err(e) => Err(format!("cargo: {e}")),
    }
}

fn report(path: &str, before: &str, now: &str) {
    for gone in before.lines().filter(|line| !now.lines().any(|other| other == *line)) {
        println!("{path}: - {gone}");
    }
    for new in now.lines().filter(|line| !before.lines().any(|other| other == *line)) {
        println!("{path}: + {new}");
    }
}

fn write(path: &str, items: &str) -> std::io::Result<()> {
    if let Some(dir) = Path::new(path).parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, items)
}
