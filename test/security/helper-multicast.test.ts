// SPDX-License-Identifier: Apache-2.0
/** socket.multicast of the sealed helper: only with --multicast, only what stays on the link or site, nobody's port. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Started } from '../support/process.mjs';
import { batch, call, Installation, NO_OUTBOUND, type Step } from './helper-harness.ts';

const REFUSED = -32_001;
const SYSTEM = -32_000;

let install: Installation;
beforeEach(() => {
  install = new Installation();
});
afterEach(() => install.remove());

/** In a network namespace with an interface that has a broadcast address. */
const inNetwork = (steps: readonly Step[], before = ''): Started =>
  install.start(['-I', 'tap0', '--', 'sleep', '1000'], {
    steps,
    shell: `exec unshare -Urn sh -c 'ip link set lo up && ip link add name dum type veth peer name end && ip link set dum up && ip link set end up &&
      ip addr add 192.0.2.2/24 brd + dev dum && ip -6 addr add 2001:db8::2/64 dev dum nodad &&
      ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8::1 && ${before} exec "$@"' sh "$@"`,
  });
const seal = (multicast: object): Step[] => [
  call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND, ...multicast }),
  call('netns', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND, ...multicast }),
];
const open = (role: string, address: string, sourcePort = 0, port = 5353): readonly [string, unknown] => [
  'socket.multicast',
  { role, address, port, sourcePort },
];
const ROLES = ['send', 'answers', 'group'];
const codes = (): number[] => install.replies(2).map(({ error }) => error?.code ?? 0);

describe('socket.multicast', () => {
  it.each([
    ['absent', {}],
    ['false', { multicast: false }],
  ])('is refused when the seal did not allow it (%s)', async (_how, multicast) => {
    const asked = ROLES.flatMap((role) => ['224.0.0.251', 'ff02::fb'].map((address) => open(role, address)));
    inNetwork([...seal(multicast), batch('host', ...asked, open('send', '255.255.255.255'))]);
    await install.scriptDone();
    expect(codes()).toEqual(new Array(7).fill(REFUSED));
  });

  it('gives groups of link and site in every role, and refuses those beyond and what is no group', async () => {
    const local = ['224.0.0.1', '224.0.0.255', '239.0.0.1', '239.255.255.255', 'ff02::1', 'ff32::1', 'ff05::ffff'];
    const beyond = [
      '224.0.1.0',
      '225.0.0.1',
      '232.1.1.1',
      '238.255.255.255',
      'ff01::1',
      'ff06::1',
      'ff0e::1',
      'ff00::1',
    ];
    const asked = [...local, ...beyond].flatMap((address) => ROLES.map((role) => open(role, address)));
    inNetwork([...seal({ multicast: true }), batch('host', ...asked)]);
    await install.scriptDone();
    expect(codes()).toEqual([...local, ...beyond].flatMap((a) => ROLES.map(() => (local.includes(a) ? 0 : REFUSED))));
    expect(install.outcomes()[2]?.fds).toBe(local.length * ROLES.length);
  });

  it('connects to broadcast, and to no unicast address', async () => {
    const broadcast = ['255.255.255.255', '192.0.2.255'];
    const unicast = ['192.0.2.2', '192.0.2.1', '198.51.100.1', '127.0.0.1', '0.0.0.0'];
    const asked = [...broadcast, ...unicast].map((address) => open('send', address));
    const listen = [...broadcast, ...unicast].map((address) => open('group', address));
    const six = ['2001:db8::1', '::1', 'fe80::1'].map((address) => open('send', address));
    inNetwork([...seal({ multicast: true }), batch('host', ...asked, ...listen, ...six)]);
    await install.scriptDone();
    const [sends, groups, sixes] = [codes().slice(0, 7), codes().slice(7, 14), codes().slice(14)];
    expect(sends.slice(0, 2)).toEqual([0, 0]);
    for (const code of sends.slice(2)) expect(code).toBe(SYSTEM);
    expect(groups).toEqual(new Array(7).fill(REFUSED));
    expect(sixes).toEqual(new Array(3).fill(REFUSED));
  });

  it('what hears is bound as it should be: a group to its address, answers to a port of ours; what speaks is connected', async () => {
    const helper = inNetwork([
      ...seal({ multicast: true }),
      batch(
        'host',
        open('send', '224.0.0.251', 40_000),
        open('answers', '224.0.0.251', 40_001),
        open('group', '224.0.0.251'),
      ),
    ]);
    await install.scriptDone();
    const udp = readFileSync(`/proc/${helper.pid()}/net/udp`, 'utf8');
    // Little-endian machines: 224.0.0.251 is FB0000E0. A socket bound to a group shows the group as its address.
    expect(udp).toMatch(/ FB0000E0:9C40 FB0000E0:14E9 01 /);
    expect(udp).toMatch(/ 020200C0:9C41 00000000:0000 07 /);
    expect(udp).toMatch(/ FB0000E0:14E9 00000000:0000 07 /);
    expect(readFileSync(`/proc/${helper.pid()}/net/igmp`, 'utf8')).toMatch(/FB0000E0 +1/);
  });

  it.each([
    ['IPv4', '0.0.0.0', '224.0.0.251', 'udp'],
    ['IPv6', '::', 'ff02::fb', 'udp6'],
    ['both families', '::', '224.0.0.251', 'udp'],
  ])(
    'answers never share a port: not with a service of our own user that is there, nor with one that comes later (%s)',
    async (family, any, group, file) => {
      const service = (port: number): string =>
        `python3 -c "${[
          'import socket,sys,time',
          `s=socket.socket(socket.AF_INET${any === '::' ? 6 : ''},socket.SOCK_DGRAM)`,
          `s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,${family === 'IPv6' ? 1 : 0})`.repeat(
            any === '::' ? 1 : 0,
          ),
          's.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)',
          `s.bind((chr(58)*2 if ${any === '::' ? 1 : 0} else chr(0)[:0],${port}))`,
          'print(1,flush=True)',
          'time.sleep(float(sys.argv[1]))',
        ]
          .filter((line) => line !== '')
          .join(';')}"`;
      const helper = inNetwork(
        [
          ...seal({ multicast: true }),
          batch('host', open('answers', group, 40_001), open('answers', group, 40_002), open('send', group, 40_002)),
        ],
        // A pipe tells that it is bound; it ends by itself.
        `{ ${service(40_001)} 10 & } | read _;`,
      );
      await install.scriptDone();
      expect(codes()).toEqual([0, 0, 0]);
      const ports = (name: string): number[] =>
        [
          ...readFileSync(`/proc/${helper.pid()}/net/${name}`, 'utf8').matchAll(
            /: [0-9A-F]+:([0-9A-F]{4}) 0+:0000 07 /g,
          ),
        ].map(([, port]) => Number.parseInt(port as string, 16));
      const all = [...new Set([file, any === '::' ? 'udp6' : 'udp'])].flatMap(ports);
      expect(all.filter((port) => port === 40_001)).toHaveLength(1);
      expect(all.filter((port) => port === 40_002)).toHaveLength(1);
      expect(all).toHaveLength(3);
      const later = spawnSync('nsenter', ['-t', String(helper.pid()), '-U', '-n', 'sh', '-c', `${service(40_002)} 0`]);
      expect(String(later.stderr)).toContain('Address already in use');
    },
  );

  it('is not there before sealing', async () => {
    const helper = inNetwork([batch('host', open('send', '224.0.0.251'))]);
    await helper.closed;
    expect(helper.err()).toBe('The controller called socket.multicast, which is not for this stage or side\n');
  });
});
