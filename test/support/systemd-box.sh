#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A systemd as process 1 of namespaces of its own, in a test lab's network: called by systemd-box.ts, as root of the lab.
#   systemd-box.sh DIST NODE    outside: a control group for it, removed when it has ended
#   systemd-box.sh boot         inside
# Of the machine's files it sees /etc and /var as copies on write, /run, /tmp, /opt and /dev of its own, /proc/sys read-only. It loads units from
# /run/systemd/system alone: what the machine has installed is not started.
set -eu

outside() {
  export DIST="$1" NODE="$2"
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/cgroup
  mount -t cgroup2 cgroup2 /mnt/cgroup
  # What an earlier run that was killed has left; what is in use stays.
  find /mnt/cgroup -depth -type d -path '*/pastiche-box-*' -exec rmdir {} + 2>/dev/null || true
  box=$(mktemp -d /mnt/cgroup/pastiche-box-XXXXXX)
  chmod 755 "$box"
  status=0
  sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$box" \
    unshare --mount --pid --fork --kill-child --cgroup --ipc --uts --mount-proc "$0" boot || status=$?
  n=0
  until find "$box" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.02; n=$((n + 1)); [ $n -lt 250 ]; done
  exit $status
}

devices() {
  mkdir -p /mnt/dev
  mount -t tmpfs -o mode=755 tmpfs /mnt/dev
  mkdir -p /mnt/dev/net /mnt/dev/pts /mnt/dev/shm
  for name in null zero full random urandom tty net/tun; do
    : >/mnt/dev/$name
    mount --bind /dev/$name /mnt/dev/$name
  done
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /mnt/dev/pts
  ln -s pts/ptmx /mnt/dev/ptmx
  ln -s /proc/self/fd /mnt/dev/fd
  mount --move /mnt/dev /dev
}

boot() {
  mount --make-rprivate /
  umount -R /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount --bind /proc/sys /proc/sys
  mount -o remount,ro,bind /proc/sys
  cp "$(readlink -f /etc/resolv.conf)" /mnt/resolv.conf
  for tree in etc var; do
    mkdir -p /mnt/$tree/upper /mnt/$tree/work
    mount -t overlay -o lowerdir=/$tree,upperdir=/mnt/$tree/upper,workdir=/mnt/$tree/work overlay /$tree
  done
  mount -t tmpfs -o mode=755 tmpfs /var/log
  rm -f /etc/resolv.conf /etc/fstab
  cp /mnt/resolv.conf /etc/resolv.conf
  mount -t tmpfs -o mode=755 tmpfs /opt
  mkdir /opt/pastiche
  cp -r "$DIST"/. /opt/pastiche/
  : >/opt/node
  mount --bind "$NODE" /opt/node
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t tmpfs -o mode=1777 tmpfs /tmp
  devices
  mkdir -p /run/netns /run/systemd/system /run/sysusers.d
  ip netns add unused # makes of /run/netns what later ones need: a mount that is shared with the units' own views
  ip netns delete unused
  units=/run/systemd/system
  for target in sysinit basic shutdown sockets paths timers slices network multi-user; do
    printf '[Unit]\nDefaultDependencies=no\n' >$units/$target.target
  done
  printf '[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service\n' >$units/box.target
  for name in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -s /lib/systemd/system/$name $units/$name
  done
  exec env -i PATH="$PATH" container=box SYSTEMD_UNIT_PATH=$units /lib/systemd/systemd --system --unit=box.target \
    --log-target=journal --show-status=0
}

case $1 in
boot) boot ;;
*) outside "$@" ;;
esac
