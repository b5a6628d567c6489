// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import type { Rule, Tables } from '../fwd/rule.ts';
import { capsOf, refusal } from './check-rules.ts';

const RULE: Rule = {
  protocol: 'tcp',
  address: '',
  interface: '',
  first: 80,
  last: 80,
  target: '',
  to: 80,
  weak: false,
  scan: false,
};
const ON = { v4: true, v6: true, tcp: true, udp: true };
const none: Tables = { host: [], splice: [] };
const reason = (change: Partial<Rule>, on: Partial<Parameters<typeof capsOf>[0]>): string | null =>
  refusal({ ...none, host: [{ ...RULE, ...change }] }, capsOf({ ...ON, scan: true, ...on }), none, []);

test('a rule for whoever listens needs somebody to look who does', () => {
  expect(reason({ scan: true }, {})).toBeNull();
  expect(reason({ scan: true }, { scan: false })).toMatch(
    /^TCP .*80.*: 'auto' port forwarding is only allowed for pasta$/,
  );
  expect(reason({}, { scan: false })).toBeNull();
});
test('a rule of a protocol or IP version that is off is refused', () => {
  expect(reason({}, { tcp: false })).toMatch(/: TCP is not enabled$/);
  expect(reason({ address: '::1' }, { v6: false })).toMatch(/^IPv6 forward, but IPv6 not enabled/);
});
