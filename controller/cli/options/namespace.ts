// SPDX-License-Identifier: Apache-2.0
/** Which namespace, and what is configured inside it. */
import * as values from '../values.ts';
import { type OptionRow, row } from './row.ts';

const group = 'Namespace';

export const NAMESPACE = {
  'ns-ifname': row({
    short: 'I',
    argument: 'NAME',
    group,
    help: 'interface name in the namespace, default: that of the template, or tap0',
    only: 'pasta',
    early: 'EARLY_NS_IFNAME',
    apply: (raw, value, option) => {
      raw.nsIfname = values.readIfname(value, option);
    },
  }),
  userns: row({
    argument: 'PATH',
    group,
    help: 'user namespace to join',
    only: 'pasta',
    early: 'EARLY_USERNS',
    conflicts: ['netns-only'],
    apply: (raw, value, option) => {
      raw.userns = values.readUserns(value, option);
    },
  }),
  netns: row({
    argument: 'PATH|NAME',
    group,
    help: 'network namespace to join',
    only: 'pasta',
    early: 'EARLY_NETNS',
    apply: (raw, value, option) => {
      raw.netns = values.readNetns(value, option);
    },
  }),
  'netns-dir': row({
    argument: 'DIR',
    group,
    help: 'where namespace names are looked up, default /run/netns',
    only: 'pasta',
    early: 'EARLY_NETNS_DIR',
    apply: (raw, value, option) => {
      raw.netnsDir = values.readNetnsDir(value, option);
    },
  }),
  'netns-only': row({
    group,
    help: 'do not join or create a user namespace',
    only: 'pasta',
    early: 'EARLY_NETNS_ONLY',
    apply: (raw) => {
      raw.netnsOnly = true;
    },
  }),
  'no-netns-quit': row({
    group,
    help: 'stay when the network namespace is gone',
    only: 'pasta',
    early: 'EARLY_NO_NETNS_QUIT',
    apply: (raw) => {
      raw.netnsQuit = false;
    },
  }),
  'config-net': row({
    group,
    help: 'configure the interface in the namespace: address, routes, up',
    only: 'pasta',
    early: 'EARLY_CONFIG_NET',
    apply: (raw) => {
      raw.configNet = true;
    },
  }),
  'no-copy-routes': row({
    group,
    help: null,
    state: 'deprecated',
    only: 'pasta',
    needs: 'config-net',
    apply: (raw) => {
      raw.copyRoutes = false;
      raw.warnings.push('--no-copy-routes is deprecated: -g implies it');
    },
  }),
  'no-copy-addrs': row({
    group,
    help: null,
    state: 'deprecated',
    only: 'pasta',
    needs: 'config-net',
    apply: (raw) => {
      raw.copyAddresses = false;
      raw.warnings.push('--no-copy-addrs is deprecated: -a implies it');
    },
  }),
  'ns-mac-addr': row({
    argument: 'MAC',
    group,
    help: 'address of the interface in the namespace, default random',
    only: 'pasta',
    apply: (raw, value, option) => {
      raw.nsMac = values.readMac(value, option);
    },
  }),
} as const satisfies Record<string, OptionRow>;
