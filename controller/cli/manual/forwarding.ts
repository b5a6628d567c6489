// SPDX-License-Identifier: Apache-2.0
import type { FORWARDING as ROWS } from '../options/forwarding.ts';
import type { Manual } from './manual.ts';

export const FORWARDING: Readonly<Record<keyof typeof ROWS, Manual>> = {
  'tcp-ports': {
    pasta:
      'TCP ports of the host that lead to the namespace. May be repeated; rules add up. Default `auto`. The form of `SPEC` is below.\n\nExample: `-t 8080:80,8443:443` leads ports 8080 and 8443 of every address of the host to ports 80 and 443 of the namespace.',
    passt:
      'TCP ports of the host that lead to the guest. May be repeated; rules add up. Default `none`. The form of `SPEC` is below.\n\nExample: `-t 2222:22` leads port 2222 of every address of the host to SSH in the guest.',
  },
  'udp-ports': {
    pasta: 'UDP ports of the host that lead to the namespace, as `--tcp-ports`. Default `auto`.',
    passt: 'UDP ports of the host that lead to the guest, as `--tcp-ports`. Default `none`.',
  },
  'tcp-ns':
    'TCP ports of the namespace’s loopback that lead to the same loopback address of the host. May be repeated. Default `auto`. With `none`, no rule for such ports can come later, by `-c` or `--control`.',
  'udp-ns': 'UDP ports of the namespace’s loopback that lead to that of the host, as `--tcp-ns`. Default `auto`.',
  freebind: 'Listen also at addresses that the host does not have, or not yet (the socket option IP_FREEBIND).',
  'host-lo-to-ns-lo':
    'What asks for a loopback address of the host at a forwarded port gets the same loopback address of the namespace. By default it gets the guest’s own address there, so that services which listen on the namespace’s loopback stay private.',
  'no-splice':
    'Connections from the host’s loopback become packets on the tap like all others; by default they are moved from socket to socket.',
  'splice-only':
    'Nothing but forwarding from loopback to loopback: no interface in the namespace, no packets, no ping, no DNS. Implies `--host-lo-to-ns-lo`. Needs no /dev/net/tun.',
  'map-host-loopback':
    'Packets of the guest to this address go to the host’s 127.0.0.1 (IPv4) or ::1 (IPv6). Once for each IP version; `none`, for both, lets no address do so. The default is the gateway’s, as long as `--no-map-gw` is not given.',
  'map-guest-addr':
    'Packets of the guest to this address go to the host’s own, that of the template interface, which the guest usually has itself and could not reach. Once for each IP version, or `none`, which is the default.',
  'no-map-gw': 'The gateway’s address does not stand for the host’s loopback.',
  'map-gw': 'The gateway’s address stands for the host’s loopback: the default again, after `--no-map-gw`.',
  'dns-forward':
    'Ports 53 and 853, TCP and UDP, of this address lead to the resolver of the host that `--dns-host` names, also where that is on the host’s loopback. Once for each IP version, or `none`.',
  'dns-host':
    'The resolver that `--dns-forward` leads to; by default the first one of its IP version in resolv.conf(5). Once for each IP version, or `none`.',
  'conf-path':
    'Listen at this UNIX socket, mode 0600, for pesto(1), which lists and changes the forwarded ports. Our own user and root may connect.',
  control:
    'Listen at this UNIX socket, mode 0600, for `pastiche ports` and other programs that speak JSON-RPC 2.0; changes have a result for each rule. Our own user and root may connect.',
};
