// SPDX-License-Identifier: Apache-2.0
/** Ports that the host gives out by itself; "all" and "auto" leave them alone. */
import { readFileSync } from 'node:fs';
import { EPHEMERAL_DEFAULT, type PortRange } from '../fwd/port-spec.ts';

export const hostEphemeral = (): PortRange => {
  try {
    const [first = Number.NaN, last = Number.NaN] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'ascii')
      .trim()
      .split(/\s+/)
      .map(Number);
    return first >= 1 && last >= first && last <= 65_535 ? { first, last } : EPHEMERAL_DEFAULT;
  } catch {
    return EPHEMERAL_DEFAULT;
  }
};
