// SPDX-License-Identifier: Apache-2.0
/** What the kernel says of sockets, for `auto`: NETLINK_SOCK_DIAG and /proc/net. Others name and bind those sockets. */
import { type Bound, clear, makeBound } from '../../../controller/fwd/bound.ts';
import { readLines } from '../../../controller/fwd/proc-net.ts';
import { readAnswer, writeRequest } from '../../../controller/fwd/sock-diag.ts';
import type { Target } from '../target.ts';

/** What the corpus has. */
const SEQUENCE = 1;
const PAD = 8;

const bounds = makeBound();
const check = (bound: Bound): void => {
  const ports = new Set(bound.ports.subarray(0, bound.count));
  if (ports.size !== bound.count) throw new Error(`${bound.count} ports are listed, ${ports.size} different ones`);
  for (const port of ports) if (bound.kinds[port] === 0) throw new Error(`port ${port} is listed and not bound`);
};

/** Nothing is read outside what came, and the list of ports is the table's. */
export const sockets: Target = {
  name: 'sockets',
  run: (input) => {
    for (const protocol of ['tcp', 'udp'] as const) {
      const bound = bounds;
      clear(bound);
      for (const { bytes } of input) {
        // Its own buffer, so that a view beyond its end is a RangeError.
        const copy = bytes.slice();
        readAnswer(new DataView(copy.buffer), 0, copy.length, protocol, SEQUENCE, bound);
        check(bound);
        // Between digits, which nobody may take for its own.
        const text = Buffer.alloc(bytes.length + 2 * PAD, '0');
        text.set(bytes, PAD);
        const next = readLines(text, PAD, PAD + bytes.length, protocol, bound);
        if (next < PAD || next > PAD + bytes.length) throw new Error(`read on to ${next - PAD} of ${bytes.length}`);
        if (next > PAD && text[next - 1] !== 0x0a) throw new Error('a line was cut');
        check(bound);
      }
    }
    writeRequest(new DataView(new ArrayBuffer(72)), 0, 'udp', true, SEQUENCE);
  },
  words: ['   0: ', '00000000:0050', '0100007F:', ' 0A ', ' 07 ', '\n', ':', ' '].map((word) => Buffer.from(word)),
};
