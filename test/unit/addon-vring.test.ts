// SPDX-License-Identifier: Apache-2.0
/**
 * Rings of whatever a guest may write: addresses, lengths, flags and indices near and far from what is right. Nothing may be read or written outside the
 * guest's memory (the sanitizers look on, when they run this), and of that memory nothing but what the device may write.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { LINK_REF_BASE } from '../../controller/link/link.ts';
import { vhostLink } from '../../controller/link/vhost/vhost-link.ts';
import { F, FrontEnd, MEMORY_BYTES, type Queue, REGION_BYTES } from '../support/vhost-front-end.ts';

const CONNECTION = LINK_REF_BASE + 1;
const SIZE = 8;
const FRAME_MAX = 12 + 14 + 65_535;
const BASE = F.VERSION_1 | F.PROTOCOL_FEATURES;

const address = fc.oneof(
  fc.nat(MEMORY_BYTES + 4096).map(BigInt),
  fc.constantFrom(
    0n,
    16n,
    BigInt(REGION_BYTES) - 1n,
    BigInt(REGION_BYTES) - 16n,
    BigInt(MEMORY_BYTES) - 1n,
    BigInt(MEMORY_BYTES),
    0xffff_ffff_ffff_fff0n,
    0x7f00_0000_0000n,
  ),
);
const len = fc.oneof(fc.constantFrom(0, 1, 11, 12, 16, 32, 48, 128, 1514, 65_561, 65_562, 0xffffffff), fc.nat(70_000));
const descriptor = fc.record({ address, len, flags: fc.nat(7), next: fc.nat(SIZE) });
const rings = fc.record({
  features: fc.constantFrom(
    BASE,
    BASE | F.INDIRECT_DESC,
    BASE | F.MRG_RXBUF | F.EVENT_IDX,
    BASE | F.INDIRECT_DESC | F.MRG_RXBUF | F.GUEST_CSUM | F.GUEST_TSO4,
    0n,
  ),
  base: fc.constantFrom(0, 65_530),
  table: fc.array(descriptor, { minLength: SIZE, maxLength: SIZE }),
  /** Where a second table lies that indirect descriptors may meet. */
  indirect: fc.array(descriptor, { maxLength: 4 }),
  heads: fc.array(fc.nat(SIZE), { maxLength: SIZE + 2 }),
  frame: fc.nat(9000),
});
const INDIRECT_AT = 16;

/** Where the device may write of a queue's own structures. */
const usedOf = ({ usedAt, size }: Queue): readonly [number, number] => [usedAt, usedAt + 6 + 8 * size];

test('whatever they hold, only the guest itself is the worse for it', () => {
  const link = vhostLink(() => {});
  link.open(() => {});
  fc.assert(
    fc.property(rings, ({ features, base, table, indirect, heads, frame }) => {
      const front = new FrontEnd();
      link.connect(front.theirs);
      const pump = (): void => {
        for (let i = 0; i < 4 && link.connected(); i++) link.onEvent(CONNECTION, io.EPOLLIN);
      };
      const queues = front.setUp({ features, size: SIZE, base }, pump);
      for (const queue of queues) {
        for (const [i, d] of table.entries()) queue.descriptor(i, d.address, d.len, d.flags, d.next);
        for (const head of heads) queue.offer(head);
      }
      for (const [i, d] of indirect.entries()) queues[1].descriptor(i, d.address, d.len, d.flags, d.next, INDIRECT_AT);

      const before = front.read(0, MEMORY_BYTES);
      for (let round = 0; round < 3; round++) {
        const n = link.receive(4);
        expect(n).toBeLessThanOrEqual(4);
        for (let i = 0; i < n; i++) {
          const [at, bytes] = [io.col[io.COL.FRAME_AT + i] as number, io.col[io.COL.FRAME_LEN + i] as number];
          expect(at).toBeGreaterThanOrEqual(io.RX_AT);
          expect(at + bytes).toBeLessThanOrEqual(io.RX_END);
          expect(bytes).toBeGreaterThanOrEqual(12);
          expect(bytes).toBeLessThanOrEqual(FRAME_MAX);
        }
      }
      // Receiving writes into one used ring, and nowhere else.
      const after = front.read(0, MEMORY_BYTES);
      after.copy(before, usedOf(queues[1])[0], ...usedOf(queues[1]));
      expect(after.equals(before)).toBe(true);

      io.mem.fill(0, io.OUT_AT, io.OUT_AT + 12);
      io.col[io.COL.OUT_AT] = io.OUT_AT;
      io.col[io.COL.OUT_LEN] = 26 + frame;
      const done = link.send(0, 1);
      expect([0, 1]).toContain(done);

      front.close();
      pump();
      expect(link.connected()).toBe(false);
    }),
    { numRuns: 200 },
  );
});
