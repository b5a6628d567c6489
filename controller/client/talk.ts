// SPDX-License-Identifier: Apache-2.0
/** One connection to a running instance, as bytes: what comes in is read until enough of it is there or the other side closes. */
import { createConnection, type Socket } from 'node:net';
import { ClientError } from './arguments.ts';

/** A server that has nothing to do answers within milliseconds; ours may first have another client's thousands of ports to open. */
const PATIENCE_MS = 30_000;

export class Connection {
  readonly #socket: Socket;
  readonly #path: string;
  #bytes = Buffer.alloc(0);
  #closed = false;
  #wake: (() => void) | null = null;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    const wake = (): void => this.#wake?.();
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      wake();
    });
    const close = (): void => {
      this.#closed = true;
      wake();
    };
    // A server that closed with something unread (a request it does not know) is a reset: closed, as well.
    for (const event of ['end', 'close', 'error']) socket.on(event, close);
  }

  /** Throws {@link ClientError}. */
  static open(path: string): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = createConnection({ path, allowHalfOpen: true });
      socket.once('error', (error: NodeJS.ErrnoException) =>
        reject(new ClientError(`Can't connect to ${path}: ${reason(error)}`)),
      );
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        resolve(new Connection(socket, path));
      });
    });
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }
  close(): void {
    this.#socket.destroy();
  }

  /**
   * Gives what came to `take` until that says it has enough (true), or the server has closed (false). Throws {@link ClientError} when
   * neither comes within `patienceMs`, or `most` bytes are not enough.
   */
  async read(take: (bytes: Buffer) => boolean, most: number, patienceMs = PATIENCE_MS): Promise<boolean> {
    const deadline = Date.now() + patienceMs;
    let seen = 0;
    for (;;) {
      const bytes = this.#bytes;
      this.#bytes = Buffer.alloc(0);
      seen += bytes.length;
      if (bytes.length > 0 && take(bytes)) return true;
      if (seen > most) throw new ClientError(`${this.#path}: the server sends too much`);
      if (this.#bytes.length > 0) continue;
      if (this.#closed) return false;
      await this.#more(deadline - Date.now());
      if (!this.#closed && this.#bytes.length === 0 && Date.now() >= deadline)
        throw new ClientError(
          `${this.#path}: no answer within ${patienceMs / 1000} s: the server is busy, or it speaks another protocol`,
        );
    }
  }

  #more(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, ms));
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }
}

const reason = (error: NodeJS.ErrnoException): string => {
  switch (error.code) {
    case 'ENOENT':
      return 'no such file or directory';
    case 'ECONNREFUSED':
      return 'nobody serves it';
    case 'EACCES':
      return 'permission denied';
    default:
      return error.code ?? error.message;
  }
};
