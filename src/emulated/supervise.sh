#!/bin/bash
# Runs the emulated host's two processes, in a mount namespace of its own: QEMU, and virtiofsd, which shares the
# folders. When one of them ends the other is killed; when this script is killed both die (parent-death signal).
# Usage: supervise.sh RUN_DIR SOURCE CACHE DENO_FOLDER VIRTIOFSD QEMU QEMU_ARGUMENT...
set -u
run=$1 source=$2 cache=$3 deno=$4 virtiofsd=$5
shift 5
exec >> "$run/supervisor.log" 2>&1 < /dev/null
# A lock among the descriptors of whoever started this would be held for as long as the host runs. 255 is bash's own.
for fd in /proc/self/fd/*; do
  fd=${fd##*/}
  if [ "$fd" -gt 2 ] && [ "$fd" -ne 255 ]; then eval "exec $fd>&-"; fi
done
echo $$ > "$run/pid"
share=$run/share

bind() {
  mount --bind "$1" "$share/$2" || exit 1
  [ "$3" = rw ] || mount -o remount,bind,ro "$share/$2" || exit 1
}
mkdir -p "$share"/{source,cache,deno,exchange} "$run/exchange" "$cache"
bind "$source" source ro
bind "$cache" cache ro
bind "$deno" deno ro
bind "$run/exchange" exchange rw

socket=$run/fs.sock
rm -f "$socket"
options=(--socket-path="$socket")
if "$virtiofsd" --help 2>&1 | grep -q -- --shared-dir; then
  options+=(--shared-dir "$share" --announce-submounts --sandbox chroot --cache auto)
else
  options+=(-o "source=$share,cache=auto,announce_submounts,sandbox=chroot")
fi
setpriv --pdeathsig KILL -- "$virtiofsd" "${options[@]}" &
fs=$!
for _ in $(seq 100); do
  [ -S "$socket" ] && break
  sleep 0.05
done
setpriv --pdeathsig KILL -- "$@" &
vm=$!
trap 'kill -KILL $fs $vm 2>/dev/null; exit 143' TERM INT HUP
echo "$fs $vm" > "$run/children"
wait -n
echo "paddock: QEMU or virtiofsd ended"
kill -KILL $fs $vm 2>/dev/null
wait
