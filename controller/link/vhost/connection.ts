// SPDX-License-Identifier: Apache-2.0
/**
 * The socket of one front-end: messages in whatever pieces they come, with their descriptors, and replies as far as it reads them. While a
 * reply is not sent no further request is read, so that there is one at most.
 */
import * as io from '../../io/io.ts';
import { checkHeader, HEADER_BYTES, PAYLOAD_BYTES_MAX, ProtocolError, payloadBytes, REGIONS_MAX } from './message.ts';
import type { VhostSession } from './session.ts';

/** Where bytes are received and sent: used within one call only, like the rest of the region's end. */
const BYTES_AT = io.SCRATCH_END - 4096;
/** Requests that one event may bring: guests' frames must not wait for a front-end that asks without end. */
const REQUESTS_A_TURN = 32;
const EAGAIN = 11;
const EINTR = 4;

export class VhostConnection {
  readonly fd: number;
  readonly #ref: number;
  readonly #session: VhostSession;
  readonly #message = new Uint8Array(HEADER_BYTES + PAYLOAD_BYTES_MAX);
  readonly #view = new DataView(this.#message.buffer);
  #have = 0;
  #fds: number[] = [];
  #unsent: Uint8Array | null = null;

  /** `fd` is non-blocking, and this object's from now on. */
  constructor(fd: number, ref: number, session: VhostSession) {
    this.fd = fd;
    this.#ref = ref;
    this.#session = session;
    this.#watch(io.EPOLLIN);
  }

  /** An event of the socket. False: the front-end has hung up. Throws ProtocolError where it does what it must not. */
  onEvent(mask: number): boolean {
    if (this.#unsent !== null) {
      if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0) return false;
      this.#send(this.#unsent);
      return true;
    }
    for (let i = 0; i < REQUESTS_A_TURN && this.#unsent === null; i++) {
      const whole = this.#receive();
      if (whole === null) return false;
      if (!whole) break;
      this.#handle();
    }
    return true;
  }

  close(): void {
    this.#closeFds();
    io.native.unwatch(this.fd);
    io.native.close(this.fd);
  }

  /** Receives what is missing of the message at hand. True: nothing is; null: end of file. */
  #receive(): boolean | null {
    for (;;) {
      const wanted = this.#have < HEADER_BYTES ? HEADER_BYTES : HEADER_BYTES + payloadBytes(this.#view);
      // A payload of 0 bytes is there with its header.
      if (this.#have >= HEADER_BYTES && this.#have === wanted) return true;
      const n = io.native.channelRecv(this.fd, BYTES_AT, wanted - this.#have, false);
      if (n === 0) return null;
      if (n === -EAGAIN || n === -EINTR) return false;
      if (n < 0) throw new ProtocolError(`the vhost-user socket failed (errno ${-n})`);
      for (let i = 0; i < (io.col[io.COL.FD_COUNT] as number); i++) this.#fds.push(io.col[io.COL.FD + i] as number);
      if (this.#fds.length > REGIONS_MAX) throw new ProtocolError('more descriptors than a vhost-user message has');
      this.#message.set(io.mem.subarray(BYTES_AT, BYTES_AT + n), this.#have);
      const hadHeader = this.#have >= HEADER_BYTES;
      this.#have += n;
      if (!hadHeader && this.#have >= HEADER_BYTES) checkHeader(this.#view);
    }
  }

  #handle(): void {
    try {
      const reply = this.#session.handle(this.#view, this.#fds);
      if (reply !== null) this.#send(reply);
    } finally {
      this.#closeFds();
      this.#have = 0;
    }
  }

  #send(reply: Uint8Array): void {
    io.mem.set(reply, BYTES_AT);
    const n = io.native.channelSend(this.fd, BYTES_AT, reply.length);
    if (n < 0 && n !== -EAGAIN && n !== -EINTR) throw new ProtocolError(`the vhost-user socket failed (errno ${-n})`);
    const rest = n < 0 ? reply : reply.subarray(n);
    const waited = this.#unsent !== null;
    this.#unsent = rest.length === 0 ? null : rest;
    if (waited !== (this.#unsent !== null)) this.#watch(waited ? io.EPOLLIN : io.EPOLLOUT);
  }

  #watch(events: number): void {
    const r = io.native.watch(this.fd, events, this.#ref);
    if (r < 0) throw new ProtocolError(`the vhost-user socket cannot be watched (errno ${-r})`);
  }
  #closeFds(): void {
    for (const fd of this.#fds) io.native.closeForeign(fd);
    this.#fds = [];
  }
}
