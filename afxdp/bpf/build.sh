#!/bin/sh
# Builds steer.bpf.o from steer.bpf.c with Debian's clang 14 (packages clang, llvm, libbpf-dev).
# With --check it builds beside it and fails when the committed object differs.
set -eu
cd "$(dirname "$0")"
out=steer.bpf.o
if [ "${1:-}" = --check ]; then
    out=$(mktemp)
    trap 'rm -f "$out"' EXIT
fi
"${CLANG:-clang-14}" --target=bpf -mcpu=v3 -O2 -Wall -Wextra -Werror \
    -fno-ident -fno-addrsig -idirafter "/usr/include/$(uname -m)-linux-gnu" \
    -c steer.bpf.c -o "$out"
"${LLVM_STRIP:-llvm-strip-14}" --strip-debug "$out"
if [ "$out" != steer.bpf.o ] && ! cmp -s "$out" steer.bpf.o; then
    echo "steer.bpf.o is not what steer.bpf.c compiles to: run afxdp/bpf/build.sh" >&2
    exit 1
fi
