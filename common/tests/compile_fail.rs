//! Each file in `compile_fail/` breaks a rule of ownership: see `linerate_lab::refused`.

#[test]
fn every_broken_rule_is_an_error_of_the_compiler() {
    linerate_lab::refused::check(
        env!("CARGO_PKG_NAME"),
        env!("CARGO_MANIFEST_DIR"),
        env!("CARGO_TARGET_TMPDIR"),
    );
}
