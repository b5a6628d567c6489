// SPDX-License-Identifier: Apache-2.0
/** The real kernel, through the real addon: what discover() reads is what ip(8) shows in the same namespace. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DiscoverError, discover } from '../../../controller/host/discover.ts';
import { testkit } from '../../support/testkit.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
/** The fields of `ip -j` that are compared. */
interface IpRow {
  readonly ifname?: string;
  readonly gateway?: string;
  readonly addr_info?: readonly { readonly local: string; readonly prefixlen: number }[];
}
const ip = (...args: string[]): IpRow[] =>
  JSON.parse(execFileSync('ip', ['-j', ...args], { encoding: 'utf8' }) || '[]');

describe('discover', () => {
  const directory = mkdtempSync(join(tmpdir(), 'pastiche-discover-'));
  let netlink = -1;
  beforeAll(() => {
    netlink = testkit.socket(AF_NETLINK, SOCK_RAW, 0);
  });
  afterAll(() => {
    testkit.close(netlink);
    rmSync(directory, { recursive: true });
  });

  it('sees the links, addresses and routes that ip(8) shows', () => {
    const facts = discover({ netlink, resolvConf: null, ipv6: true, ephemeral: null });
    expect(facts.links.map(({ name }) => name)).toEqual(ip('link').map(({ ifname }) => ifname));
    const addresses = ip('address').flatMap(({ addr_info }) => addr_info ?? []);
    const text = facts.addresses.map(({ address, prefix }) => `${address}/${prefix}`).sort();
    expect(text).toEqual(addresses.map(({ local, prefixlen }) => `${local}/${prefixlen}`).sort());
    const defaults = ip('-4', 'route', 'show', 'default').map(({ gateway }) => gateway ?? null);
    const ours = facts.routes.filter(({ family, prefix }) => family === 4 && prefix === 0);
    expect(ours.map(({ hops }) => hops[0].gateway)).toEqual(defaults);
    expect(facts.resolvers).toEqual({ servers: [], search: [] });
  });

  it('reads resolv.conf through its descriptor', () => {
    const path = join(directory, 'resolv.conf');
    writeFileSync(path, 'search example.org\nnameserver 192.0.2.53\n');
    const fd = openSync(path, 'r');
    const { resolvers } = discover({ netlink, resolvConf: fd, ipv6: true, ephemeral: null });
    closeSync(fd);
    expect(resolvers).toEqual({ servers: ['192.0.2.53'], search: ['example.org'] });
  });

  it('names what could not be read', () => {
    expect(() => discover({ netlink: 1023, resolvConf: null, ipv6: true, ephemeral: null })).toThrow(DiscoverError);
    expect(() => discover({ netlink: 1023, resolvConf: null, ipv6: true, ephemeral: null })).toThrow(
      "Couldn't read network interfaces: EBADF",
    );
  });
});
