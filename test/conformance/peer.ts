// SPDX-License-Identifier: Apache-2.0
/** The test's hold on peer.mjs: servers on the far side of what is tested. */
import { join } from 'node:path';
import { NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { hasExited, type Started, waitFor } from '../support/process.mjs';
import type { Family } from './packet.ts';

interface Event {
  id?: number;
  port?: number;
  listener?: number;
  conn?: number;
  socket?: number;
  is?: string;
  hex?: string;
  code?: string;
  address?: string;
}

/** One accepted connection, seen from the server. */
export interface Connection {
  readonly conn: number;
  /** Everything received. */
  received: Buffer;
  ended: boolean;
  /** Error code, like ECONNRESET. */
  error: string | undefined;
  closed: boolean;
}
export interface Listener {
  readonly id: number;
  readonly port: number;
  readonly connections: Connection[];
}
export interface Datagram {
  readonly payload: Buffer;
  readonly address: string;
  readonly port: number;
}
export interface UdpServer {
  readonly id: number;
  readonly port: number;
  readonly datagrams: Datagram[];
}

export class Peer {
  #closed = 20_000;
  readonly #program: Started;
  readonly #answers = new Map<number, (port: number) => void>();
  readonly #listeners = new Map<number, Listener>();
  readonly #connections = new Map<number, Connection>();
  readonly #sockets = new Map<number, UdpServer>();
  #lastId = 0;
  #partialLine = '';

  private constructor(program: Started) {
    this.#program = program;
    program.child.stdout?.on('data', (text: string) => {
      const lines = (this.#partialLine + text).split('\n');
      this.#partialLine = lines.pop() ?? '';
      for (const line of lines) this.#event(JSON.parse(line) as Event);
    });
  }
  static async start(side: Side): Promise<Peer> {
    const path = join(REPOSITORY, 'test/conformance/peer.mjs');
    const program = side.spawn([process.execPath, path, NET.server4, NET.server6], { stdin: 'pipe' });
    const peer = new Peer(program);
    await waitFor(() => program.out().includes('ready') || hasExited(program), { what: 'the scripted peer' });
    if (hasExited(program)) throw new Error(`the scripted peer: ${program.err()}`);
    return peer;
  }

  #event(e: Event): void {
    if (e.id !== undefined) this.#answers.get(e.id)?.(e.port ?? 0);
    const at = e.conn === undefined ? undefined : this.#connections.get(e.conn);
    switch (e.is) {
      case 'open': {
        const fresh = { conn: e.conn ?? 0, received: Buffer.alloc(0), ended: false, error: undefined, closed: false };
        this.#connections.set(fresh.conn, fresh);
        this.#listeners.get(e.listener ?? 0)?.connections.push(fresh);
        return;
      }
      case 'data':
        if (at) at.received = Buffer.concat([at.received, Buffer.from(e.hex ?? '', 'hex')]);
        return;
      case 'end':
        if (at) at.ended = true;
        return;
      case 'error':
        if (at) at.error = e.code;
        return;
      case 'close':
        if (at) at.closed = true;
        return;
      default:
    }
    if (e.socket !== undefined && e.hex !== undefined) {
      const datagram = { payload: Buffer.from(e.hex, 'hex'), address: e.address ?? '', port: e.port ?? 0 };
      this.#sockets.get(e.socket)?.datagrams.push(datagram);
    }
  }
  #command(command: object): void {
    this.#program.child.stdin?.write(`${JSON.stringify(command)}\n`);
  }
  #ask(command: object): Promise<{ id: number; port: number }> {
    const id = ++this.#lastId;
    return new Promise((done) => {
      this.#answers.set(id, (port) => done({ id, port }));
      this.#command({ ...command, id });
    });
  }

  /** A TCP server on a port of its own; `paused`: its connections are not read until resume(). */
  async listen(family: Family, paused = false): Promise<Listener> {
    const listener = { ...(await this.#ask({ do: 'listen', family, paused })), connections: [] };
    this.#listeners.set(listener.id, listener);
    return listener;
  }
  async bind(family: Family, echo: boolean): Promise<UdpServer> {
    const socket = { ...(await this.#ask({ do: 'bind', family, echo })), datagrams: [] };
    this.#sockets.set(socket.id, socket);
    return socket;
  }
  /** A port where nobody listens: below the range that the kernel gives ports from, so that no other case gets it meanwhile. */
  closedPort(): number {
    return this.#closed++;
  }
  write(c: Connection, data: Uint8Array): void {
    this.#command({ do: 'write', conn: c.conn, hex: Buffer.from(data).toString('hex') });
  }
  /** FIN, reset, close without a word about unread data, begin to read. */
  end(c: Connection): void {
    this.#command({ do: 'end', conn: c.conn });
  }
  reset(c: Connection): void {
    this.#command({ do: 'reset', conn: c.conn });
  }
  destroy(c: Connection): void {
    this.#command({ do: 'destroy', conn: c.conn });
  }
  resume(c: Connection): void {
    this.#command({ do: 'resume', conn: c.conn });
  }
  send(s: UdpServer, to: Datagram, payload: Uint8Array): void {
    const hex = Buffer.from(payload).toString('hex');
    this.#command({ do: 'send', socket: s.id, port: to.port, address: to.address, hex });
  }
}
