// SPDX-License-Identifier: Apache-2.0
/** Why a frame, datagram or request was dropped: one counter a reason. Adding a reason is adding a row. */

export const DROPS = [
  'frame-too-short',
  'frame-too-long',
  'frame-length',
  'vnet-header',
  'ethertype',
  'arp-malformed',
  'ip4-malformed',
  'ip4-checksum',
  'ip6-malformed',
  'ip6-extension',
  'ip-martian',
  'ip-protocol',
  'fragment-length',
  'fragment-too-long',
  'fragment-tiny',
  'fragment-overlap',
  'fragment-duplicate',
  'fragment-pieces',
  'fragment-ecn',
  'fragment-timeout',
  'fragment-evicted',
  'icmp-malformed',
  'icmp-type',
  'icmp-checksum',
  'icmp-limited',
  'icmp-quote',
  'icmp-no-flow',
  'ndp-malformed',
  'igmp-malformed',
  'mld-malformed',
  'group-report',
  'group-table-full',
  'multicast',
  'udp-malformed',
  'udp-checksum',
  'dhcp-malformed',
  'dhcpv6-malformed',
  'tcp-malformed',
  'tcp-checksum',
  'tcp-no-flow',
  'tcp-out-of-window',
  'tcp-bad-ack',
  'tcp-challenge-limit',
  'tcp-queue-full',
  'flow-table-full',
  'flow-refused',
  'tuple-in-use',
  'flow-evicted',
  'flow-pending-full',
  'tap-full',
  'vring-broken',
  'vring-chain',
  'vring-room',
  'guest-flood',
  'guest-address',
  'sock-full',
  'sock-error',
  'disabled',
] as const;
export type DropReason = (typeof DROPS)[number];

export const DROP = Object.freeze(Object.fromEntries(DROPS.map((name, index) => [name, index]))) as Readonly<
  Record<DropReason, number>
>;

const counts = new Float64Array(DROPS.length);

/** Counts one drop. `reason` is a value of DROP. */
export const drop = (reason: number): void => {
  counts[reason] = (counts[reason] as number) + 1;
};
/** The same of `count` at once, which may be none. */
export const dropMany = (reason: number, count: number): void => {
  counts[reason] = (counts[reason] as number) + count;
};
export const dropCount = (reason: DropReason): number => counts[DROP[reason]] as number;
export const dropCounts = (): Record<DropReason, number> =>
  Object.fromEntries(DROPS.map((name, i) => [name, counts[i]])) as Record<DropReason, number>;
