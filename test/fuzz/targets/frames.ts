// SPDX-License-Identifier: Apache-2.0
/** Everything a guest sends and a host answers: whole frames behind virtio-net headers, and what happens between them (world.ts). */
import type { Random } from '../random.ts';
import { ALL, ETH_BYTES, layersOf, VNET_BYTES } from '../repair.ts';
import type { Input, Step } from '../steps.ts';
import type { Target } from '../target.ts';
import { play } from '../world.ts';

const TCP = 6;
const UDP = 17;

type Change = (b: Buffer, random: Random) => Buffer | null;
const word16 = (random: Random): number =>
  random.pick([0, 1, 2, 7, 8, 20, 40, 53, 67, 547, 1280, 1460, 0x7fff, 0xffff, random.below(0x1_0000)]);

const vnetHeader: Change = (b, random) => {
  const eth = VNET_BYTES;
  const l = layersOf(b, eth);
  b.fill(0, 0, VNET_BYTES);
  if (l === null || random.once(4)) return b;
  b[0] = random.pick([0, 1, 1, 1, 2, 3, 4]);
  b[1] = random.pick([0, 0, 1, 3, 4, 5, 0x81, 0x84]);
  b.writeUInt16LE(random.once(3) ? word16(random) : 0, 2);
  b.writeUInt16LE(random.pick([0, 1, 100, 536, 1000, 1460, word16(random)]), 4);
  b.writeUInt16LE(random.once(5) ? word16(random) : l.l4 - eth, 6);
  b.writeUInt16LE(random.pick([l.protocol === TCP ? 16 : 6, l.protocol === TCP ? 16 : 6, 0, word16(random)]), 8);
  return b;
};
const inserted = (b: Buffer, at: number, bytes: readonly number[]): Buffer =>
  Buffer.concat([b.subarray(0, at), Buffer.from(bytes), b.subarray(at)]);
const someBytes = (random: Random, n: number): number[] => Array.from({ length: n }, () => random.below(256));

/** An IPv6 extension header, or IPv4 options, before the transport header. */
const extended: Change = (b, random) => {
  const l = layersOf(b, VNET_BYTES);
  if (l === null) return null;
  if (l.v4) {
    const words = 1 + random.below(4);
    const ihl = (b[l.ip] as number) & 15;
    if (ihl + words > 15) return null;
    b[l.ip] = 0x40 | (ihl + words);
    return inserted(b, Math.min(l.l4, b.length), someBytes(random, words * 4));
  }
  const kind = random.pick([0, 43, 44, 51, 60, 60]);
  const units = random.below(3);
  const extra =
    kind === 44
      ? [b[l.ip + 6] as number, 0, ...(random.once(3) ? [0, 0] : someBytes(random, 2)), ...someBytes(random, 4)]
      : [b[l.ip + 6] as number, kind === 51 ? units * 2 : units, ...options(random, units * 8 + 6)];
  b[l.ip + 6] = kind;
  return inserted(b, l.ip + 40, extra);
};
const options = (random: Random, n: number): number[] => {
  const bytes: number[] = [];
  while (bytes.length < n) {
    const len = random.below(6);
    bytes.push(...random.pick([[0], [1, len, ...new Array<number>(len).fill(0)], [random.below(256), len]]));
  }
  return bytes.slice(0, n);
};

/** Makes a packet a part of one. */
const fragmented: Change = (b, random) => {
  const l = layersOf(b, VNET_BYTES);
  if (l === null) return null;
  const offset = random.pick([0, 0, 1, 2, 3, 64, 0x1fff]);
  if (l.v4) {
    b.writeUInt16BE(offset | (random.once(2) ? 0x2000 : 0), l.ip + 6);
    b.writeUInt16BE(random.below(3), l.ip + 4);
    return b;
  }
  const next = b[l.ip + 6] as number;
  b[l.ip + 6] = 44;
  const field = (offset << 3) | random.below(2);
  return inserted(b, l.ip + 40, [next, 0, field >> 8, field & 0xff, 0, 0, 0, random.below(3)]);
};

const transport: Change = (b, random) => {
  const l = layersOf(b, VNET_BYTES);
  if (l === null || l.l4 + 8 > b.length) return null;
  if (l.protocol === TCP && l.l4 + 20 <= b.length) return segment(b, l.l4, random);
  if (l.protocol === UDP) b.writeUInt16BE(word16(random), l.l4 + random.pick([0, 2, 2, 4, 6]));
  else b[l.l4 + random.below(2)] = random.pick([0, 3, 4, 8, 11, 128, 129, 133, 135, 136, random.below(256)]);
  return b;
};
const segment = (b: Buffer, at: number, random: Random): Buffer => {
  switch (random.below(6)) {
    case 0:
      b[at + 13] = random.pick([2, 16, 18, 24, 17, 4, 20, 1, 41, 0, random.below(64)]);
      return b;
    case 1:
      b.writeInt32BE(
        (b.readInt32BE(at + 4) + random.pick([1, -1, 100, 1000, -1000, 65_536, random.word()])) | 0,
        at + 4,
      );
      return b;
    case 2:
      b.writeInt32BE((b.readInt32BE(at + 8) + random.pick([1, -1, 100, 1000, 65_536, random.word()])) | 0, at + 8);
      return b;
    case 3:
      b.writeUInt16BE(random.pick([0, 1, 100, 0xffff, random.below(0x1_0000)]), at + 14);
      return b;
    case 4: {
      const words = 1 + random.below(5);
      const header = (b[at + 12] as number) >> 4;
      if (header + words > 15) return b;
      b[at + 12] = (header + words) << 4;
      return inserted(b, at + 20, tcpOptions(random, words * 4));
    }
    default:
      return Buffer.concat([b, Buffer.alloc(random.pick([1, 100, 1000, 1460, 30_000]), 0x62)]);
  }
};
const tcpOptions = (random: Random, n: number): number[] => {
  const bytes: number[] = [];
  while (bytes.length < n) {
    bytes.push(
      ...random.pick([
        [1],
        [0],
        [2, 4, ...someBytes(random, 2)],
        [3, 3, random.below(20)],
        [4, 2],
        [5, 10, ...someBytes(random, 8)],
        [8, 10, ...someBytes(random, 8)],
        [random.below(256), random.below(12)],
      ]),
    );
  }
  return bytes.slice(0, n);
};

const addresses: Change = (b, random) => {
  const l = layersOf(b, VNET_BYTES);
  if (l === null) return null;
  const n = l.v4 ? 4 : 16;
  const at = l.ip + (l.v4 ? 12 : 8) + (random.once(2) ? n : 0);
  const special = l.v4
    ? ['00000000', '7f000001', 'e00000fb', 'ffffffff', 'c0000201', 'c000020a', 'c00002ff', 'a9fe0101']
    : [
        '00000000000000000000000000000000',
        '00000000000000000000000000000001',
        '00000000000000000000ffffc0000201',
        'ff020000000000000000000000000001',
        'ff0200000000000000000001ff000010',
        'fe800000000000000000000000000001',
        '20010db800010002000a000000000010',
      ];
  b.set(Buffer.from(random.pick(special), 'hex'), at);
  return b;
};
const headerField: Change = (b, random) => {
  const l = layersOf(b, VNET_BYTES);
  if (l === null) return null;
  if (l.v4)
    b[l.ip + random.pick([0, 1, 2, 3, 6, 7, 8, 9])] = random.pick([0, 1, 6, 17, 0x45, 0x4f, 64, random.below(256)]);
  else b[l.ip + random.pick([0, 1, 4, 5, 6, 7])] = random.pick([0, 1, 6, 17, 44, 58, 59, 0x60, random.below(256)]);
  return b;
};
const cutShort: Change = (b, random) => b.subarray(0, random.below(random.once(2) ? b.length : 100));
const etherType: Change = (b, random) => {
  if (b.length >= VNET_BYTES + ETH_BYTES)
    b.writeUInt16BE(random.pick([0x0800, 0x86dd, 0x0806, 0x8100, word16(random)]), VNET_BYTES + 12);
  return b;
};
const CHANGES: readonly Change[] = [
  vnetHeader,
  vnetHeader,
  extended,
  fragmented,
  transport,
  transport,
  transport,
  transport,
  addresses,
  headerField,
  cutShort,
  etherType,
];

const changeFrame = (one: Step, random: Random): Step | null => {
  if (one.verb !== 'frame' || one.bytes.length < VNET_BYTES + ETH_BYTES) return null;
  const changed = random.pick(CHANGES)(Buffer.from(one.bytes), random);
  if (changed === null) return null;
  // Most often repaired, so that it gets past the first check; sometimes as it is.
  const arg = random.once(6) ? random.below(32) : (one.arg & 16) | ALL;
  return { verb: 'frame', arg, bytes: Uint8Array.from(changed) };
};

/** What a host does, at random. */
const hostStep = (random: Random): Step => {
  const arg = random.below(8);
  const bytes = (n: number): Uint8Array => Uint8Array.from(someBytes(random, n));
  const ip = random.once(2) ? '00000000000000000000ffffc6336407' : '20010db8000200000000000000000007';
  switch (random.below(13)) {
    case 10:
      return { verb: 'accept', arg: 40_000 + random.below(8), bytes: bytes(0) };
    case 0:
    case 1:
      return { verb: 'answer', arg: random.pick([0, 0, 0, 111, 113, 101, 24, 13, -1]), bytes: bytes(0) };
    case 2:
      return { verb: 'connected', arg, bytes: bytes(0) };
    case 3:
    case 4:
      return { verb: 'data', arg, bytes: bytes(random.pick([0, 2, 3, 10, 100, 1500])) };
    case 5:
      return { verb: 'end', arg, bytes: bytes(0) };
    case 6:
      return { verb: 'fail', arg, bytes: Uint8Array.of(random.pick([104, 111, 113, 110, 101])) };
    case 7:
      return { verb: 'room', arg, bytes: bytes(2) };
    case 8: {
      const head = [random.pick([1, 2, 3]), random.pick([3, 11, 1, 2, 4]), random.below(16), random.below(256), 111];
      return {
        verb: 'error',
        arg,
        bytes: Uint8Array.from([...head, ...Buffer.from(ip, 'hex'), ...bytes(random.below(64))]),
      };
    }
    case 9:
      return { verb: 'refuse', arg, bytes: Uint8Array.of(random.below(4), random.pick([11, 22, 90, 105, 32, 104])) };
    default:
      return {
        verb: 'after',
        arg: random.pick([1, 40, 200, 300, 1000, 5000, 31_000, 130_000, 600_000]),
        bytes: bytes(0),
      };
  }
};

const mutate = (input: Input, random: Random): Input | null => {
  const steps = [...input];
  if (random.once(4)) {
    steps.splice(1 + random.below(steps.length), 0, hostStep(random));
    return steps.slice(0, 64);
  }
  const frames = steps.flatMap((s, i) => (s.verb === 'frame' ? [i] : []));
  if (frames.length === 0) return null;
  const at = random.pick(frames);
  const changed = changeFrame(steps[at] as Step, random);
  if (changed === null) return null;
  if (random.once(3)) steps.splice(at + 1, 0, changed);
  else steps[at] = changed;
  return steps.slice(0, 64);
};

export const frames: Target = { name: 'frames', run: play, mutate };
