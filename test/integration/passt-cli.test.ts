// SPDX-License-Identifier: Apache-2.0
/** What passt's command line says: refusals, which leave no socket and no process behind, help and version. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Lab, makeLab } from '../support/lab.mjs';
import { isAlive, waitFor } from '../support/process.mjs';
import { passtBinary } from '../support/vm.mjs';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
});
afterAll(() => lab.cleanup());

const SOCKET = '/run/scratch/refused.socket';

describe('a wrong command line is refused with one clear sentence and status 1', () => {
  it.each([
    [['--bogus'], /^(passt: )?unrecognized option '--bogus'/],
    [['--config-net'], /^--config-net is for pasta mode only$/],
    [['-T', '22'], /^-T is for pasta mode only$/],
    [['--netns', '/run/netns/x'], /^--netns is for pasta mode only$/],
    [['true'], /^Extra non-option argument: true$/],
    [['-t', 'auto'], /^'auto' port forwarding is only allowed for pasta: -t auto$/],
    [['-t', '8080-80'], /^Invalid port specifier 8080-80: .* in -t$/],
    [['-m', '70000'], /^Invalid MTU: 70000 /],
    [['-a', '10.0.2.15/24', '-n', '24'], /^Redundant prefix length specification/],
    [['-i', 'nosuchif0'], /^Invalid interface name nosuchif0: No such device/],
    [['--migrate-exit'], /^--migrate-exit is for vhost-user mode only$/],
    [['--vhost-user', '--migrate-exit'], /^--migrate-exit is not supported: /],
    [['--repair-path', '/run/scratch/r'], /^--repair-path is for vhost-user mode only$/],
    [['-F', 'x'], /^Invalid --fd: x/],
  ])('%j', async (args, expected) => {
    const before = lab.processes();
    const socket = args[0] === '-F' ? [] : ['-s', SOCKET];
    const done = await lab.user.attempt([passtBinary(lab), ...socket, ...args], { timeoutMs: 5000 });
    expect(done).toMatchObject({ status: 1, stdout: '', timedOut: false });
    const [sentence = '', ...rest] = done.stderr.trim().split('\n');
    expect(sentence).toMatch(expected);
    expect(rest.join('\n')).toMatch(/^(|\n*Usage: passt .*)$/s);
    await waitFor(() => !lab.processes().some((pid) => !before.includes(pid) && isAlive(pid)), {
      what: 'all to be gone',
      timeoutMs: 1000,
    });
    expect((await lab.user.attempt(['ls', SOCKET])).status).not.toBe(0);
  });
});

describe('answers of the executable itself', () => {
  it('--version: the first line names the tool and its version', async () => {
    const done = await lab.user.attempt([passtBinary(lab), '--version']);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout.split('\n')[0]).toMatch(/^passt \d+\.\d+\.\d+/);
  });
  it('--help has the options of passt, and none of pasta alone', async () => {
    const done = await lab.user.attempt([passtBinary(lab), '--help']);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout).toMatch(/^Usage: passt /);
    expect(done.stdout).toMatch(/--vhost-user/);
    expect(done.stdout).not.toMatch(/--config-net|--netns|--tcp-ns/);
  });
});
