// SPDX-License-Identifier: Apache-2.0
/** A virtual machine whose QEMU knows nothing of UNIX sockets: qrap hands it the connection to passt. */
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Lab, makeLab, NET } from '../support/lab.mjs';
import { finish, type Started, waitFor } from '../support/process.mjs';
import { STREAM_PORT, streamServer } from '../support/programs.ts';
import { startPasst, startVm, type Vm, whyNoVm } from '../support/vm.mjs';

const SOCKET = '/run/scratch/qrap.socket';
const MAC = '52:54:00:0a:0b:0c';
const BYTES = 4 << 20;

const why = whyNoVm();
describe.skipIf(why !== null)('QEMU by way of qrap', () => {
  let lab: Lab;
  let passt: Started;
  let qrap: string;
  beforeAll(async () => {
    lab = await makeLab();
    qrap = join(dirname(lab.binary), 'qrap');
    await streamServer(lab);
    passt = await startPasst(lab, SOCKET);
  });
  afterAll(() => lab?.cleanup());

  const env = { PASTICHE_SOCKET: SOCKET };
  /** An address by DHCP, then a checked transfer each way. */
  const usesTheNetwork = async (vm: Vm): Promise<void> => {
    await vm.must('ip link set eth0 up && udhcpc -i eth0 -n -q -s /etc/dhcp-hook.sh');
    expect(await vm.must('ip -4 -o addr show eth0')).toContain(NET.host4);
    for (const direction of ['down', 'up'])
      await vm.must(`stream ${direction} ${NET.server4} ${STREAM_PORT} ${BYTES} 7`);
  };

  test('`qrap FD QEMU ARGUMENT...`; nobody else gets in; a killed QEMU makes room', async () => {
    const vm = await startVm(lab, { netdev: 'socket,fd=9', mac: MAC, env, wrap: (argv) => [qrap, '9', ...argv] });
    expect(await vm.must('cat /sys/class/net/eth0/address')).toBe(`${MAC}\n`);
    await usesTheNetwork(vm);
    const second = await lab.user.attempt([qrap, '5', '/bin/true'], { env });
    expect(second).toMatchObject({ status: 1 });
    expect(second.stderr).toContain(`Probe of ${SOCKET} failed: it hung up; it may have another guest\n`);
    await usesTheNetwork(vm);
    await vm.kill();
    expect(passt.child.exitCode).toBeNull();
  });
  test('in the place of QEMU, on q35 with root ports as libvirt writes them: a card of the same MAC', async () => {
    const device = (properties: object): string[] => ['-device', JSON.stringify(properties)];
    const port = (n: number) =>
      device({ driver: 'pcie-root-port', port: 15 + n, chassis: n, id: `pci.${n}`, bus: 'pcie.0', addr: `0x${n + 4}` });
    const card = {
      driver: 'e1000e',
      netdev: 'hostnet0',
      id: 'net0',
      mac: MAC,
      bus: 'pci.2',
      addr: '0x0',
      bootindex: 1,
    };
    const network = [...port(1), ...port(2), '-netdev', '{"type":"user","id":"hostnet0"}', ...device(card)];
    const vm = await startVm(lab, { network, env, machine: 'q35', wrap: (argv) => [qrap, ...argv.slice(1)] });
    expect(vm.console()).toContain(`Connected to ${SOCKET}\n`);
    expect(await vm.must('cat /sys/class/net/eth0/address')).toBe(`${MAC}\n`);
    expect(await vm.must('readlink /sys/class/net/eth0/device/driver')).toContain('virtio_net');
    await usesTheNetwork(vm);
    await vm.powerOff();
  });
  test("upstream's own qrap is answered, too", async ({ skip }) => {
    const theirs = '/usr/bin/qrap';
    const there = await lab.user.attempt([theirs]);
    if (there.stderr.includes('ENOENT') || there.status === null) skip("Debian's passt is not installed");
    // It looks below /tmp only: a /tmp of its own, with our socket in it.
    const script = `mount -t tmpfs tmpfs /tmp && ln -s ${SOCKET} /tmp/passt_1.socket && exec ${theirs} 5 /bin/true`;
    const tool = lab.host.spawn(['unshare', '--mount', 'sh', '-c', script]);
    await waitFor(() => tool.child.exitCode !== null, { what: 'qrap' });
    expect((await finish(tool, {})).stderr).toContain('Connected to /tmp/passt_1.socket');
  });
});
