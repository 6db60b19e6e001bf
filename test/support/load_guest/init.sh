#!/bin/sh
# PID 1 of the guest that makes load: runs each line from its console as a command and says how it ended.
export PATH=/usr/bin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
# fio keeps the state of a check in its working folder
cd /tmp
stty -echo -onlcr
for word in $(cat /proc/cmdline); do
  case $word in
    paddock.ip=*)
      ip link set lo up
      ip addr add "${word#*=}" dev eth0
      ip link set eth0 up
      ;;
  esac
done
count=0
echo "load-ready"
while read -r line; do
  count=$((count + 1))
  eval "$line"
  printf 'load-exit %s\nload-done %s\n' $? $count
done
