// SPDX-License-Identifier: Apache-2.0
/** The checks of `pastiche doctor`, in the order in which they are shown: what nothing works without, then what is slower or less without. */
import { HOST } from './check-host.ts';
import { KERNEL } from './check-kernel.ts';
import type { Look } from './finding.ts';
import type { Check } from './report.ts';
import type { World } from './world.ts';

export const CHECKS: Readonly<Record<string, Look>> = { ...KERNEL, ...HOST };

export const runChecks = (world: World): Check[] =>
  Object.entries(CHECKS).flatMap(([name, look]) => {
    const finding = look(world);
    if (finding === null) return [];
    const { status, found, meaning = '', remedy = '' } = finding;
    return [{ name, status, found, meaning, remedy }];
  });
