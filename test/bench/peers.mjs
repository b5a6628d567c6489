// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What is compared: each peer gives a namespace its network and a way to run programs there. */
import { join } from 'node:path';
import { compile, descendants, NET } from '../support/lab.mjs';
import { finish, status, waitFor } from '../support/process.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/**
 * A peer at work.
 * @typedef {object} Running
 * @property {import('../support/lab.mjs').Side} side where clients run
 * @property {() => number[]} processes its own, for memory and wake-ups
 * @property {number} [inboundPort] where the host finds the load server in the namespace, with `forwards` only
 * @property {{ server4: string, server6: string, port: number }} [servers] where clients find the load server; default: at its own address
 * @property {() => Promise<unknown>} close
 */
/**
 * @typedef {object} Peer
 * @property {string} name
 * @property {(lab: Lab, mtu: number) => Promise<Running>} start
 * @property {((lab: Lab, mtu: number, load: string, port: number) => Promise<Running>) | null} startForwarding with the load server in
 *   the namespace, that is reached at `port` (and the next two) of the host, and OUTBOUND_PORT leading to the host's loopback
 * @property {((lab: Lab, forwards: readonly string[], command: readonly string[]) => string[]) | null} forwarding command line
 * @property {string | undefined} binary
 * @property {((lab: Lab) => string[]) | null} run command line that makes a namespace, runs `true` there, ends
 * @property {((lab: Lab, pid: string) => string[]) | null} join command line that serves the namespace of a process
 * @property {boolean} [bulkOnly] it carries nothing but TCP streams
 * @property {boolean} tellsReady `join` stays and writes to descriptor 9 when ready; else it returns when ready
 */

/** Of the load server on the host's loopback, and of the next two. */
export const OUTBOUND_PORT = 7600;
/** The first of the ports that lead into namespaces; each peer has its own ten. */
export const INBOUND_PORT = 7610;

/** @param {import('../support/lab.mjs').Side} side @param {string} load @param {string} address @param {number} port */
export const serveLoad = async (side, load, address, port) => {
  const server = side.spawn([load, 'serve', address, String(port)]);
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, {
    what: 'the load server',
  });
  if (server.child.exitCode !== null) throw new Error(`the load server at ${address}: ${server.err()}`);
};

/** A tool with pasta's command line. @param {string} name @param {string} [binary] default: the lab's @returns {Peer} */
export const pastaLike = (name, binary) => ({
  name,
  start: async (lab, mtu) => {
    const guest = await lab.guest(['--config-net', '-m', String(mtu)], binary);
    return { side: guest, processes: () => guest.toolProcesses(), close: () => guest.close() };
  },
  startForwarding: async (lab, mtu, load, port) => {
    const [inbound, outbound] = [`${port}-${port + 2}`, `${OUTBOUND_PORT}-${OUTBOUND_PORT + 2}`];
    const forwards = ['-t', inbound, '-u', inbound, '-T', outbound, '-U', outbound];
    const guest = await lab.guest(['--config-net', '-m', String(mtu), ...forwards], binary, { forwards: true });
    await serveLoad(guest, load, '0.0.0.0', port);
    return { side: guest, inboundPort: port, processes: () => guest.toolProcesses(), close: () => guest.close() };
  },
  forwarding: (lab, forwards, command) => [
    binary ?? lab.binary,
    '--config-net',
    '-q',
    ...forwards,
    ...(command.length > 0 ? ['--', ...command] : []),
  ],
  binary,
  run: (lab) => lab.argv(['--config-net', '-q'], ['true'], binary),
  join: (lab, pid) => lab.argv(['--config-net', '-q', pid], [], binary),
  tellsReady: false,
});

/** @param {Lab} lab @returns {Promise<{ pid: number, labPid: string, close: () => Promise<unknown> }>} */
export const emptyNamespace = async (lab) => {
  const holder = lab.user.spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo made; exec cat'], {
    stdin: 'pipe',
  });
  await waitFor(() => holder.out().includes('made'), { what: 'a namespace' });
  const pid = holder.pid();
  const close = () => {
    holder.child.stdin?.end();
    return finish(holder, { timeoutMs: 5000 });
  };
  return { pid, labPid: status(pid)['NSpid']?.split(/\s+/)[1] ?? '', close };
};

const slirpArguments = (/** @type {string} */ path, /** @type {number} */ mtu) => [
  path,
  '--configure',
  '--enable-ipv6',
  '--mtu',
  String(mtu),
  '--ready-fd=9',
];

/** @param {string} path @param {string} [name] @returns {Peer} */
export const slirp4netns = (path, name = 'slirp4netns') => ({
  name,
  start: async (lab, mtu) => {
    const namespace = await emptyNamespace(lab);
    const tool = lab.user.spawn([...slirpArguments(path, mtu).slice(0, -1), namespace.labPid, 'tap0']);
    const side = lab.into(namespace.labPid);
    await waitFor(async () => (await side.attempt(['ping', '-c', '1', '-W', '1', NET.server4])).status === 0, {
      what: 'slirp4netns',
      everyMs: 100,
    });
    await waitFor(
      async () => (await side.run(['ip', '-6', '-o', 'addr', 'show', 'scope', 'global', '-tentative'])) !== '',
      {
        what: 'an IPv6 address from slirp4netns',
      },
    );
    return {
      side,
      processes: () => [tool.pid(), ...descendants(tool.pid())],
      close: async () => {
        tool.kill('SIGKILL');
        await namespace.close();
      },
    };
  },
  startForwarding: null,
  forwarding: null,
  binary: path,
  run: null,
  join: (_lab, pid) => [...slirpArguments(path, 1500), pid, 'tap0'],
  tellsReady: true,
});

/** No tool at all: the clients, and servers of forwarded ports, run in the host namespace. @type {Peer} */
export const direct = {
  name: 'direct',
  start: async (lab) => ({ side: lab.host, processes: () => [], close: async () => {} }),
  startForwarding: async (lab, _mtu, load, port) => {
    await serveLoad(lab.host, load, '0.0.0.0', port);
    return { side: lab.host, inboundPort: port, processes: () => [], close: async () => {} };
  },
  forwarding: null,
  binary: undefined,
  run: null,
  join: null,
  tellsReady: false,
};

/** Between the relay's clients and the host. */
const BEFORE_RELAY = {
  host4: '192.0.2.130',
  client4: '192.0.2.129',
  host6: '2001:db8:3::2',
  client6: '2001:db8:3::1',
  port: 7599,
};

/** The yardstick (relay.c) in the host namespace, its clients in one of their own. @param {number} serverPort @returns {Peer} */
export const relay = (serverPort) => ({
  name: 'relay',
  start: async (lab, mtu) => {
    const program = await compile('test/bench/relay.c', join(lab.dir, 'relay'));
    const { host4, client4, host6, client6, port } = BEFORE_RELAY;
    const side = lab.host.within(['nsenter', '--net=/run/netns/before-relay', '--']);
    const congestion = '/proc/sys/net/ipv4/tcp_congestion_control';
    const script = `
      set -e
      ip netns add before-relay
      ip link add relay0 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns before-relay
      ip addr add ${host4}/30 dev relay0 && ip addr add ${host6}/64 dev relay0 nodad && ip link set relay0 up
      own=$(cat ${congestion})
      nsenter --net=/run/netns/before-relay sh -ec "
        ip link set lo up
        ip addr add ${client4}/30 dev eth0 && ip addr add ${client6}/64 dev eth0 nodad && ip link set eth0 up
        echo $own > ${congestion}"`;
    await lab.host.run(['sh', '-c', script]);
    const running = lab.host.spawn([program, String(port), NET.server4, NET.server6, String(serverPort)]);
    await waitFor(() => running.out().includes('listening') || running.child.exitCode !== null, { what: 'the relay' });
    if (running.child.exitCode !== null) throw new Error(`the relay: ${running.err()}`);
    return {
      side,
      servers: { server4: host4, server6: host6, port },
      processes: () => [running.pid()],
      close: async () => running.kill('SIGKILL'),
    };
  },
  startForwarding: null,
  forwarding: null,
  binary: undefined,
  run: null,
  join: null,
  bulkOnly: true,
  tellsReady: false,
});
