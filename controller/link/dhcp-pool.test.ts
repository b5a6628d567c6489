// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { DhcpPool } from './dhcp-pool.ts';

const FIRST = 0x0a00020f;

test('each client has its own address and keeps it', () => {
  const pool = new DhcpPool(FIRST, 16);
  const given = Array.from({ length: 16 }, (_, i) => pool.addressFor(2, i, 0));
  expect(given).toEqual(Array.from({ length: 16 }, (_, i) => FIRST + i));
  expect(Array.from({ length: 16 }, (_, i) => pool.addressFor(2, i, 0))).toEqual(given);
});
test('one that is asked for is given if it is free, and is no business of anybody else', () => {
  const pool = new DhcpPool(FIRST, 16);
  expect(pool.addressFor(2, 1, FIRST + 5)).toBe(FIRST + 5);
  expect(pool.addressFor(2, 2, FIRST + 5)).toBe(FIRST);
  for (const beyond of [FIRST - 1, FIRST + 16, -1]) expect(pool.addressFor(2, 3, beyond)).toBe(FIRST + 1);
});
test('when all are given, the one that has not been asked about for longest is given anew', () => {
  const pool = new DhcpPool(FIRST, 3);
  for (const client of [1, 2, 3]) pool.addressFor(2, client, 0);
  pool.addressFor(2, 1, 0);
  expect(pool.addressFor(2, 4, 0)).toBe(FIRST + 1);
  expect(pool.addressFor(2, 1, 0)).toBe(FIRST);
});
