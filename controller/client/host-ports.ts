// SPDX-License-Identifier: Apache-2.0
/** Ports that the host gives out by itself; "all" and "auto" leave them alone. */
import { readFileSync } from 'node:fs';
import { EPHEMERAL_DEFAULT } from '../fwd/port-spec.ts';
import { type PortRange, parsePortRange } from '../host/port-range.ts';

export const hostEphemeral = (): PortRange => {
  try {
    return parsePortRange(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'ascii')) ?? EPHEMERAL_DEFAULT;
  } catch {
    return EPHEMERAL_DEFAULT;
  }
};
