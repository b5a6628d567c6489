// SPDX-License-Identifier: Apache-2.0
/**
 * TCP from the network to servers in the namespace, over the tap: every octet, the client's own address, and ends of all kinds as
 * clients see them.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile, type Guest, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { descriptors, finish, type Started, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, REFUSED_PORT, STREAM_PORT } from '../support/programs.ts';

const MIB = 1024 ** 2;
/** Those of tcp-life.py. */
const LIFE_PORTS = '7200-7290';
const REPORT_PORT = 7011;
/** Forwarded to an address behind the guest. */
const BEHIND_PORT = 7012;
const BEHIND = '10.66.0.1';
/** The guest has the host's addresses: what is forwarded is asked there. */
const FAMILIES = [
  { family: 'IPv4', host: NET.host4, peer: NET.gateway4, gateway: NET.gateway4, loopback: '127.0.0.1' },
  { family: 'IPv6', host: NET.host6, peer: NET.gateway6, gateway: NET.gateway6, loopback: '::1' },
] as const;
const life = (...args: readonly string[]): string[] => [
  'python3',
  join(REPOSITORY, 'test/support/tcp-life.py'),
  ...args,
];
/** Says where each connection is from, and hangs up. */
const REPORTER = `require('net').createServer((s) => s.end(s.remoteAddress + ' ' + s.remotePort))
  .listen({ host: '::', port: ${REPORT_PORT} }, () => console.log('listening'))`;
/** Connects from LOCAL port (0: any), prints what comes, or the error's name. */
const READER = `const [host, port, localPort] = process.argv.slice(1);
  let got = '';
  const s = require('net').connect({ host, port: Number(port), localPort: Number(localPort) || undefined });
  s.on('data', (d) => { got += d; }).on('error', (e) => { got = e.code; }).on('close', () => console.log(got));`;

let lab: Lab;
let guest: Guest;
let stream: string;
const serve = async (argv: readonly string[]): Promise<void> => {
  const started = guest.spawn(argv);
  await waitFor(() => started.out().includes('listening') || started.child.exitCode !== null, { what: argv.join(' ') });
  expect(started.err()).toBe('');
};
const read = async (from: Side, address: string, port: number, localPort = 0): Promise<string> =>
  (
    await from.run([process.execPath, '-e', READER, address, String(port), String(localPort)], { timeoutMs: 10_000 })
  ).trim();

beforeAll(async () => {
  lab = await makeLab();
  stream = await compile('test/support/stream.c', join(lab.dir, 'stream'));
  const ports = `${ECHO_PORT},${REPORT_PORT},${REFUSED_PORT},${STREAM_PORT},${LIFE_PORTS}`;
  const behind = `0.0.0.0/${BEHIND_PORT}:${BEHIND}/80`;
  const others = ['-u', 'none', '-T', 'none', '-U', 'none'];
  guest = await lab.guest(['--config-net', '--no-splice', '-t', ports, '-t', behind, ...others], undefined, {
    forwards: true,
  });
  await serve([process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), String(ECHO_PORT), NET.host4, NET.host6]);
  await serve([process.execPath, '-e', REPORTER]);
  for (const { host } of FAMILIES) {
    await serve([stream, 'serve', host, String(STREAM_PORT)]);
    await serve(life('serve', host));
  }
});
afterAll(() => lab.cleanup());

describe.each(FAMILIES)('from the network over $family', ({ host, peer, gateway, loopback }) => {
  it.each(['down', 'up'])('128 MiB %s, every octet right', async (direction) => {
    await lab.remote.run([stream, direction, host, String(STREAM_PORT), String(128 * MIB), '7'], { timeoutMs: 60_000 });
  });
  it.each([0, 1, 100_000])('%i octets and a half-close come back', async (size) => {
    await lab.remote.run([stream, 'half', host, String(STREAM_PORT), String(size), '9'], { timeoutMs: 10_000 });
  });
  it('the server sees the client’s own address and port', async () => {
    for (const localPort of [41_001, 41_002]) {
      expect(await read(lab.remote, host, REPORT_PORT, localPort)).toMatch(
        new RegExp(`^(::ffff:)?${peer} ${localPort}$`),
      );
    }
  });
  it('clients of the host itself come from the gateway: neither its loopback nor the guest’s own address is shown', async () => {
    for (const address of [loopback, host]) {
      expect(await read(lab.host, address, REPORT_PORT, 41_003)).toMatch(
        new RegExp(`^(::ffff:)?(${gateway}|fe80::[0-9a-f:]*) 41003$`),
      );
    }
  });
  it('nobody listens: the client is reset', async () => {
    expect(await read(lab.remote, host, REFUSED_PORT)).toBe('ECONNRESET');
  });
  it.each([
    ['halfClose', [true, null]],
    ['peerHalfClose', [true, null, [['peerHalfClose', 300_000, null]]]],
    ['peerReset', ['ECONNRESET']],
    ['aborted', ['ECONNRESET', 'ECONNRESET']],
    ['answerThenReset', [true, 'ECONNRESET']],
    ['urgent', 'uvwXyzabcDefg'],
    ['writeAfterClose', expect.stringMatching(/^(EPIPE|ECONNRESET)$/)],
    ['shortLived', {}],
  ])('%s', async (scenario, expected) => {
    expect(JSON.parse(await lab.remote.run(life('run', host, scenario), { timeoutMs: 30_000 }))).toEqual({
      [scenario]: expected,
    });
  });
  it('500 at once echo, and give everything back', async () => {
    const open = (): number => guest.toolProcesses().reduce((sum, pid) => sum + descriptors(pid).size, 0);
    const before = open();
    const flows: Started = lab.remote.spawn(client('flows', host, ECHO_PORT, 500), { stdin: 'pipe' });
    await waitFor(() => flows.out().includes('{"open":500}') || flows.child.exitCode !== null, {
      what: '500 connections',
      timeoutMs: 30_000,
    });
    expect(open()).toBeGreaterThanOrEqual(before + 500);
    flows.child.stdin?.end();
    expect((await finish(flows, { timeoutMs: 60_000 })).status).toBe(0);
    await waitFor(() => open() <= before, { what: 'descriptors given back' });
  });
});

it('a router in the guest that refuses by ICMP resets the client at once', async () => {
  await guest.run(['sh', '-ec', `echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add prohibit ${BEHIND}`]);
  const begun = Date.now();
  expect(await read(lab.remote, NET.host4, BEHIND_PORT)).toBe('ECONNRESET');
  // Without the word it would be asked for two minutes; a second is one more SYN.
  expect(Date.now() - begun).toBeLessThan(5000);
});
