// SPDX-License-Identifier: Apache-2.0
/** --multicast: groups and broadcast of the guest on the host's network, and what comes back. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { type Started, waitFor } from '../support/process.mjs';

const program = join(REPOSITORY, 'test/support/group.py');
const MDNS_PORT = 5353;
const SSDP_PORT = 1900;
const OTHER_PORT = 6000;
const GROUPS = [
  {
    family: 'IPv4',
    mdns: '224.0.0.251',
    ssdp: '239.255.255.250',
    global: '224.1.2.3',
    peer: NET.gateway4,
    query: 0x11,
    report: 0x22,
  },
  {
    family: 'IPv6',
    mdns: 'ff02::fb',
    ssdp: 'ff02::c',
    global: 'ff0e::1234',
    peer: NET.gateway6,
    query: 130,
    report: 143,
  },
] as const;

/** What group.py watch tells. */
interface Membership {
  readonly ours: boolean;
  readonly type: number;
}
interface Heard {
  readonly from: string;
  readonly port: number;
  readonly ttl: number;
  readonly text: string;
}
const heard = (one: Started): Heard[] =>
  one
    .out()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Heard);
const listen = async (side: Side, address: string, port: number): Promise<Started> => {
  const one = side.spawn(['python3', program, 'listen', address, String(port), 'eth0']);
  await waitFor(() => one.out().includes('listening') || one.child.exitCode !== null, {
    what: `a member of ${address}`,
  });
  expect(one.err()).toBe('');
  return one;
};
interface Send {
  readonly text: string;
  readonly ttl?: number;
  readonly from?: number;
  readonly answers?: number;
}
const send = async (side: Side, address: string, port: number, o: Send): Promise<Heard[]> => {
  const args = [address, port, 'eth0', o.ttl ?? 1, o.from ?? 0, o.text, o.answers ?? 0].map(String);
  const out = await side.run(['python3', program, 'send', ...args]);
  return out.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Heard]));
};
const until = (one: Started, count: number): Promise<unknown> =>
  waitFor(() => heard(one).length >= count, { what: `${count} datagrams` });

describe('with --multicast', () => {
  let lab: Lab;
  let guest: Guest;
  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    guest = await lab.guest(['--config-net', '--no-map-gw', '--multicast']);
  });
  afterAll(() => lab.cleanup());

  it.each(GROUPS)('a search leaves with its TTL, and the answer comes to its port over $family', async ({ ssdp }) => {
    const service = await listen(lab.remote, ssdp, SSDP_PORT);
    const [answer] = await send(guest, ssdp, SSDP_PORT, { text: 'ask who is there', ttl: 4, answers: 1 });
    expect(answer).toMatchObject({ port: SSDP_PORT, text: 'answer to ask who is there' });
    expect(heard(service)).toMatchObject([{ ttl: 4, text: 'ask who is there' }]);
    service.kill('SIGKILL');
  });

  it.each(GROUPS)('a service of the guest hears its group, and is heard, over $family', async ({ mdns }) => {
    const inside = await listen(guest, mdns, MDNS_PORT);
    await waitFor(
      async () => {
        await send(lab.remote, mdns, MDNS_PORT, { text: 'query', ttl: 255, from: MDNS_PORT });
        return heard(inside).length > 0;
      },
      { what: 'a query in the guest' },
    );
    expect(heard(inside)[0]).toMatchObject({ port: MDNS_PORT, ttl: 255, text: 'query' });
    const outside = await listen(lab.remote, mdns, MDNS_PORT);
    await send(guest, mdns, MDNS_PORT, { text: 'announcement', ttl: 255, from: MDNS_PORT });
    await until(outside, 1);
    // RFC 6762 §6: an announcement that comes from another port would be ignored.
    expect(heard(outside)).toMatchObject([{ port: MDNS_PORT, ttl: 255, text: 'announcement' }]);
    for (const one of [inside, outside]) one.kill('SIGKILL');
  });

  it.each(GROUPS)(
    'the guest’s kernel answers our query: who is still in a group goes on hearing it, over $family',
    async (g) => {
      const member = await listen(guest, g.mdns, MDNS_PORT);
      const watch = guest.spawn(['python3', program, 'watch', g.mdns, '0', 'eth0']);
      await waitFor(() => watch.out().includes('listening'), { what: 'the capture' });
      // A bridge in the guest would pass on the leave of one of its ports; these are its words.
      await guest.run(['python3', program, 'leave', g.mdns, '0', 'eth0']);
      const seen = (): Membership[] => heard(watch) as unknown as Membership[];
      const queried = (): number => seen().findIndex(({ ours, type }) => !ours && type === g.query);
      await waitFor(
        () => seen().some(({ ours, type }, i) => queried() >= 0 && i > queried() && ours && type === g.report),
        {
          what: `a report after our query: ${watch.out()}${watch.err()}`,
        },
      );
      await waitFor(
        async () => {
          await send(lab.remote, g.mdns, MDNS_PORT, { text: 'still there', ttl: 255, from: MDNS_PORT });
          return heard(member).length > 0;
        },
        { what: 'a query in the guest' },
      );
      for (const one of [member, watch]) one.kill('SIGKILL');
    },
  );

  it('the host’s own service keeps its port: the guest’s announcement leaves from it all the same', async () => {
    const service = await listen(lab.host, '224.0.0.251', MDNS_PORT);
    const outside = await listen(lab.remote, '224.0.0.251', MDNS_PORT);
    await send(guest, '224.0.0.251', MDNS_PORT, { text: 'of the guest', from: MDNS_PORT });
    await until(outside, 1);
    expect(heard(outside)).toMatchObject([{ port: MDNS_PORT, text: 'of the guest' }]);
    for (let i = 0; i < 3; i++) {
      const answers = await send(lab.remote, NET.host4, MDNS_PORT, { text: `ask ${i}`, ttl: 64, answers: 1 });
      expect(answers[0]?.text).toBe(`answer to ask ${i}`);
    }
    for (const one of [service, outside]) one.kill('SIGKILL');
  });

  it.each([
    ['limited', '255.255.255.255'],
    ['of the network', '192.0.2.255'],
  ])('broadcast (%s) leaves, and is answered', async (_which, address) => {
    const outside = await listen(lab.remote, address, OTHER_PORT);
    const [answer] = await send(guest, address, OTHER_PORT, { text: 'ask all', ttl: 7, answers: 1 });
    expect(answer).toMatchObject({ from: NET.gateway4, text: 'answer to ask all' });
    expect(heard(outside)).toMatchObject([{ ttl: 7, text: 'ask all' }]);
    outside.kill('SIGKILL');
  });

  it.each(GROUPS)('a group beyond the site does not leave over $family', async ({ global, peer }) => {
    const outside = await listen(lab.remote, global, OTHER_PORT);
    await send(guest, global, OTHER_PORT, { text: 'to the world', ttl: 9 });
    await send(guest, peer, OTHER_PORT, { text: 'to one', ttl: 9 });
    await until(outside, 1);
    expect(heard(outside).map(({ text }) => text)).toEqual(['to one']);
    outside.kill('SIGKILL');
  });
});

describe('without it', () => {
  let lab: Lab;
  let guest: Guest;
  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    guest = await lab.guest(['--config-net', '--no-map-gw']);
  });
  afterAll(() => lab.cleanup());

  it.each(GROUPS)('nothing of it leaves, nothing fails, and the rest goes on over $family', async ({ ssdp, peer }) => {
    const outside = await listen(lab.remote, ssdp, SSDP_PORT);
    await send(guest, ssdp, SSDP_PORT, { text: 'ask', ttl: 4 });
    if (peer === NET.gateway4) await send(guest, '192.0.2.255', SSDP_PORT, { text: 'ask', ttl: 4 });
    const [answer] = await send(guest, peer, SSDP_PORT, { text: 'ask one', ttl: 4, answers: 1 });
    expect(answer).toMatchObject({ from: peer, text: 'answer to ask one' });
    expect(heard(outside).map(({ text }) => text)).toEqual(['ask one']);
    outside.kill('SIGKILL');
  });
});
