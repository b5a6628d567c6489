// SPDX-License-Identifier: Apache-2.0
/** What `pastiche doctor` says, as text and as JSON. helper/src/doctor.c writes the same two forms where there is no Node to run this. */
import * as z from 'zod/mini';

export const STATUSES = ['ok', 'warning', 'failure'] as const;
export type Status = (typeof STATUSES)[number];

/** Counts up when a member changes its meaning or goes; new checks and new members do not change it. */
export const REPORT_VERSION = 1;

/** The form of --json. */
export const reportSchema = () =>
  z.object({
    version: z.literal(REPORT_VERSION),
    /** The worst of the checks. */
    status: z.enum(STATUSES),
    checks: z.array(
      z.object({
        /** Stays the same from release to release. */
        name: z.string(),
        status: z.enum(STATUSES),
        /** What is the case. */
        found: z.string(),
        /** What that means for the user; '' where all is well. */
        meaning: z.string(),
        /** What to do, as a command where there is one; '' where there is nothing to do. Of a check that is ok: what to do if more is wanted. */
        remedy: z.string(),
      }),
    ),
  });
export type Report = z.output<ReturnType<typeof reportSchema>>;
export type Check = Report['checks'][number];

export const makeReport = (checks: readonly Check[]): Report => ({
  version: REPORT_VERSION,
  status: STATUSES.findLast((status) => checks.some((check) => check.status === status)) ?? 'ok',
  checks: [...checks],
});

const LABEL = { ok: 'ok', warning: 'WARNING', failure: 'FAILURE' } as const;
const INDENT = ' '.repeat(9);

const textOf = ({ name, status, found, meaning, remedy }: Check): string =>
  [
    `${LABEL[status].padEnd(9)}${name}: ${found}`,
    ...(meaning === '' ? [] : [`${INDENT}${meaning[0]?.toUpperCase()}${meaning.slice(1)}.`]),
    ...(remedy === '' ? [] : [`${INDENT}${status === 'ok' ? 'If needed' : 'To do'}: ${remedy}`]),
  ].join('\n');

export const reportText = ({ checks }: Report): string => {
  const count = (status: Status): number => checks.filter((check) => check.status === status).length;
  const [failures, warnings] = [count('failure'), count('warning')];
  const total =
    failures + warnings === 0
      ? 'All is well.'
      : `${failures} failure${failures === 1 ? '' : 's'}, ${warnings} warning${warnings === 1 ? '' : 's'}.`;
  return `${[...checks.map(textOf), '', total].join('\n')}\n`;
};
