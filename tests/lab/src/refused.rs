//! The rules of ownership that the compiler keeps: each file in a crate's `tests/compile_fail/`
//! breaks one, and says by a `//~ E0499` at the end of a line which error must come up there, and
//! no other.
//!
//! The files are checked in one package of their own, without the network, under the workspace's
//! lock file. A control that breaks no rule shows that the package itself compiles.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// File, line and code of an error.
type Mark = (String, usize, String);

/// Checks the cases of the package `name` at `here`. It is called with `CARGO_PKG_NAME`,
/// `CARGO_MANIFEST_DIR` and `CARGO_TARGET_TMPDIR` of the test.
///
/// # Panics
///
/// If a rule can be broken, or something else is refused.
pub fn check(name: &str, here: &str, scratch: &str) {
    let here = Path::new(here);
    let mut wanted = BTreeSet::new();
    let mut cases = Vec::new();
    for entry in fs::read_dir(here.join("tests/compile_fail")).expect("cases") {
        let path = entry.expect("a case").path();
        let case = stem(&path);
        let marks = marks(&case, &fs::read_to_string(&path).expect("a case"));
        assert_eq!(
            marks.is_empty(),
            case == "control",
            "{case}: a case has a mark, the control none"
        );
        wanted.extend(marks);
        cases.push((case, path));
    }
    assert!(cases.iter().any(|(case, _)| case == "control"));

    let errors = compile(name, here, Path::new(scratch), &cases);
    let missed: Vec<_> = wanted.difference(&errors).collect();
    let surplus: Vec<_> = errors.difference(&wanted).collect();
    assert!(
        missed.is_empty() && surplus.is_empty(),
        "not refused: {missed:#?}\nnot expected: {surplus:#?}"
    );
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lines that end in `//~ CODE`.
fn marks(case: &str, text: &str) -> BTreeSet<Mark> {
    let lines = text.lines().enumerate();
    let marks = lines.filter_map(|(i, line)| line.rsplit_once("//~ ").map(|(_, code)| (i, code)));
    marks.map(|(i, code)| (case.to_owned(), i + 1, code.trim().to_owned())).collect()
}

/// What the compiler says about the files, each the main file of a program.
fn compile(name: &str, here: &Path, scratch: &Path, cases: &[(String, PathBuf)]) -> BTreeSet<Mark> {
    let package = scratch.join("compile_fail").join(name);
    fs::create_dir_all(&package).expect("a directory");
    let common = here.join("../common");
    let mut manifest = format!(
        "[package]\nname = \"compile-fail\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\n{name} = {{ path = {here:?} }}\n"
    );
    if name != "linerate-common" {
        _ = writeln!(manifest, "linerate-common = {{ path = {common:?} }}");
    }
    manifest.push_str("[workspace]\n");
    for (case, path) in cases {
        _ = write!(manifest, "[[bin]]\nname = {case:?}\npath = {path:?}\n");
    }
    fs::write(package.join("Cargo.toml"), manifest).expect("a manifest");
    if let Ok(lock) = fs::read(here.join("../Cargo.lock")) {
        fs::write(package.join("Cargo.lock"), lock).expect("a lock file");
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .args(["check", "--offline", "--keep-going", "--quiet", "--message-format=short"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", scratch.join("compile_fail/target"))
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(!out.status.success(), "something must be refused");
    let text = String::from_utf8_lossy(&out.stderr);
    let errors: BTreeSet<Mark> = text.lines().filter_map(error).collect();
    assert!(!errors.is_empty(), "cargo itself failed:\n{text}");
    errors
}

/// The error in one line of what the compiler says: `FILE:LINE:COLUMN: error[CODE]: …`; lints have no
/// code.
fn error(line: &str) -> Option<Mark> {
    let (place, what) = line.split_once(": error")?;
    let mut place = place.rsplitn(3, ':');
    let (_column, line, file) = (place.next()?, place.next()?.parse().ok()?, place.next()?);
    let code = what.strip_prefix('[').and_then(|what| what.split_once(']'));
    Some((stem(Path::new(file)), line, code.map_or("lint", |(code, _)| code).to_owned()))
}
