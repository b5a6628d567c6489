// SPDX-License-Identifier: Apache-2.0
/** Flows in the log: `Flow 17 (TCP, from tap): 192.0.2.2:40000 → 198.51.100.1:80: new`. Callers ask log.debugEnabled first. */
import * as log from '../obs/log.ts';
import * as addr from '../wire/addr.ts';
import {
  FLOW_GROUP,
  FLOW_PING,
  FLOW_TCP,
  FLOW_UDP,
  type Flow,
  guestPort,
  guestWord,
  isV4,
  remotePort,
  remoteWord,
  typeOf,
} from './table.ts';

const NAMES: Readonly<Record<number, string>> = {
  [FLOW_TCP]: 'TCP',
  [FLOW_UDP]: 'UDP',
  [FLOW_PING]: 'ping',
  [FLOW_GROUP]: 'group',
};

const guestText = (f: Flow): string =>
  isV4(f)
    ? addr.ipv4Text(guestWord(f, 3))
    : `[${addr.ipv6Text(guestWord(f, 0), guestWord(f, 1), guestWord(f, 2), guestWord(f, 3))}]`;
const remoteText = (f: Flow): string =>
  isV4(f)
    ? addr.ipv4Text(remoteWord(f, 3))
    : `[${addr.ipv6Text(remoteWord(f, 0), remoteWord(f, 1), remoteWord(f, 2), remoteWord(f, 3))}]`;

/** One line at debug level about flow `f`, whose row is in use. `direction` is where the cause came from. */
export const debugFlow = (f: Flow, direction: 'from tap' | 'from sock', what: string): void => {
  const ends = `${guestText(f)}:${guestPort(f)} → ${remoteText(f)}:${remotePort(f)}`;
  log.debug(log.flowLine(f, `${NAMES[typeOf(f)] ?? 'free'}, ${direction}`, `${ends}: ${what}`));
};
