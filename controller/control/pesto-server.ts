// SPDX-License-Identifier: Apache-2.0
/**
 * One client of the pesto socket, from hello to close, as a machine that is fed: bytes and the end of them come in, bytes and
 * the end go out through a {@link Peer}. It has the turn of {@link Changes} for as long as it lives, since the client writes
 * back what it read; so it lives {@link SESSION_MS} at most.
 */
import { type Direction, type Protocol, printRule, type Tables } from '../fwd/rule.ts';
import * as log from '../obs/log.ts';
import type { ChangeMode, Changes, Failure } from './changes.ts';
import { refusal } from './check-rules.ts';
import { encodeTables, NAMES, UpdateReader } from './pesto-protocol.ts';
import { describeFailure, encodeReport, REPORT_REQUEST } from './pesto-report.ts';

/** From hello to the last byte of the update. */
export const SESSION_MS = 5000;

const REFUSED = log.site('Updates of a pesto client refused');
const FAILED = log.site('Ports that cannot be listened on');

/** The other end of a stream socket. */
export interface Peer {
  /** Bytes to be written; never refused, since what a session sends is bounded. */
  readonly send: (bytes: Buffer) => void;
  /** Writes what is still to be written, then closes. Nothing is called afterwards. */
  readonly end: () => void;
  /** The session's `wantsBytes` may have changed outside a call of the peer's. */
  readonly resume: () => void;
}

export interface PestoOptions {
  readonly changes: Changes;
  readonly now: () => number;
  /** What rules may be, {@link CAP}, and the tables there are. */
  readonly caps: number;
  readonly directions: readonly Direction[];
  /** Protocols that were shut towards the host at the start. */
  readonly shut: readonly Protocol[];
}

export class PestoSession {
  readonly #o: PestoOptions;
  readonly #peer: Peer;
  readonly #reader = new UpdateReader();
  readonly #deadline: number;
  readonly #who: string;
  #state: 'reading' | 'applying' | 'over' = 'reading';
  readonly #onOver: () => void;

  /** `onOver` is called once: the turn is free again. */
  constructor(options: PestoOptions, pid: number, peer: Peer, onOver: () => void) {
    this.#o = options;
    this.#peer = peer;
    this.#onOver = onOver;
    this.#who = `pesto client (PID ${pid})`;
    this.#deadline = options.now() + SESSION_MS;
  }

  /** Greets the client. Not done by the constructor: one that is gone already ends the session with the first byte. */
  begin(): void {
    const { changes, caps, directions } = this.#o;
    const tables = changes.forwarding.tables();
    log.debug(`${this.#who}: connected`);
    this.#peer.send(encodeTables(directions.map((direction) => ({ direction, caps, rules: tables[direction] }))));
  }

  /** Whether {@link onBytes} is of use; otherwise bytes may stay where they are. */
  get wantsBytes(): boolean {
    return this.#state === 'reading';
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#state !== 'reading') return;
    try {
      if (this.#reader.feed(bytes)) this.#apply(this.#reader.update, this.#reader.rest);
    } catch (error) {
      this.#refuse((error as Error).message, false);
    }
  }

  /** The client sends no more: a viewer that has seen enough, or one that gave up in the middle. */
  onEnd(): void {
    if (this.#state !== 'reading') return;
    if (this.#reader.begun) this.#refuse('closed in the middle of an update', false);
    else this.#over();
  }

  nextDelay(now: number): number {
    return this.#state === 'reading' ? Math.max(0, this.#deadline - now) : -1;
  }
  tick(now: number): void {
    if (this.#state !== 'reading' || now < this.#deadline) return;
    if (this.#reader.begun) this.#refuse(`no whole update in ${SESSION_MS / 1000} s`, false);
    else {
      log.debug(`${this.#who}: idle for ${SESSION_MS / 1000} s, hung up on`);
      this.#over();
    }
  }

  #apply(next: Tables, rest: Buffer): void {
    const report = rest.equals(REPORT_REQUEST);
    const absent = (['host', 'splice'] as const).find(
      (one) => !this.#o.directions.includes(one) && next[one].length > 0,
    );
    const reason =
      absent === undefined
        ? refusal(next, this.#o.caps, this.#o.changes.forwarding.tables(), this.#o.shut)
        : `there is no table ${NAMES[absent]}`;
    if (reason !== null) return this.#refuse(reason, report);
    this.#state = 'applying';
    const mode: ChangeMode = report ? 'all-or-nothing' : 'what-works';
    this.#o.changes.change(next, mode, this.#o.now, (failures, applied) => this.#done(next, failures, applied, report));
  }

  #done(next: Tables, failures: readonly Failure[], applied: boolean, report: boolean): void {
    if (applied && log.infoEnabled) for (const line of summary(next)) log.info(line);
    for (const failure of failures) log.warnAt(FAILED, this.#o.now(), describeFailure(failure));
    if (report) this.#peer.send(encodeReport(applied, null, failures));
    this.#over();
  }

  #refuse(reason: string, report: boolean): void {
    if (log.allow(REFUSED, this.#o.now())) log.warn(`${this.#who}: update refused, nothing was changed: ${reason}`);
    if (report) this.#peer.send(encodeReport(false, reason, []));
    this.#over();
  }

  #over(): void {
    this.#state = 'over';
    this.#peer.end();
    this.#onOver();
  }
}

const summary = (tables: Tables): string[] =>
  (['host', 'splice'] as const).flatMap((direction) => [
    `New forwarding rules for ${NAMES[direction]}:`,
    ...tables[direction].map((rule) => `    ${printRule(rule)}`),
  ]);
