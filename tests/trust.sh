#!/usr/bin/env bash
# Looks for what ordinary tests do not see. docs/trust.md has the results.
#
#   tests/trust.sh short        what ci.sh runs, about two minutes
#   tests/trust.sh long         everything, hours
#   tests/trust.sh PART ...     miri loom asan tsan valgrind fuzz differential conservation soak
#                               features pairs minimal docs deny api api-renew mutants faults
#
# What a machine cannot do is skipped with the reason. FUZZ_SECONDS (60), DIFFERENTIAL_SECONDS
# (3600), FRAMES (1000000; of soak 1000000000).
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
skip() { echo "SKIPPED tests/trust.sh: $1" | tee -a "${LINERATE_SKIPS:-/dev/null}"; }
say() { printf -- '-- %s (%s s)\n' "$1" "$SECONDS"; }
nightly() { grep -q "^$1.*(installed)" <<<"$(rustup component list --toolchain nightly 2>/dev/null)"; }

# The lock-free pieces under the memory model, with other interleavings for other seeds; in the
# long form also ExaNIC's ring and how its frames are put together, and the parsers.
part_miri() {
  nightly miri || { skip "no miri (rustup +nightly component add miri rust-src)"; return; }
  local seeds=${1:-8}
  local miri=(cargo +nightly miri test --quiet --target-dir target/miri)
  export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..$seeds" PROPTEST_CASES=8
  "${miri[@]}" -p linerate-common --lib -- pool::free_list loopback::ring --skip behaves_as_a_bounded_queue
  "${miri[@]}" -p linerate-afxdp --lib -- ring::tests
  [ "$seeds" = 1 ] && return
  MIRIFLAGS=-Zmiri-disable-isolation "${miri[@]}" -p linerate-common --lib -- packet:: flow::
  PROPTEST_CASES=1 MIRIFLAGS=-Zmiri-disable-isolation "${miri[@]}" -p linerate-exanic --lib -- \
    assemble:: claims:: clock:: filter:: ring::
}

# Every order in which two threads can meet at what they share, up to so many changes of thread.
part_loom() {
  local packages=(-p linerate-common -p linerate-afpacket -p linerate-afxdp -p linerate-exanic)
  RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=${1:-3} cargo test --quiet --target-dir target/loom \
    --config profile.dev.opt-level=2 "${packages[@]}" --lib -- models::
}

# AddressSanitizer and LeakSanitizer over unit tests, simulated cards and veth pairs. The standard
# library is not instrumented; our code, and what the cards write into it, is. Left out: what asks
# cargo, what asks the kernel about the process's memory, what refuses system calls (the sanitizer
# makes some of its own), and what starts other people's programs (perftest) with a driver of ours,
# which would need their own instrumentation.
part_asan() {
  local packages=(-p linerate-common -p linerate-afpacket -p linerate-efvi -p linerate-exanic -p linerate-verbs)
  # libibverbs keeps every device that it has seen.
  RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address RUSTDOCFLAGS=-Zsanitizer=address \
    cargo test --quiet --target "$host" --target-dir target/asan "${packages[@]}" --lib --tests --no-fail-fast -- \
    --skip every_broken_rule --skip the_region_is_resident --skip raw_ethernet --skip system_call --skip is_refused_a_call
}

# ThreadSanitizer needs a standard library that is instrumented too.
part_tsan() {
  nightly rust-src || { skip "no rust-src for ThreadSanitizer (rustup +nightly component add rust-src)"; return; }
  local tsan=(cargo +nightly test --quiet -Zbuild-std --target "$host" --target-dir target/tsan --no-fail-fast)
  export PROPTEST_CASES=8 RUSTFLAGS=-Zsanitizer=thread TSAN_OPTIONS="suppressions=$PWD/tests/tsan.txt"
  "${tsan[@]}" -p linerate-common --lib -- threads pass stop
  # The card's thread writes rings and buffers, the queues read them.
  "${tsan[@]}" -p linerate-efvi -p linerate-exanic -p linerate-verbs --tests -- --skip raw_ethernet --skip every_broken_rule
}

part_valgrind() {
  command -v valgrind >/dev/null || { skip "no valgrind (apt install valgrind)"; return; }
  local grind=(valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite
    --errors-for-leak-kinds=definite)
  local bin
  bin=$(test_program linerate-common --lib)
  PROPTEST_CASES=2 "${grind[@]}" "$bin" --quiet --test-threads=1 pool:: loopback:: flow:: packet:: --skip threads
  # The suites of simulated cards and of the kernel's backends. Valgrind warns that it does not know
  # two of bpf's commands (28 and 34, a link made and ended): they write no memory of ours.
  for suite in linerate-efvi linerate-exanic linerate-afpacket linerate-udp linerate-afxdp; do
    bin=$(test_program "$suite" --test conformance)
    "${grind[@]}" "$bin" --quiet --test-threads=1
  done
}

# The path of a test program.
test_program() {
  local package=$1; shift
  cargo test --no-run -p "$package" "$@" --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

part_fuzz() {
  cargo fuzz --version >/dev/null 2>&1 || { skip "no cargo-fuzz (cargo install --locked cargo-fuzz)"; return; }
  fuzz/run.sh "${FUZZ_SECONDS:-60}"
}

# The XDP program in the kernel against FlowSpec::matches, with new rules and frames each time.
part_differential() {
  LINERATE_DIFFERENTIAL=${DIFFERENTIAL_SECONDS:-3600} cargo test --quiet -p linerate-afxdp --lib -- \
    --nocapture the_kernel_decides
}

# Every frame numbered: each backend by itself, and all in a ring.
part_conservation() {
  LINERATE_CONSERVATION=${FRAMES:-1000000} cargo test --quiet --target-dir target/conservation \
    --config profile.dev.opt-level=2 -p linerate --features full \
    --test conservation -- --nocapture --test-threads=1 ${1:-}
}

# The simulated cards for a night.
part_soak() { FRAMES=${FRAMES:-1000000000} part_conservation simulated_cards; }

# Every feature alone; with `pairs`, every two of them. Without the defaults.
part_features() {
  local all=(afpacket udp afxdp efvi verbs exanic sim conformance latency smoltcp) a b
  cargo check --quiet -p linerate --no-default-features
  for a in "${all[@]}"; do
    cargo check --quiet -p linerate --no-default-features --features "$a"
    [ "${1:-}" = pairs ] || continue
    for b in "${all[@]}"; do
      if [[ "$a" < "$b" ]]; then cargo check --quiet -p linerate --no-default-features --features "$a,$b"; fi
    done
  done
}

part_pairs() { part_features pairs; }

# The least versions that the manifests allow.
part_minimal() {
  local dir; dir=$(mktemp -d)
  git archive HEAD | tar -x -C "$dir"
  (cd "$dir" && RUSTC_BOOTSTRAP=1 cargo update --quiet -Zdirect-minimal-versions &&
    CARGO_TARGET_DIR="$OLDPWD/target/minimal" cargo check --quiet -p linerate --features full)
  rm -rf "$dir"
}

# The documentation where no vendor's file is: what docs.rs does.
part_docs() {
  env -u EFVI_INCLUDE_DIR -u EFVI_LIB_DIR -u EXANIC_INCLUDE_DIR -u EXANIC_LIB_DIR DOCS_RS=1 \
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --features linerate/full
}

# Licences and origins of everything that is built in. Known vulnerabilities take the network.
part_deny() {
  if cargo deny --version >/dev/null 2>&1; then
    cargo deny --offline --all-features check licenses bans sources
    cargo deny check advisories 2>/dev/null || skip "no advisories: their list could not be fetched, or see cargo deny check advisories"
    return
  fi
  skip "no cargo-deny (cargo install --locked cargo-deny): licences and origins were read from cargo tree"
  cargo tree --locked --workspace --all-features --target all -e normal,build,dev --prefix none -f '{l}|{p}' |
    sed 's/ (\*)$//' | sort -u | awk -F'|' '
      { ok = 1; n = split($1, all, " AND ")
        for (i = 1; i <= n; i++) if (all[i] !~ /(^|[ (\/])(MIT|Apache-2.0|BSD-2-Clause|BSD-3-Clause|ISC|Unicode-3.0|Zlib|0BSD)($|[ )\/])/) ok = 0
        if (!ok) { print "licence: " $0; bad = 1 }
        if ($2 ~ /\(git\+|\(registry/) { print "origin: " $0; bad = 1 } }
      END { exit bad }'
}

# The public interface against api/; `api-renew` writes those files anew.
part_api() {
  local status=0 log
  log=$(cargo run --quiet --manifest-path tests/api/Cargo.toml --target-dir target/api-tool -- "$@" 2>&1) || status=$?
  case $status in
    0) ;;
    77) skip "the public interface was not compared: $(tail -n 1 <<<"$log")" ;;
    *) echo "$log"; return 1 ;;
  esac
}
part_api-renew() { part_api --renew; }

# What of packets, flows and pools in `common` can be broken without a test that sees it. What
# changes nothing that can be seen is left out, each with its reason, in .cargo/mutants.toml: this
# ends with success, or with something new (and leaves its directory).
part_mutants() {
  cargo mutants --version >/dev/null 2>&1 || { skip "no cargo-mutants (cargo install --locked cargo-mutants)"; return; }
  local out; out=$(mktemp -d)
  cargo mutants --package linerate-common --test-package linerate-common --output "$out" \
    --file common/src/packet.rs --file 'common/src/packet/**' --file common/src/flow.rs --file 'common/src/flow/**' \
    --file common/src/pool.rs --file 'common/src/pool/**' --timeout 60 -- \
    --lib --test pool --test frame_cache --test region
  rm -rf "$out"
}

# Every system call of sessions and commands, with every error (cargo test tries a part of them).
part_faults() {
  LINERATE_FAULTS=all cargo test --quiet -p linerate --features full --test faults -- --nocapture
  LINERATE_FAULTS=all cargo test --quiet -p linerate-cli --test faults -- --nocapture
}

case ${1:-} in
  short)
    for part in features api deny loom miri; do
      say "$part"
      case $part in loom) part_loom 2;; miri) part_miri 1;; *) "part_$part";; esac
    done ;;
  long)
    for part in pairs minimal docs deny api miri loom asan tsan valgrind faults differential conservation fuzz; do
      say "$part"; "part_$part"
    done ;;
  "") sed -n '2,10p' "$0"; exit 2;;
  *) for part in "$@"; do say "$part"; "part_$part"; done;;
esac
