// SPDX-License-Identifier: Apache-2.0
/** What --config-net and --ns-mac-addr ask of the namespace. */
import { BATCH_MAX } from '../../shared/rpc/methods.ts';
import type { Plan } from '../cli/plan-schema.ts';
import type { Call, HelperClient } from '../rpc/client.ts';

const LINK_LOCAL_PREFIX = 64;

/** fe80:: with the modified EUI-64 of a MAC. */
const linkLocalOf = (mac: string): string => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const word = (high: number, low: number): string => ((high << 8) | low).toString(16);
  return `fe80::${word(a ^ 2, b)}:${word(c, 0xff)}:${word(0xfe, d)}:${word(e, f)}`;
};

/** --config-net and --ns-mac-addr. */
export const configureNamespace = async (netns: HelperClient, plan: Plan): Promise<void> => {
  const name = plan.ifname;
  const mac = plan.nsMac === null ? {} : { mac: plan.nsMac };
  if (plan.configNet === null) {
    if (plan.nsMac !== null) await netns.call('link.set', { name, ...mac });
    return;
  }
  const { addresses, routes, mtu } = plan.configNet;
  // The link-local address the kernel would make itself (RFC 4291 App. A), but without duplicate address detection, which
  // would keep it unusable for a second (RFC 4862 §5.4). It is there first, so the kernel makes none.
  const linkLocal =
    plan.network.v6 === null ? [] : [{ address: linkLocalOf(plan.network.guestMac), prefix: LINK_LOCAL_PREFIX }];
  const calls: Call[] = [
    { method: 'link.set', params: { name, ...mac, ...(mtu === null ? {} : { mtu }) } },
    ...linkLocal.map((one) => ({ method: 'address.add', params: { name, ...one } }) as const),
    { method: 'link.set', params: { name, up: true } },
    ...addresses.map(({ address, prefix }) => ({ method: 'address.add', params: { name, address, prefix } }) as const),
    ...routes.map((route) => ({ method: 'route.add', params: { name, ...route } }) as const),
  ];
  for (let from = 0; from < calls.length; from += BATCH_MAX) await netns.callBatch(calls.slice(from, from + BATCH_MAX));
};
