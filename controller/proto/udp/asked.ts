// SPDX-License-Identifier: Apache-2.0
/**
 * For which question a flow has its socket: who asked, which address and port of the host's. Two of these may look alike to the guest (a
 * host with two addresses, two ports that lead to one): then they share a row, and its socket is that of the last one, so that answers
 * leave from where the last question came to. But never are two peers one, as those of the host and the gateway could be, since the
 * guest sees both at the gateway's address: what is for the first would go to the second. That one has to wait until the row ends.
 */
import { RECORD_DESTINATION, RECORD_PORT } from '../../flow/aside.ts';
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';

const WORDS = 8;
/** Four words of the peer's address, four of the host's; zero: the guest began. */
const addresses = new Int32Array(FLOW_MAX * WORDS);
/** Peer's port << 16 | port that listens. */
const ports = new Int32Array(FLOW_MAX);

export const reset = (f: Flow): void => {
  addresses.fill(0, f * WORDS, (f + 1) * WORDS);
  ports[f] = 0;
};

const wordOf = (record: number, i: number): number =>
  io.view.getInt32(record + (i < 4 ? 4 * i : RECORD_DESTINATION + 4 * (i - 4)));
const portsOf = (record: number, listening: number): number =>
  (io.view.getUint16(record + RECORD_PORT) << 16) | listening;

/** Whether the datagram that `record` tells of is such a question, at the port `listening`. */
export const is = (f: Flow, record: number, listening: number): boolean => {
  if (ports[f] !== portsOf(record, listening)) return false;
  for (let i = 0; i < WORDS; i++) if (addresses[f * WORDS + i] !== wordOf(record, i)) return false;
  return true;
};
export const set = (f: Flow, record: number, listening: number): void => {
  for (let i = 0; i < WORDS; i++) addresses[f * WORDS + i] = wordOf(record, i);
  ports[f] = portsOf(record, listening);
};

/** Whether somebody else than who sent the datagram that `record` tells of asked last. */
export const byAnother = (f: Flow, record: number): boolean => {
  const known = ports[f] as number;
  if (known === 0) return false;
  if (known >>> 16 !== io.view.getUint16(record + RECORD_PORT)) return true;
  for (let i = 0; i < WORDS / 2; i++) if (addresses[f * WORDS + i] !== wordOf(record, i)) return true;
  return false;
};
