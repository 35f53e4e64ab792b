//! The rules of ownership that the compiler keeps: each file in `compile_fail/` breaks one, and
//! says by a `//~ E0499` at the end of a line which error must come up there, and no other.
//!
//! The files are checked in one package of their own, without the network, under the workspace's
//! lock file. A control that breaks no rule shows that the package itself compiles.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// File, line and code of an error.
type Mark = (String, usize, String);

#[test]
fn every_broken_rule_is_an_error_of_the_compiler() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = here.join("tests/compile_fail");
    let mut wanted = BTreeSet::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(&cases).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let marks = marks(&name, &fs::read_to_string(&path).unwrap());
        assert_eq!(
            marks.is_empty(),
            name == "control",
            "{name}: a case has a mark, the control none"
        );
        wanted.extend(marks);
        names.push((name, path));
    }
    assert!(names.iter().any(|(name, _)| name == "control"));

    let errors = check(here, &names);
    let missed: Vec<_> = wanted.difference(&errors).collect();
    let surplus: Vec<_> = errors.difference(&wanted).collect();
    assert!(
        missed.is_empty() && surplus.is_empty(),
        "not refused: {missed:#?}\nnot expected: {surplus:#?}"
    );
}

/// Lines that end in `//~ CODE`.
fn marks(name: &str, text: &str) -> BTreeSet<Mark> {
    let lines = text.lines().enumerate();
    let marks = lines.filter_map(|(i, line)| line.rsplit_once("//~ ").map(|(_, code)| (i, code)));
    marks.map(|(i, code)| (name.to_owned(), i + 1, code.trim().to_owned())).collect()
}

/// What the compiler says about the files, each the main file of a program.
fn check(common: &Path, cases: &[(String, PathBuf)]) -> BTreeSet<Mark> {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    fs::create_dir_all(&package).unwrap();
    let mut manifest = format!(
        "[package]\nname = \"compile-fail\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\nlinerate-common = {{ path = {common:?} }}\n[workspace]\n"
    );
    for (name, path) in cases {
        write!(manifest, "[[bin]]\nname = {name:?}\npath = {path:?}\n").unwrap();
    }
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    if let Ok(lock) = fs::read(common.join("../Cargo.lock")) {
        fs::write(package.join("Cargo.lock"), lock).unwrap();
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .args(["check", "--offline", "--keep-going", "--quiet", "--message-format=json"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(!out.status.success(), "something must be refused");
    let text = String::from_utf8(out.stdout).unwrap();
    let errors: BTreeSet<Mark> = text.lines().filter_map(error).collect();
    assert!(!errors.is_empty(), "cargo itself failed:\n{}", String::from_utf8_lossy(&out.stderr));
    errors
}

/// The error in one line of cargo's messages: its code, and where its first primary span begins.
fn error(line: &str) -> Option<Mark> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let message = message.get("message")?;
    if message.get("level")? != "error" {
        return None;
    }
    let spans = message.get("spans")?.as_array()?;
    let span = spans.iter().find(|s| s["is_primary"] == true)?;
    let file = Path::new(span["file_name"].as_str()?).file_stem()?.to_str()?.to_owned();
    let code = message["code"]["code"].as_str().unwrap_or("no code").to_owned();
    Some((file, span["line_start"].as_u64()? as usize, code))
}
