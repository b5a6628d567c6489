// SPDX-License-Identifier: Apache-2.0
/** What fwd/listeners offers to the control sockets, without sockets: ports that are `taken` cannot be bound, all others can. */
import type { ChangeMode, Failure, Forwarding } from '../../controller/control/changes.ts';
import { type Direction, type Rule, sameRule, type Tables } from '../../controller/fwd/rule.ts';

const EADDRINUSE = 98;
const DIRECTIONS = ['host', 'splice'] as const;

export class FakeForwarding implements Forwarding {
  inForce: Tables;
  readonly taken = new Set<number>();
  /** Changes that were begun, by their mode. */
  readonly begun: ChangeMode[] = [];
  #pending: (() => void) | null = null;

  constructor(tables: Tables = { host: [], splice: [] }) {
    this.inForce = tables;
  }
  readonly tables = (): Tables => this.inForce;

  #failures(tables: Tables): Failure[] {
    return DIRECTIONS.flatMap((direction) =>
      tables[direction].flatMap((rule) => {
        const port = this.#firstTaken(rule);
        return port === 0 || rule.weak ? [] : [{ direction, rule, port, errno: EADDRINUSE }];
      }),
    );
  }
  #firstTaken(rule: Rule): number {
    for (let port = rule.first; port <= rule.last; port++) if (this.taken.has(port)) return port;
    return 0;
  }

  readonly change = (
    next: Tables,
    mode: ChangeMode,
    done: (failures: readonly Failure[], applied: boolean) => void,
  ): boolean => {
    if (this.#pending !== null) return false;
    this.begun.push(mode);
    this.#pending = () => {
      const isNew = ({ direction, rule }: Failure): boolean =>
        !this.inForce[direction].some((other) => sameRule(other, rule));
      const failures = this.#failures(next).filter((one) => mode === 'what-works' || isNew(one));
      const applied = mode === 'what-works' || failures.length === 0;
      if (applied) this.inForce = next;
      done(failures, applied);
    };
    return true;
  };
  /** Ends the change that is under way. */
  settle(): void {
    const pending = this.#pending;
    if (pending === null) throw new Error('no change is under way');
    this.#pending = null;
    pending();
  }
  get changing(): boolean {
    return this.#pending !== null;
  }

  readonly ruleState = (_direction: Direction, rule: Rule): { listening: number; errno: number; port: number } => {
    const ports = rule.last - rule.first + 1;
    const bad = [...this.taken].filter((port) => port >= rule.first && port <= rule.last).length;
    const port = this.#firstTaken(rule);
    return { listening: rule.scan ? 0 : ports - bad, errno: port === 0 ? 0 : EADDRINUSE, port };
  };
}
