// SPDX-License-Identifier: Apache-2.0
/** Our pesto with servers of the original's kind, and with ours, both played here. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CLIENT_BYTES, LISTING, SERVER_BYTES } from '../../test/support/pesto-exchange.ts';
import { pesto } from './pesto.ts';

let dir: string;
let path: string;
let server: Server | null = null;
let received: Buffer;
let out: string;
let err: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pastiche-pesto-'));
  path = join(dir, 's');
  received = Buffer.alloc(0);
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += text;
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  server?.close();
  server = null;
  rmSync(dir, { recursive: true });
});

/** Tells `hello`, reads until `wanted` octets have come, then does `then`. */
const serve = (wanted: number, then: (socket: Socket) => void, hello: Buffer = SERVER_BYTES): Promise<void> =>
  new Promise((ready) => {
    server = createServer((socket) => {
      socket.on('error', () => {});
      socket.write(hello);
      socket.on('data', (chunk) => {
        const before = received.length;
        received = Buffer.concat([received, chunk]);
        if (before < wanted && received.length >= wanted) then(socket);
      });
    }).listen(path, () => ready());
  });
const DELETION = ['-D', '-u', '127.0.0.1/18090'];

describe("a server of the original's kind", () => {
  test('is shown as it tells', async () => {
    await serve(Number.POSITIVE_INFINITY, () => {});
    expect(await pesto([path], '0')).toBe(0);
    expect(out).toBe(LISTING.replace('PATH', path));
    expect(received.length).toBe(0);
  });

  test('gets the recorded update, octet by octet, and is believed when it closes without a word', async () => {
    await serve(CLIENT_BYTES.length, (socket) => socket.destroy());
    expect(await pesto([...DELETION, path], '0')).toBe(0);
    expect(received.subarray(0, CLIENT_BYTES.length).toString('hex')).toBe(CLIENT_BYTES.toString('hex'));
    expect([out, err]).toEqual(['', '']);
  });

  test('-s shows before and after', async () => {
    await serve(CLIENT_BYTES.length, (socket) => socket.end());
    expect(await pesto(['-s', ...DELETION, path], '0')).toBe(0);
    const rules = LISTING.split('\n').slice(1).join('\n');
    const after = rules.split('\n').filter((line) => !line.includes('18090'));
    expect(out).toBe(`Previous configuration (${path})\n${rules}Updated configuration (${path})\n${after.join('\n')}`);
  });

  test.each<[string, Buffer, RegExp]>([
    ['of version 3', Buffer.from('626173696c3a7300000000030000008000000010', 'hex'), /version 3, not 2/],
    ['of another kind', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), /another protocol/],
  ])('%s is refused in a sentence', async (_name, hello, message) => {
    await serve(0, () => {}, hello);
    await expect(pesto([path], '0')).rejects.toThrow(message);
  });

  test('that closes at once', async () => {
    await serve(0, () => {}, Buffer.alloc(0));
    server?.on('connection', (socket: Socket) => socket.destroy());
    await expect(pesto([path], '0')).rejects.toThrow('the server has closed the connection');
  });
});

describe('a server that reports', () => {
  test('in force', async () => {
    await serve(CLIENT_BYTES.length + 7, (socket) => socket.end('{"applied":true,"error":null,"failures":[]}\n'));
    expect(await pesto([...DELETION, path], '0')).toBe(0);
    expect(received.subarray(CLIENT_BYTES.length).toString()).toBe('report\n');
  });
  test('not in force: exit status 1, and why', async () => {
    const failures = [{ rule: 'R', port: 80, errno: 98, message: 'port 80: address already in use' }];
    await serve(CLIENT_BYTES.length + 7, (socket) =>
      socket.end(`${JSON.stringify({ applied: false, error: null, failures })}\n`),
    );
    expect(await pesto([...DELETION, path], '0')).toBe(1);
    expect([out, err]).toEqual(['', 'port 80: address already in use\nNothing was changed\n']);
  });
  test('nonsense is said to be that', async () => {
    await serve(CLIENT_BYTES.length + 7, (socket) => socket.end('{"applied":"yes"}\n'));
    await expect(pesto([...DELETION, path], '0')).rejects.toThrow('not a report');
  });
});

test('nothing is sent when a command cannot be', async () => {
  await serve(Number.POSITIVE_INFINITY, () => {});
  await expect(pesto(['-A', '-t', '80', '-D', '-t', '9', path], '0')).rejects.toThrow('There is no rule');
  expect(received.length).toBe(0);
});
test('no path, or two, is said', async () => {
  await expect(pesto(['-A', '-t', 'PATH'], '0')).rejects.toThrow('the PATH of a socket is missing');
  await expect(pesto(['a', 'b'], '0')).rejects.toThrow('one PATH is expected, not 2');
});
test('--version and --help need no server', async () => {
  expect(await pesto(['--version'], '1.2.3')).toBe(0);
  expect(await pesto(['-h'], '1.2.3')).toBe(0);
  expect(out).toMatch(/^pesto 1\.2\.3 .*\nUsage: pesto/);
});
