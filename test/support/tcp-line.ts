// SPDX-License-Identifier: Apache-2.0
/** One direction of a bad link on a fake clock: it delays, loses, repeats and reorders what is put into it, by a seeded generator. */

export interface LineOptions {
  readonly delayMs: number;
  /** Probabilities, 0 to 1. */
  readonly loss: number;
  readonly duplicate: number;
  readonly reorder: number;
  /** How much longer what is reordered takes. */
  readonly reorderMs: number;
  /** The queue in front: so many items at most, so many of which leave in a millisecond. */
  readonly queue?: { readonly length: number; readonly perMs: number };
}

export class Line<T> {
  private readonly o: LineOptions;
  private readonly random: () => number;
  /** When the last item of the queue leaves it. */
  private busyUntilMs = 0;
  private waiting: { readonly dueMs: number; readonly item: T }[] = [];
  put = 0;
  /** The most that the queue held. */
  longest = 0;
  lost = 0;

  constructor(o: LineOptions, random: () => number) {
    this.o = o;
    this.random = random;
  }
  send(item: T, nowMs: number): void {
    const { o, random } = this;
    this.put++;
    if (random() < o.loss) {
      this.lost++;
      return;
    }
    let leavesMs = nowMs;
    if (o.queue !== undefined) {
      const begins = Math.max(this.busyUntilMs, nowMs);
      if ((begins - nowMs) * o.queue.perMs >= o.queue.length) {
        this.lost++;
        return;
      }
      this.longest = Math.max(this.longest, (begins - nowMs) * o.queue.perMs);
      leavesMs = begins + 1 / o.queue.perMs;
      this.busyUntilMs = leavesMs;
    }
    const dueMs = leavesMs + o.delayMs + (random() < o.reorder ? o.reorderMs : 0);
    this.waiting.push({ dueMs, item });
    if (random() < o.duplicate) this.waiting.push({ dueMs, item });
  }
  /** What has arrived by now, in the order of its arrival. */
  arrived(nowMs: number): T[] {
    const due = this.waiting.filter((w) => w.dueMs <= nowMs);
    if (due.length === 0) return [];
    this.waiting = this.waiting.filter((w) => w.dueMs > nowMs);
    // Array.prototype.sort keeps the order of equals.
    return due.sort((a, b) => a.dueMs - b.dueMs).map((w) => w.item);
  }
  get empty(): boolean {
    return this.waiting.length === 0;
  }
}
