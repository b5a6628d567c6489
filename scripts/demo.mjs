// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * The main job, shown: builds, makes a "host" and a "remote" namespace, runs pasta in "host" as an ordinary user, and
 * uses the network it gives to a new namespace. Leaves nothing behind, also when interrupted.
 *
 *   npm run demo [-- --skip-setup] [-- --binary PATH]
 */
import { chmodSync, cpSync } from 'node:fs';
import { join } from 'node:path';
import { commandName, NET, REPOSITORY } from '../test/support/lab.mjs';
import { namespaces, status, waitFor } from '../test/support/process.mjs';
import { readOptions } from './lib/options.mjs';
import { check, runDemo } from './lib/show.mjs';
import { textTable } from './lib/table.mjs';
import { setupOrExit } from './setup.mjs';

/** @typedef {import('../test/support/lab.mjs').Lab} Lab */
/** @typedef {import('../test/support/lab.mjs').Guest} Guest */

const GIB = 1024 ** 3;
const HTTP_PORT = '8080';
const IPERF_SECONDS = '4';
const LONG_MS = 180_000;
/** Forwarded from the host into the namespace, and from the namespace's loopback to the host's. */
const [INBOUND_PORT, INBOUND_HTTP_PORT, OUTBOUND_PORT] = ['8081', '8082', '8083'];
const LOOPBACK = '127.0.0.1';

const options = readOptions(import.meta.url, { 'skip-setup': { type: 'boolean' }, binary: { type: 'string' } });

/** @param {Lab} lab @param {Guest} guest */
const configure = async (lab, guest) => {
  const hook = join(lab.dir, 'dhcp-hook.sh');
  cpSync(join(REPOSITORY, 'test/support/dhcp-hook.sh'), hook);
  chmodSync(hook, 0o755);
  const files = ['-cf', '/dev/null', '-lf', '/dev/null', '-pf', '/dev/null', '-e', 'LOG=/dev/null', '-sf', hook];
  const globalAddress = async (/** @type {string} */ family) =>
    /inet6? (\S+)/.exec(
      await guest.run(['ip', '-o', family, 'addr', 'show', 'dev', 'eth0', 'scope', 'global', '-tentative']),
    )?.[1];
  await check('DHCP (dhclient)', async () => {
    await guest.run(['dhclient', '-4', '-1', ...files, 'eth0'], { timeoutMs: 30_000 });
    return (await globalAddress('-4')) ?? Promise.reject(new Error('no address'));
  });
  await check('IPv6 by router advertisement (kernel)', async () => {
    await guest.run(['ip', 'link', 'set', 'eth0', 'up']);
    return waitFor(() => globalAddress('-6'), { what: 'an IPv6 address' });
  });
};

/** @param {Guest} guest */
const pings = async (guest) => {
  for (const [family, address] of [
    ['IPv4', NET.server4],
    ['IPv6', NET.server6],
  ])
    await check(`ping ${family}`, async () => {
      const out = await guest.run(['ping', '-c', '3', '-i', '0.2', '-W', '3', address ?? '']);
      const average = /= [\d.]+\/([\d.]+)\//.exec(out)?.[1];
      return `3 of 3, ${average} ms on average`;
    });
  await check('DNS look-up', async () => {
    const out = await guest.run(['getent', 'ahosts', NET.name]);
    return `${NET.name} is ${[...new Set(out.split('\n').map((line) => line.split(/\s/)[0]))].filter(Boolean).join(' and ')}`;
  });
};

/** @param {number} bytes @param {number} ms */
const rate = (bytes, ms) => `${((bytes * 8) / ms / 1e6).toFixed(1)} Gbit/s`;

/** @param {Lab} lab @param {Guest} guest */
const http = async (lab, guest) => {
  const program = join(REPOSITORY, 'test/support/http.mjs');
  const server = lab.remote.spawn([process.execPath, program, 'serve', NET.server4, HTTP_PORT]);
  await waitFor(() => server.out().includes('listening'), { what: 'the HTTP server' });
  const url = `http://${NET.server4}:${HTTP_PORT}`;
  await check('HTTP download, 1 GiB', async () => {
    const started = performance.now();
    const out = await guest.run(['sh', '-c', `curl -sSf ${url}/download/${GIB} | sha256sum`], { timeoutMs: LONG_MS });
    const ms = performance.now() - started;
    const received = out.split(' ')[0];
    const sent = await guest.run(['curl', '-sSf', `${url}/hash`]);
    if (received !== sent) throw new Error(`sent ${sent}, received ${received}`);
    return `SHA-256 ${sent.slice(0, 16)}… equal, ${rate(GIB, ms)} with hashing`;
  });
  await check('HTTP upload, 1 GiB', async () => {
    const started = performance.now();
    const pipeline = `'${process.execPath}' '${program}' source ${GIB} | curl -sSf -T - ${url}/upload`;
    const done = await guest.attempt(['sh', '-c', pipeline], { timeoutMs: LONG_MS });
    const ms = performance.now() - started;
    const sent = done.stderr.trim();
    if (done.status !== 0 || done.stdout !== sent) throw new Error(`sent ${sent}, received ${done.stdout}`);
    return `SHA-256 ${sent.slice(0, 16)}… equal, ${rate(GIB, ms)} with hashing`;
  });
};

/** @param {Lab} lab @param {Guest} guest */
const iperf = async (lab, guest) => {
  for (const [family, address] of [
    ['IPv4', NET.server4],
    ['IPv6', NET.server6],
  ])
    for (const [direction, flags] of /** @type {const} */ ([
      ['from', []],
      ['to', ['-R']],
    ]))
      await check(`iperf3 TCP ${family}, ${direction} the namespace`, async () => {
        const server = lab.remote.spawn(['iperf3', '-s', '-1', '-B', address ?? '']);
        await waitFor(async () => (await lab.remote.attempt(['ss', '-Hltn', 'sport', '=', '5201'])).stdout !== '', {
          what: 'iperf3 to listen',
        });
        const argv = ['iperf3', '-J', '-c', address ?? '', '-t', IPERF_SECONDS, '-O', '1', ...flags];
        const report = JSON.parse(await guest.run(argv, { timeoutMs: 30_000 }));
        await server.closed;
        return `${(report.end.sum_received.bits_per_second / 1e9).toFixed(1)} Gbit/s`;
      });
};

/** @param {Lab} lab @param {Guest} guest */
const forwards = async (lab, guest) => {
  const program = [process.execPath, join(REPOSITORY, 'test/support/forward.mjs')];
  const serve = async (/** @type {import('../test/support/lab.mjs').Side} */ side, /** @type {object[]} */ sockets) => {
    const server = side.spawn([...program, 'serve', JSON.stringify(sockets)]);
    await waitFor(() => server.out().includes('listening'), { what: 'a server' });
  };
  /** Whom the server saw. @param {import('../test/support/lab.mjs').Side} side @param {string} address @param {string} port @param {string} [from] */
  const ask = async (side, address, port, from) => {
    const question = { protocol: 'tcp', address, port: Number(port), from, patienceMs: 5000 };
    const [answer] = JSON.parse(await side.run([...program, 'ask', JSON.stringify([question])]));
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  };
  await serve(guest, [
    { protocol: 'tcp', address: '0.0.0.0', port: Number(INBOUND_PORT) },
    { protocol: 'tcp', address: '::', port: Number(INBOUND_PORT) },
  ]);
  for (const [family, host, client] of /** @type {const} */ ([
    ['IPv4', NET.host4, NET.server4],
    ['IPv6', NET.host6, NET.server6],
  ]))
    await check(`-t ${INBOUND_PORT}: a server in the namespace, asked from the network, ${family}`, async () => {
      const { address, port, own } = await ask(lab.remote, host, INBOUND_PORT, client);
      if (address !== client || port !== own.port) throw new Error(`the server saw ${address} port ${port}`);
      return `the server saw ${address} port ${port}, the client's own`;
    });
  await serve(lab.host, [{ protocol: 'tcp', address: LOOPBACK, port: Number(OUTBOUND_PORT) }]);
  await check(`-T ${OUTBOUND_PORT}: a server on the host's loopback, asked on the namespace's`, async () => {
    const { address } = await ask(guest, LOOPBACK, OUTBOUND_PORT);
    return `the server saw ${address}`;
  });
  const web = join(REPOSITORY, 'test/support/http.mjs');
  const server = guest.spawn([process.execPath, web, 'serve', '0.0.0.0', INBOUND_HTTP_PORT]);
  await waitFor(() => server.out().includes('listening'), { what: 'the HTTP server in the namespace' });
  await check('loopback bypass: HTTP download, 1 GiB, from the namespace by 127.0.0.1 of the host', async () => {
    const octets = async () =>
      JSON.parse(await guest.run(['ip', '-j', '-s', 'link', 'show', 'eth0']))[0].stats64.tx.bytes;
    const url = `http://${LOOPBACK}:${INBOUND_HTTP_PORT}`;
    const [before, started] = [await octets(), performance.now()];
    const out = await lab.host.run(['sh', '-c', `curl -sSf ${url}/download/${GIB} | sha256sum`], {
      timeoutMs: LONG_MS,
    });
    const [ms, used] = [performance.now() - started, (await octets()) - before];
    const sent = await lab.host.run(['curl', '-sSf', `${url}/hash`]);
    if (out.split(' ')[0] !== sent) throw new Error(`sent ${sent}, received ${out}`);
    if (used > GIB / 1024) throw new Error(`${used} octets went through the tap`);
    return `SHA-256 ${sent.slice(0, 16)}… equal, ${rate(GIB, ms)} with hashing; ${used} octets through the tap`;
  });
};

/** @param {Guest} guest @param {number} pid */
const role = (guest, pid) => {
  if (pid === guest.pid) return 'helper';
  return commandName(pid) === 'node' ? 'controller' : 'netns broker';
};

/** @param {Lab} lab @param {Guest} guest */
const privileges = (lab, guest) => {
  const rows = [['process', 'PID', 'UID', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp', 'own namespaces']];
  const ours = namespaces(lab.init);
  for (const pid of guest.toolProcesses()) {
    const s = status(pid);
    let own = 'not readable';
    try {
      own = Object.entries(namespaces(pid))
        .filter(([kind, id]) => ours[kind] !== id)
        .map(([kind]) => kind)
        .join(' ');
    } catch {
      // Processes that can not be traced hide their namespaces from an ordinary user.
    }
    rows.push([
      role(guest, pid),
      String(pid),
      s['Uid']?.split('\t')[0] ?? '',
      s['CapEff'] ?? '',
      s['CapBnd'] ?? '',
      s['NoNewPrivs'] ?? '',
      s['Seccomp'] ?? '',
      own,
    ]);
  }
  return textTable(rows);
};

/** @param {Lab} lab */
const show = async (lab) => {
  const inbound = ['-t', `${INBOUND_PORT},${INBOUND_HTTP_PORT}`, '-u', 'none'];
  const guest = await lab.guest([...inbound, '-T', OUTBOUND_PORT, '-U', 'none'], lab.binary, { forwards: true });
  console.log(`demo: ${lab.binary} runs as an ordinary user, PID ${guest.pid}\n`);
  await configure(lab, guest);
  await pings(guest);
  await http(lab, guest);
  await iperf(lab, guest);
  await forwards(lab, guest);
  console.log(`\nWhat its processes may do, from /proc:\n\n${privileges(lab, guest)}\n`);
  await check('end, nothing left', async () => {
    await guest.close();
    await waitFor(() => lab.processes().every((pid) => !guest.toolProcesses().includes(pid)), {
      what: 'the tool to end',
    });
    return 'all processes gone';
  });
};

if (!options['skip-setup']) setupOrExit();
await runDemo({ mtu: 65_520, ...(options.binary === undefined ? {} : { binary: options.binary }) }, show);
