# PID 1 of the emulated KVM host: mounts, network, then the host server, again and again.
# Settings come from the exchange folder (host.env, written by supervisor.ts).
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
share=/mnt/share

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd

hostname paddock-host
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
# For guests in mode nat
echo 1 > /proc/sys/net/ipv4/ip_forward
# QEMU's name server, which asks the outer host's
echo nameserver 10.0.2.3 > /etc/resolv.conf
chmod 666 /dev/kvm
ulimit -n 65536

# shellcheck source=/dev/null
. "$share/exchange/host.env"

bind() {
  mkdir -p "$2"
  mount --bind "$1" "$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$2"
}
# The source keeps its path of the outer host: Deno's cache of compiled modules is keyed by it
bind $share/source "$PADDOCK_SOURCE" ro
ln -sfn "$PADDOCK_SOURCE" /paddock
bind $share/cache /var/cache/paddock ro
bind $share/exchange /exchange rw
mkdir -p /usr/local/bin
# A copy: run from the share, each start of Deno would read its 95 MB through it again (8 s of system time)
cp $share/deno/"$PADDOCK_DENO_NAME" /usr/local/bin/deno
mkdir -p /var/lib/paddock
for bdi in /sys/class/bdi/0:*; do echo 4096 > "$bdi/read_ahead_kb"; done
# Deno's cache is filled by the outer host while this one boots; copied, as it is written to here
until [ -e /exchange/deno_dir.tar ]; do sleep 0.05; done
mkdir /run/deno_dir
tar -xf /exchange/deno_dir.tar -C /run/deno_dir

export DENO_DIR=/run/deno_dir DENO_NO_UPDATE_CHECK=1 PADDOCK_CACHE=/var/cache/paddock PADDOCK_CACHE_READONLY=1
export PADDOCK_STATE=/var/lib/paddock PADDOCK_EXCHANGE=/exchange
cd "$PADDOCK_SOURCE" || exec bash
cpus=$(nproc --all)
while :; do
  # Not on CPU 0: see GUEST_CPUS in host_process.ts
  taskset -c 1-$((cpus - 1)) deno run --quiet --no-prompt --no-lock --cached-only \
    --allow-read --allow-write --allow-run --allow-net --allow-env --allow-sys src/emulated/host_server.ts
  # Not at once: a tree that is being edited may not load
  sleep 0.5
done
