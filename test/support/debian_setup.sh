#!/bin/sh
# Installs the packages in $1/debs into the root folder $1, where they are unpacked already, as dpkg does it: their own
# scripts run, among them the one that makes each kernel's initrd. Runs as root in a mount namespace of its own.
set -e
root=$1
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero random urandom; do
	: > "$root/dev/$name"
	mount --bind "/dev/$name" "$root/dev/$name"
done

# What dpkg expects to find; users before the packages whose files they own
for name in passwd group; do
	cp "$root/usr/share/base-passwd/$name.master" "$root/etc/$name"
done
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
: > "$root/var/lib/dpkg/status"
# No service is started here
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot "$root" sh -c 'dpkg --force-depends --force-confnew --force-unsafe-io --unpack /debs/*.deb'
chroot "$root" dpkg --force-unsafe-io --configure -a
# Root logs in at the console without a password
chroot "$root" passwd -d root
echo debian > "$root/etc/hostname"
rm -r "$root/debs" "$root/usr/sbin/policy-rc.d"
