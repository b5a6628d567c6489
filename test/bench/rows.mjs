// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Everything that is measured, in this order. */
import { crowdRows } from './crowd-rows.mjs';
import { forwardRows } from './forward-rows.mjs';
import { growRows } from './grow-rows.mjs';
import { startRows } from './start-rows.mjs';
import { tapRows } from './tap-rows.mjs';

/** @type {import('./row.mjs').Row[]} */
export const ROWS = [...tapRows(), ...startRows(), ...growRows(), ...crowdRows(), ...forwardRows()];
