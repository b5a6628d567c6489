// SPDX-License-Identifier: Apache-2.0
/**
 * The two messages that nearly all traffic with a helper consists of, without the general reader and writer: a request for a
 * connected socket, and a batch of replies each of which is a descriptor, in order. What is not exactly that goes the
 * general way (rpc/channel.ts), so nothing passes here that would not pass there (plain.test.ts).
 */
import { METHODS, type MethodName } from '../../shared/rpc/methods.ts';

/** Of the canonical text of an address; shared/rpc allows more. */
const ADDRESS = /^[0-9a-f.:]{2,45}$/;
const isPort = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= 65_535;

export interface ConnectParams {
  readonly protocol: string;
  readonly address: string;
  readonly port: number;
  readonly sourcePort: number;
  readonly hopLimit?: number | undefined;
}

/** Text of a request for `socket.connect`; '': it has a hop limit, or parameters that are not plainly right. */
export const connectRequest = (id: number, p: ConnectParams): string => {
  const { protocol, address, port, sourcePort } = p;
  const plain =
    p.hopLimit === undefined &&
    (protocol === 'tcp' || protocol === 'udp') &&
    isPort(port) &&
    isPort(sourcePort) &&
    ADDRESS.test(address);
  if (!plain) return '';
  return `{"jsonrpc":"2.0","id":${id},"method":"socket.connect","params":{"protocol":"${protocol}","address":"${address}","port":${port},"sourcePort":${sourcePort}}}`;
};

/** Whether a method's result is a descriptor and nothing else. */
export const isJustDescriptor = (method: MethodName): boolean => JUST_DESCRIPTOR.has(method);
const JUST_DESCRIPTOR = new Set(
  (Object.keys(METHODS) as MethodName[]).filter((method) => METHODS[method].result.safeParse({ fd: 0 }).success),
);

/** What a helper answers to `count` requests, the first of them `id`, when each gets a descriptor. */
export const descriptorReplies = (id: number, count: number): string => {
  let all = `[{"jsonrpc":"2.0","id":${id},"result":{"fd":0}}`;
  for (let i = 1; i < count; i++) all += `,{"jsonrpc":"2.0","id":${id + i},"result":{"fd":${i}}}`;
  return `${all}]`;
};
