// SPDX-License-Identifier: Apache-2.0
/** What the command line says and writes: refusals, help, captures and logs. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Lab, makeLab, NET, Side } from '../support/lab.mjs';
import { isAlive, waitFor } from '../support/process.mjs';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
});
afterAll(() => lab.cleanup());

describe('a wrong command line is refused with one clear sentence and status 1', () => {
  it.each([
    [['--bogus'], /--bogus/],
    [['-m', 'abc'], /MTU.*abc|abc.*MTU/],
    [['-m', '70000'], /MTU.*70000|70000.*MTU/],
    [['-a', '127.0.0.1'], /127\.0\.0\.1/],
    [['-a', 'nonsense'], /nonsense/],
    [['-a', '192.0.2.7/33'], /33/],
    [['-g', '224.0.0.1'], /224\.0\.0\.1/],
    [['-i', 'nosuchif0'], /nosuchif0/],
    [['-I', 'a-name-that-is-too-long'], /a-name-that-is-too-long/],
    [['-M', '00:11'], /00:11/],
    [['--netns', '/nonexistent/netns'], /nonexistent\/netns/],
    [['999999999'], /999999999/],
    [['-t', '8080-80'], /^Invalid port specifier 8080-80: .*character 6, "8".* in -t$/],
    [['-t', '8080', '-t', '127.0.0.1/8000-9000'], /^Forwarding configuration conflict: /],
    [['-T', '127.0.0.1/80'], /^Listening address not allowed/],
    [['-4', '-t', '::1/80'], /^IPv6 forward, but IPv6 not enabled/],
    [['-t', '80:192.0.2.9/81'], /^Dual stack forward to IPv4 address 192\.0\.2\.9 unsupported/],
    [['-t', '22', '-t', 'none'], /^-t none conflicts with previous options$/],
    [['--no-splice', '--splice-only'], /--splice-only.*--no-splice/],
    [['--map-host-loopback', '127.0.0.1'], /^Invalid address to remap to host: 127\.0\.0\.1/],
    [['--dns-forward', 'x'], /^Invalid DNS forwarding address: x/],
    [['-c', `/${'x'.repeat(107)}`], /^Invalid configuration path/],
    [['--log-size', '12', '-l', '/run/scratch/small'], /12/],
    [['-l', '/nonexistent/dir/log'], /nonexistent\/dir\/log/],
    [['-p', '/nonexistent/dir/pcap'], /nonexistent\/dir\/pcap/],
  ])('%j', async (args, expected) => {
    const command = args.some((arg) => arg === '--netns' || /^9{9}$/.test(arg)) ? [] : ['true'];
    const before = lab.processes();
    const done = await lab.user.attempt([lab.binary, ...args, ...(command.length > 0 ? ['--', ...command] : [])], {
      timeoutMs: 5000,
    });
    expect(done).toMatchObject({ status: 1, stdout: '', timedOut: false });
    // The sentence comes first; only the usage may follow it.
    const [sentence = '', ...rest] = done.stderr.trim().split('\n');
    expect(sentence).toMatch(expected);
    expect(rest.join('\n')).toMatch(/^(|\n*Usage: .*)$/s);
    await waitFor(() => !lab.processes().some((pid) => !before.includes(pid) && isAlive(pid)), {
      what: 'all to be gone',
      timeoutMs: 1000,
    });
  });
});

describe('answers of the executable itself', () => {
  it('--version: the first line names the tool and its version', async () => {
    const done = await lab.user.attempt([lab.binary, '--version']);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout.split('\n')[0]).toMatch(/^pasta \d+\.\d+\.\d+/);
  });
  it('--help fits its options on standard output', async () => {
    const done = await lab.user.attempt([lab.binary, '--help']);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout).toMatch(/--config-net/);
    expect(Math.max(...done.stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120);
  });
});

describe('files', () => {
  const ping = ['ping', '-c', '2', '-i', '0.2', NET.server4];

  it('a capture is read by tcpdump and has every frame of both directions', async () => {
    // Read outside the lab: a tcpdump that believes itself root wants to become another user.
    const file = join(lab.dir, 'capture.pcap');
    writeFileSync(file, '');
    chmodSync(file, 0o666);
    expect((await lab.pasta(['--config-net', '-p', file], ping)).status).toBe(0);
    const lines = (await new Side([], 0).run(['tcpdump', '-nr', file, 'icmp'])).trim().split('\n');
    expect(lines.filter((line) => line.includes('echo request'))).toHaveLength(2);
    expect(lines.filter((line) => line.includes('echo reply'))).toHaveLength(2);
  });

  it('a log file names the flow at debug level', async () => {
    const file = '/run/scratch/debug.log';
    expect((await lab.pasta(['--config-net', '-d', '-l', file], ping)).status).toBe(0);
    expect(await lab.host.run(['cat', file])).toContain(NET.server4);
  });

  it('the log says at the start which ports lead where, and which addresses stand for others', async () => {
    const file = '/run/scratch/forward.log';
    const ports = ['-t', '8022:22,8100-8102', '-u', 'none', '-T', '8023', '-U', 'none'];
    const args = ['--config-net', '-d', '-l', file, '-4', ...ports, '--dns-forward', '192.0.2.200'];
    expect((await lab.pasta(args, ['true'])).status).toBe(0);
    const lines = (await lab.host.run(['cat', file])).split('\n').map((line) => line.replace(/^[^:]*: info: {4}/, ''));
    const from = lines.indexOf(`NAT to host 127.0.0.1: ${NET.gateway4}`);
    expect(lines.slice(from, from + 7)).toEqual([
      `NAT to host 127.0.0.1: ${NET.gateway4}`,
      `DNS forwarding to ${NET.server4}: 192.0.2.200`,
      'Inbound forwarding rules (HOST):',
      '    TCP [0.0.0.0]:8022  =>  22 ',
      '    TCP [0.0.0.0]:8100-8102  =>  8100-8102 ',
      'Outbound forwarding rules (SPLICE):',
      '    TCP [0.0.0.0]%lo:8023  =>  8023 ',
    ]);
  });

  it("without -d a successful run prints nothing but the command's output", async () => {
    const done = await lab.pasta(['--config-net', '-q'], ['echo', 'only this']);
    expect(done).toMatchObject({ status: 0, stdout: 'only this\n', stderr: '' });
  });
});
