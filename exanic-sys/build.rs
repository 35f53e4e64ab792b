//! Looks for libexanic when the feature `sdk` is on; without it there is nothing to do.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(exanic_sdk)");
    #[cfg(feature = "sdk")]
    sdk::configure();
}

#[cfg(feature = "sdk")]
mod sdk {
    use std::env;
    use std::path::{Path, PathBuf};

    const HEADER: &str = "exanic/exanic.h";
    const LIBRARY: &str = "libexanic.a";
    const INCLUDE_DIRS: [&str; 2] = ["/usr/local/include", "/usr/include"];
    const LIB_DIRS: [&str; 4] =
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];

    /// In this order: some headers use types of others without including them.
    const HEADERS: [&str; 8] = [
        "exanic.h",
        "time.h",
        "fifo_rx.h",
        "fifo_tx.h",
        "filter.h",
        "port.h",
        "config.h",
        "util.h",
    ];

    pub(super) fn configure() {
        let found = find("EXANIC_INCLUDE_DIR", &INCLUDE_DIRS, HEADER)
            .and_then(|inc| Ok((inc, find("EXANIC_LIB_DIR", &LIB_DIRS, LIBRARY)?)));
        match found {
            Ok((include, lib)) => {
                bind(&include);
                println!("cargo:rustc-link-search=native={}", lib.display());
                println!("cargo:rustc-link-lib=static=exanic");
                println!("cargo:rerun-if-changed={}", lib.join(LIBRARY).display());
                println!("cargo:rustc-cfg=exanic_sdk");
            }
            Err(missing) => {
                println!("cargo:warning=feature `sdk`: {missing}; using the reference layout");
                println!("cargo:rustc-env=LINERATE_EXANIC_MISSING={missing}");
            }
        }
    }

    /// The directory holding `file`: the one the variable names, or a usual place. The variable
    /// may also name the folder of the headers themselves (a built source tree).
    fn find(var: &str, usual: &[&str], file: &str) -> Result<PathBuf, String> {
        println!("cargo:rerun-if-env-changed={var}");
        let bare = Path::new(file).file_name().unwrap_or_default();
        if let Some(dir) = env::var_os(var).map(PathBuf::from) {
            if dir.join(file).exists() || dir.join(bare).exists() {
                return Ok(dir);
            }
            panic!("{var}={} holds no {file}", dir.display());
        }
        let dir = usual.iter().map(PathBuf::from).find(|dir| dir.join(file).exists());
        dir.ok_or_else(|| format!("{file} is not in {} (set {var})", usual.join(", ")))
    }

    fn bind(include: &Path) {
        let prefix = if include.join(HEADER).exists() { "exanic/" } else { "" };
        let wrapper: String = HEADERS.iter().map(|h| format!("#include <{prefix}{h}>\n")).collect();
        let bindings = bindgen::Builder::default()
            .header_contents("exanic_all.h", &wrapper)
            .clang_arg(format!("-I{}", include.display()))
            .allowlist_function("_*exanic_.*")
            .allowlist_type("exanic_.*|rx_chunk.*|tx_chunk|tx_payload_metadata")
            .layout_tests(true)
            .prepend_enum_name(false)
            .generate()
            .expect("bindgen understands the headers of libexanic");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR is writable");
        println!("cargo:rerun-if-changed={}", include.join(prefix).display());
    }
}
