// SPDX-License-Identifier: Apache-2.0
/** Programs that talk to a running instance: `node client.cjs pesto ARGUMENTS…`, `node client.cjs ports ARGUMENTS…`; and the plugins that start one: `cni`, `netavark`. */
import { PortSpecError } from '../fwd/port-syntax.ts';
import { ArgumentError, ClientError } from './arguments.ts';
import { cni } from './cni/plugin.ts';
import { DOCTOR_USAGE, doctor } from './doctor/doctor.ts';
import { netavark } from './netavark/plugin.ts';
import { PESTO_USAGE, pesto } from './pesto.ts';
import { PORTS_USAGE, ports } from './ports.ts';
import { CAPABILITIES_USAGE, capabilities } from './surface/capabilities.ts';

/** Put in by the build, from package.json. */
declare const PASTICHE_VERSION: string;

const PROGRAMS = { pesto, ports, cni, netavark, doctor, capabilities } as const;
const USAGES: Readonly<Record<string, readonly [name: string, usage: string]>> = {
  pesto: ['pesto', PESTO_USAGE],
  ports: ['pastiche ports', PORTS_USAGE],
  doctor: ['pastiche doctor', DOCTOR_USAGE],
  capabilities: ['pastiche capabilities', CAPABILITIES_USAGE],
};

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
    const [name, usage] = USAGES[process.argv[2] ?? ''] ?? [];
    if (error instanceof ArgumentError && name !== undefined) {
      process.stderr.write(`${name}: ${error.message}\n${usage}\n`);
      process.exitCode = 1;
      return;
    }
    const known = error instanceof ClientError || error instanceof PortSpecError;
    process.stderr.write(`${known ? error.message : error instanceof Error ? error.stack : error}\n`);
    process.exitCode = 1;
  },
);
