#!/usr/bin/env bash
# Runs each fuzz target for some seconds and prints what it did.
#
#   fuzz/run.sh            60 s each
#   fuzz/run.sh 3600       an hour each
#   fuzz/run.sh 60 flow    one target
#
# Needs clang or g++, and cargo-fuzz (cargo install --locked cargo-fuzz); a stable toolchain does.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}; shift || true
export RUSTC_BOOTSTRAP=1
[ -e Cargo.lock ] || cp ../Cargo.lock .
cargo fuzz build --fuzz-dir . -O
bins=target/x86_64-unknown-linux-gnu/release
targets=("$@"); [ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | tail -n +2)
failed=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  seeds=(); [ -d "seeds/$target" ] && seeds=("seeds/$target")
  log=$(mktemp)
  if "$bins/$target" "corpus/$target" "${seeds[@]}" -max_total_time="$seconds" -max_len=20000 -timeout=20 \
      -rss_limit_mb=4096 -artifact_prefix="artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
    verdict=clean
  else
    verdict=FAILED; failed=1; tail -40 "$log"
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "$target: $verdict, ${runs:-?} inputs in $seconds s, $(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1) edges"
  rm -f "$log"
done
exit $failed
