// SPDX-License-Identifier: Apache-2.0
import type { NAMESPACE as ROWS } from '../options/namespace.ts';
import type { Manual } from './manual.ts';

export const NAMESPACE: Readonly<Record<keyof typeof ROWS, Manual>> = {
  'ns-ifname':
    'Name of the interface in the namespace, 1 to 15 characters. Default: that of the template interface, or tap0 where there is none. A tap of that name which is there already is taken.',
  userns:
    'The user namespace to join, as a path such as /proc/PID/ns/user, before the network namespace of `--netns` or `PID`. The default for a `PID` is that process’s; for `--netns` none is joined.',
  netns:
    'The network namespace to join: a path, or, without a slash, a name below `--netns-dir`, as ip-netns(8) makes them.',
  'netns-dir': 'Where the names of `--netns` are looked up. Default /run/netns.',
  'netns-only': 'Neither join nor make a user namespace. Refused beside `--userns`.',
  'no-netns-quit':
    'Go on when the network namespace has gone. Without it pasta ends, with status 0, when the name or path of `--netns` is removed, or when the process `PID` has ended.',
  'config-net':
    'Configure the interface in the namespace: addresses, routes, MTU, up. Without it the interface is down and has no address, and a DHCP client or SLAAC does it.',
  'no-copy-routes':
    'Deprecated: `--gateway` implies it. With `--config-net`, make a default route only, rather than copy the host’s routes.',
  'no-copy-addrs':
    'Deprecated: `--address` implies it. With `--config-net`, give the interface one address for each IP version rather than all of the host’s.',
  'ns-mac-addr': 'MAC address of the interface in the namespace, a unicast one. Default: random.',
};
