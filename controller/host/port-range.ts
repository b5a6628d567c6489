// SPDX-License-Identifier: Apache-2.0
/** Ranges of ports, and the one that the kernel chooses from. */

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** The text of ip_local_port_range: two ports; null for anything else. */
export const parsePortRange = (text: string): PortRange | null => {
  const [, first, last] = /^(\d{1,5})\s+(\d{1,5})\s*$/.exec(text) ?? [];
  const range = { first: Number(first), last: Number(last) };
  return range.first >= 1 && range.first <= range.last && range.last <= 65_535 ? range : null;
};
