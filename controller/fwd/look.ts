// SPDX-License-Identifier: Apache-2.0
/**
 * One look at the sockets of one side of the fence, through descriptors that the helper opened in set-up: NETLINK_SOCK_DIAG, or
 * the files of /proc/net where the kernel has none.
 */
import { MESSAGE_BYTES_MAX } from '../../shared/rpc/methods.ts';
import * as io from '../io/io.ts';
import type { Bound } from './bound.ts';
import { readLines } from './proc-net.ts';
import type { Protocol } from './rule.ts';
import { DONE, FAILED, readAnswer, writeRequest } from './sock-diag.ts';

/** Behind the messages of the two channels. */
const AT = io.SCRATCH_AT + 2 * MESSAGE_BYTES_MAX;
const CHUNK_BYTES = 65_536;
/** A dump that does not end is a defect, and must not keep the loop. */
const READS_MAX = 4096;
const EIO = 5;

/** Descriptors; −1: none. */
export interface Eyes {
  readonly netlink: number;
  readonly files: Readonly<Record<Protocol, { readonly v4: number; readonly v6: number }>> | null;
}

let sequence = 0;

/** What is left of an answer that was not read to its end. */
const drain = (fd: number): void => {
  for (let i = 0; i < READS_MAX; i++) if (io.native.read(fd, AT, CHUNK_BYTES) <= 0) return;
};

/** 0 or an errno. */
const dump = (fd: number, protocol: Protocol, v4: boolean, bound: Bound): number => {
  sequence = (sequence + 1) >>> 0;
  const length = writeRequest(io.view, AT, protocol, v4, sequence);
  const sent = io.native.write(fd, AT, length);
  if (sent < 0) return -sent;
  for (let i = 0; i < READS_MAX; i++) {
    const n = io.native.read(fd, AT, CHUNK_BYTES);
    // The kernel answers within the call: nothing there means that the end was lost.
    if (n <= 0) return n < 0 ? -n : EIO;
    const step = readAnswer(io.view, AT, AT + n, protocol, sequence, bound);
    if (step === DONE) return 0;
    if (step >= FAILED) {
      drain(fd);
      return step - FAILED;
    }
  }
  drain(fd);
  return EIO;
};

const readFile = (fd: number, protocol: Protocol, bound: Bound): number => {
  let offset = 0;
  for (let i = 0; fd >= 0 && i < READS_MAX; i++) {
    const n = io.native.readAt(fd, AT, CHUNK_BYTES, offset);
    if (n < 0) return -n;
    const used = readLines(io.mem, AT, AT + n, protocol, bound) - AT;
    if (used === 0) return 0;
    offset += used;
  }
  return 0;
};

/** Adds to `bound` how ports are bound; it was zeros before. 0 or an errno: then `bound` is not to be trusted. */
export const look = ({ netlink, files }: Eyes, protocol: Protocol, bound: Bound): number => {
  if (files !== null) {
    return readFile(files[protocol].v4, protocol, bound) || readFile(files[protocol].v6, protocol, bound);
  }
  return dump(netlink, protocol, true, bound) || dump(netlink, protocol, false, bound);
};
