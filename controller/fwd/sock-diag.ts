// SPDX-License-Identifier: Apache-2.0
/**
 * sock_diag(7) in bytes: the question for listening TCP sockets or unconnected UDP sockets, and the answer, read where it lies.
 * Integers are in host byte order, but for ports and addresses. No system calls here.
 */
import { endianness } from 'node:os';
import { add, type Bound, kind4, kind6, kindOn } from './bound.ts';
import type { Protocol } from './rule.ts';

const LE = endianness() === 'LE';

/** struct nlmsghdr, struct inet_diag_req_v2, struct inet_diag_msg. */
const HEADER_BYTES = 16;
const REQUEST_BYTES = HEADER_BYTES + 56;
const MESSAGE_BYTES = HEADER_BYTES + 72;
const NLM_F_REQUEST_DUMP = 0x301;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const SOCK_DIAG_BY_FAMILY = 20;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO = { tcp: 6, udp: 17 } as const;
/** TCP_LISTEN; TCP_CLOSE, which is how an unconnected UDP socket is called. */
const STATE = { tcp: 10, udp: 7 } as const;

/** Lays out the question at `at`. Its length, bytes. */
export const writeRequest = (view: DataView, at: number, protocol: Protocol, v4: boolean, sequence: number): number => {
  for (let i = 0; i < REQUEST_BYTES; i += 4) view.setUint32(at + i, 0);
  view.setUint32(at, REQUEST_BYTES, LE);
  view.setUint16(at + 4, SOCK_DIAG_BY_FAMILY, LE);
  view.setUint16(at + 6, NLM_F_REQUEST_DUMP, LE);
  view.setUint32(at + 8, sequence, LE);
  const body = at + HEADER_BYTES;
  view.setUint8(body, v4 ? AF_INET : AF_INET6);
  view.setUint8(body + 1, IPPROTO[protocol]);
  view.setUint32(body + 4, 1 << STATE[protocol], LE);
  return REQUEST_BYTES;
};

/** The answer goes on in another datagram; it is complete; or it is not an answer (0x10000 and above: errno of it). */
export const MORE = 0;
export const DONE = 1;
export const FAILED = 0x10000;

/**
 * Reads one datagram [at, end) of the answer to question `sequence` into `bound`. What cannot be read, or belongs to another
 * question, is passed over.
 */
export const readAnswer = (
  view: DataView,
  at: number,
  end: number,
  protocol: Protocol,
  sequence: number,
  bound: Bound,
): number => {
  let next = at;
  while (next + HEADER_BYTES <= end) {
    const length = view.getUint32(next, LE);
    if (length < HEADER_BYTES || length > end - next) break;
    const type = view.getUint16(next + 4, LE);
    if (view.getUint32(next + 8, LE) === sequence) {
      if (type === NLMSG_DONE || type === NLMSG_ERROR) {
        const error = length >= HEADER_BYTES + 4 ? -view.getInt32(next + HEADER_BYTES, LE) : 0;
        return error > 0 ? FAILED + error : type === NLMSG_DONE ? DONE : MORE;
      }
      if (type === SOCK_DIAG_BY_FAMILY && length >= MESSAGE_BYTES)
        readSocket(view, next + HEADER_BYTES, protocol, bound);
    }
    next += (length + 3) & ~3;
  }
  return MORE;
};

const readSocket = (view: DataView, at: number, protocol: Protocol, bound: Bound): void => {
  if (view.getUint8(at + 1) !== STATE[protocol]) return;
  const family = view.getUint8(at);
  const port = view.getUint16(at + 4);
  const src = at + 8;
  const device = view.getUint32(at + 40, LE);
  let kind: number;
  if (family === AF_INET) kind = kind4(view.getUint32(src));
  else if (family === AF_INET6) {
    kind = kind6(view.getUint32(src), view.getUint32(src + 4), view.getUint32(src + 8), view.getUint32(src + 12));
  } else return;
  add(bound, port, kindOn(device, kind));
};
