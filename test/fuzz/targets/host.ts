// SPDX-License-Identifier: Apache-2.0
/** What comes from the host and from the caller: rtnetlink dumps, resolv.conf, the command line, names on the wire. */

import { UsageError } from '../../../controller/cli/errors.ts';
import type { Personality } from '../../../controller/cli/options/row.ts';
import { parseCommandLine } from '../../../controller/cli/parse.ts';
import { makePlan } from '../../../controller/cli/plan.ts';
import { PlanError } from '../../../controller/cli/plan-error.ts';
import { makeSlirpPlan } from '../../../controller/cli/slirp/plan.ts';
import { parseSlirp } from '../../../controller/cli/slirp/settings.ts';
import { slirpSummary } from '../../../controller/cli/slirp/summary.ts';
import { guestSummary, planSummary } from '../../../controller/cli/summary.ts';
import { parseAddress } from '../../../controller/host/address.ts';
import type { HostFacts } from '../../../controller/host/facts.ts';
import * as netlinkWire from '../../../controller/host/netlink.ts';
import { parseResolvConf } from '../../../controller/host/resolv.ts';
import * as addr from '../../../controller/wire/addr.ts';
import * as names from '../../../controller/wire/dns-name.ts';
import type { Result } from '../../../shared/rpc/methods.ts';
import type { Input } from '../steps.ts';
import type { Target } from '../target.ts';

const insist = (yes: boolean, what: string): void => {
  if (!yes) throw new Error(what);
};
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');
const word = (t: string): Uint8Array => Buffer.from(t);

const facts = (input: Input): Pick<HostFacts, 'links' | 'addresses' | 'routes'> => {
  const found = {
    links: [] as HostFacts['links'][0][],
    addresses: [] as HostFacts['addresses'][0][],
    routes: [] as HostFacts['routes'][0][],
  };
  for (const { bytes } of input) {
    // Its own buffer, so that a view beyond its end is a RangeError.
    for (const m of netlinkWire.messages(bytes.slice())) {
      netlinkWire.dumpStep(m);
      netlinkWire.interrupted(m);
      const link = netlinkWire.readLink(m);
      const address = netlinkWire.readAddress(m);
      const route = netlinkWire.readRoute(m);
      if (link !== null) found.links.push(link);
      if (address !== null) found.addresses.push(address);
      if (route !== null) found.routes.push(route);
    }
  }
  return found;
};

/** What was read is what it says it is, and a plan can be made of it or is refused in a sentence. */
export const netlink: Target = {
  name: 'netlink',
  run: (input) => {
    const found = facts(input);
    for (const a of found.addresses) {
      insist(parseAddress(a.address)?.address === a.address, `address ${a.address} is not canonical`);
      insist(a.prefix <= (a.family === 4 ? 32 : 128), `prefix ${a.prefix}`);
    }
    for (const r of found.routes) {
      insist(parseAddress(r.destination)?.family === r.family, `destination ${r.destination} of IPv${r.family}`);
      insist(r.hops.length > 0, 'a route to nowhere');
    }
    plan([], { ...found, resolvers: { servers: [], search: [] }, ipv6: true, ephemeral: null });
  },
};

const HELLO = { spawn: true, foreground: true, tap: 'eth0', template: 'eth0' } as unknown as Result<'session.hello'>;
const HOST: HostFacts = {
  links: [{ index: 2, name: 'eth0', mtu: 1500, mac: null, up: true, loopback: false, operstate: 'up' }],
  addresses: [
    { family: 4, index: 2, address: '192.0.2.5', prefix: 24, scope: 'universe', deprecated: false, tentative: false },
    { family: 6, index: 2, address: '2001:db8::5', prefix: 64, scope: 'universe', deprecated: false, tentative: false },
  ],
  routes: [
    {
      family: 4,
      destination: '0.0.0.0',
      prefix: 0,
      scope: 'universe',
      metric: 0,
      preferredSource: null,
      hops: [{ index: 2, gateway: '192.0.2.1', weight: 1, dead: false }],
    },
    {
      family: 6,
      destination: '::',
      prefix: 0,
      scope: 'universe',
      metric: 0,
      preferredSource: null,
      hops: [{ index: 2, gateway: 'fe80::1', weight: 1, dead: false }],
    },
  ],
  resolvers: { servers: ['192.0.2.53'], search: ['example.org'] },
  ipv6: true,
  ephemeral: { first: 32_768, last: 60_999 },
};

/** The plan of a command line, in all personalities; refusals are sentences. The summary of what is accepted can be written. */
const plan = (args: readonly string[], host: HostFacts): void => {
  planAs('pasta', args, HELLO, host, '02:11:22:33:44:55');
  planAs('passt', args, { ...HELLO, spawn: false, tap: '' }, host, null);
  sentences(() => {
    const settings = parseSlirp(args);
    slirpSummary(settings, makeSlirpPlan(settings, { ...HELLO, tap: 'tap0' }, host, '02:11:22:33:44:55'));
  });
};
const planAs = (
  personality: Personality,
  args: readonly string[],
  hello: typeof HELLO,
  host: HostFacts,
  tapMac: string | null,
): void =>
  sentences(() => {
    const made = makePlan(parseCommandLine(personality, args), hello, host, tapMac);
    planSummary(made);
    guestSummary(made, '/tmp/passt_1.socket');
  });
const sentences = (make: () => void): void => {
  try {
    make();
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof PlanError)) throw error;
    insist(error.message.length > 0, 'refused without a word');
  }
};

/** Each step is one word of a command line. */
export const cli: Target = {
  name: 'cli',
  run: (input) =>
    plan(
      input.map(({ bytes }) => text(bytes).replaceAll('\0', '')),
      HOST,
    ),
  words: [
    '--socket',
    '-F',
    '-1',
    '--vhost-user',
    '--address',
    '-a',
    '192.0.2.9',
    '2001:db8::9',
    '/24',
    '/64',
    '--netmask',
    '255.255.255.0',
    '--gateway',
    '-g',
    '--dns',
    '-D',
    '--search',
    '-t',
    '-U',
    'auto',
    'all,',
    '80-90:[2001:db8::9]/180-190',
    '~',
    '*%lo/',
    '--map-host-loopback',
    '--dns-forward',
    '--control',
    '-S',
    'none',
    '--mtu',
    '-m',
    '1280',
    '65520',
    '--interface',
    '-i',
    'eth0',
    '--ns-mac-addr',
    '02:00:00:00:00:01',
    '-4',
    '-6',
    '--config-net',
    '--no-tcp',
    '--no-ra',
    '--hostname',
    '--fqdn',
    '--outbound',
    '-o',
    '--',
    '=',
    '::ffff:',
    '%eth0',
    '-t',
    '-T',
    'all',
    '--log-size',
    '--pid',
    '--cidr',
    '10.135.128.0/17',
    '--outbound-addr',
    '--macaddress',
    '--target-type=bess',
    '-c',
  ].map(word),
};

export const resolv: Target = {
  name: 'resolv',
  run: (input) => {
    for (const { bytes } of input) {
      const { servers, search } = parseResolvConf(text(bytes));
      insist(servers.length <= 6 && search.length <= 6, 'more than a resolver would use');
      for (const server of servers) insist(parseAddress(server)?.address === server, `resolver ${server}`);
      for (const name of search) insist(name !== '' && !/\s/.test(name), `search domain "${name}"`);
      plan([], { ...HOST, resolvers: { servers, search } });
    }
  },
  words: [
    'nameserver ',
    'search ',
    'domain ',
    'options ',
    '\n',
    '#',
    ';',
    '127.0.0.53',
    'fe80::1%eth0',
    'example.org',
    '.',
    '\t',
  ].map(word),
};

/** Names and addresses as they are on the wire and in text. */
export const namesOnWire: Target = {
  name: 'names',
  run: (input) => {
    for (const { bytes } of input) {
      const list = names.decodeList(bytes);
      if (list !== null) {
        insist(
          list.every((name) => name.length <= 65_536),
          'a name longer than its list allows',
        );
        const valid = list.filter((name) => names.labels(name) !== null && !name.endsWith('.'));
        const again = [names.decodeList(names.encodeList(valid)), names.decodeList(names.encodeListCompressed(valid))];
        const lower = (all: readonly string[] | null) => JSON.stringify(all?.map((name) => name.toLowerCase()));
        for (const one of again) insist(lower(one) === lower(valid), `${valid.join(' ')} became ${one?.join(' ')}`);
      }
      const mac = addr.parseMac(text(bytes));
      if (mac !== null) insist(addr.macText(mac.high, mac.low) === text(bytes).toLowerCase(), 'a MAC is not itself');
      const parsed = parseAddress(text(bytes));
      if (parsed !== null) insist(parseAddress(parsed.address)?.address === parsed.address, 'an address is not itself');
    }
  },
  words: [
    '\x03www',
    '\x07example\x03org\0',
    '\xc0\0',
    '\xc0\x04',
    '02:00:5e:00:53:01',
    '::',
    '192.0.2.1',
    '::ffff:192.0.2.1',
  ].map((t) => Buffer.from(t, 'latin1')),
};
