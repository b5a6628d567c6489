// SPDX-License-Identifier: Apache-2.0
/** Port forwarding, the loopback bypass, and addresses that stand for others. */
import type { Direction, Protocol } from '../../fwd/rule.ts';
import type { ParsedAddress } from '../../host/address.ts';
import { UsageError } from '../errors.ts';
import type { RawSettings } from '../settings.ts';
import * as values from '../values.ts';
import { type OptionRow, row } from './row.ts';

const group = 'Forwarding';

const ports = (short: string, protocol: Protocol, direction: Direction, help: OptionRow['help']): OptionRow =>
  row({
    short,
    argument: 'SPEC',
    group,
    help,
    only: direction === 'splice' ? 'pasta' : null,
    apply: (raw, spec, spelling) => {
      raw.forwards.push({ protocol, direction, spec, spelling });
    },
  });

type Mapped = 'hostLoopback' | 'guestAddr' | 'dnsForward' | 'dnsHost';
/** One address for each IP version, the last one given; 'none' takes both back. */
const setAddress = (raw: RawSettings, which: Mapped, option: string, given: ParsedAddress | null): void => {
  if (given === null) {
    raw[`${which}4`] = null;
    raw[`${which}6`] = null;
    return;
  }
  const earlier = raw[`${which}${given.family}`];
  if (earlier !== null && earlier !== given.address)
    raw.warnings.push(`${option} ${earlier} has no effect: ${given.address} was given after it`);
  raw[`${which}${given.family}`] = given.address;
};
/** The same for options of which the original refuses a second one. */
const setAddressOnce = (raw: RawSettings, which: Mapped, option: string, given: ParsedAddress | null): void => {
  const earlier = given === null ? null : raw[`${which}${given.family}`];
  if (given !== null && earlier !== null && earlier !== given.address)
    throw new UsageError('conflict', `Two IPv${given.family} addresses for ${option}: ${earlier} and ${given.address}`);
  setAddress(raw, which, option, given);
};

export const FORWARDING = {
  'tcp-ports': ports('t', 'tcp', 'host', {
    pasta: 'TCP ports of the host that lead to the namespace, default auto; repeatable',
    passt: 'TCP ports of the host that lead to the guest, default none; repeatable',
  }),
  'udp-ports': ports('u', 'udp', 'host', {
    pasta: 'UDP ports of the host that lead to the namespace, default auto; repeatable',
    passt: 'UDP ports of the host that lead to the guest, default none; repeatable',
  }),
  'tcp-ns': ports(
    'T',
    'tcp',
    'splice',
    "TCP ports of the namespace's loopback that lead to the host's, default auto; repeatable",
  ),
  'udp-ns': ports(
    'U',
    'udp',
    'splice',
    "UDP ports of the namespace's loopback that lead to the host's, default auto; repeatable",
  ),
  freebind: row({
    group,
    help: 'listen at addresses that the host does not have (yet)',
    apply: (raw) => {
      raw.freebind = true;
    },
  }),
  'host-lo-to-ns-lo': row({
    group,
    only: 'pasta',
    help: 'the loopback of the host leads to that of the namespace, not to its own address',
    conflicts: ['no-splice'],
    apply: (raw) => {
      raw.loopbackToLoopback = true;
    },
  }),
  'no-splice': row({
    group,
    only: 'pasta',
    help: 'connections from the loopback of the host become packets like all others',
    apply: (raw) => {
      raw.splice = false;
    },
  }),
  'splice-only': row({
    group,
    only: 'pasta',
    help: 'nothing but forwarding from loopback to loopback: no interface, no packets',
    conflicts: ['no-splice'],
    early: 'EARLY_SPLICE_ONLY',
    apply: (raw) => {
      raw.spliceOnly = true;
      raw.loopbackToLoopback = true;
    },
  }),
  'map-host-loopback': row({
    argument: 'ADDR',
    group,
    help: 'address that stands for the loopback of the host, or "none"; default: the gateway',
    apply: (raw, value, option) => {
      const given = values.readMapped(value, option);
      setAddress(raw, 'hostLoopback', option, given);
      if (given === null) raw.mapGateway = false;
    },
  }),
  'map-guest-addr': row({
    argument: 'ADDR',
    group,
    help: 'address that stands for the host itself, whose own one the guest has; default none',
    apply: (raw, value, option) => setAddress(raw, 'guestAddr', option, values.readMapped(value, option)),
  }),
  'no-map-gw': row({
    group,
    help: 'the gateway does not stand for the loopback of the host',
    apply: (raw) => {
      raw.mapGateway = false;
    },
  }),
  'map-gw': row({
    group,
    help: 'the gateway stands for the loopback of the host: the default again',
    apply: (raw) => {
      raw.mapGateway = true;
    },
  }),
  'dns-forward': row({
    argument: 'ADDR',
    group,
    help: 'address whose ports 53 and 853 lead to the resolver of the host; once per IP version',
    apply: (raw, value, option) => setAddressOnce(raw, 'dnsForward', option, values.readDnsForward(value, option)),
  }),
  'dns-host': row({
    argument: 'ADDR',
    group,
    help: 'resolver that --dns-forward leads to, default: the first of resolv.conf',
    apply: (raw, value, option) => setAddressOnce(raw, 'dnsHost', option, values.readDnsHost(value, option)),
  }),
  'conf-path': row({
    short: 'c',
    argument: 'PATH',
    group,
    help: 'socket at which pesto lists and changes the forwarded ports',
    apply: (raw, value, option) => {
      raw.conf = values.readConfPath(value, option);
    },
  }),
  control: row({
    argument: 'PATH',
    group,
    help: 'socket at which "pastiche ports" does, with a result for each rule',
    apply: (raw, value, option) => {
      raw.control = values.readControlPath(value, option);
    },
  }),
} as const satisfies Record<string, OptionRow>;
