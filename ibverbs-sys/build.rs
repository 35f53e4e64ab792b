//! Finds libibverbs for the `linked` feature. The default build does nothing here.

fn main() {
    #[cfg(feature = "linked")]
    if let Err(e) = pkg_config::Config::new().atleast_version("1.14").probe("libibverbs") {
        println!(
            "cargo::error=feature `linked` needs libibverbs (Debian: libibverbs-dev); {e}. Without \
             the feature the library is loaded at run time and nothing is needed to build."
        );
    }
}
