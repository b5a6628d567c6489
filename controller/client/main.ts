// SPDX-License-Identifier: Apache-2.0
/** Programs that talk to a running instance: `node client.cjs pesto ARGUMENTS…`, `node client.cjs ports ARGUMENTS…`. */
import { PortSpecError } from '../fwd/port-syntax.ts';
import { ClientError } from './arguments.ts';
import { pesto } from './pesto.ts';
import { ports } from './ports.ts';

/** Put in by the build, from package.json. */
declare const PASTICHE_VERSION: string;

const PROGRAMS = { pesto, ports } as const;

const main = async ([program = '', ...args]: readonly string[]): Promise<number> => {
  const run = Object.hasOwn(PROGRAMS, program) ? PROGRAMS[program as keyof typeof PROGRAMS] : undefined;
  if (run === undefined) throw new ClientError(`There is no program ${program}`);
  return run(args, PASTICHE_VERSION);
};

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    const known = error instanceof ClientError || error instanceof PortSpecError;
    process.stderr.write(`${known ? error.message : error instanceof Error ? error.stack : error}\n`);
    process.exitCode = 1;
  },
);
