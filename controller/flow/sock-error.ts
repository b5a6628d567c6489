// SPDX-License-Identifier: Apache-2.0
/**
 * Errors that a datagram socket reports and its error queue does not tell. Sockets are watched level-triggered: what is not
 * read is reported again at once, and whoever can bring that about (a forged ICMP error) would have the loop spin. So a
 * socket that goes on without there being anything to read is given up.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import { FLOW_MAX, type Flow, fd } from './table.ts';

/**
 * So many reports without anything behind them, in that time. One now and then is nothing: the error was read after the
 * report, by whoever was about to send.
 */
const EMPTY_MAX = 64;
const EMPTY_MS = 100;

const empties = new Uint8Array(FLOW_MAX);
/** When the first of them came, int32 milliseconds modulo 2^32. */
const sinces = new Int32Array(FLOW_MAX);

/** For a new flow. */
export const reset = (f: Flow): void => {
  empties[f] = 0;
  sinces[f] = 0;
};

/**
 * Flow `f`'s socket reported an error (or its end), and the queue held `told` of them. False: there is no end to it, and the
 * caller closes the socket.
 */
export const settle = (f: Flow, told: number): boolean => {
  if (told > 0) {
    empties[f] = 0;
    return true;
  }
  // An error without a message in the queue, which was full: reading it is what makes the event stop.
  if (io.native.socketError(fd(f)) !== 0) {
    drop(DROP['sock-error']);
    empties[f] = 0;
    return true;
  }
  const now = io.nowMs() | 0;
  if (empties[f] === 0 || ((now - (sinces[f] as number)) | 0) > EMPTY_MS) {
    empties[f] = 0;
    sinces[f] = now;
  }
  empties[f] = (empties[f] as number) + 1;
  return (empties[f] as number) < EMPTY_MAX;
};
