#!/usr/bin/env bash
# Looks for what ordinary tests do not see. docs/trust.md has the results.
#
#   tests/trust.sh short        what ci.sh runs, about two minutes
#   tests/trust.sh long         everything, hours
#   tests/trust.sh PART ...     miri asan tsan valgrind fuzz conservation features minimal
#
# What a machine cannot do is skipped with the reason. FUZZ_SECONDS (60), FRAMES (1000000).
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
skip() { echo "SKIPPED tests/trust.sh: $1" | tee -a "${LINERATE_SKIPS:-/dev/null}"; }
say() { printf -- '-- %s (%s s)\n' "$1" "$SECONDS"; }
nightly() { rustup component list --toolchain nightly 2>/dev/null | grep -q "^$1.*(installed)"; }

# The lock-free pieces under the memory model, with other interleavings for other seeds.
part_miri() {
  nightly miri || { skip "no miri (rustup +nightly component add miri rust-src)"; return; }
  local seeds=${1:-8}
  MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..$seeds" PROPTEST_CASES=8 \
    cargo +nightly miri test --quiet --target-dir target/miri -p linerate-common --lib -- \
    pool::free_list loopback::ring --skip behaves_as_a_bounded_queue
  MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..$seeds" \
    cargo +nightly miri test --quiet --target-dir target/miri -p linerate-afxdp --lib -- ring::tests
}

# AddressSanitizer and LeakSanitizer over unit tests, simulated cards and veth pairs. The standard
# library is not instrumented; our code, and what the cards write into it, is. Left out: what asks
# cargo, and what asks the kernel about the process's memory.
part_asan() {
  local packages=(-p linerate-common -p linerate-afpacket -p linerate-efvi -p linerate-exanic)
  RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address RUSTDOCFLAGS=-Zsanitizer=address \
    cargo test --quiet --target "$host" --target-dir target/asan "${packages[@]}" --lib --tests --no-fail-fast -- \
    --skip every_broken_rule --skip the_region_is_resident
}

# ThreadSanitizer needs a standard library that is instrumented too.
part_tsan() {
  nightly rust-src || { skip "no rust-src for ThreadSanitizer (rustup +nightly component add rust-src)"; return; }
  RUSTFLAGS=-Zsanitizer=thread cargo +nightly test --quiet -Zbuild-std --target "$host" --target-dir target/tsan \
    -p linerate-common --lib -- threads pass stop
}

part_valgrind() {
  command -v valgrind >/dev/null || { skip "no valgrind (apt install valgrind)"; return; }
  local bin
  bin=$(cargo test --no-run -p linerate-common --lib --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
  PROPTEST_CASES=2 valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
    --errors-for-leak-kinds=definite "$bin" --quiet --test-threads=1 pool:: loopback:: flow:: packet:: --skip threads
}

part_fuzz() {
  cargo fuzz --version >/dev/null 2>&1 || { skip "no cargo-fuzz (cargo install --locked cargo-fuzz)"; return; }
  fuzz/run.sh "${FUZZ_SECONDS:-60}"
}

part_conservation() {
  LINERATE_CONSERVATION=${FRAMES:-1000000} cargo test --release --quiet -p linerate --features full \
    --test conservation -- --nocapture --test-threads=1
}

# Every feature alone; with `pairs`, every two of them. Without the defaults.
part_features() {
  local all=(afpacket udp afxdp efvi verbs exanic sim conformance latency) a b
  cargo check --quiet -p linerate --no-default-features
  for a in "${all[@]}"; do
    cargo check --quiet -p linerate --no-default-features --features "$a"
    [ "${1:-}" = pairs ] || continue
    for b in "${all[@]}"; do
      if [[ "$a" < "$b" ]]; then cargo check --quiet -p linerate --no-default-features --features "$a,$b"; fi
    done
  done
}


# The least versions that the manifests allow.
part_minimal() {
  local dir; dir=$(mktemp -d)
  git archive HEAD | tar -x -C "$dir"
  (cd "$dir" && RUSTC_BOOTSTRAP=1 cargo update --quiet -Zdirect-minimal-versions &&
    CARGO_TARGET_DIR="$OLDPWD/target/minimal" cargo check --quiet -p linerate --features full)
  rm -rf "$dir"
}

case ${1:-} in
  short) say features; part_features; say miri; part_miri 1;;
  long) for part in features minimal miri asan tsan valgrind conservation fuzz; do say $part; "part_$part" $([ $part = features ] && echo pairs); done;;
  "") sed -n '2,8p' "$0"; exit 2;;
  *) for part in "$@"; do say "$part"; "part_$part"; done;;
esac
