// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Tools with passt's command line, and before them a guest that is no virtual machine: a namespace behind stream-tap.c or vhost-tap.c. */
import { join } from 'node:path';
import { compile, descendants, NET } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';
import { startPasst } from '../support/vm.mjs';
import { emptyNamespace, serveLoad } from './peers.mjs';
import { PORT } from './row.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('../support/lab.mjs').Side} Side */
/** @typedef {import('../support/process.mjs').Started} Started */
/** @typedef {import('./peers.mjs').Peer} Peer */

/** What no peer here has: they are not asked for it. */
export const NOTHING_ELSE = {
  startForwarding: null,
  forwarding: null,
  binary: undefined,
  run: null,
  join: null,
  tellsReady: false,
};

let sockets = 0;
/** A path that the ordinary user may make a socket at. */
export const newSocket = () => `/run/scratch/${++sockets}.socket`;

/** @param {Started} started @param {string} word of its output @param {string} what */
const saying = async (started, word, what) => {
  await waitFor(() => started.out().includes(word) || started.child.exitCode !== null, { what });
  if (started.child.exitCode !== null) throw new Error(`${what}: ${started.err()}`);
};

/**
 * A tool in the foreground, listening at a path.
 * @param {Lab} lab
 * @param {string | undefined} binary default: the lab's
 * @param {number} mtu
 * @param {readonly string[]} [more] options
 */
export const serveGuests = async (lab, binary, mtu, more = []) => {
  const path = newSocket();
  const tool = await startPasst(lab, path, ['-q', '-m', String(mtu), '-t', 'none', '-u', 'none', ...more], binary);
  return { path, processes: () => [tool.pid(), ...descendants(tool.pid())], close: () => tool.kill('SIGTERM') };
};

/** Names, MTU and addresses of a tap. @param {Side} side @param {string} device @param {number} mtu @param {{ v4: string, v6: string }} own */
const configure = (side, device, mtu, { v4, v6 }) =>
  side.run([
    'sh',
    '-ec',
    // Routers' advertisements would add routes of their own.
    `echo 0 > /proc/sys/net/ipv6/conf/${device}/accept_ra; ip link set lo up; ip addr add ${v4} dev ${device}; ip addr add ${v6} dev ${device} nodad; ip link set ${device} mtu ${mtu} up`,
  ]);

/** What joins the guest's tap to the tool: program, options of the tool, arguments before the socket's path. */
const LINKS = {
  stream: { program: 'stream-tap', options: [], args: ['connect'] },
  'vhost-user': { program: 'vhost-tap', options: ['--vhost-user'], args: [] },
};

/**
 * The addresses are those of the host, as a guest of passt has them.
 * @param {string} name @param {keyof typeof LINKS} kind @param {string} [binary] default: the lab's
 * @returns {Peer}
 */
export const namespacePeer = (name, kind, binary) => ({
  ...NOTHING_ELSE,
  name,
  start: async (lab, mtu) => {
    const { program, options, args } = LINKS[kind];
    const compiled = await compile(`test/bench/${program}.c`, join(lab.dir, program));
    const passt = await serveGuests(lab, binary, mtu, options);
    const namespace = await emptyNamespace(lab);
    const side = lab.into(namespace.labPid);
    const link = side.spawn([compiled, ...args, passt.path, 'tap0']);
    await saying(link, 'ready', program);
    await configure(side, 'tap0', mtu, { v4: `${NET.host4}/24`, v6: `${NET.host6}/64` });
    await side.run([
      'sh',
      '-ec',
      `ip route add default via ${NET.gateway4}; ip -6 route add default via ${NET.gateway6}`,
    ]);
    return {
      side,
      processes: passt.processes,
      close: async () => {
        passt.close();
        link.kill('SIGTERM');
        await namespace.close();
      },
    };
  },
});

/** Of the two ends of a wire without a tool. */
const WIRE = { host4: '192.0.2.133', guest4: '192.0.2.134', host6: '2001:db8:4::2', guest6: '2001:db8:4::1' };

/** The yardstick: two of stream-tap.c back to back, what such a guest can reach at most. @type {Peer} */
export const wire = {
  ...NOTHING_ELSE,
  name: 'wire',
  bulkOnly: true,
  start: async (lab, mtu) => {
    const program = await compile('test/bench/stream-tap.c', join(lab.dir, 'stream-tap'));
    const load = await compile('test/bench/load.c', join(lab.dir, 'load-behind-wire'));
    const path = newSocket();
    const near = lab.host.spawn([program, 'listen', path, 'wire0']);
    await waitFor(async () => near.child.exitCode !== null || (await lab.host.run(['ss', '-Hxl'])).includes(path), {
      what: 'the near end of the wire',
    });
    await lab.host.run(['chmod', '666', path]);
    const namespace = await emptyNamespace(lab);
    const side = lab.into(namespace.labPid);
    const far = side.spawn([program, 'connect', path, 'tap0']);
    await saying(far, 'ready', 'the far end of the wire');
    await configure(lab.host, 'wire0', mtu, { v4: `${WIRE.host4}/30`, v6: `${WIRE.host6}/64` });
    await configure(side, 'tap0', mtu, { v4: `${WIRE.guest4}/30`, v6: `${WIRE.guest6}/64` });
    for (const address of [WIRE.host4, WIRE.host6]) await serveLoad(lab.host, load, address, PORT);
    return {
      side,
      servers: { server4: WIRE.host4, server6: WIRE.host6, port: PORT },
      processes: () => [near.pid(), far.pid()],
      close: async () => {
        far.kill('SIGTERM');
        near.kill('SIGTERM');
        await namespace.close();
      },
    };
  },
};
