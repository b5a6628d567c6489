// SPDX-License-Identifier: Apache-2.0
/** One end of a link in a namespace: frames go out as they are, and what comes in is kept, decoded, in order. */
import type { Side } from '../support/lab.mjs';
import { hasExited, type Started, waitFor } from '../support/process.mjs';
import { type Decoded, decode, describeFrame, VNET_BYTES } from './decode.ts';
import { ETHERTYPE } from './packet.ts';

const NO_OFFLOAD = Buffer.alloc(VNET_BYTES);
/** Not a performance bound: after this a thing that should come is taken not to come. */
const PATIENCE_MS = 5000;

export type Match = (frame: Decoded) => boolean | undefined;

export class Wire {
  /** All that came, in order; a datagram that came in fragments stands once more, whole, behind its last one. */
  readonly frames: Decoded[] = [];
  /** What the kernel would not send. */
  readonly refused: string[] = [];
  readonly #agent: Started;
  readonly #fragments = new Map<string, Decoded[]>();
  readonly #waiting = new Set<() => void>();
  #partialLine = '';

  private constructor(agent: Started) {
    this.#agent = agent;
    agent.child.stdout?.on('data', (text: string) => this.#take(text));
  }

  /** `program` is the compiled test/support/raw-frames.c. */
  static async open(side: Side, program: string, name: string): Promise<Wire> {
    const agent = side.spawn([program, name], { stdin: 'pipe' });
    const wire = new Wire(agent);
    await waitFor(() => agent.out().startsWith('ready') || hasExited(agent), { what: 'the raw frames' });
    if (hasExited(agent)) throw new Error(`raw-frames on ${name}: ${agent.err()}`);
    return wire;
  }

  send(frame: Uint8Array, vnet: Uint8Array = NO_OFFLOAD): void {
    this.#agent.child.stdin?.write(`${Buffer.concat([vnet, frame]).toString('hex')}\n`);
  }
  sendAll(frames: readonly Uint8Array[]): void {
    const vnet = NO_OFFLOAD.toString('hex');
    this.#agent.child.stdin?.write(frames.map((frame) => `${vnet}${Buffer.from(frame).toString('hex')}\n`).join(''));
  }

  /** The index of the first frame from `from` on that matches, as soon as it is there. */
  async find(from: number, match: Match, what: string, timeoutMs = PATIENCE_MS): Promise<number> {
    let at = from;
    const look = (): boolean => {
      while (at < this.frames.length) {
        if (match(this.frames[at] as Decoded)) return true;
        at++;
      }
      return false;
    };
    const deadline = performance.now() + timeoutMs;
    while (!look()) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`waited in vain for ${what}; what came: ${this.said(from)}`);
      await this.#news(left);
    }
    return at;
  }

  /** Resolves when something came, or after `ms`. */
  #news(ms: number): Promise<void> {
    return new Promise((done) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(finish);
        done();
      };
      const timer = setTimeout(finish, ms);
      this.#waiting.add(finish);
    });
  }

  /** What came from index `from` on, for a message. */
  said(from: number): string {
    const some = this.frames.slice(from, from + 20).map(describeFrame);
    const unsent = this.refused.length > 0 ? `; not sent: ${this.refused.slice(-3).join(', ')}` : '';
    return `${some.length === 0 ? 'nothing' : some.map((line) => `\n  ${line}`).join('')}${unsent}`;
  }

  #take(text: string): void {
    const lines = (this.#partialLine + text).split('\n');
    this.#partialLine = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith('!')) this.refused.push(line.slice(2));
      else if (line !== 'ready') this.#receive(Buffer.from(line, 'hex'));
    }
    for (const finish of [...this.#waiting]) finish();
  }
  #receive(bytes: Buffer): void {
    const frame = bytes.subarray(VNET_BYTES);
    if (frame.length < 14) return;
    const decoded = decode(bytes.subarray(0, VNET_BYTES), frame);
    this.frames.push(decoded);
    if (decoded.ip?.fragmented) this.#gather(decoded);
  }

  /** Puts fragments together once they are all there; they come in any order and may not overlap. */
  #gather(piece: Decoded): void {
    const ip = piece.ip as NonNullable<Decoded['ip']>;
    const key = `${ip.src} ${ip.dst} ${ip.family === 4 ? ip.protocol : ''} ${ip.id}`;
    const pieces = [...(this.#fragments.get(key) ?? []), piece];
    this.#fragments.set(key, pieces);
    const parts = pieces.map((each) => each.ip as NonNullable<Decoded['ip']>).sort((a, b) => a.offset - b.offset);
    let next = 0;
    for (const part of parts) {
      if (part.offset !== next) return;
      next += part.payload.length;
    }
    if (parts.at(-1)?.more !== false) return;
    this.#fragments.delete(key);
    this.frames.push(whole(piece.frame, parts, pieces.length));
  }
}

/** A frame with the headers of one fragment and the payload of all. */
const whole = (frame: Buffer, parts: readonly NonNullable<Decoded['ip']>[], pieces: number): Decoded => {
  const payload = Buffer.concat(parts.map((part) => part.payload));
  const is4 = frame.readUInt16BE(12) === ETHERTYPE.ipv4;
  const headerBytes = 14 + (is4 ? ((frame[14] ?? 0) & 15) * 4 : 40);
  const head = Buffer.from(frame.subarray(0, headerBytes));
  if (is4) {
    head.writeUInt16BE(headerBytes - 14 + payload.length, 16);
    head.writeUInt16BE(0, 20);
    head.writeUInt16BE(0, 24);
    let sum = 0;
    for (let i = 14; i < headerBytes; i += 2) sum += head.readUInt16BE(i);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    head.writeUInt16BE(~sum & 0xffff, 24);
  } else {
    head.writeUInt16BE(payload.length, 18);
    head.writeUInt8(parts[0]?.protocol ?? 59, 20);
  }
  return decode(NO_OFFLOAD, Buffer.concat([head, payload]), pieces);
};
