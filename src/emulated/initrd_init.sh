#!/bin/busybox sh
# First program of the emulated host: loads what the root disk and the shared folders need, then hands over to
# guest_init.sh, which lies in the shared source tree and so needs no new disk when it changes.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
while read -r module; do
  $b insmod "/modules/$module" || echo "paddock: cannot load $module"
done < /modules/order
$b mount -t ext4 /dev/vda /root || exec $b sh
$b mount -t virtiofs share /root/mnt/share || exec $b sh
$b umount /proc
exec $b switch_root /root /bin/bash /mnt/share/source/src/emulated/guest_init.sh
