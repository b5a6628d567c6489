// SPDX-License-Identifier: Apache-2.0
/** What sockets say: connected, readable, writable, closed, failed. Edge-triggered, registered once for the socket's life. */
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { abort, fail, touch } from './close.ts';
import * as conn from './conn.ts';
import { connected, refuse } from './open.ts';
import * as part from './part.ts';
import * as stash from './stash.ts';

const ECONNRESET = 104;

/** Events of flow `f`'s socket; the caller has checked that the row is in use. */
export const onEvent = (f: Flow, mask: number): void => {
  const fd = flows.fd(f);
  if (fd < 0) return;
  if (!conn.has(f, conn.SOCK_CONNECTED)) {
    connecting(f, fd, mask);
    return;
  }
  if (conn.has(f, conn.PARTING)) {
    if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0) abort(f, false);
    else part.look(f);
    return;
  }
  if ((mask & io.EPOLLERR) !== 0) {
    const errno = io.native.socketError(fd);
    // Only a socket that has ended hangs up; any other error is a hint of the network, and TCP goes on.
    if (errno !== 0 && (mask & io.EPOLLHUP) !== 0) {
      fail(f);
      return;
    }
  }
  if ((mask & io.EPOLLRDHUP) !== 0) conn.add(f, conn.SOCK_RDHUP | conn.READABLE);
  if ((mask & io.EPOLLIN) !== 0) conn.add(f, conn.READABLE);
  if ((mask & io.EPOLLPRI) !== 0) conn.add(f, conn.URGENT);
  if ((mask & io.EPOLLOUT) !== 0 && stash.bytes(f) > 0) {
    if (stash.drain(f, fd) < 0) {
      abort(f);
      return;
    }
    // Room again: the guest's window re-opens with this ACK. Behind its FIN it has no use for one.
    if (!conn.has(f, conn.TAP_FIN_RCVD)) conn.add(f, conn.ACK_DUE);
  }
  touch(f);
};

const connecting = (f: Flow, fd: number, mask: number): void => {
  if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0) {
    const errno = io.native.socketError(fd);
    // A socket that is not connecting yet answers HUP without an error: its own event follows.
    if (errno === ECONNRESET) {
      // A refusal would be ECONNREFUSED: the peer has taken the connection and given it up before we looked.
      connected(f);
      fail(f);
      return;
    }
    if (errno !== 0) refuse(f, errno);
    else if ((mask & io.EPOLLOUT) === 0) return;
  }
  if (flows.fd(f) < 0 || (mask & io.EPOLLOUT) === 0) return;
  connected(f);
  if ((mask & io.EPOLLIN) !== 0) conn.add(f, conn.READABLE);
  if ((mask & io.EPOLLRDHUP) !== 0) conn.add(f, conn.SOCK_RDHUP | conn.READABLE);
  if ((mask & io.EPOLLPRI) !== 0) conn.add(f, conn.URGENT);
};
