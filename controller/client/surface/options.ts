// SPDX-License-Identifier: Apache-2.0
/** Options of `pastiche capabilities`, apart from the program because the list of all options has them, too. */
import type { Option } from '../arguments.ts';

export const CAPABILITIES_OPTIONS = {
  json: { type: 'boolean', multiple: true, help: 'As JSON on one line' },
  help: { type: 'boolean', short: 'h', multiple: true, help: 'Show this text' },
  version: { type: 'boolean', multiple: true, help: 'Show the version' },
} as const satisfies Record<string, Option>;
