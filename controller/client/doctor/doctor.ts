// SPDX-License-Identifier: Apache-2.0
/** `pastiche doctor [--json]`: whether this machine has what pastiche needs, and what to do where it has not. */
import { ArgumentError, type Option, optionLines, readArguments } from '../arguments.ts';
import { runChecks } from './checks.ts';
import { makeReport, reportText } from './report.ts';
import { nativeFacts, realWorld } from './world.ts';

export const DOCTOR_OPTIONS = {
  json: { type: 'boolean', multiple: true, help: 'The report as JSON on one line' },
  help: { type: 'boolean', short: 'h', multiple: true, help: 'Show this text' },
  version: { type: 'boolean', multiple: true, help: 'Show the version' },
} as const satisfies Record<string, Option>;

export const DOCTOR_USAGE = 'Usage: pastiche doctor [OPTION]...';
export const DOCTOR_HELP = `${DOCTOR_USAGE}

Look whether this machine has what pastiche needs, by trying it; say what is missing, what that means and what to do.
Nothing is changed. Root is told what holds for nobody, the user that pasta changes to.

${optionLines(DOCTOR_OPTIONS)}
The exit status is 1 if a check is a failure, otherwise 0: warnings do not count.
`;

/** `facts` are the native program's, as JSON. */
export const doctor = async ([facts = '', ...args]: readonly string[], version: string): Promise<number> => {
  const { options, operands } = readArguments(args, DOCTOR_OPTIONS);
  const has = (name: string): boolean => options.some((option) => option.name === name);
  if (has('help')) {
    process.stdout.write(DOCTOR_HELP);
    return 0;
  }
  if (has('version')) {
    process.stdout.write(`pastiche ${version}\n`);
    return 0;
  }
  if (operands.length > 0) throw new ArgumentError(`there is no argument ${operands[0]}`);
  const report = makeReport(runChecks(realWorld(nativeFacts().parse(JSON.parse(facts)))));
  process.stdout.write(has('json') ? `${JSON.stringify(report)}\n` : reportText(report));
  return report.status === 'failure' ? 1 : 0;
};
