// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * A virtual machine behind passt, shown: builds, makes a "host" and a "remote" namespace, runs passt and QEMU in "host" as an
 * ordinary user, and uses the network that the guest gets. No KVM is needed. Leaves nothing behind, also when interrupted.
 *
 *   npm run demo:vm [-- --skip-setup] [-- --passt PATH]    --passt: another one with the same command line
 */
import { join } from 'node:path';
import { NET, REPOSITORY } from '../test/support/lab.mjs';
import { waitFor } from '../test/support/process.mjs';
import { LEASE_LOG, passtBinary, startPasst, startVm, streamTo } from '../test/support/vm.mjs';
import { readOptions } from './lib/options.mjs';
import { check, runDemo } from './lib/show.mjs';
import { setupOrExit } from './setup.mjs';

/** @typedef {import('../test/support/lab.mjs').Lab} Lab */
/** @typedef {import('../test/support/vm.mjs').Vm} Vm */

const MIB = 1024 * 1024;
const DOWNLOAD_MIB = 32;
const HTTP_PORT = '8080';
/** Of the host, forwarded into the guest. */
const INBOUND_PORT = 8081;
const SOCKET = '/run/scratch/passt.socket';
const DHCLIENT = `-1 -cf /etc/dhclient.conf -pf /dev/null -e LOG=${LEASE_LOG} -sf /etc/dhcp-hook.sh eth0`;

const options = readOptions(import.meta.url, { 'skip-setup': { type: 'boolean' }, passt: { type: 'string' } });

/** What the guest's DHCP client was told last. @param {Vm} vm @param {readonly string[]} names */
const told = async (vm, names) => {
  const text = await vm.must(`cat ${LEASE_LOG}; rm ${LEASE_LOG}`);
  return names.map(
    (name) => new RegExp(`^${name}=(.+)$`, 'm').exec(text)?.[1] ?? Promise.reject(new Error(`no ${name}`)),
  );
};

/** @param {Vm} vm */
const configure = async (vm) => {
  await vm.must('ip link set eth0 mtu 65535 up'); // Linux believes no advertised MTU above the interface's
  await check('DHCPv4 (dhclient)', async () => {
    await vm.must(`dhclient -4 -lf /tmp/leases4 ${DHCLIENT}`, { timeoutMs: 30_000 });
    const names = ['new_ip_address', 'new_routers', 'new_domain_name_servers', 'new_interface_mtu'];
    const [address, router, resolver, mtu] = await Promise.all(await told(vm, names));
    return `${address} by ${router}, resolver ${resolver}, MTU ${mtu}`;
  });
  await check('IPv6 by router advertisement (SLAAC)', async () => {
    await vm.until('ip -6 route | grep -q "^default via fe80"');
    const addresses = await vm.must('ip -o -6 addr show dev eth0 scope global dynamic');
    return /inet6 (\S+)/.exec(addresses)?.[1] ?? Promise.reject(new Error(`no address: ${addresses}`));
  });
  await check('DHCPv6 (dhclient)', async () => {
    await vm.must(`dhclient -6 -lf /tmp/leases6 ${DHCLIENT}`, { timeoutMs: 30_000 });
    const [address, resolver] = await Promise.all(await told(vm, ['new_ip6_address', 'new_dhcp6_name_servers']));
    return `${address}, resolver ${resolver}`;
  });
};

/** @param {Vm} vm */
const pings = async (vm) => {
  for (const [family, address] of [
    ['IPv4', NET.server4],
    ['IPv6', NET.server6],
  ])
    await check(`ping ${family}`, async () => {
      const out = await vm.must(`ping -c 3 -i 0.2 -W 5 ${address}`);
      const average = /= [\d.]+\/([\d.]+)\//.exec(out)?.[1];
      return `3 of 3, ${average} ms on average`;
    });
  await check('DNS look-up', async () => {
    const out = await vm.must(`nslookup ${NET.name} ${NET.server4}`);
    const found = [...out.matchAll(/^Address: (\S+)$/gm)].map(([, address]) => address);
    if (found.length === 0) throw new Error(out);
    return `${NET.name} is ${found.join(' and ')}`;
  });
};

/** @param {Lab} lab @param {Vm} vm */
const download = async (lab, vm) => {
  const program = join(REPOSITORY, 'test/support/http.mjs');
  const server = lab.remote.spawn([process.execPath, program, 'serve', NET.server4, HTTP_PORT]);
  await waitFor(() => server.out().includes('listening'), { what: 'the HTTP server' });
  const url = `http://${NET.server4}:${HTTP_PORT}`;
  await check(`HTTP download, ${DOWNLOAD_MIB} MiB`, async () => {
    const started = performance.now();
    const out = await vm.must(`wget -q -O - ${url}/download/${DOWNLOAD_MIB * MIB} | sha256sum`, { timeoutMs: 60_000 });
    const ms = performance.now() - started;
    const received = out.split(' ')[0];
    const sent = await vm.must(`wget -q -O - ${url}/hash`);
    if (received !== sent) throw new Error(`sent ${sent}, received ${received}`);
    const rate = ((DOWNLOAD_MIB * MIB * 8) / ms / 1e6).toFixed(2);
    return `SHA-256 ${sent.slice(0, 16)}… equal, ${rate} Gbit/s with hashing, emulated`;
  });
};

/** @param {Lab} lab @param {Vm} vm */
const forwards = async (lab, vm) => {
  const program = join(REPOSITORY, 'test/support/forward.mjs');
  await vm.must(`witness ${INBOUND_PORT} >/tmp/witness &`);
  await vm.until('grep listening /tmp/witness');
  for (const protocol of /** @type {const} */ (['tcp', 'udp']))
    for (const [family, address, from] of /** @type {const} */ ([
      ['IPv4', NET.host4, NET.server4],
      ['IPv6', NET.host6, NET.server6],
    ]))
      await check(
        `-${protocol[0]} ${INBOUND_PORT}: a server in the guest, asked from the network, ${protocol.toUpperCase()} ${family}`,
        async () => {
          const question = { protocol, address, port: INBOUND_PORT, from, patienceMs: 10_000 };
          const argv = [process.execPath, program, 'ask', JSON.stringify([question])];
          const [answer] = JSON.parse(await lab.remote.run(argv));
          if (answer.error !== undefined) throw new Error(answer.error);
          const { address: seen, port, own } = answer;
          if (seen !== from || port !== own.port) throw new Error(`the server saw ${seen} port ${port}`);
          return `the server saw ${seen} port ${port}, the client's own`;
        },
      );
};

/** @param {Lab} lab */
const show = async (lab) => {
  const binary = options.passt ?? passtBinary(lab);
  const port = String(INBOUND_PORT);
  const passt = await startPasst(lab, SOCKET, ['-1', '-t', port, '-u', port], binary);
  console.log(`demo: ${binary} listens at ${SOCKET} as an ordinary user, PID ${passt.pid()}`);
  const started = performance.now();
  const vm = await startVm(lab, { netdev: streamTo(SOCKET) });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`demo: ${(await vm.must('uname -sr')).trim()} booted in ${seconds} s in QEMU, PID ${vm.pid}, emulated\n`);
  await configure(vm);
  await pings(vm);
  await download(lab, vm);
  await forwards(lab, vm);
  await check('power off: the guest ends, QEMU ends, and passt (--one-off) with it', async () => {
    const { status } = await vm.powerOff();
    await waitFor(() => passt.child.exitCode !== null || passt.child.signalCode !== null, { what: 'passt to end' });
    if (status !== 0 || passt.child.exitCode !== 0)
      throw new Error(
        `QEMU's status ${status}, passt's ${passt.child.exitCode ?? passt.child.signalCode}:\n${passt.err()}`,
      );
    return 'both with status 0';
  });
};

if (!options['skip-setup']) setupOrExit({ vm: 'needed' });
await runDemo({ mtu: 65_520 }, show);
