//! Looks for Onload's development files, and makes bindings from the headers found.
//!
//! Without the feature `sdk` nothing is looked for, and nothing but this file is compiled.

use std::path::{Path, PathBuf};

/// Parts of the API that not every release has: name for `cfg`, text in the bindings, and
/// whether 9.2 has it.
const OPTIONAL: [(&str, &str, bool); 9] = [
    ("ef_ops_timestamp", "receive_get_timestamp:", true),
    ("ef_ops_has_many", "eventq_has_many_events:", true),
    ("ef_ops_warm", "start_transmit_warm:", true),
    ("ef_evq_vi", "evq_vi:", true),
    ("ef_evq_slots", "min_unused_evq_slots:", true),
    ("ef_fn_reinit_txq", "fn __ef_vi_reinit_txq_post_error", true),
    ("ef_fn_pd_capabilities", "fn ef_pd_capabilities_get", true),
    // The sync flags of a send timestamp beside the ns, and not, before 9.0, in their low bits.
    ("ef_event_ts_flags", "fn ts_flags(", true),
    // One more event type in the middle of the enumeration, before 9.0.
    ("ef_event_memcpy", "const EF_EVENT_TYPE_MEMCPY:", false),
];

fn main() {
    for var in ["EFVI_INCLUDE_DIR", "EFVI_LIB_DIR", "EFVI_LINK"] {
        println!("cargo::rerun-if-env-changed={var}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(efvi_sdk)");
    for (cfg, ..) in OPTIONAL {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
    }
    match find() {
        Ok(sdk) => {
            let bindings = bind(&sdk.include);
            println!("cargo::rustc-cfg=efvi_sdk");
            for (cfg, text, _) in OPTIONAL {
                if bindings.contains(text) {
                    println!("cargo::rustc-cfg={cfg}");
                }
            }
            link(&sdk);
            found(&sdk.include.display().to_string(), &sdk.library.display().to_string(), "");
        }
        Err(missing) => {
            // The reference layout is that of 9.2.
            for (cfg, ..) in OPTIONAL.iter().filter(|(.., in_9_2)| *in_9_2) {
                println!("cargo::rustc-cfg={cfg}");
            }
            if cfg!(feature = "sdk") {
                println!("cargo::warning=no ef_vi in this build: {missing}");
            }
            found("", "", &missing);
        }
    }
}

fn found(include: &str, library: &str, missing: &str) {
    println!("cargo::rustc-env=LINERATE_EFVI_INCLUDE_DIR={include}");
    println!("cargo::rustc-env=LINERATE_EFVI_LIBRARY={library}");
    println!("cargo::rustc-env=LINERATE_EFVI_MISSING={missing}");
}

/// The development files.
struct Sdk {
    include: PathBuf,
    library: PathBuf,
}

/// Where the files are, or which file was not found where.
fn find() -> Result<Sdk, String> {
    const HEADER: &str = "etherfabric/ef_vi.h";
    if !cfg!(feature = "sdk") {
        return Err("the cargo feature `sdk` was off".into());
    }
    let library = match std::env::var("EFVI_LINK").as_deref() {
        Ok("dynamic") => "libciul.so",
        Ok("static") | Err(_) => "libciul1.a",
        Ok(other) => panic!("EFVI_LINK={other}: must be `static` or `dynamic`"),
    };
    let include = look_for(HEADER, "EFVI_INCLUDE_DIR", &["/usr/include", "/usr/local/include"])?;
    let lib_dir = look_for(
        library,
        "EFVI_LIB_DIR",
        &[
            "/usr/lib64",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib",
            "/usr/local/lib64",
            "/usr/local/lib",
        ],
    )?;
    Ok(Sdk { include, library: lib_dir.join(library) })
}

/// The directory that holds `file`. One named by the variable must hold it: a build that was told
/// where to look shall not quietly do without.
fn look_for(file: &str, var: &str, default: &[&str]) -> Result<PathBuf, String> {
    if let Some(dir) = std::env::var_os(var).map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", dir.join(file).display());
        assert!(dir.join(file).exists(), "{var}={}: no {file} there", dir.display());
        return Ok(dir);
    }
    match default.iter().map(Path::new).find(|dir| dir.join(file).exists()) {
        Some(dir) => Ok(dir.into()),
        None => Err(format!("{file} was not in {}", default.join(", "))),
    }
}

fn link(sdk: &Sdk) {
    if let Some(dir) = sdk.library.parent() {
        println!("cargo::rustc-link-search=native={}", dir.display());
    }
    println!("cargo::rerun-if-changed={}", sdk.library.display());
    if sdk.library.extension().is_some_and(|e| e == "so") {
        println!("cargo::rustc-link-lib=dylib=ciul");
    } else {
        println!("cargo::rustc-link-lib=static=ciul1");
    }
}

#[cfg(not(feature = "sdk"))]
fn bind(_: &Path) -> String {
    String::new()
}

/// Writes `bindings.rs` and `headers.rs`; returns the text of both.
#[cfg(feature = "sdk")]
fn bind(include: &Path) -> String {
    /// What `types.rs` has by hand.
    const OURS: &str = "ef_event|ef_iovec|ef_precisetime|ef_pd|ef_memreg|ef_pio|ef_filter_spec|\
        ef_filter_cookie|ef_vi_set|ef_vi_layout_entry|ef_vi_stats_layout|\
        ef_vi_stats_field_layout|ef_vi_transmit_alt_overhead|ef_vi_tx_warm_state";
    const LIBC: &str = "iovec|timeval|timespec|in6_addr";

    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let headers = ["vi", "pd", "memreg", "pio", "ef_vi", "capabilities", "efct_vi"]
        .map(|name| format!("#include <etherfabric/{name}.h>\n"))
        .concat();
    let builder = || {
        bindgen::builder()
            .header_contents("efvi.h", &headers)
            .clang_arg(format!("-I{}", include.display()))
            .prepend_enum_name(false)
            .layout_tests(false)
            .generate_comments(false)
    };
    let fail = "bindgen on the ef_vi headers (is libclang installed?)";

    let bindings = builder()
        .allowlist_type("ef_vi|ef_vi_state|ef_vi_stats|ef_vi_flags|ef_pd_flags|ef_filter_flags")
        .allowlist_type("ef_vi_capability")
        .allowlist_function("_*ef_.*|efct_.*")
        .blocklist_type(format!("{OURS}|{LIBC}"))
        .raw_line("use crate::event::ef_event;")
        .raw_line("use crate::types::*;")
        .raw_line("use libc::{iovec, timeval, timespec, in6_addr};")
        .generate()
        .expect(fail);
    bindings.write_to_file(out.join("bindings.rs")).expect("cannot write bindings.rs");

    let theirs = builder()
        .allowlist_type(OURS)
        .allowlist_type("ef_vi_nic_type|ef_.*_flags|ef_vi_capability|ef_vi_arch|ef_vi_layout_type")
        .allowlist_var("EF_.*|EFCT_.*")
        .generate()
        .expect(fail)
        .to_string();
    let checks = cross_checks(&theirs, OURS);
    let text = format!("mod h {{ {theirs} }}\n{checks}");
    std::fs::write(out.join("headers.rs"), text).expect("cannot write headers.rs");
    bindings.to_string() + &theirs
}

/// Compile-time comparisons of everything that `types.rs` and `consts.rs` have with the headers.
#[cfg(feature = "sdk")]
fn cross_checks(theirs: &str, types: &str) -> String {
    let mut text = String::from("const _: () = {\n");
    for name in types.split('|').chain(["ef_vi_nic_type"]) {
        if theirs.contains(&format!("struct {name} ")) || theirs.contains(&format!("union {name} "))
        {
            let (h, o) = (format!("h::{name}"), format!("crate::{name}"));
            text += &format!("assert!(size_of::<{h}>() == size_of::<{o}>());\n");
            text += &format!("assert!(align_of::<{h}>() == align_of::<{o}>());\n");
        }
    }
    let ours = include_str!("src/consts.rs");
    for line in ours.lines() {
        let Some(name) = line.strip_prefix("pub const ").and_then(|l| l.split(':').next()) else {
            continue;
        };
        // A constant that an older release does not know yet has nothing to disagree with.
        if theirs.contains(&format!("pub const {name}:")) {
            text += &format!("assert!(h::{name} as i128 == crate::{name} as i128);\n");
        }
    }
    text + "};\n"
}
