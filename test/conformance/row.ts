// SPDX-License-Identifier: Apache-2.0
/** One row of the conformance table: a clause, what it demands, and the frames that show whether it is kept. */
import type { Family } from './packet.ts';
import type { Talk } from './talk.ts';

export type Level = 'must' | 'should' | 'may';

export interface Row {
  /** Unique; the name of the test. */
  readonly id: string;
  /** One or more clauses. */
  readonly rfc: string;
  /** The strongest word of those clauses. */
  readonly level: Level;
  /** What is sent and what is expected, in a sentence. */
  readonly what: string;
  /** The file of the controller that keeps it. */
  readonly where: string;
  /** Default: both. */
  readonly families?: readonly Family[];
  /** Why it is not put to Linux; absent: it is. */
  readonly notLinux?: string;
  /** Where Linux does otherwise than the RFC, or than we do, and the case allows for it. */
  readonly differs?: string;
  /** Waits for a timer of the stack: runs beside the others of its kind. */
  readonly slow?: true;
  readonly run: (t: Talk) => Promise<void>;
}

export const familiesOf = (row: Row): readonly Family[] => row.families ?? [4, 6];
