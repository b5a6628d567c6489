// SPDX-License-Identifier: Apache-2.0
/**
 * vhost-user: frames are in the guest's memory, which its hypervisor shares, in two rings (helper/addon/vring.h), and each side tells the other
 * by an eventfd that there is something. A queue that does not run is a link that is down: what is sent is lost, and counted.
 */
import * as io from '../../io/io.ts';
import { DROP, dropMany } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import { type GuestLink, LINK_REF_BASE } from '../link.ts';
import { VhostConnection } from './connection.ts';
import { ProtocolError } from './message.ts';
import { ringsOf } from './rings.ts';
import { VhostSession } from './session.ts';

const REF_CONNECTION = LINK_REF_BASE + 1;
const REF_KICK = LINK_REF_BASE + 2;
const TO_GUEST = 0;
const FROM_GUEST = 1;
const HEADER_BYTES = 12;

const EFAULT = 14;

const BROKEN = log.site('Queues of the guest that broke');
const MEMORY_GONE = "the guest's memory is gone: its file was truncated";

/** `onGone`: why the connection ended, when everything of that guest is given back. */
export const vhostLink = (onGone: (why: string) => void): GuestLink => {
  let connection: VhostConnection | null = null;
  let session: VhostSession | null = null;
  let onRoom: () => void = () => {};
  let more = false;
  /** Segments of the first frame that were sent in a call before. */
  let segment = 0;

  const end = (why: string): void => {
    session?.end();
    connection?.close();
    session = null;
    connection = null;
    more = false;
    segment = 0;
    onGone(why);
    // Whatever waits for room will have none: it is lost like all that is sent from now on.
    onRoom();
  };
  const started = (queue: number): void => {
    // What the guest offered before it could kick us.
    if (queue === FROM_GUEST) more = true;
    else segment = 0;
  };
  const countDrops = (): void => {
    dropMany(DROP['vring-chain'], io.col[io.COL.VRING_CHAIN] as number);
    dropMany(DROP['frame-too-long'], io.col[io.COL.VRING_LONG] as number);
    dropMany(DROP['vring-room'], io.col[io.COL.VRING_ROOM] as number);
  };
  /** A queue that failed: by itself, or with all of the guest's memory. */
  const failed = (queue: number, errno: number): void => {
    if (errno === EFAULT) return end(MEMORY_GONE);
    dropMany(DROP['vring-broken'], 1);
    log.warnAt(BROKEN, io.nowMs(), 'The guest broke the rules of a queue, which is stopped until it is set up again');
    const fd = session?.errorFd(queue) ?? -1;
    session?.broke(queue);
    if (queue === FROM_GUEST) more = false;
    if (fd >= 0) io.native.signalEvent(fd);
  };
  const onConnection = (mask: number): void => {
    try {
      if (connection?.onEvent(mask) === false) end('the hypervisor has hung up');
      // A queue may have begun or ceased to run.
      else onRoom();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      end(error.message);
    }
  };
  /** False: it is of a queue that does not run, or was stopped earlier in this batch of events. */
  const onKick = (queue: number): boolean => session?.runs(queue) ?? false;

  return {
    receivedHeaderBytes: HEADER_BYTES,
    sentHeaderBytes: HEADER_BYTES,
    // What a guest did not offer to do is done by the addon.
    tso: true,
    uso: true,
    open: (room) => {
      onRoom = room;
    },
    connect: (fd) => {
      session = new VhostSession(ringsOf(REF_KICK, started));
      connection = new VhostConnection(fd, REF_CONNECTION, session);
    },
    connected: () => connection !== null,
    onEvent: (ref, mask) => {
      if (ref === REF_CONNECTION) {
        onConnection(mask);
        return false;
      }
      if (ref === REF_KICK + TO_GUEST) {
        if (onKick(TO_GUEST)) onRoom();
        return false;
      }
      return ref === REF_KICK + FROM_GUEST && onKick(FROM_GUEST);
    },
    receive: (max) => {
      const n = io.native.vringReceive(io.RX_AT, io.RX_END, max);
      more = (io.col[io.COL.VRING_MORE] as number) !== 0;
      countDrops();
      if (n >= 0) return n;
      failed(FROM_GUEST, -n);
      return 0;
    },
    more: () => more,
    send: (from, to) => {
      if (session === null || !session.runs(TO_GUEST)) {
        segment = 0;
        dropMany(DROP['tap-full'], to - from);
        return to - from;
      }
      const n = io.native.vringSend(from, to, segment);
      segment = io.col[io.COL.VRING_SEGMENT] as number;
      countDrops();
      if (n >= 0) return n;
      segment = 0;
      failed(TO_GUEST, -n);
      dropMany(DROP['tap-full'], to - from);
      return to - from;
    },
    ended: () => null,
  };
};
