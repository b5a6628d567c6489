// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parsePortRange } from '../../../controller/host/port-range.ts';
import { parseResolvConf } from '../../../controller/host/resolv.ts';

describe('parseResolvConf', () => {
  it.each<[string, string, string[], string[]]>([
    ['nothing', '', [], []],
    ['both versions', 'nameserver 192.0.2.1\nnameserver 2001:DB8::1\n', ['192.0.2.1', '2001:db8::1'], []],
    ['zone cut', 'nameserver fe80::1%eth0\n', ['fe80::1'], []],
    ['loopback is kept for the plan to judge', 'nameserver 127.0.0.53\n', ['127.0.0.53'], []],
    ['comments', '# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n  # x\n', [], []],
    ['blanks, CR, tabs', '\tnameserver \t192.0.2.1 # cloud\r\n', ['192.0.2.1'], []],
    ['junk', 'nameserver\nnameserver 1.2.3\nnameserver example.org\nnameservers 192.0.2.1\noptions ndots:5', [], []],
    ['repeated', 'nameserver 192.0.2.1\nnameserver 192.0.2.1', ['192.0.2.1'], []],
    [
      'three a version',
      [1, 2, 3, 4].map((n) => `nameserver 192.0.2.${n}\nnameserver 2001:db8::${n}`).join('\n'),
      ['192.0.2.1', '2001:db8::1', '192.0.2.2', '2001:db8::2', '192.0.2.3', '2001:db8::3'],
      [],
    ],
    ['search', 'search a.example b.example.\n', [], ['a.example', 'b.example']],
    ['last of search and domain', 'search a.example\ndomain b.example c.example\n', [], ['b.example']],
    ['six names', 'search a b c d e f g\n', [], ['a', 'b', 'c', 'd', 'e', 'f']],
  ])('%s', (_name, text, servers, search) => {
    expect(parseResolvConf(text)).toEqual({ servers, search });
  });

  it('takes any text', () => {
    const word = fc.oneof(
      fc.constantFrom('nameserver', 'search', 'domain', '127.0.0.1', '::1', '%', '\n', ' '),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(word), (words) => {
        const { servers, search } = parseResolvConf(words.join(' '));
        expect(servers.length).toBeLessThanOrEqual(6);
        expect(search.length).toBeLessThanOrEqual(6);
      }),
    );
  });
});

describe('ip_local_port_range', () => {
  it.each<[string, unknown]>([
    ['32768\t60999\n', { first: 32_768, last: 60_999 }],
    ['1 65535', { first: 1, last: 65_535 }],
    ['', null],
    ['60999\t32768\n', null],
    ['0\t99', null],
    ['1024\t70000', null],
    ['x\t1', null],
  ])('%j', (text, expected) => {
    expect(parsePortRange(text)).toEqual(expected);
  });
});
