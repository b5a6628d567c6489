# SPDX-License-Identifier: Apache-2.0
#
# AppArmor profile of pastiche (helper, controller, clients), AppArmor 4.0 and newer.
#
# What it is for: where unprivileged user namespaces are kept for programs that have a profile (Ubuntu 24.04,
# kernel.apparmor_restrict_unprivileged_userns), this one names pastiche; and what a taken-over process may open is
# less than its user may, from the first instruction. The seccomp allowlists, which come later, are tighter.
#
# Own additions belong in /etc/apparmor.d/local/pastiche.

abi <abi/4.0>,

include <tunables/global>

profile pastiche @LIBDIR@/bin/pasta flags=(attach_disconnected, mediate_deleted) {
  # The controller's empty namespaces, and those of a command.
  userns,

  # In namespaces of its own or given ones: interfaces, mounts, the end of privilege. Root's start: another identity.
  capability net_admin,
  capability net_bind_service,
  capability setgid,
  capability setpcap,
  capability setuid,
  capability sys_admin,
  # Entering the namespaces of a process of another user, as root; the kernel's log, for who was killed.
  capability sys_ptrace,
  capability dac_override,
  capability dac_read_search,
  capability syslog,

  network inet stream,
  network inet6 stream,
  network inet dgram,
  network inet6 dgram,
  network netlink raw,
  network unix stream,
  network unix dgram,
  network unix seqpacket,
  unix,

  # An empty root, and /proc of a command's PID namespace.
  mount,
  umount,
  pivot_root,

  signal (send, receive),
  ptrace (read),

  / r,
  /dev/net/tun rw,
  /dev/kmsg r,
  /dev/{null,zero,full,random,urandom} rw,
  /dev/{tty,pts/*} rw,
  @{PROC}/** r,
  owner @{PROC}/@{pids}/{uid_map,gid_map,setgroups} w,
  @{PROC}/sys/net/ipv4/ping_group_range w,
  @{sys}/devices/system/** r,
  @{sys}/fs/cgroup/** r,
  /etc/{passwd,group,resolv.conf,ld.so.cache,localtime,nsswitch.conf,hosts,host.conf,gai.conf,os-release} r,
  /etc/ssl/** r,
  /{usr/,}{share,lib}/{zoneinfo,locale,ssl,node,nodejs}/** r,

  # Network namespaces by name or path, sockets, PID files, logs and captures wherever their owner has put them.
  /{run,var/run}/** r,
  /{run,var/run}/**/ r,
  owner /** rwk,
  /{run,var/run,tmp}/** rw,

  # This installation and the Node that runs it. With no_new_privs there is no way to another profile.
  @LIBDIR@/ r,
  @LIBDIR@/** mr,
  /{usr/,}lib{,32,64}/** mr,
  /usr/local/lib/** mr,
  /usr/bin/node mrix,
  /usr/local/bin/node mrix,
  @LIBDIR@/bin/pasta mrix,

  # A command that pasta was told to run is its user's, and as free as that.
  /** pux,

  include if exists <local/pastiche>
}
