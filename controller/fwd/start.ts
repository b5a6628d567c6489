// SPDX-License-Identifier: Apache-2.0
/** Forwarding in set-up: what `auto` sees by, the first look, and the listening sockets, in this order. */
import type { READABLE_FILES } from '../../shared/rpc/methods.ts';
import * as io from '../io/io.ts';
import { type HelperClient, HelperError } from '../rpc/client.ts';
import { makeBound } from './bound.ts';
import { type Clients, openListeners } from './listen-start.ts';
import * as listeners from './listeners.ts';
import { type Eyes, look } from './look.ts';
import * as opening from './opening.ts';
import type { Tables } from './rule.ts';
import * as scan from './scan.ts';

export interface Forwarding {
  readonly tables: Tables;
  readonly freebind: boolean;
  readonly loopbackToLoopback: boolean;
}

/**
 * `descriptors`: RLIMIT_NOFILE. `mayChange`: rules may come later that ask for `auto`. Throws ListenError if what was asked for by
 * name cannot be listened to.
 */
export const startForwarding = async (
  clients: Clients,
  { tables, freebind, loopbackToLoopback }: Forwarding,
  descriptors: number,
  mayChange: boolean,
): Promise<void> => {
  opening.configure(freebind);
  listeners.configure(descriptors, scan.heard);
  const isAuto = [...tables.host, ...tables.splice].some((rule) => rule.scan);
  const { host, netns } = clients;
  // Without a namespace there is nothing that auto could see there.
  const mayLook = (isAuto || mayChange) && host !== null && netns !== null;
  const eyes = mayLook ? { host: await openEyes(host), netns: await openEyes(netns) } : null;
  scan.configure(eyes, loopbackToLoopback);
  scan.lookNow(tables);
  await openListeners(clients, tables);
};

const openEyes = async (client: HelperClient): Promise<Eyes> => {
  try {
    const { fd } = await client.call('netlink.open', { protocol: 'sock_diag' });
    const eyes = { netlink: fd, files: null };
    const trial = makeBound();
    if (look(eyes, 'tcp', trial) === 0 && look(eyes, 'udp', trial) === 0) return eyes;
    io.native.close(fd);
  } catch (error) {
    if (!(error instanceof HelperError) || error.errno === 0) throw error;
  }
  return openFiles(client);
};

/** The fall-back; a kernel without IPv6 has but half of them. */
const openFiles = async (client: HelperClient): Promise<Eyes> => {
  const open = (name: (typeof READABLE_FILES)[number]): Promise<number> =>
    client.call('file.open', { name }).then(
      ({ fd }) => fd,
      (error) => {
        if (error instanceof HelperError && error.errno !== 0) return -1;
        throw error;
      },
    );
  return {
    netlink: -1,
    files: {
      tcp: { v4: await open('net/tcp'), v6: await open('net/tcp6') },
      udp: { v4: await open('net/udp'), v6: await open('net/udp6') },
    },
  };
};
