// SPDX-License-Identifier: Apache-2.0
/** passt as its callers see it: exit statuses, files, descriptors, who is let in. Its guest is a program that asks for the gateway by ARP. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Lab, makeLab, NET } from '../support/lab.mjs';
import { finish, type RunOptions, type Started, waitFor } from '../support/process.mjs';
import { passtBinary } from '../support/vm.mjs';

/** `python3 FILE SOCKET`, or `FILE fd PROGRAM…` with --fd: an answer is printed, "closed" when the other end hangs up; ends with its input. */
const GUEST = `import os,select,socket,struct,subprocess,sys
if sys.argv[1] == "fd":
    s, other = socket.socketpair()
    p = subprocess.run(sys.argv[2:] + ["--fd", str(other.fileno())], pass_fds=[other.fileno()])
    other.close()
    print("status", p.returncode, flush=True)
else:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
mac = bytes.fromhex("525400000001")
arp = b"\\xff" * 6 + mac + bytes.fromhex("08060001080006040001") + mac + bytes(4) + bytes(6) + socket.inet_aton("${NET.gateway4}")
try:
    s.sendall(struct.pack(">I", len(arp)) + arp)
except ConnectionError: # hung up on already
    pass
said = ""
while True:
    ready = select.select([s, 0], [], [])[0]
    if s in ready:
        try:
            got = s.recv(65536)
        except ConnectionError: # closed before it was read
            got = b""
        if not got:
            print("closed", flush=True)
            break
        if bytes.fromhex("0806000108000604" + "0002") in got:
            print("answer", flush=True)
    if 0 in ready and not os.read(0, 1):
        break
`;

let lab: Lab;
let guestFile: string;
let number = 0;
let path: string;
let pid: string;
beforeAll(async () => {
  lab = await makeLab();
  guestFile = join(lab.dir, 'guest.py');
  writeFileSync(guestFile, GUEST, { mode: 0o644 });
});
afterAll(() => lab?.cleanup());
beforeEach(() => {
  number++;
  path = `/run/scratch/${number}.socket`;
  pid = `/run/scratch/${number}.pid`;
});

const passt = (...args: string[]): string[] => [passtBinary(lab), ...args];
const guest = (...args: string[]): Started =>
  lab.user.spawn(['/usr/bin/python3', guestFile, ...args], { stdin: 'pipe' });
const says = (one: Started, word: string): Promise<unknown> =>
  waitFor(() => one.out().includes(word), { what: `"${word}"` });
const exists = async (file: string): Promise<boolean> => (await lab.host.attempt(['test', '-e', file])).status === 0;
const left = async (): Promise<boolean[]> => [await exists(path), await exists(pid)];
const gone = (): Promise<unknown> =>
  waitFor(async () => !(await left()).includes(true), { what: 'socket and PID file to be removed' });
const stop = (): Promise<string> => lab.user.run(['sh', '-c', `kill $(cat ${pid})`]);
const attempt = (argv: readonly string[], options: RunOptions = {}): ReturnType<Lab['user']['attempt']> =>
  lab.user.attempt(argv, { timeoutMs: 20_000, ...options });

describe('passt', () => {
  it('has returned 0 when its socket listens, keeps nobody’s pipe, and serves one guest after the other', async () => {
    const line = '"$@" 2>&1 | cat >/dev/null; echo over';
    const started = await attempt(['sh', '-c', line, 'sh', ...passt('-s', path, '-P', pid)]);
    expect(started).toMatchObject({ status: 0, stdout: 'over\n', timedOut: false });
    const first = guest(path);
    await says(first, 'answer');
    const second = guest(path);
    await says(second, 'closed'); // one at a time
    expect(second.out()).not.toContain('answer');
    first.child.stdin?.end();
    await first.closed;
    const third = guest(path);
    await says(third, 'answer');
    await stop();
    await says(third, 'closed');
    await gone();
  });

  it('with --one-off ends in the background when its guest has hung up', async () => {
    const log = `/run/scratch/${number}.log`;
    expect(await attempt(passt('--trace', '-l', log, '-1', '-s', path, '-P', pid))).toMatchObject({ status: 0 });
    const only = guest(path);
    await says(only, 'answer');
    only.child.stdin?.end();
    await gone();
    expect((await lab.user.run(['cat', log])).match(/disconnected.*/g)).toEqual(['disconnected: exiting']);
  });

  it('with --fd takes its caller’s connection, and ends with it', async () => {
    const caller = guest('fd', ...passt('-q', '-P', pid));
    await says(caller, 'answer');
    expect(caller.out()).toMatch(/^status 0\n/);
    expect(await left()).toEqual([false, true]);
    caller.child.stdin?.end();
    await gone();
  });

  it.each([
    [['-t', '99999'], /^Invalid port specifier 99999/],
    [['--config-net'], /^--config-net is for pasta mode only\n$/],
    [['-i', 'nosuch'], /^Invalid interface name nosuch: No such device\n$/],
    [['extra'], /^Extra non-option argument: extra\n$/],
  ])('%j is told before it goes to the background, and nothing stays', async (args, message) => {
    const done = await attempt(passt('-q', '-s', path, '-P', pid, ...args));
    expect(done).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(message) as string });
    expect(await left()).toEqual([false, false]);
  });

  it('whose controller is killed says so, with status 1', async () => {
    const log = `/run/scratch/${number}.log`;
    const one = lab.user.spawn(passt('-q', '-f', '-s', path, '-P', pid, '-l', log));
    const id = await waitFor(idOf, { what: 'the PID file' });
    const controller = (await lab.user.run(['pgrep', '-P', `${id}`])).trim();
    await lab.user.run(['kill', '-9', controller]);
    expect((await finish(one, { timeoutMs: 10_000 })).status).toBe(1);
    const text = await lab.user.run(['cat', log]);
    expect(text).toMatch(/ERROR: +The controller was killed by signal 9\n$/);
    // Of the PID file, by which it is known.
    expect(text.split('\n')[0]).toMatch(new RegExp(`^passt \\S+: pastiche \\(${id}\\)$`));
    expect(await left()).toEqual([false, false]);
  });

  /** As its own PID namespace has it; 0 until it is ready. */
  const idOf = async (): Promise<number> => Number((await lab.user.attempt(['cat', pid])).stdout);

  it('lets the hypervisor’s socket hold more than the default of frames that are not read yet', async () => {
    expect((await attempt(passt('-q', '-s', path, '-P', pid))).status).toBe(0);
    const one = guest(path);
    await says(one, 'answer');
    const bytes = await lab.host.run(['sh', '-c', `ss -xmHn src ${path} | grep -o 'tb[0-9]*'`]);
    const most = Number(readFileSync('/proc/sys/net/core/wmem_max', 'utf8'));
    expect(Number(bytes.trim().slice(2))).toBe(2 * Math.min(most, 64 * 1024 * 1024));
    await stop();
    await gone();
  });
});
