// SPDX-License-Identifier: Apache-2.0
/**
 * What the manual pages say of each option of pasta and passt, beside the line that --help has. Apart from the table, because the
 * controller, which carries the table, has no use for it. A blank line begins a paragraph; `words` are set as they are typed,
 * those in capitals as what is to be replaced.
 */

import type { Personality } from '../options/row.ts';
import type { OptionName } from '../options.ts';
import { FORWARDING } from './forwarding.ts';
import { GENERAL } from './general.ts';
import { NAMESPACE } from './namespace.ts';
import { NETWORK } from './network.ts';
import { PROTOCOLS } from './protocols.ts';

export type Manual = string | Readonly<Record<Personality, string>>;

export const MANUAL: Readonly<Record<OptionName, Manual>> = {
  ...GENERAL,
  ...NETWORK,
  ...PROTOCOLS,
  ...FORWARDING,
  ...NAMESPACE,
};
