// SPDX-License-Identifier: Apache-2.0
/** virtio-net headers alone: whatever sane() accepts must be safe to act on, by what virtio 1.2 §5.1.6.2 says of each field. */
import * as vnetWire from '../../../controller/wire/vnet.ts';
import type { Target } from '../target.ts';

const insist = (yes: boolean, what: string): void => {
  if (!yes) throw new Error(`sane() took ${what}`);
};
const IPV4 = 0x0800;
const IPV6 = 0x86dd;

/** `data N bytes`: a header; N says which packet follows it: bit 0 IPv6, bit 1 UDP, the rest how long it is. */
export const vnet: Target = {
  name: 'vnet',
  run: (input) => {
    for (const { arg, bytes } of input) {
      const v6 = (arg & 1) !== 0;
      const protocol = (arg & 2) !== 0 ? 17 : 6;
      const whole = new Uint8Array(12 + ((arg >>> 2) % 200));
      whole.set(bytes.subarray(0, whole.length));
      const v = new DataView(whole.buffer);
      const l4 = 14 + (v6 ? 40 : 20);
      if (!vnetWire.sane(v, 0, whole.length, v6 ? IPV6 : IPV4, protocol, 12 + l4)) continue;
      const [flags = 0, type = 0] = whole;
      const [hdrLen, size, start, offset] = [2, 4, 6, 8].map((at) => v.getUint16(at, true)) as [
        number,
        number,
        number,
        number,
      ];
      insist((flags & ~3) === 0, `flags ${flags}`);
      insist(hdrLen <= whole.length - 12, `headers of ${hdrLen} in ${whole.length - 12}`);
      if ((flags & 1) !== 0) {
        insist(start + offset + 2 <= whole.length - 12, `a checksum at ${start} + ${offset}`);
        insist(
          start === l4 && offset === (protocol === 6 ? 16 : 6),
          `a checksum at ${start} + ${offset}, which is none`,
        );
      }
      if (type !== 0) {
        insist((flags & 1) !== 0 && size > 0, `segments of ${size} with flags ${flags}`);
        const allowed = protocol === 17 ? [5] : v6 ? [4, 0x84] : [1, 0x81];
        insist(allowed.includes(type), `segments of type ${type} for protocol ${protocol}`);
      }
    }
  },
  words: [[1, 1, 0, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], [1, 5], [54, 0, 6, 0], [34, 0, 6, 0], [0x81], [0x84]].map((b) =>
    Uint8Array.from(b),
  ),
};
