// SPDX-License-Identifier: Apache-2.0
/** What one check of `pastiche doctor` says. */
import type { Status } from './report.ts';
import type { World } from './world.ts';

export interface Finding {
  readonly status: Status;
  readonly found: string;
  readonly meaning?: string;
  readonly remedy?: string;
}
/** Null: the check says nothing here (its cause is another check's failure, or it is not this user's business). */
export type Look = (world: World) => Finding | null;

export const ok = (found: string, remedy = ''): Finding => ({ status: 'ok', found, remedy });
export const warning = (found: string, meaning: string, remedy: string): Finding => ({
  status: 'warning',
  found,
  meaning,
  remedy,
});
export const failure = (found: string, meaning: string, remedy: string): Finding => ({
  status: 'failure',
  found,
  meaning,
  remedy,
});

/** A number that a file of /proc/sys holds, or null. */
export const sysctl = ({ read }: World, name: string): number | null => {
  const text = read(`/proc/sys/${name.replaceAll('.', '/')}`)?.trim();
  return text !== undefined && /^-?[0-9]+$/.test(text) ? Number(text) : null;
};
