# SPDX-License-Identifier: Apache-2.0
# Run as root after the files of a package are in place, and again when /usr/bin/node is another one: nothing that needs a network,
# nothing whose failure leaves the programs unusable.

# V8's compiled form of the controller, for this machine's Node: a start takes less time with it. One of another Node is not used.
code_cache() {
  if ! env -i PATH=/usr/local/bin:/usr/bin:/bin node /usr/lib/pastiche/controller.cjs --write-code-cache </dev/null >/dev/null 2>&1; then
    rm -f /usr/lib/pastiche/controller.cache
  fi
}

# Before 4.0 AppArmor restricts no user namespaces, and stumbles over a profile that names them.
apparmor_profile() {
  if [ ! -d /etc/apparmor.d ]; then
    return 0
  elif [ ! -e /etc/apparmor.d/abi/4.0 ]; then
    mkdir -p /etc/apparmor.d/disable
    [ -e /etc/apparmor.d/disable/pastiche ] || ln -s ../pastiche /etc/apparmor.d/disable/pastiche
  else
    if [ "$(readlink /etc/apparmor.d/disable/pastiche)" = ../pastiche ]; then
      rm -f /etc/apparmor.d/disable/pastiche
    fi
    if [ -d /sys/kernel/security/apparmor ] && command -v apparmor_parser >/dev/null && [ ! -e /etc/apparmor.d/disable/pastiche ]; then
      apparmor_parser -r -T -W /etc/apparmor.d/pastiche || true
    fi
  fi
}

service_manager() {
  if [ -e /usr/lib/sysusers.d/pastiche.conf ] && command -v systemd-sysusers >/dev/null; then
    systemd-sysusers pastiche.conf || true
  fi
  if [ -e /usr/lib/tmpfiles.d/pastiche.conf ] && command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --create pastiche.conf || true
  fi
  if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
  fi
}

code_cache
apparmor_profile
service_manager
