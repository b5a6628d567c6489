// SPDX-License-Identifier: Apache-2.0
/** A machine that boots from the network: iPXE, the boot ROM of QEMU's cards, configures itself by DHCP, SLAAC and DHCPv6. */
import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Lab, makeLab, NET } from '../support/lab.mjs';
import { hasExited, waitFor } from '../support/process.mjs';
import { startPasst, streamTo } from '../support/vm.mjs';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
});
afterAll(() => lab.cleanup());

const SOCKET = '/run/scratch/rom.socket';

it('has its addresses after one round of DHCP, and finds no boot server', async () => {
  const capture = join(lab.dir, 'rom.pcap');
  writeFileSync(capture, '');
  chmodSync(capture, 0o666);
  const passt = await startPasst(lab, SOCKET, ['-1', '-p', capture]);
  const rom = lab.user.spawn([
    'qemu-system-x86_64',
    ...['-nographic', '-no-user-config', '-accel', 'tcg', '-m', '64', '-boot', 'n', '-net', 'none'],
    ...['-device', 'virtio-net-pci,netdev=s,mac=52:54:00:00:00:5a', '-netdev', `${streamTo(SOCKET)},id=s`],
  ]);
  await waitFor(() => rom.out().includes('Nothing to boot') || hasExited(rom), { what: 'iPXE', timeoutMs: 60_000 });
  const said = rom.out();
  expect(said).toContain(`net0: ${NET.host4}/255.255.255.0 gw ${NET.gateway4}`);
  expect(said).toMatch(/net0: 2001:db8:\S+\/64 gw fe80:/);
  rom.kill('SIGKILL');
  await passt.closed;
  const frames = execFileSync('tcpdump', ['-nvr', capture, 'udp port 67'], { encoding: 'utf8' });
  const kinds = [...frames.matchAll(/DHCP-Message \(53\), length 1: (\w+)/g)].map(([, kind]) => kind);
  expect(kinds).toEqual(['Discover', 'Offer', 'Request', 'ACK']);
});
