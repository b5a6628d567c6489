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
import { commandName, makeLab, NET, REPOSITORY } from '../test/support/lab.mjs';
import { namespaces, status, waitFor } from '../test/support/process.mjs';
import { readOptions } from './lib/options.mjs';
import { textTable } from './lib/table.mjs';
import { setupOrExit } from './setup.mjs';

/** @typedef {import('../test/support/lab.mjs').Lab} Lab */
/** @typedef {import('../test/support/lab.mjs').Guest} Guest */

const GIB = 1024 ** 3;
const HTTP_PORT = '8080';
const IPERF_SECONDS = '4';
const LONG_MS = 180_000;

const options = readOptions(import.meta.url, { 'skip-setup': { type: 'boolean' }, binary: { type: 'string' } });

/** @type {string[][]} */
const results = [['check', 'result']];
let failed = false;
let interrupted = false;

/** Runs one check, shows that it runs and what came of it. @param {string} what @param {() => Promise<string>} action */
const check = async (what, action) => {
  process.stdout.write(`• ${what} … `);
  try {
    const detail = await action();
    console.log(detail);
    results.push([what, detail]);
  } catch (error) {
    if (interrupted) throw error;
    failed = true;
    console.log('FAILED');
    console.error(error instanceof Error ? error.message : error);
    results.push([what, 'FAILED']);
  }
};

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

const main = async () => {
  if (!options['skip-setup']) setupOrExit();
  console.log('demo: making namespaces "host" and "remote"');
  const lab = await makeLab({ mtu: 65_520, ...(options.binary === undefined ? {} : { binary: options.binary }) });
  const interrupt = async (/** @type {number} */ status) => {
    if (interrupted) return;
    interrupted = true;
    console.log('\ndemo: interrupted, cleaning up');
    await lab.cleanup();
    process.exit(status);
  };
  process.on('SIGINT', () => interrupt(130));
  process.on('SIGTERM', () => interrupt(143));
  process.on('SIGHUP', () => interrupt(129));
  try {
    const guest = await lab.guest([]);
    console.log(`demo: ${lab.binary} runs as an ordinary user, PID ${guest.pid}\n`);
    await configure(lab, guest);
    await pings(guest);
    await http(lab, guest);
    await iperf(lab, guest);
    console.log(`\nWhat its processes may do, from /proc:\n\n${privileges(lab, guest)}\n`);
    await check('end, nothing left', async () => {
      await guest.close();
      await waitFor(() => lab.processes().every((pid) => !guest.toolProcesses().includes(pid)), {
        what: 'the tool to end',
      });
      return 'all processes gone';
    });
    console.log(`\n${textTable(results)}`);
  } catch (error) {
    if (interrupted) return;
    console.error(`demo: ${error instanceof Error ? error.message : error}`);
    failed = true;
  }
  await lab.cleanup();
  process.exit(failed ? 1 : 0);
};

await main();
