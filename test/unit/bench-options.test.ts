// SPDX-License-Identifier: Apache-2.0
/** The benchmark refuses what it would otherwise ignore, or measure nothing of. */
import { describe, expect, it } from 'vitest';
import { wrongOption } from '../../scripts/lib/bench-options.mjs';

const ROWS = [{ name: 'TCP to guest', check: 'pasta' }, { name: 'Memory left' }];
const PEERS = ['pastiche', 'pasta', 'direct'];

describe('the options of the benchmark', () => {
  it.each([
    { only: ['nosuch'] },
    { impaired: true, link: ['nosuch'] },
    { impaired: true, direction: ['sideways'] },
    { impaired: true, cell: ['a,b'] },
    { impaired: true, cell: ['1,2'] },
    { link: ['host'] },
    { section: 'x' },
    { rows: ['nosuch'] },
    { check: true, rows: ['Memory'] },
    { check: true, write: true },
    { check: true, congestion: ['cubic', 'bbr'] },
    { quick: true, rounds: '9' },
    { rounds: '0' },
    { rounds: '2.5' },
    { wmem: ['tiny'] },
    { peer: ['old'] },
    { peer: ['old=/nonexistent'] },
    { vm: true, check: true },
    { vm: true, impaired: true },
    { vm: true, write: true, section: 'A' },
    { vm: true, rows: ['nosuch'] },
    { checksum: true, vm: true },
    { checksum: true, rows: ['TCP'] },
  ])('%j are refused in one sentence', (options) => {
    expect(wrongOption(options, ROWS, PEERS)).toMatch(/^--[^\n]+$/);
  });
  it.each([
    {},
    { only: ['pasta', 'old'], peer: ['old=/bin/sh'], rows: ['Memory'], rounds: '3' },
    { check: true, rows: ['TCP'] },
    { impaired: true, link: ['host'], cell: ['50,0.1,5'], direction: ['up'], congestion: ['cubic'] },
    { write: true, section: 'A' },
    {
      vm: true,
      rows: ['TCP'],
      rounds: '1',
      only: ['pasta'],
      congestion: ['cubic', 'bbr'],
      wmem: ['raised'],
      write: true,
    },
    { checksum: true, write: true },
  ])('%j pass', (options) => {
    expect(wrongOption(options, ROWS, PEERS)).toBeNull();
  });
});
