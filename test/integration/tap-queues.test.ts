// SPDX-License-Identifier: Apache-2.0
/**
 * Flows sharded by queue (docs/SCALING.md): which queue of a tap with several the kernel chooses for what a guest sends. One worker a
 * queue is not built; this holds the ground it would stand on, on whatever kernel the tests run.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile, type Lab, makeLab } from '../support/lab.mjs';

const QUEUES = 4;
/** MAX_TAP_FLOWS of the kernel. */
const REMEMBERED_MAX = 4096;

interface Unanswered {
  readonly flows: number;
  readonly strays: number;
  readonly fewestOfAQueue: number;
}
interface Found {
  readonly tcpUnanswered: Unanswered;
  readonly udpUnanswered: Unanswered;
  readonly tcpAnswered: {
    readonly flows: number;
    readonly answers: number;
    readonly followed: number;
    readonly forgotten: number;
  };
  readonly remembered: { readonly of: number; readonly flows: number };
  readonly queuesOf: { readonly arp: number; readonly echo: number; readonly fragments: number };
  readonly ownedByFirstQueue: { readonly frames: number; readonly strays: number };
  readonly fromOutside: { readonly frames: number; readonly strays: number };
}

let lab: Lab;
let found: Found;
beforeAll(async () => {
  lab = await makeLab();
  const program = await compile('test/support/tap-queues.c', join(lab.dir, 'tap-queues'));
  const inside = ['unshare', '--user', '--map-root-user', '--net', '--', program, String(QUEUES)];
  found = JSON.parse(await lab.user.run(inside));
});
afterAll(() => lab?.cleanup());

describe(`a tap with ${QUEUES} queues`, () => {
  it.each(['tcpUnanswered', 'udpUnanswered'] as const)(
    'has a flow that nobody answered on one queue, and flows on all of them (%s)',
    (name) => {
      const { strays, flows, fewestOfAQueue } = found[name];
      expect(strays).toBe(0);
      // An even share would be a quarter each.
      expect(fewestOfAQueue).toBeGreaterThan(flows / QUEUES / 3);
    },
  );
  it('moves a flow to the queue on which it was answered last, at once', () => {
    const { answers, followed } = found.tcpAnswered;
    expect(followed).toBe(answers);
  });
  it('forgets that when nothing was written for seconds, and the flow goes back to the queue of its hash', () => {
    const { flows, forgotten } = found.tcpAnswered;
    expect(forgotten).toBe(flows);
  });
  it('remembers a bounded number of flows', () => {
    // Among the others none is where it was answered: that was never the queue of its hash.
    expect(found.remembered.flows).toBe(REMEMBERED_MAX);
    expect(found.remembered.of).toBeGreaterThan(REMEMBERED_MAX);
  });
  it('has everything between two addresses without ports on one queue: fragments, ping, ARP', () => {
    expect(found.queuesOf).toEqual({ arp: 1, echo: 1, fragments: 1 });
  });
  it('never takes a flow from the owner of the queue where it began, who answers there: however many, however long', () => {
    expect(found.ownedByFirstQueue.frames).toBeGreaterThan(100_000);
    expect(found.ownedByFirstQueue.strays).toBe(0);
  });
  it('brings the answers of the guest to whoever wrote first', () => {
    expect(found.fromOutside).toMatchObject({ strays: 0 });
    expect(found.fromOutside.frames).toBeGreaterThan(1000);
  });
});
