// SPDX-License-Identifier: Apache-2.0
/**
 * Virtual machines whose rings we serve (--vhost-user): everything that can be offloaded and nothing of it, a guest that restarts, a QEMU
 * that is killed, a passt that is. The cards have no MSI-X: emulating that, QEMU 7.2 ends with SIGSEGV in a machine without KVM.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CROWD_PORT, crowdServer } from '../support/crowd.mjs';
import { type Lab, makeLab, NET } from '../support/lab.mjs';
import type { Started } from '../support/process.mjs';
import { ask, FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';
import { startPasst, startVm, type Vm, whyNoVm } from '../support/vm.mjs';

const SOCKET = '/run/scratch/vhost.socket';
const PORT = 7900;
const TRANSFER = 4 * 1024 * 1024;
/** Bits of virtio 1.2 §5.1.3 and §6, as the guest's kernel shows them. */
const OFFLOADS = [0, 1, 7, 8, 11, 12, 15, 28, 29];
const VERSION_1 = 32;
const OFF = [
  ...['csum', 'guest_csum', 'gso', 'guest_tso4', 'guest_tso6', 'host_tso4', 'host_tso6'],
  ...['mrg_rxbuf', 'event_idx', 'indirect_desc'],
].map((property) => `${property}=off`);

const why = whyNoVm();
describe.skipIf(why !== null)('a virtual machine by vhost-user', () => {
  let lab: Lab;
  let passt: Started;
  let vm: Vm;

  const options = ['--vhost-user', '-t', `${PORT}`, '-u', `${PORT}`];
  const boot = (device: string, chardev = ''): Promise<Vm> =>
    startVm(lab, {
      netdev: 'vhost-user,chardev=c',
      args: ['-chardev', `socket,id=c,path=${SOCKET}${chardev}`],
      device: `vectors=0${device}`,
      sharedMemory: true,
    });
  /** Addresses by DHCP and by router advertisement, with the MTU that the guest is told or another. */
  const configure = async (mtu = ''): Promise<void> => {
    await vm.must('ip link set eth0 mtu 65535 up; udhcpc -i eth0 -n -q -s /etc/dhcp-hook.sh');
    if (mtu !== '') await vm.must(`ip link set eth0 mtu ${mtu}`);
    expect(await vm.must('ip -4 -o addr show dev eth0')).toContain(NET.host4);
    await vm.until('ip -6 -o addr show dev eth0 scope global -tentative | grep -q inet6');
    await vm.until('ip -6 route | grep -q "^default via fe80"');
  };
  const negotiated = async (): Promise<number[]> => {
    const bits = (await vm.must('cat /sys/class/net/eth0/device/features')).trim();
    return [...bits].flatMap((bit, n) => (bit === '1' ? [n] : []));
  };
  const transfers = async (server: string): Promise<void> => {
    for (const direction of ['down', 'up', 'half']) {
      await vm.must(`stream ${direction} ${server} ${STREAM_PORT} ${TRANSFER} 7`, { timeoutMs: 60_000 });
    }
  };
  /** What a guest and its network do with each other, by both families. */
  const works = async (): Promise<void> => {
    await vm.must(`pidof witness || { witness ${PORT} >/tmp/witness & }`);
    for (const { family, server, flag } of FAMILIES) {
      const [client, host] = family === 'IPv4' ? [NET.server4, NET.host4] : [NET.server6, NET.host6];
      expect(await vm.must(`ping ${flag} -c 2 -i 0.2 -W 5 ${server}`)).toContain(' 2 received');
      await transfers(server);
      for (const protocol of ['tcp', 'udp']) {
        const crowd = await vm.must(`crowd ${protocol} ${server} ${CROWD_PORT} 50`);
        expect(JSON.parse(crowd.split('\n')[0] as string)).toMatchObject({ ok: 50, errors: {} });
      }
      for (const protocol of ['tcp', 'udp'] as const) {
        const [answer] = await ask(lab.remote, [{ protocol, address: host, port: PORT, from: client }]);
        expect(answer).toMatchObject({ address: client, port: answer?.own.port });
      }
    }
  };

  beforeAll(async () => {
    lab = await makeLab();
    await Promise.all([streamServer(lab), crowdServer(lab)]);
    passt = await startPasst(lab, SOCKET, options);
  });
  afterAll(() => lab?.cleanup());

  it('has all offloads, and works', async () => {
    vm = await boot('');
    expect(await negotiated()).toEqual(expect.arrayContaining([...OFFLOADS, VERSION_1]));
    await configure();
    await works();
    for (const { flag, server } of FAMILIES) {
      expect(await vm.must(`ping ${flag} -c 2 -i 0.2 -s 20000 -W 5 ${server}`)).toContain(' 2 received');
    }
  });

  it('restarts, and works', async () => {
    await vm.reboot();
    await configure();
    await transfers(NET.server6);
  });

  it('is killed; the next one, without any offload, works at the same socket', async () => {
    await vm.kill();
    vm = await boot(`,${OFF.join()}`, ',reconnect=1');
    const bits = await negotiated();
    expect(bits.filter((bit) => OFFLOADS.includes(bit))).toEqual([]);
    expect(bits).toContain(VERSION_1);
    // Its buffers hold no more.
    await configure('1500');
    await works();
    expect(passt.child.exitCode).toBeNull();
  });

  it('comes back to a passt that was killed and started again; by --one-off that ends with it, in order', async () => {
    passt.kill('SIGKILL');
    await passt.closed;
    passt = await startPasst(lab, SOCKET, [...options, '--one-off']);
    await vm.until(`ping -c 1 -W 1 ${NET.server4}`);
    await vm.must(`stream down ${NET.server4} ${STREAM_PORT} 1000000 7`);
    expect((await vm.powerOff()).status).toBe(0);
    await passt.closed;
    expect(passt.child.exitCode).toBe(0);
  });
});
