// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { ANY, type Bound, ELSEWHERE, GUEST, kind4, kind6, LINK_LOCAL, LOOPBACK, makeBound, setGuest } from './bound.ts';
import { readLines } from './proc-net.ts';
import { DONE, FAILED, MORE, readAnswer, writeRequest } from './sock-diag.ts';

type Entry = readonly [port: number, kind: number];
const ports = (bound: Bound): Entry[] =>
  [...bound.ports.subarray(0, bound.count)].map((port) => [port, bound.kinds[port] as number] as const);

describe('/proc/net', () => {
  const HEAD4 = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
  const line = (local: string, st: string, remote = '00000000:0000'): string =>
    `   0: ${local} ${remote} ${st} 00000000:00000000 00:00000000 00000000     0        0 123 1 00 100 0 0 10 0\n`;
  const V6_ZERO = '0'.repeat(32);
  const V6_LOOPBACK = '00000000000000000000000001000000';
  const V6_MAPPED_LOOPBACK = '0000000000000000FFFF00000100007F';
  const V6_OTHER = 'B80D0120000000000000000010000000';
  const read = (text: string, protocol: 'tcp' | 'udp' = 'tcp'): { found: Entry[]; used: number } => {
    const bound = makeBound();
    const bytes = Buffer.from(`??${text}`, 'latin1');
    return { used: readLines(bytes, 2, bytes.length, protocol, bound) - 2, found: ports(bound) };
  };

  test.each<[string, string, Entry]>([
    ['any', line('00000000:1F90', '0A'), [8080, ANY]],
    ['loopback', line('0100007F:0035', '0A'), [53, LOOPBACK]],
    ['all of 127/8', line('0100637F:0035', '0A'), [53, LOOPBACK]],
    ['another address', line('020200C0:0050', '0A'), [80, ELSEWHERE]],
    ['IPv6, any', line(`${V6_ZERO}:0050`, '0A', `${V6_ZERO}:0000`), [80, ANY]],
    ['IPv6, loopback', line(`${V6_LOOPBACK}:0050`, '0A', `${V6_ZERO}:0000`), [80, LOOPBACK]],
    ['IPv6, IPv4-mapped loopback', line(`${V6_MAPPED_LOOPBACK}:0050`, '0A', `${V6_ZERO}:0000`), [80, LOOPBACK]],
    ['IPv6, another address', line(`${V6_OTHER}:FFFF`, '0A', `${V6_ZERO}:0000`), [65_535, ELSEWHERE]],
  ])('%s', (_name, text, entry) => {
    expect(read(HEAD4 + text).found).toEqual([entry]);
  });

  test('what does not listen, or is connected, is not bound; UDP has a state of its own', () => {
    const established = line('00000000:0050', '01', '0100007F:0051');
    expect(read(HEAD4 + established).found).toEqual([]);
    expect(read(HEAD4 + established + line('00000000:0051', '07'), 'udp').found).toEqual([[81, ANY]]);
    expect(read(line('00000000:0050', '07'), 'tcp').found).toEqual([]);
  });
  test('a line that is not complete is left for the next read', () => {
    const whole = HEAD4 + line('00000000:0050', '0A');
    const { found, used } = read(whole + line('00000000:0051', '0A').slice(0, -1));
    expect([found, used]).toEqual([[[80, ANY]], whole.length]);
  });
  test('several sockets of one port add up', () => {
    const text = line('00000000:0050', '0A') + line('0100007F:0050', '0A') + line('020200C0:0050', '0A');
    expect(read(text).found).toEqual([[80, ANY | LOOPBACK | ELSEWHERE]]);
  });
  test('nonsense is passed over', () => {
    for (const text of [
      ':\n',
      '1: \n',
      '1: 0:0\n',
      '1: 0000000G:0050 00000000:0000 0A\n',
      '\n\n',
      '1: 00000000:0050\n',
    ]) {
      expect(read(text).found).toEqual([]);
    }
  });
});

describe('sock_diag', () => {
  const SEQUENCE = 77;
  interface Socket {
    readonly family?: number;
    readonly state?: number;
    readonly port: number;
    readonly src: readonly number[];
    readonly device?: number;
  }
  const message = (type: number, body: Buffer, sequence = SEQUENCE): Buffer => {
    const head = Buffer.alloc(16);
    head.writeUInt32LE(16 + body.length, 0);
    head.writeUInt16LE(type, 4);
    head.writeUInt32LE(sequence, 8);
    return Buffer.concat([head, body, Buffer.alloc(-body.length & 3)]);
  };
  const socket = ({ family = 2, state = 10, port, src, device = 0 }: Socket, sequence = SEQUENCE): Buffer => {
    const body = Buffer.alloc(72 + 8);
    body[0] = family;
    body[1] = state;
    body.writeUInt16BE(port, 4);
    Buffer.from(src).copy(body, 8);
    body.writeUInt32LE(device, 40);
    return message(20, body, sequence);
  };
  const done = (error = 0): Buffer => {
    const body = Buffer.alloc(4);
    body.writeInt32LE(error);
    return message(3, body);
  };
  const read = (bytes: Buffer, protocol: 'tcp' | 'udp' = 'tcp'): { step: number; found: Entry[] } => {
    const bound = makeBound();
    const padded = Buffer.concat([Buffer.alloc(4), bytes]);
    const view = new DataView(padded.buffer, padded.byteOffset, padded.length);
    return { step: readAnswer(view, 4, padded.length, protocol, SEQUENCE, bound), found: ports(bound) };
  };
  const LO = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 2];

  test.each<[string, Socket, Entry[]]>([
    ['any', { port: 80, src: [] }, [[80, ANY]]],
    ['loopback', { port: 80, src: [127, 9, 9, 9] }, [[80, LOOPBACK]]],
    ['another', { port: 80, src: [192, 0, 2, 2] }, [[80, ELSEWHERE]]],
    ['any address of lo', { port: 80, src: [], device: 1 }, [[80, LOOPBACK]]],
    ['any address of another interface', { port: 80, src: [], device: 7 }, [[80, GUEST]]],
    ['another address of another interface', { port: 80, src: [192, 0, 2, 2], device: 7 }, [[80, ELSEWHERE]]],
    ['loopback of another interface', { port: 80, src: [127, 0, 0, 1], device: 7 }, [[80, ELSEWHERE]]],
    ['a family of the future on lo', { family: 99, port: 80, src: [], device: 1 }, []],
    ['IPv6 any', { family: 10, port: 80, src: [] }, [[80, ANY]]],
    ['IPv6 loopback', { family: 10, port: 80, src: LO }, [[80, LOOPBACK]]],
    ['IPv6 mapped', { family: 10, port: 80, src: MAPPED }, [[80, ELSEWHERE]]],
    ['a state that was not asked for', { port: 80, src: [], state: 1 }, []],
    ['a family of the future', { family: 99, port: 80, src: [] }, []],
  ])('%s', (_name, s, found) => {
    expect(read(Buffer.concat([socket(s), done()]))).toEqual({ step: DONE, found });
  });
  test('UDP sockets that are not connected', () => {
    expect(read(Buffer.concat([socket({ port: 53, src: [], state: 7 }), done()]), 'udp').found).toEqual([[53, ANY]]);
  });
  test('an answer may go on, fail, or be to another question', () => {
    expect(read(socket({ port: 80, src: [] }))).toEqual({ step: MORE, found: [[80, ANY]] });
    expect(read(done(-2)).step).toBe(FAILED + 2);
    expect(read(Buffer.concat([socket({ port: 80, src: [] }, 5), socket({ port: 81, src: [] })])).found).toEqual([
      [81, ANY],
    ]);
  });
  test('lengths that lie end the walk', () => {
    const bytes = Buffer.concat([socket({ port: 80, src: [] }), socket({ port: 81, src: [] })]);
    for (const length of [0, 15, 1 << 20, 0xffff_ffff]) {
      const lying = Buffer.from(bytes);
      lying.writeUInt32LE(length, 96);
      expect(read(lying).found).toEqual([[80, ANY]]);
    }
    for (let cut = 0; cut < 96; cut++) expect(read(bytes.subarray(0, cut)).found).toEqual([]);
  });
  test('the question', () => {
    const view = new DataView(new ArrayBuffer(100));
    expect(writeRequest(view, 8, 'udp', false, 9)).toBe(72);
    expect([view.getUint8(24), view.getUint8(25), view.getUint32(28, true)]).toEqual([10, 17, 1 << 7]);
  });
});

test('kinds of addresses', () => {
  expect([kind4(0), kind4(0x7f000001), kind4(0xc0000202)]).toEqual([ANY, LOOPBACK, ELSEWHERE]);
  expect([kind6(0, 0, 0, 0), kind6(0, 0, 0, 1), kind6(0, 0, 0, 2), kind6(0, 0, 0xffff, 0x7f000001)]).toEqual([
    ANY,
    LOOPBACK,
    ELSEWHERE,
    LOOPBACK,
  ]);
  expect([kind6(0xfe800000, 0, 0, 1), kind6(0, 1, 0, 0), kind6(0, 0, 1, 0)]).toEqual([ELSEWHERE, ELSEWHERE, ELSEWHERE]);
});
test('the guest’s own addresses', () => {
  const six = [0x2001_0db8, 0, 0, 5];
  const link = [0xfe80_0000 | 0, 0, 0, 7];
  setGuest(
    0xc000_0205 | 0,
    (i) => six[i] as number,
    (i) => link[i] as number,
  );
  expect([kind4(0xc000_0205), kind4(0xc000_0206)]).toEqual([GUEST, ELSEWHERE]);
  expect([kind6(0, 0, 0xffff, 0xc000_0205), kind6(0x2001_0db8, 0, 0, 5), kind6(0x2001_0db8, 0, 0, 6)]).toEqual([
    GUEST,
    GUEST,
    ELSEWHERE,
  ]);
  expect([kind6(0xfe80_0000, 0, 0, 7), kind6(0xfe80_0000, 0, 0, 8)]).toEqual([LINK_LOCAL, ELSEWHERE]);
  const none = (): number => 0;
  setGuest(0, none, none);
  expect([kind4(0), kind6(0, 0, 0, 0), kind4(0xc000_0205)]).toEqual([ANY, ANY, ELSEWHERE]);
});
