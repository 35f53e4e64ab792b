#!/bin/sh
# Which functions does one turn of ef_vi's low-latency receive loop call, and how long is it?
# Compares with efvi.calls beside this script; `efvi.sh --write` makes it anew.
#
# `*` is a call through a table: the card's operations (look ahead, poll, stamp; post, ring the
# doorbell). `show_run` is the loop over a burst. Everything else is out of line and seldom: merged
# events, faults, buffers for places whose own were taken. No panic, no check of bounds.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
# Without position independence calls are calls, not jumps through a table.
cargo rustc -q --release -p linerate-efvi --example low_latency_turn -- -C relocation-model=static
bin=${CARGO_TARGET_DIR:-target}/release/examples/low_latency_turn
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for f in low_latency_turn show_run RingRx::top_up; do
    objdump -d --no-show-raw-insn -C "$bin" |
        awk -v f="$f" 'index($0, f ">:") {p = 1; next} /^$/ {p = 0} p' >"$list"
    echo "$f"
    sed -n 's/.*call  *[0-9a-f]* <\(.*\)>.*/  \1/p; s/.*call  *\*.*(%rip).*/  another crate/p; s/.*call  *\*.*/  */p' "$list" |
        sed 's/::h[0-9a-f]\{16\}$//; s/+0x[0-9a-f]*$//; s/::[a-z_]*::<impl \(.*\)>::/::/' | sort -u
    # Rounded, so that a compiler's whim is no difference.
    echo "  about $((($(wc -l <"$list") + 25) / 50 * 50)) instructions"
done >"$list.new"
if [ "${1:-}" = --write ]; then
    mv "$list.new" "$here/efvi.calls"
else
    diff -u "$here/efvi.calls" "$list.new" && rm "$list.new"
fi
