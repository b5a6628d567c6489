#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Configures an interface from what a DHCP client learnt (dhclient's and udhcpc's conventions), and writes it all to $LOG.

case "${1:-$reason}" in
PREINIT | deconfig)
  ip link set "$interface" up
  ;;
PREINIT6)
  ip link set "$interface" up
  n=0 # a client may speak only from an address that is not tentative
  while [ $n -lt 100 ] && ! ip -6 -o addr show dev "$interface" scope link -tentative | grep -q fe80; do
    sleep 0.05
    n=$((n + 1))
  done
  ;;
BOUND)
  ip addr add "$new_ip_address/$new_subnet_mask" dev "$interface"
  ip route add default via "${new_routers%% *}" dev "$interface"
  ;;
bound)
  ip addr add "$ip/$mask" dev "$interface"
  ip route add default via "${router%% *}" dev "$interface"
  ;;
BOUND6)
  ip -6 addr add "$new_ip6_address/${new_ip6_prefixlen:-128}" dev "$interface" nodad
  ;;
esac
[ -z "$new_interface_mtu$mtu" ] || ip link set "$interface" mtu "$new_interface_mtu$mtu"
env >>"$LOG"
