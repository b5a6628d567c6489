# SPDX-License-Identifier: Apache-2.0
# Run as root before the last version's files go.
rm -f /usr/lib/pastiche/controller.cache
if [ -d /sys/kernel/security/apparmor ] && [ -e /etc/apparmor.d/abi/4.0 ] && command -v apparmor_parser >/dev/null; then
  apparmor_parser -R /etc/apparmor.d/pastiche 2>/dev/null || true
fi
