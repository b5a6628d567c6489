// SPDX-License-Identifier: Apache-2.0
/** What the tests of qrap share: a QEMU that tells how it was started, and sockets that behave as no passt would. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { compile, isRoot, REPOSITORY } from './lab.mjs';
import { type Finished, finish, start } from './process.mjs';

export const QRAP = join(REPOSITORY, 'dist/bin/qrap');
export const QEMU = 'qemu-system-x86_64';

/** What the stand-in for QEMU prints (fake-qemu.c). */
export interface Seen {
  readonly argv: readonly string[];
  readonly umask: number;
  readonly blocked: readonly number[];
  readonly pipeIgnored: boolean;
  readonly descriptors: Readonly<Record<string, { socket: number; blocks: boolean; waiting: number }>>;
}

/** An Ethernet frame as QEMU's stream has it. */
export const framed = (bytes: number, fill = 0x55): Buffer => {
  const frame = Buffer.alloc(4 + bytes, fill);
  frame.writeUInt32BE(bytes);
  return frame;
};

/** What a peer does once it was asked; null: it closes a connection at once, as a passt does that has a guest. */
export type Manner = ((peer: Socket, question: Buffer) => void) | null;
export const answers = (peer: Socket): unknown => peer.write(framed(42));
export const isSilent: Manner = () => {};

/** A listening socket of a certain manner. */
export class Peer {
  connections = 0;
  readonly questions: Buffer[] = [];
  readonly path: string;
  #server: Server;
  #open = new Set<Socket>();

  private constructor(path: string, manner: Manner) {
    this.path = path;
    this.#server = createServer({ pauseOnConnect: manner === null }, (peer) => {
      this.connections++;
      if (manner === null) {
        peer.destroy();
        return;
      }
      this.#open.add(peer);
      peer.on('error', () => {});
      peer.on('close', () => this.#open.delete(peer));
      peer.once('data', (question) => {
        this.questions.push(question);
        manner(peer, question);
      });
    });
  }
  static async listen(path: string, manner: Manner): Promise<Peer> {
    const peer = new Peer(path, manner);
    await new Promise<void>((done, fail) => peer.#server.once('error', fail).listen(path, done));
    return peer;
  }
  async close(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }
}

/** Becomes a program without the low descriptors that whoever runs the tests may have left open. */
const WITHOUT_LOW = ['/bin/sh', '-c', 'exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec "$0" "$@"'];

/** A directory with the stand-in for QEMU, as `bin/qemu-system-x86_64`. */
export class Place {
  readonly dir = mkdtempSync('/tmp/qrap-test-');
  readonly bin = join(this.dir, 'bin');
  readonly tmp = join(this.dir, 'tmp');
  /** Who runs the tests may leave descriptors open. */
  #inherited = new Set<string>();
  async prepare(): Promise<this> {
    chmodSync(this.dir, 0o755);
    for (const dir of [this.bin, this.tmp, join(this.tmp, 'bin')]) mkdirSync(dir);
    const qemu = await compile('test/support/fake-qemu.c', join(this.bin, QEMU));
    for (const fd of Object.keys(seen(await this.run([], { program: qemu })).descriptors)) this.#inherited.add(fd);
    return this;
  }
  /** Numbers of the descriptors that QEMU has beside the first three and what this process inherited itself. */
  descriptors(state: Seen): string[] {
    return Object.keys(state.descriptors).filter((fd) => !this.#inherited.has(fd));
  }
  /** Runs qrap, or a program under another name, with the stand-in alone on PATH. */
  async run(
    args: readonly string[],
    {
      env = {},
      program = QRAP,
      path = this.bin,
    }: { env?: Record<string, string>; program?: string; path?: string } = {},
  ): Promise<Finished> {
    const options = { env: { PATH: path, ...env }, timeoutMs: 20_000 };
    return finish(start([...WITHOUT_LOW, program, ...args], options), options);
  }
  /** The same where /tmp is this place's own `tmp`. */
  async runWithOwnTmp(args: readonly string[], prefix = ''): Promise<Finished> {
    // The stand-in lies below the /tmp that is covered: it is bound to where it will be found.
    const script = `mount --bind "$1" "$0/bin" && mount --rbind "$0" /tmp && shift && exec 5>&- && export PATH=/tmp/bin && ${prefix} exec "$@"`;
    const own = isRoot ? [] : ['--user', '--map-root-user'];
    const enter = ['unshare', ...own, '--mount', '--propagation', 'private', 'sh', '-c', script];
    const options = { timeoutMs: 20_000 };
    return finish(start([...enter, this.tmp, this.bin, QRAP, ...args], options), options);
  }
  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** What the stand-in saw; fails with qrap's own words when it was never run. */
export const seen = ({ status, stdout, stderr }: Finished): Seen => {
  if (status !== 0) throw new Error(`qrap ended with ${status}:\n${stderr}`);
  return JSON.parse(stdout) as Seen;
};
