// SPDX-License-Identifier: Apache-2.0
/** Guests that come and go at passt's socket: restarts of the guest, of QEMU and of passt, two of each on one host, one-off. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Lab, makeLab, NET } from '../support/lab.mjs';
import { finish, type Started, waitFor } from '../support/process.mjs';
import { ask, STREAM_PORT, streamServer } from '../support/programs.ts';
import { passtBinary, startPasst, startVm, streamTo, type Vm, whyNoVm } from '../support/vm.mjs';

const [SOCKET_A, SOCKET_B, SOCKET_C] = ['a', 'b', 'c'].map((name) => `/run/scratch/${name}.socket`) as [
  string,
  string,
  string,
];
const [PORT_A, PORT_B] = [7900, 7901];
const MAC_A = '52:54:00:00:00:0a';
const MAC_B = '52:54:00:00:00:0b';
const MIB = 1024 * 1024;
/** Promised: docs/SECURITY.md, "Life and death". */
const GONE_WITHIN_MS = 1000;

/** Connects and waits until the other end hangs up. */
const HANG_UP = [process.execPath, '-e', "require('net').connect(process.argv[1]).resume()"];
/** Connects and hangs up. */
const CONNECT_ONCE = [process.execPath, '-e', "const s = require('net').connect(process.argv[1], () => s.end())"];

const why = whyNoVm();
describe.skipIf(why !== null)('life of virtual machines', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await makeLab();
    await streamServer(lab);
  });
  afterAll(() => lab?.cleanup());

  const configured = async (vm: Vm): Promise<void> => {
    await vm.must('ip link set eth0 up && udhcpc -i eth0 -n -q -t 10 -T 1 -s /etc/dhcp-hook.sh', { timeoutMs: 30_000 });
    await vm.until('ip -6 route | grep -q "^default via fe80" && ! ip -6 addr show tentative | grep inet6');
  };
  const works = async (vm: Vm): Promise<void> => {
    for (const server of [NET.server4, NET.server6]) {
      expect(await vm.must(`ping -c 1 -W 5 ${server}`)).toContain(' 1 received');
      await vm.must(`stream half ${server} ${STREAM_PORT} ${MIB} 3`);
    }
  };
  const serves = async (vm: Vm, port: number): Promise<void> => {
    await vm.must(`{ witness ${port} >/tmp/witness & }; while ! grep -q listening /tmp/witness; do sleep 0.02; done`);
    for (const [address, from] of [
      [NET.host4, NET.server4],
      [NET.host6, NET.server6],
    ] as const) {
      const [reply] = await ask(lab.remote, [{ protocol: 'tcp', address, port, from }]);
      expect(reply).toMatchObject({ address: from });
    }
  };
  const connections = async (): Promise<string> =>
    lab.host.run(['ss', '-Htn', 'state', 'established', `( dport = :${STREAM_PORT} )`]);

  describe('two guests of two instances', () => {
    let passtA: Started;
    let a: Vm;
    let b: Vm;
    beforeAll(async () => {
      [passtA] = await Promise.all([
        startPasst(lab, SOCKET_A, ['-t', `${PORT_A}`]),
        startPasst(lab, SOCKET_B, ['-t', `${PORT_B}`]),
      ]);
      [a, b] = await Promise.all([
        startVm(lab, { netdev: streamTo(SOCKET_A), mac: MAC_A }),
        startVm(lab, { netdev: streamTo(SOCKET_B), mac: MAC_B }),
      ]);
    });

    it('have the network at the same time, and each its ports', async () => {
      await Promise.all([configured(a), configured(b)]);
      await Promise.all([works(a), works(b)]);
      await Promise.all([serves(a, PORT_A), serves(b, PORT_B)]);
    });

    it('the socket takes one guest at a time', async () => {
      await lab.user.run([...HANG_UP, SOCKET_A]); // ends because it is hung up on
      await works(a);
    });

    it('a guest that restarts has a network again, and its old connections end', async () => {
      await a.must(`stream down ${NET.server4} ${STREAM_PORT} ${4096 * MIB} 5 >/dev/null 2>&1 &`);
      await waitFor(async () => (await connections()) !== '', { what: 'the connection' });
      await a.reboot();
      await configured(a);
      await works(a);
      await serves(a, PORT_A);
      await works(b);
      // The guest knows nothing of them: what is repeated there, later and later, is answered by a reset.
      await waitFor(async () => (await connections()) === '', { what: 'the old connection to end', timeoutMs: 60_000 });
    });

    it('QEMU is killed, and started again with another MAC', async () => {
      await a.kill();
      a = await startVm(lab, { netdev: streamTo(SOCKET_A), mac: '52:54:00:00:00:1a' });
      await configured(a);
      await works(a);
      await serves(a, PORT_A);
    });

    it('passt is killed: QEMU and its guest go on without a network, and a new passt serves the next QEMU', async () => {
      passtA.kill('SIGKILL');
      await passtA.closed;
      expect((await a.run(`ping -c 1 -W 1 ${NET.server4}`)).status).toBe(1);
      expect((await lab.host.attempt(['test', '-S', SOCKET_A])).status).toBe(0); // stale, to be replaced
      passtA = await startPasst(lab, SOCKET_A, ['-1']);
      await a.kill();
      a = await startVm(lab, { netdev: streamTo(SOCKET_A), mac: MAC_A });
      await configured(a);
      await works(a);
      await works(b);
    });

    it('--one-off ends with its guest, status 0, and the other goes on', async () => {
      await a.kill();
      expect(await finish(passtA, { timeoutMs: GONE_WITHIN_MS })).toMatchObject({ status: 0, timedOut: false });
      await works(b);
    });

    it('a live socket is not taken over', async () => {
      const second = await lab.user.attempt([passtBinary(lab), '-f', '-s', SOCKET_B], { timeoutMs: 10_000 });
      expect(second).toMatchObject({ status: 1, timedOut: false });
      expect(second.stderr).toContain(SOCKET_B);
      await works(b);
    });
  });

  it('--one-off in the background: ready when the socket listens, and gone with its guest', async () => {
    const pidFile = '/run/scratch/one-off.pid';
    await lab.user.run([passtBinary(lab), '-1', '-s', SOCKET_C, '-P', pidFile], { timeoutMs: 20_000 });
    const pid = (await lab.host.run(['cat', pidFile])).trim();
    await lab.user.run([...CONNECT_ONCE, SOCKET_C]);
    await waitFor(async () => (await lab.host.attempt(['kill', '-0', pid])).status !== 0, {
      what: 'passt to end',
      timeoutMs: GONE_WITHIN_MS,
    });
  });
});
