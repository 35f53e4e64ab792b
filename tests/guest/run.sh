#!/usr/bin/env bash
# Runs one program as root in a throw-away virtual machine with two Soft-RoCE devices: rxe0 on
# veth0 and rxe1 on veth1, the two ends of one veth pair.
#
#   tests/guest/run.sh PROGRAM [ARGUMENT ...]
#
# Everything comes from Debian packages: the kernel is downloaded once, unpacked into a cache
# and never installed; busybox, iproute2 and libibverbs are this machine's own. The machine is
# emulated (TCG), which takes some 10 s; GUEST_ACCEL=kvm uses /dev/kvm.
#
# GUEST_FILES: more files (with absolute paths) to have in the guest; GUEST_ENV: NAME=VALUE pairs.
#
# Exit status: the program's; 77 when the machine cannot be made here, with the reason on stderr;
# 124 when it did not end in time; 125 when it failed before the program ended.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C

skip() { echo "guest: $1" >&2; exit 77; }

[ $# -ge 1 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
program=$(readlink -f "$1"); shift
limit=${GUEST_SECONDS:-100}
cache=${GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/linerate-guest}

[ "$(uname -m)" = x86_64 ] || skip "only x86_64 guests are known here"
for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static modinfo:kmod cpio:cpio \
            xz:xz-utils ip:iproute2 rdma:iproute2 dpkg-deb:dpkg; do
  command -v "${pair%%:*}" >/dev/null || skip "no ${pair%%:*} (Debian: ${pair#*:})"
done
if ldd "$(command -v busybox)" >/dev/null 2>&1; then skip "busybox is not static (Debian: busybox-static)"; fi
# Nothing here may read less than all that the command before it writes: that command would die of
# SIGPIPE, at one time and not at another, and this script with it.
ibverbs=$(ldconfig -p | awk '/libibverbs\.so\.1 .*x86-64/ && !found { found = $NF } END { print found }')
[ -n "$ibverbs" ] || skip "no libibverbs.so.1 (Debian: libibverbs1)"
providers=("$(dirname "$ibverbs")"/libibverbs/librxe-rdmav*.so); provider=${providers[0]}
[ -e "$provider" ] || skip "no provider for rxe (Debian: ibverbs-providers)"

# The kernel: a whole image of Debian's, of which only what is needed is kept.
kernel_dir=$cache/kernel
fetch_kernel() {
  command -v apt-get >/dev/null || skip "no apt-get to fetch a kernel with"
  local package deb tmp
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-/ && !found { found = $2 } END { print found }')
  [ -n "$package" ] || skip "apt knows no linux-image-amd64 (apt-get update?)"
  mkdir -p "$cache"; tmp=$(mktemp -d "$cache/new.XXXXXX")
  chmod 755 "$tmp"
  (cd "$tmp" && apt-get download -qq "$package" >&2) || { rm -rf "$tmp"; skip "cannot download $package"; }
  deb=$(ls "$tmp"/*.deb)
  mkdir "$tmp/kernel"
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tmp/kernel" --wildcards './boot/vmlinuz*' \
    '*/kernel/drivers/infiniband/*' '*/kernel/drivers/net/veth.ko*' '*/kernel/net/ipv4/*' \
    '*/kernel/net/ipv6/*' '*/kernel/crypto/*' '*/kernel/arch/x86/crypto/*' '*/kernel/lib/*'
  rm -f "$deb"
  # The image is packed with xz, which takes an emulated CPU longer to undo than all the rest of
  # the boot: unpack it once, here.
  local image offset
  image=$(ls "$tmp"/kernel/boot/vmlinuz-*)
  offset=$(grep -abo -P '\xfd7zXZ\x00' "$image" | sed -n '1s/:.*//p' || true)
  if [ -n "$offset" ]; then
    # What follows the packed part ends xz, and with it tail: that is no failure.
    tail -c "+$((offset + 1))" "$image" | xz -dc --single-stream > "$tmp/kernel/vmlinux" 2>/dev/null || true
    [ "$(head -c 4 "$tmp/kernel/vmlinux" | tail -c 3)" = ELF ] || rm -f "$tmp/kernel/vmlinux"
  fi
  rm -rf "$kernel_dir"; mv "$tmp/kernel" "$kernel_dir"; rm -rf "$tmp"
}
ls "$kernel_dir"/boot/vmlinuz-* >/dev/null 2>&1 || fetch_kernel
image=$kernel_dir/vmlinux
[ -s "$image" ] || image=$(ls "$kernel_dir"/boot/vmlinuz-*)

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,proc,sys,dev,run,tmp,etc/libibverbs.d,modules,t}
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done

# Copies a file to the same place in the guest, and the libraries it is linked to.
put() {
  local file
  for file in "$1" $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
    [ -e "$root$file" ] || { mkdir -p "$root$(dirname "$file")"; cp -L "$file" "$root$file"; }
  done
}
cp "$(command -v busybox)" "$root/bin/busybox"
for file in "$(command -v ip)" "$(command -v rdma)" "$ibverbs" "$provider"; do put "$file"; done
ip=$(command -v ip) rdma=$(command -v rdma)
echo "driver rxe" > "$root/etc/libibverbs.d/rxe.driver"
echo "nobody:x:65534:65534::/:/bin/sh" > "$root/etc/passwd"
for file in ${GUEST_FILES:-}; do put "$file"; done
put "$program"; ln -s "$program" "$root/t/program"

# Modules with what they depend on, in the order in which they load. crc32_generic is wanted by
# rdma_rxe through the crypto interface, which nothing in a module file tells.
declare -A seen=()
add_module() {
  local name=${1//-/_} file dependency
  [ -z "${seen[$name]:-}" ] || return 0
  seen[$name]=1
  file=$(find "$kernel_dir/lib/modules" -regex ".*/${name//_/[-_]}\.ko\(\.xz\)?" -print -quit)
  [ -n "$file" ] || skip "the kernel has no module $1"
  for dependency in $(modinfo -F depends "$file" | tr , ' '); do add_module "$dependency"; done
  case $file in
    *.xz) xz -dc "$file" > "$root/modules/$name.ko" ;;
    *) cp "$file" "$root/modules/$name.ko" ;;
  esac
  echo "$name.ko" >> "$root/modules/order"
}
for module in veth crc32_generic ib_uverbs rdma_rxe; do add_module "$module"; done

{ for pair in ${GUEST_ENV:-}; do printf 'export %q\n' "$pair"; done
  printf 'exec /t/program'; printf ' %q' "$@"; echo; } > "$root/t/run"
cat > "$root/init" <<INIT
#!/bin/busybox sh
# ttyS0: the kernel's console. ttyS1: the program's output, and how it ended.
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/ LINERATE_GUEST=1 RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/hugepages; mount -t hugetlbfs huge /dev/hugepages; chmod 1777 /tmp
exec > /dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo
fail() { echo "guest: \$*"; echo "GUEST-FAILED"; poweroff -f; }
while read -r module; do insmod "/modules/\$module" || fail "insmod \$module"; done < /modules/order
ip=$ip rdma=$rdma
\$ip link set lo up
\$ip link add veth0 type veth peer name veth1 || fail "no veth"
# Both addresses are this machine's own, so it would take the short way through lo. Each is routed
# over its own end of the pair instead, ahead of the table of local addresses.
echo 1 > /proc/sys/net/ipv4/conf/all/accept_local
echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
for n in 0 1; do
  echo 0 > /proc/sys/net/ipv4/conf/veth\$n/rp_filter
  \$ip addr add 10.66.0.\$((n + 1))/24 dev veth\$n
  \$ip link set veth\$n up
done
\$ip rule add pref 100 lookup local; \$ip rule del pref 0
for n in 0 1; do
  here=10.66.0.\$((n + 1)) there=10.66.0.\$((2 - n))
  \$ip rule add pref 1\$n iif lo from \$here to \$there lookup 20\$n
  \$ip route add \$there/32 dev veth\$n src \$here table 20\$n || fail "no route"
  \$ip neigh replace \$there lladdr \$(cat /sys/class/net/veth\$((1 - n))/address) dev veth\$n nud permanent
  \$rdma link add rxe\$n type rxe netdev veth\$n || fail "no rxe\$n"
done
tries=0
until grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state &&
      grep -q ACTIVE /sys/class/infiniband/rxe1/ports/1/state &&
      grep -qs ffff:0a42 /sys/class/infiniband/rxe0/ports/1/gids/* &&
      grep -qs ffff:0a42 /sys/class/infiniband/rxe1/ports/1/gids/*; do
  tries=\$((tries + 1)); [ \$tries -lt 100 ] || fail "the ports do not come up"
  sleep 0.1
done
sh /t/run < /dev/null
echo "GUEST-EXIT \$?"
sync; poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet | gzip -1) > "$work/initrd"

# Emulated by default: a machine that offers /dev/kvm does not always get far with it.
status=0
{ timeout -k 5 "$limit" qemu-system-x86_64 -accel "${GUEST_ACCEL:-tcg}" \
  -cpu max,arch-capabilities=off -smp 2 -m 1024 -nodefaults -display none -no-reboot -net none \
  -kernel "$image" -initrd "$work/initrd" \
  -append "console=ttyS0 quiet panic=-1 mitigations=off hugepages=64" \
  -serial "file:$work/console" -serial "file:$work/output" </dev/null; } 2>"$work/qemu" || status=$?
ended=$(tr -d '\r' < "$work/output" 2>/dev/null | sed -n 's/^GUEST-EXIT //p')
tr -d '\r' < "$work/output" 2>/dev/null | grep -v '^GUEST-' || true
[ -z "$ended" ] || exit "$ended"
{ cat "$work/qemu"; tail -n 40 "$work/console"; } >&2 2>/dev/null || true
case $status in 124 | 137) exit 124 ;; *) exit 125 ;; esac
