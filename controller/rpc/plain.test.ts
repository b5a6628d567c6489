// SPDX-License-Identifier: Apache-2.0
/** What goes the short way is what the general way would have made or taken. */
import { createJSONRPCRequest } from 'json-rpc-2.0';
import { describe, expect, test } from 'vitest';
import { METHODS } from '../../shared/rpc/methods.ts';
import { type ConnectParams, connectRequest, descriptorReplies, isJustDescriptor } from './plain.ts';

const ID = 1_000_000_007;
const { params, result } = METHODS['socket.connect'];
const PLAIN: ConnectParams = { protocol: 'tcp', address: '127.0.0.1', port: 80, sourcePort: 0 };

describe('a request for a socket', () => {
  test.each<Partial<ConnectParams>>([
    {},
    { protocol: 'udp', address: '2001:db8::1', port: 65_535, sourcePort: 65_535 },
    { address: '::' },
    { address: '64:ff9b::198.51.100.1', port: 0 },
  ])('%j: the general text', (part) => {
    const p = { ...PLAIN, ...part };
    expect(connectRequest(ID, p)).toBe(
      JSON.stringify(createJSONRPCRequest(ID, 'socket.connect', params.parse(p) as Record<string, unknown>)),
    );
  });
  test.each<Partial<ConnectParams>>([
    { hopLimit: 7 },
    { protocol: 'icmp' },
    { protocol: 'sctp' },
    { address: '' },
    { address: ':' },
    { address: '1'.repeat(46) },
    { address: '127.0.0.1","port":1,"x":"' },
    { address: '127.0.0.1\n' },
    { address: '::1\\' },
    { port: -1 },
    { port: 65_536 },
    { port: 1.5 },
    { port: Number.NaN },
    { sourcePort: 65_536 },
    { sourcePort: -0.5 },
  ])('%j: not plain', (part) => {
    expect(connectRequest(ID, { ...PLAIN, ...part })).toBe('');
  });
});

describe('replies', () => {
  test.each([1, 2, 64])('%i descriptors: the general text, which the schema takes', (count) => {
    const replies = Array.from({ length: count }, (_, i) => ({ jsonrpc: '2.0', id: ID + i, result: { fd: i } }));
    expect(descriptorReplies(ID, count)).toBe(JSON.stringify(replies));
    for (const reply of replies) expect(result.safeParse(reply.result).success).toBe(true);
  });
  test('methods whose result is a descriptor and nothing else', () => {
    expect(isJustDescriptor('socket.connect')).toBe(true);
    expect(isJustDescriptor('socket.multicast')).toBe(true);
    for (const method of ['socket.listen', 'socket.answer', 'socket.unlisten', 'seal'] as const) {
      expect([method, isJustDescriptor(method)]).toEqual([method, false]);
    }
  });
});
