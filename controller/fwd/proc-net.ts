// SPDX-License-Identifier: Apache-2.0
/**
 * /proc/net/tcp, tcp6, udp and udp6, proc_net(5): listening TCP sockets and unconnected UDP sockets, read where the text lies.
 * The fall-back for kernels without NETLINK_SOCK_DIAG; an interface that a socket is bound to is not in there.
 */
import { endianness } from 'node:os';
import { add, type Bound, kind4, kind6 } from './bound.ts';
import type { Protocol } from './rule.ts';

const LE = endianness() === 'LE';
const NEWLINE = 10;
const BLANK = 32;
const COLON = 58;
/** Hexadecimal digits of one word, of a port, of a state. */
const WORD_CHARS = 8;
const PORT_CHARS = 4;
const STATE_CHARS = 2;
const STATE = { tcp: 0x0a, udp: 0x07 } as const;

const digit = (c: number): number =>
  c >= 48 && c <= 57 ? c - 48 : c >= 65 && c <= 70 ? c - 55 : c >= 97 && c <= 102 ? c - 87 : -1;

/** −1: not so many hexadecimal digits there. */
const hex = (text: Uint8Array, at: number, chars: number, end: number): number => {
  if (at + chars > end) return -1;
  let value = 0;
  for (let i = 0; i < chars; i++) {
    const d = digit(text[at + i] as number);
    if (d < 0) return -1;
    value = value * 16 + d;
  }
  return value;
};
/** A word of an address is printed as the number that its four bytes are to this machine. */
const swap = (word: number): number =>
  LE ? ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0 : word;

const indexOf = (text: Uint8Array, c: number, at: number, end: number): number => {
  for (let i = at; i < end; i++) if (text[i] === c) return i;
  return -1;
};

/** Reads the whole lines of [at, end) into `bound`. Where the first one that is not complete begins. */
export const readLines = (text: Uint8Array, at: number, end: number, protocol: Protocol, bound: Bound): number => {
  let line = at;
  for (;;) {
    const newline = indexOf(text, NEWLINE, line, end);
    if (newline < 0) return line;
    readLine(text, line, newline, protocol, bound);
    line = newline + 1;
  }
};

/** `  sl: ADDRESS:PORT ADDRESS:PORT ST …`; anything else (the heading) is passed over. */
const readLine = (text: Uint8Array, at: number, end: number, protocol: Protocol, bound: Bound): void => {
  const number = indexOf(text, COLON, at, end);
  if (number < 0) return;
  const local = number + 2;
  const colon = indexOf(text, COLON, local, end);
  const chars = colon - local;
  if (chars !== WORD_CHARS && chars !== 4 * WORD_CHARS) return;
  const port = hex(text, colon + 1, PORT_CHARS, end);
  const remote = colon + 1 + PORT_CHARS + 1;
  const afterRemote = indexOf(text, BLANK, remote, end);
  if (port < 0 || afterRemote < 0 || hex(text, afterRemote + 1, STATE_CHARS, end) !== STATE[protocol]) return;
  const w0 = hex(text, local, WORD_CHARS, end);
  if (chars === WORD_CHARS) {
    if (w0 >= 0) add(bound, port, kind4(swap(w0)));
    return;
  }
  const w1 = hex(text, local + WORD_CHARS, WORD_CHARS, end);
  const w2 = hex(text, local + 2 * WORD_CHARS, WORD_CHARS, end);
  const w3 = hex(text, local + 3 * WORD_CHARS, WORD_CHARS, end);
  if (w0 < 0 || w1 < 0 || w2 < 0 || w3 < 0) return;
  add(bound, port, kind6(swap(w0), swap(w1), swap(w2), swap(w3)));
};
