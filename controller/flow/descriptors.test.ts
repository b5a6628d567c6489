// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const descriptors = await import('./descriptors.ts');
const { end } = await import('./end.ts');
const lru = await import('./lru.ts');
const flows = await import('./table.ts');
type Flow = import('./table.ts').Flow;

const asked: [owner: number, but: Flow][] = [];
/** Owners that have one to give up. */
let able: readonly number[] = [];
beforeEach(() => {
  fake.reset();
  asked.length = 0;
  for (const owner of [descriptors.UDP, descriptors.PING, descriptors.TCP] as const) {
    descriptors.register(owner, (but) => {
      asked.push([owner, but]);
      return able.includes(owner);
    });
  }
});
const made: Flow[] = [];
afterEach(() => {
  for (const f of made.splice(0)) end(f);
  flows.endTurn();
});

const { UDP, PING, TCP } = descriptors;
test.each([
  ['UDP', UDP, [UDP, PING, TCP], [UDP]],
  ['UDP without an unanswered flow', UDP, [PING, TCP], [UDP, PING]],
  ['ping', PING, [UDP, PING, TCP], [PING]],
  ['the first ping', PING, [UDP, TCP], [PING, UDP]],
  ['TCP', TCP, [UDP, PING, TCP], [UDP]],
  ['TCP, nobody else', TCP, [TCP], [UDP, PING, TCP]],
  ['TCP, nobody', TCP, [], [UDP, PING, TCP]],
])('%s lacks one: others are asked until one gives', (_name, owner, can, expected) => {
  able = can;
  descriptors.short(owner as 0 | 1 | 2, 5 as Flow);
  expect(asked).toEqual(expected.map((each) => [each, 5]));
});

test('of a class, a flow without a descriptor gives none', () => {
  const [waiting, but, older, younger] = [-1, 30, 31, 32].map((fd) => {
    const f = flows.alloc(flows.FLOW_PING);
    made.push(f);
    if (fd >= 0) {
      fake.addSocket(fd);
      flows.setFd(f, fd);
    }
    lru.add(lru.LRU_PING, f);
    return f;
  }) as [Flow, Flow, Flow, Flow];
  expect(descriptors.oldestHolder(lru.LRU_PING, but)).toBe(older);
  lru.touch(older);
  expect(descriptors.oldestHolder(lru.LRU_PING, but)).toBe(younger);
  expect(descriptors.oldestHolder(lru.LRU_PING, waiting)).toBe(but);
  expect(descriptors.oldestHolder(lru.LRU_DNS, but)).toBe(flows.NO_FLOW);
});
