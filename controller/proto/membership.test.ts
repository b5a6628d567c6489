// SPDX-License-Identifier: Apache-2.0
/** IGMP and MLD reports, as a guest's kernel sends them and as nobody should. */
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { ip4, ip6, packet6, place, u16 } from '../../test/support/guest-frames.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const { FRAME_AT } = await import('../../test/support/guest-frames.ts');
const { dropCount } = await import('../obs/drops.ts');
const groups = await import('../link/groups.ts');
const igmp = await import('./igmp.ts');
const mld = await import('./mld.ts');
const out = await import('../link/out.ts');
const { tapLink } = await import('../link/tap-link.ts');
const station = await import('../link/station.ts');
const { makeNetwork } = await import('../../test/support/network.ts');

/** What the handlers were told, as "+group" and "-group". */
const told: string[] = [];
const text = (w: readonly number[]): string =>
  Buffer.from(w.flatMap((n) => [n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255])).toString('hex');
const hex4 = (group: string): string => text([0, 0, 0xffff, Buffer.from(ip4(group)).readInt32BE(0)]);
const hex6 = (group: string): string => Buffer.from(ip6(group)).toString('hex');
beforeEach(() => {
  station.configure(makeNetwork());
  out.attach(tapLink(7, 12));
  out.flush();
  fake.reset();
  told.length = 0;
  groups.configure(
    (...w) => told.push(`+${text(w)}`),
    (...w) => told.push(`-${text(w)}`),
  );
});

const withSum = (message: readonly number[]): number[] => {
  const sum = ~fake.checksumOf(Uint8Array.from(message)) & 0xffff;
  return [...message.slice(0, 2), ...u16(sum), ...message.slice(4)];
};
const igmpMessage = (bytes: readonly number[]): void => {
  const end = place(bytes);
  igmp.handle(FRAME_AT, end);
};
const igmp2 = (type: number, group: string): void => igmpMessage(withSum([type, 0, 0, 0, ...ip4(group)]));
type Record4 = readonly [type: number, group: string, sources?: readonly string[], auxWords?: number];
const igmp3 = (records: readonly Record4[], count = records.length): void =>
  igmpMessage(
    withSum([
      ...[0x22, 0, 0, 0, 0, 0, ...u16(count)],
      ...records.flatMap(([type, group, sources = [], aux = 0]) => [
        ...[type, aux, ...u16(sources.length), ...ip4(group)],
        ...sources.flatMap(ip4),
        ...new Array<number>(aux * 4).fill(7),
      ]),
    ]),
  );

const mldMessage = (message: readonly number[], o: { src?: string; hops?: number; sum?: boolean } = {}): void => {
  const frame = packet6(o.src ?? 'fe80::2', 'ff02::16', 58, o.hops ?? 1, message, o.sum === false ? -1 : 2);
  const end = place(frame);
  mld.handle(FRAME_AT + 14, FRAME_AT + 54, end);
};
const mld1 = (type: number, group: string, o = {}): void => mldMessage([type, 0, 0, 0, 0, 0, 0, 0, ...ip6(group)], o);
const mld2 = (records: readonly Record4[], count = records.length): void =>
  mldMessage([
    ...[143, 0, 0, 0, 0, 0, ...u16(count)],
    ...records.flatMap(([type, group, sources = [], aux = 0]) => [
      ...[type, aux, ...u16(sources.length), ...ip6(group)],
      ...sources.flatMap(ip6),
      ...new Array<number>(aux * 4).fill(7),
    ]),
  ]);
const dropped = (reason: Parameters<typeof dropCount>[0], f: () => void): void => {
  const before = dropCount(reason);
  f();
  expect(dropCount(reason)).toBe(before + 1);
  expect(told).toEqual([]);
};

describe('IGMP', () => {
  test.each([
    ['version 1', 0x12],
    ['version 2', 0x16],
  ])('a report of %s joins, a leave leaves', (_version, type) => {
    igmp2(type, '224.0.0.251');
    expect(groups.count()).toBe(1);
    igmp2(0x17, '224.0.0.251');
    expect(told).toEqual([`+${hex4('224.0.0.251')}`, `-${hex4('224.0.0.251')}`]);
    expect(groups.count()).toBe(0);
  });

  test('version 3: exclude joins, include of nothing leaves, include of some joins; sources and auxiliary data are stepped over', () => {
    igmp3([
      [4, '239.1.1.1', ['198.51.100.1', '198.51.100.2'], 3],
      [2, '239.1.1.2'],
      [5, '239.1.1.3', ['198.51.100.1']],
      [1, '239.1.1.4', ['198.51.100.1']],
    ]);
    igmp3([
      [3, '239.1.1.1'],
      [3, '239.1.1.2', ['198.51.100.9']],
      [6, '239.1.1.3', ['198.51.100.1']],
    ]);
    const plus = (n: number): string => `+${hex4(`239.1.1.${n}`)}`;
    expect(told).toEqual([plus(1), plus(2), plus(3), plus(4), `-${hex4('239.1.1.1')}`, plus(2)]);
    expect(groups.count()).toBe(3);
  });

  test.each([
    ['too short', () => igmpMessage(withSum([0x16, 0, 0, 0, 224, 0, 0]))],
    ['a wrong checksum', () => igmpMessage([0x16, 0, 1, 2, ...ip4('224.0.0.251')])],
    ['a group that is none', () => igmp2(0x16, '198.51.100.1')],
    ['a leave of none', () => igmp2(0x17, '10.0.0.1')],
    ['more records than there are', () => igmp3([], 1)],
    [
      'sources beyond the end',
      () => igmpMessage(withSum([0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 255, 255, ...ip4('239.1.1.1')])),
    ],
    [
      'auxiliary data beyond the end',
      () => igmpMessage(withSum([0x22, 0, 0, 0, 0, 0, 0, 1, 4, 1, 0, 0, ...ip4('239.1.1.1')])),
    ],
    ['a record of no group', () => igmp3([[4, '10.1.1.1']])],
  ])('%s is malformed', (_what, f) => dropped('igmp-malformed', f));

  test.each([
    ['a query', () => igmp2(0x11, '0.0.0.0')],
    ['everybody’s group', () => igmp2(0x16, '224.0.0.1')],
    ['a group beyond the site', () => igmp2(0x16, '232.1.1.1')],
    ['a leave of a group that was not joined', () => igmp2(0x17, '239.9.9.9')],
  ])('%s is counted, and nothing else', (_what, f) => dropped('group-report', f));
});

describe('MLD', () => {
  test('a report of version 1 joins, done leaves', () => {
    mld1(131, 'ff02::fb');
    mld1(132, 'ff02::fb');
    expect(told).toEqual([`+${hex6('ff02::fb')}`, `-${hex6('ff02::fb')}`]);
  });
  test('from an address that is still tentative, too (RFC 3590)', () => {
    mld1(131, 'ff05::c', { src: '::' });
    expect(told).toEqual([`+${hex6('ff05::c')}`]);
  });
  test('version 2', () => {
    mld2([
      [4, 'ff02::fb', ['2001:db8::1'], 2],
      [4, 'ff05::1234'],
    ]);
    mld2([[3, 'ff02::fb']]);
    expect(told).toEqual([`+${hex6('ff02::fb')}`, `+${hex6('ff05::1234')}`, `-${hex6('ff02::fb')}`]);
  });

  test.each([
    ['from a global address', () => mld1(131, 'ff02::fb', { src: '2001:db8::1' })],
    ['from another hop', () => mld1(131, 'ff02::fb', { hops: 2 })],
    ['too short', () => mldMessage([131, 0, 0, 0, 0, 0, 0, 0, 0xff, 2])],
    ['a group that is none', () => mld1(131, '2001:db8::1')],
    ['more records than there are', () => mld2([], 1)],
    ['sources beyond the end', () => mldMessage([143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 1, ...ip6('ff02::fb')])],
    ['a record of no group', () => mld2([[4, '2001:db8::1']])],
  ])('%s is malformed', (_what, f) => dropped('mld-malformed', f));
  test('a wrong checksum', () => dropped('icmp-checksum', () => mld1(131, 'ff02::fb', { sum: false })));
  test.each([
    ['a query', () => mld1(130, 'ff02::fb')],
    ['all nodes', () => mld1(131, 'ff02::1')],
    ['a solicited-node group', () => mld1(131, 'ff02::1:ff00:1')],
    ['a group beyond the site', () => mld1(131, 'ff0e::1')],
    ['interface-local', () => mld1(131, 'ff01::1')],
  ])('%s is counted, and nothing else', (_what, f) => dropped('group-report', f));
});

describe('a query asks whether others are still in a group that was left, once', () => {
  const asked = (): Buffer[] => {
    out.flush();
    return fake.tapFrames.splice(0);
  };

  test('IGMP: to the group, one hop, router alert, both checksums right', () => {
    igmp2(0x17, '239.1.1.1');
    expect(asked()).toEqual([]);
    igmp2(0x16, '239.1.1.1');
    igmp2(0x17, '239.1.1.1');
    igmp2(0x17, '239.1.1.1');
    const [frame, ...more] = asked();
    expect(more).toEqual([]);
    if (frame === undefined) throw new Error('no query');
    expect(frame.subarray(0, 12).toString('hex')).toBe('01005e01010102005e005301');
    const ip = frame.subarray(14);
    expect([ip[0], ip[8], ip[9], ip.readUInt32BE(20)]).toEqual([0x46, 1, 2, 0x94040000]);
    expect([...ip.subarray(12, 20)]).toEqual([...ip4('192.0.2.1'), ...ip4('239.1.1.1')]);
    expect(fake.checksumOf(ip.subarray(0, 24))).toBe(0xffff);
    const query = ip.subarray(24);
    expect([query.length, ip.readUInt16BE(2), fake.checksumOf(query)]).toEqual([12, 36, 0xffff]);
    expect([query[0], query[1], query.subarray(4, 8).join('.'), query[8], query[9]]).toEqual([
      0x11,
      10,
      '239.1.1.1',
      2,
      125,
    ]);
    igmp3([[4, '239.1.1.1']]);
    igmp3([[3, '239.1.1.1']]);
    expect(asked().length).toBe(1);
  });

  test('MLD: the same', () => {
    mld1(131, 'ff02::fb');
    mld1(132, 'ff02::fb');
    mld2([[4, 'ff02::fb']]);
    mld2([[3, 'ff02::fb']]);
    const frames = asked();
    expect(frames.length).toBe(2);
    for (const frame of frames) {
      expect(frame.subarray(0, 14).toString('hex')).toBe('3333000000fb02005e00530186dd');
      const ip = frame.subarray(14);
      expect([ip.readUInt16BE(4), ip[6], ip[7]]).toEqual([36, 0, 1]);
      expect([...ip.subarray(8, 40)]).toEqual([...ip6('fe80::1'), ...ip6('ff02::fb')]);
      expect(ip.subarray(40, 48).toString('hex')).toBe('3a00050200000100');
      const query = ip.subarray(48);
      const pseudo = Buffer.concat([ip.subarray(8, 40), Buffer.from([0, 0, 0, 28, 0, 0, 0, 58])]);
      expect(fake.checksumOf(query, fake.checksumOf(pseudo))).toBe(0xffff);
      expect([query.length, query[0], query.readUInt16BE(4), query[24], query[25]]).toEqual([28, 130, 1000, 2, 125]);
      expect([...query.subarray(8, 24)]).toEqual(ip6('ff02::fb'));
    }
  });
});

test('at most so many groups at a time; a place that is left is free again', () => {
  const before = dropCount('group-table-full');
  for (let i = 0; i < groups.GROUPS_MAX + 5; i++) igmp2(0x16, `239.0.0.${i}`);
  expect(groups.count()).toBe(groups.GROUPS_MAX);
  expect(dropCount('group-table-full')).toBe(before + 5);
  igmp2(0x17, '239.0.0.3');
  mld1(131, 'ff02::fb');
  expect(told.at(-1)).toBe(`+${hex6('ff02::fb')}`);
});

test('any bytes: no exception, never more groups than there may be, and reads stay in the message', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), fc.boolean(), (bytes, v6) => {
      const type = [0x22, 0x16, 0x12, 0x17][(bytes[0] ?? 0) & 3] as number;
      if (v6) mldMessage([[143, 131, 132, 130][(bytes[0] ?? 0) & 3] as number, 0, 0, 0, ...bytes]);
      else igmpMessage(withSum([type, 0, 0, 0, ...bytes]));
      expect(groups.count()).toBeLessThanOrEqual(groups.GROUPS_MAX);
    }),
    { numRuns: 500 },
  );
});
