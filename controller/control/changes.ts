// SPDX-License-Identifier: Apache-2.0
/**
 * Changes of the rules while we run, in strict turn: whoever reads the tables in order to write them has them to himself until
 * he is done, over whichever socket he came. Afterwards, ports that were asked for by name and could not be bound are tried
 * again each second, as long as the table has them.
 */
import type { Direction, Rule, Tables } from '../fwd/rule.ts';

/** A rule that could not be put in force whole: its first port that failed, and why. */
export interface Failure {
  readonly direction: Direction;
  readonly rule: Rule;
  readonly port: number;
  readonly errno: number;
}
/** `all-or-nothing`: with a failure, everything stays as it was. `what-works`: the table is as asked for, and what can listen does. */
export type ChangeMode = 'all-or-nothing' | 'what-works';

/** What is changed: fwd/listeners. */
export interface Forwarding {
  readonly tables: () => Tables;
  /** `done` is called once, later; false: another change is under way, and `done` is not called. */
  readonly change: (
    next: Tables,
    mode: ChangeMode,
    done: (failures: readonly Failure[], applied: boolean) => void,
  ) => boolean;
  /** How many sockets of the rule listen; why (errno) and at which port one does not, 0 if none is missing. */
  readonly ruleState: (direction: Direction, rule: Rule) => { listening: number; errno: number; port: number };
}

/** pasta's own rhythm. */
const RETRY_MS = 1000;

type Turn = (release: () => void) => void;

export class Changes {
  readonly forwarding: Forwarding;
  readonly #waiting: Turn[] = [];
  #taken = false;
  #retryAt = Number.POSITIVE_INFINITY;

  constructor(forwarding: Forwarding) {
    this.forwarding = forwarding;
  }

  /** Calls `turn` when nobody else has the tables, perhaps at once; it must call `release` once. Gives a function that withdraws a turn that has not begun. */
  inTurn(turn: Turn): () => void {
    this.#waiting.push(turn);
    this.#next();
    return () => {
      const at = this.#waiting.indexOf(turn);
      if (at >= 0) this.#waiting.splice(at, 1);
    };
  }

  #next(): void {
    if (this.#taken) return;
    const turn = this.#waiting.shift();
    if (turn === undefined) return;
    this.#taken = true;
    let released = false;
    turn(() => {
      if (released) return;
      released = true;
      this.#taken = false;
      this.#next();
    });
  }

  /** Puts tables in force; only for who has the turn. */
  change(
    next: Tables,
    mode: ChangeMode,
    now: () => number,
    done: (failures: readonly Failure[], applied: boolean) => void,
  ): void {
    const begun = this.forwarding.change(next, mode, (failures, applied) => {
      // A refused change leaves the earlier tables, with whatever they lacked.
      if (applied) this.#retryAt = failures.length > 0 ? now() + RETRY_MS : Number.POSITIVE_INFINITY;
      done(failures, applied);
    });
    if (!begun) throw new Error('two changes of the rules at once');
  }

  /** Milliseconds until {@link tick} has something to do; −1: never. */
  nextDelay(now: number): number {
    return this.#retryAt === Number.POSITIVE_INFINITY ? -1 : Math.max(0, this.#retryAt - now);
  }

  tick(now: () => number): void {
    if (now() < this.#retryAt) return;
    this.#retryAt = Number.POSITIVE_INFINITY;
    this.inTurn((release) => this.change(this.forwarding.tables(), 'what-works', now, release));
  }
}
