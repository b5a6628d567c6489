// SPDX-License-Identifier: Apache-2.0
/**
 * What a guest reaches of the host itself, for every way to open its loopback or its addresses, and in every spelling of
 * them: what an option opens, and nothing beside it. Judged by the servers, which say whom they saw.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GATEWAY, HOST, HOST_PORTS, OWN, socketsOf } from '../support/forward-cells.ts';
import { type Answer, ask, PATIENCE_MS, type Question, SILENCE_MS, serve } from '../support/forward-programs.ts';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import type { Started } from '../support/process.mjs';

/** Where an address leads: to the host's loopback, to its own address, to neither. */
type Leads = 'loopback' | 'address' | 'nowhere';
const REACHES: Record<Leads, readonly number[]> = {
  loopback: [HOST_PORTS.any, HOST_PORTS.loopback],
  address: [HOST_PORTS.any, HOST_PORTS.address],
  nowhere: [],
};
const MAPPED = ['192.0.2.77', '2001:db8:1::77'];
const GUEST_ADDRESS = ['192.0.2.78', '2001:db8:1::78'];
const NONE = ['-t', 'none', '-u', 'none', '-T', 'none', '-U', 'none'];
const ADDRESS = ['-a', `${OWN[4]}/24`, '-a', `${OWN[6]}/64`];
const each = (option: string, values: readonly string[]): string[] => values.flatMap((value) => [option, value]);

/**
 * What a test asks for: arguments, and where the gateway, MAPPED, GUEST_ADDRESS and the host's own addresses lead then: what
 * --map-guest-addr opens is open by its own name, too, to a guest that has another.
 */
const COMBINATIONS: readonly { args: readonly string[]; leads: readonly [Leads, Leads, Leads, Leads] }[] = [
  { args: NONE, leads: ['loopback', 'nowhere', 'nowhere', 'nowhere'] },
  { args: [...NONE, '--no-map-gw'], leads: ['nowhere', 'nowhere', 'nowhere', 'nowhere'] },
  { args: [...NONE, '--map-host-loopback', 'none'], leads: ['nowhere', 'nowhere', 'nowhere', 'nowhere'] },
  { args: [...NONE, ...each('--map-host-loopback', MAPPED)], leads: ['nowhere', 'loopback', 'nowhere', 'nowhere'] },
  { args: [...NONE, ...each('--map-guest-addr', GUEST_ADDRESS)], leads: ['loopback', 'nowhere', 'address', 'address'] },
  {
    args: [...NONE, '--no-map-gw', ...each('--map-guest-addr', GUEST_ADDRESS)],
    leads: ['nowhere', 'nowhere', 'address', 'address'],
  },
  {
    args: [...NONE, ...each('--map-host-loopback', MAPPED), ...each('--map-guest-addr', GUEST_ADDRESS)],
    leads: ['nowhere', 'loopback', 'address', 'address'],
  },
  { args: [...NONE, '--no-map-gw', '--map-guest-addr', 'none'], leads: ['nowhere', 'nowhere', 'nowhere', 'nowhere'] },
  {
    args: [...NONE, '--no-map-gw', ...each('--host-access', [HOST[4], HOST[6]])],
    leads: ['nowhere', 'nowhere', 'nowhere', 'address'],
  },
  {
    args: ['-t', 'none', '-u', 'none', '-T', '8101-8102', '-U', '8101-8102', '--no-map-gw'],
    leads: ['nowhere', 'nowhere', 'nowhere', 'nowhere'],
  },
];
/** The IPv4 loopback inside of IPv6 addresses (RFC 6052, RFC 2765, RFC 3056, RFC 4291 §2.5.5.1), and 0.0.0.0/8. */
const SPELLINGS = ['64:ff9b::127.0.0.1', '::ffff:0:127.0.0.1', '2002:7f00:1::1', '::127.0.0.1', '0.0.0.1'];

let lab: Lab;
let server: Started;
let linkLocal: string;
beforeAll(async () => {
  lab = await makeLab();
  server = await serve(
    lab.host,
    socketsOf(HOST_PORTS, (family) => HOST[family]),
  );
  linkLocal =
    /inet6 (fe80:[0-9a-f:]+)/.exec(await lab.host.run(['ip', '-6', 'addr', 'show', 'dev', 'eth0']))?.[1] ?? '';
});
afterAll(() => lab.cleanup());

const questions = (addresses: readonly string[], reached: readonly number[]): Question[] =>
  addresses.flatMap((address) =>
    Object.values(HOST_PORTS).flatMap((port) =>
      (['tcp', 'udp'] as const).map((protocol) => ({
        protocol,
        address,
        port,
        patienceMs: reached.includes(port) ? PATIENCE_MS : SILENCE_MS,
      })),
    ),
  );
const name = ({ protocol, address, port }: Question): string => `${protocol} ${address} ${port}`;

describe.concurrent('what a guest reaches of the host', () => {
  it.each(COMBINATIONS.map((each) => ({ ...each, title: each.args.join(' ') })))(
    'with $title',
    async ({ args, leads }) => {
      const guest = await lab.guest(['--config-net', ...ADDRESS, ...args], undefined, { forwards: true });
      const [gateway, mapped, guestAddress, own] = leads.map((lead) => REACHES[lead]) as [
        number[],
        number[],
        number[],
        number[],
      ];
      const targets: readonly [readonly string[], readonly number[]][] = [
        [[GATEWAY[4], GATEWAY[6]], gateway],
        [MAPPED, mapped],
        [GUEST_ADDRESS, guestAddress],
        [[HOST[4], HOST[6]], own],
        [[`${linkLocal}%eth0`, ...SPELLINGS], []],
      ];
      const all = targets.flatMap(([addresses, ports]) => questions(addresses, ports));
      const expected = targets.flatMap(([addresses, ports]) =>
        questions(addresses, ports).filter(({ port }) => ports.includes(port)),
      );
      const answers = await ask(guest, all);
      const reached = all.filter((_, i) => !('error' in (answers[i] as Answer)));
      expect(reached.map(name)).toEqual(expected.map(name));
      await guest.close();
    },
  );
});

describe('frames to the loopback addresses themselves', () => {
  /** Makes the guest's kernel send what is for its own loopback to the tap. */
  const sendLoopbackOut = async (guest: Guest): Promise<void> => {
    const script = [
      'echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet',
      'ip route flush table local to root 127.0.0.0/8',
      `ip route add 127.0.0.0/8 via ${GATEWAY[4]} dev eth0 src ${OWN[4]}`,
      'ip -6 route del local ::1 dev lo table local',
      `ip -6 route add ::1/128 via ${GATEWAY[6]} dev eth0 src ${OWN[6]}`,
    ];
    await guest.run(['sh', '-ec', script.join('\n')]);
  };
  const CAPTURE = '/run/scratch/loopback.pcap';
  it.each([NONE.join(' '), `${NONE.join(' ')} --no-map-gw`, '-t none -u none -T auto -U auto'])(
    'lead nowhere with %s',
    async (args) => {
      const guest = await lab.guest(['--config-net', '--pcap', CAPTURE, ...ADDRESS, ...args.split(' ')], undefined, {
        forwards: true,
      });
      await sendLoopbackOut(guest);
      const before = server.out();
      const targets = ['127.0.0.1', '127.0.0.53', '::1'];
      const answers = await ask(guest, questions(targets, []));
      expect(answers.filter((answer) => !('error' in answer))).toEqual([]);
      expect(server.out()).toBe(before);
      await guest.close();
      for (const target of targets)
        expect(await lab.host.run(['tcpdump', '-nr', CAPTURE, '-c', '1', 'dst', 'host', target])).toContain(target);
    },
  );
});
