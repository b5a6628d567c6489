// SPDX-License-Identifier: Apache-2.0
/** What the command line can be refused for: one clear sentence for stderr, exit status 1, and a code for tests and callers. */

export type UsageCode =
  | 'unknown-option'
  | 'ambiguous-option'
  | 'missing-argument'
  | 'unexpected-argument'
  | 'invalid-value'
  | 'conflict'
  | 'not-supported'
  | 'wrong-mode';

/** The command line itself is wrong, whatever the host looks like. */
export class UsageError extends Error {
  readonly code: UsageCode;
  constructor(code: UsageCode, message: string) {
    super(message);
    this.name = 'UsageError';
    this.code = code;
  }
}

/** `what value` as callers parse it ("Invalid MTU: 7"), then, in parentheses, which option and what it takes. */
export const invalid = (what: string, value: string, option: string, takes: string): UsageError =>
  new UsageError('invalid-value', `${what} ${value} (${option} takes ${takes})`);
