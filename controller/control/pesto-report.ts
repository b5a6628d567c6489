// SPDX-License-Identifier: Apache-2.0
/**
 * What version 2 of the protocol has no room for: whether the rules are in force. A client that wants to know adds
 * {@link REPORT_REQUEST} behind the zero that ends its update. A server that knows nothing of it has closed by then and never
 * reads it; ours takes the update all or nothing, answers with one line of JSON, and then closes. To a client that does
 * not ask, not one byte more is sent than the protocol has.
 */
import { getSystemErrorMap } from 'node:util';
import * as z from 'zod/mini';
import { printRule } from '../fwd/rule.ts';
import type { Failure } from './changes.ts';
import { NAMES } from './pesto-protocol.ts';

export const REPORT_REQUEST = Buffer.from('report\n', 'latin1');
/** A report names this many failures at most; it has to fit a socket's buffer. */
const FAILURES_MAX = 256;
export const REPORT_BYTES_MAX = 65_536;

const failure = () => z.strictObject({ rule: z.string(), port: z.int(), errno: z.int(), message: z.string() });
export const reportSchema = () =>
  z.strictObject({
    /** False: nothing was changed. */
    applied: z.boolean(),
    /** Why the update was refused before anything was tried, or null. */
    error: z.nullable(z.string()),
    failures: z.array(failure()).check(z.maxLength(FAILURES_MAX)),
  });
export type Report = z.output<ReturnType<typeof reportSchema>>;

const EACCES = 13;
/** Where ports need no privilege from, unless the host has it otherwise. */
const LOW_PORTS_END = 1024;
/** strerror(3), in libuv's words, and what may help at a low port. */
export const describeErrno = (errno: number, port: number): string => {
  const text = getSystemErrorMap().get(-errno)?.[1] ?? `errno ${errno}`;
  return errno === EACCES && port < LOW_PORTS_END
    ? `${text} (below net.ipv4.ip_unprivileged_port_start, and started without CAP_NET_BIND_SERVICE)`
    : text;
};

/** "TCP [*]:80  =>  8080: port 80: address already in use" */
export const describeFailure = ({ direction, rule, port, errno }: Failure): string =>
  `Listen failed for ${NAMES[direction]} ${rule.protocol.toUpperCase()} port ${port} (${printRule(rule).trimEnd()}): ${describeErrno(errno, port)}`;

export const encodeReport = (applied: boolean, error: string | null, failures: readonly Failure[]): Buffer => {
  const report: Report = {
    applied,
    error,
    failures: failures.slice(0, FAILURES_MAX).map((one) => ({
      rule: printRule(one.rule).trimEnd(),
      port: one.port,
      errno: one.errno,
      message: describeFailure(one),
    })),
  };
  return Buffer.from(`${JSON.stringify(report)}\n`);
};
