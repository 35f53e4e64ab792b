#!/usr/bin/env bash
# Everything that must hold before a change lands, on a bare Debian machine with a Rust toolchain.
#
#   ./ci.sh            all of it (as root it installs what it needs and runs the kernel tests)
#   ./ci.sh STEP ...   only these steps: fmt clippy docs test guest examples demo bpf instructions msrv trust conservation package
#
# Without root it runs what it can, and lists at the end what it skipped and why.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
skips=$(mktemp); trap 'rm -f "$skips"' EXIT
export LINERATE_SKIPS=$skips
root=false; [ "$(id -u)" = 0 ] && root=true

say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
skip() { echo "SKIPPED ci.sh: $1" | tee -a "$skips"; }

# The packages the steps call, by the command that shows they are there.
install_tools() {
  local want=()
  for pair in ip:iproute2 tshark:tshark clang:clang llvm-objdump:llvm strace:strace valgrind:valgrind objdump:binutils setpriv:util-linux raw_ethernet_bw:perftest mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs; do
    command -v "${pair%%:*}" >/dev/null || want+=("${pair#*:}")
  done
  # For the guest: what makes the machine, and what goes into it.
  for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static modinfo:kmod cpio:cpio xz:xz-utils; do
    [[ " ${steps[*]} " != *" guest "* ]] || command -v "${pair%%:*}" >/dev/null || want+=("${pair#*:}")
  done
  [ -e /usr/include/bpf/bpf_helpers.h ] || want+=(libbpf-dev)
  [[ "$(ldconfig -p 2>/dev/null)" == *libibverbs.so.1* ]] || want+=(libibverbs1 ibverbs-providers)
  [ -e /usr/include/infiniband/verbs.h ] || want+=(libibverbs-dev)
  [ ${#want[@]} = 0 ] && return
  if ! $root || ! command -v apt-get >/dev/null; then skip "cannot install: ${want[*]} (needs root and apt)"; return; fi
  say "install ${want[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
}

step_fmt() { cargo fmt --all --check; }

step_clippy() {
  cargo clippy --quiet --workspace --all-targets -- -D warnings
  cargo clippy --quiet -p linerate --no-default-features -- -D warnings
  cargo clippy --quiet -p linerate --all-targets --features full -- -D warnings
}

step_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --features linerate/full; }

step_test() { cargo test --workspace --features linerate/full --no-fail-fast; }

# The verbs queues over the kernel's RDMA stack, in a virtual machine of Debian packages.
step_guest() {
  local program status=0 start=$SECONDS
  program=$(cargo test --quiet -p linerate-verbs --test soft_roce --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*soft_roce[^"]*\)".*/\1/p' | tail -1)
  # The simulated device as a driver, to be loaded over the kernel's own.
  cargo build --quiet -p linerate-sim-verbs-driver
  install -D target/debug/liblinerate_sim_verbs_driver.so target/guest/simverbs-rdmav34.so
  GUEST_FILES=$PWD/target/guest/simverbs-rdmav34.so GUEST_ENV=LINERATE_SIM_DRIVER=$PWD/target/guest/simverbs \
    tests/guest/run.sh "$program" --test-threads=1 2>&1 | tee target/guest.log || status=${PIPESTATUS[0]}
  case $status in
    0) echo "guest: $((SECONDS - start)) s" ;;
    77) skip "$(tail -n 1 target/guest.log)"; return ;;
    *) return "$status" ;;
  esac
  # And the command: the clock of that machine is set, and its hugepages run out.
  start=$SECONDS
  local tests=()
  for name in clock limits; do
    tests+=("$(cargo test --quiet -p linerate-cli --test $name --no-run --message-format=json |
      sed -n "s/.*\"executable\":\"\([^\"]*\/$name-[^\"]*\)\".*/\1/p" | tail -1)")
  done
  printf '#!/bin/sh\n%s --test-threads=1 && %s hugepages\n' "${tests[@]}" > target/guest/command
  chmod +x target/guest/command
  GUEST_FILES="$PWD/target/debug/linerate ${tests[*]}" GUEST_SECONDS=200 tests/guest/run.sh target/guest/command
  echo "guest, command: $((SECONDS - start)) s"
}

step_examples() { cargo build --quiet --examples -p linerate-examples; }

# The main job, as an ordinary user, and other people's tools read its file.
step_demo() {
  cargo build --release --quiet
  local dir; dir=$(mktemp -d); chmod 777 "$dir"
  install -m 755 target/release/linerate "$dir/linerate"
  local as=(); $root && as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
  (cd "$dir" && "${as[@]}" ./linerate demo)
  if command -v capinfos >/dev/null; then capinfos -c -d -u "$dir"/*.pcapng; else skip "no capinfos to read the demo's file"; fi
  rm -rf "$dir"
}

step_bpf() {
  [ -x afxdp/bpf/build.sh ] || return 0
  if command -v clang >/dev/null; then afxdp/bpf/build.sh --check; else skip "no clang to rebuild the XDP object"; fi
}

# What the hot loops cost in instructions, against what they cost before. Nothing is timed.
step_instructions() {
  for tool in valgrind objdump nm cc; do
    command -v "$tool" >/dev/null || { skip "no $tool: the hot loops' instructions were not counted"; return 0; }
  done
  [ "$(uname -m)" = x86_64 ] || { skip "instructions are counted on x86-64 only"; return 0; }
  cargo build --release --quiet -p linerate-bench
  local out; out=$(timeout 300 target/release/instructions --check) || { echo "$out"; return 1; }
  echo "$out"
  while read -r line; do skip "${line#SKIPPED }"; done < <(grep '^SKIPPED' <<<"$out" || true)
}

# The stated minimum, where that toolchain is installed; clippy's incompatible_msrv lint otherwise.
step_msrv() {
  local msrv; msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if grep -q "^$msrv" <<<"$(rustup toolchain list 2>/dev/null)"; then
    cargo "+$msrv" check --quiet --workspace --target-dir target/msrv
  else
    skip "no Rust $msrv toolchain to check the MSRV with (clippy's incompatible_msrv ran)"
    cargo clippy --quiet --workspace --all-targets -- -D clippy::incompatible_msrv
  fi
}

# Every feature alone, the public interface against api/, licences, and the lock-free pieces in loom's
# models and under Miri where it is installed. What is longer: docs/trust.md
step_trust() { tests/trust.sh short; }

# A million numbered frames over each backend, and over all in a ring.
step_conservation() { tests/trust.sh conservation; }

step_package() { cargo package --quiet --workspace --no-verify --allow-dirty; }

steps=("$@"); [ $# -gt 0 ] || steps=(fmt clippy docs test guest examples demo bpf instructions msrv trust conservation package)
for step in "${steps[@]}"; do
  [ "$(type -t "step_$step")" = function ] || { sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit 2; }
done
install_tools
for step in "${steps[@]}"; do say "$step"; "step_$step"; done

say "done: ${steps[*]}"
if [ -s "$skips" ]; then echo "Skipped here:"; sort -u "$skips" | sed 's/^/  /'; else echo "Nothing was skipped."; fi
