// SPDX-License-Identifier: Apache-2.0
/** `pesto`: shows and changes the forwarding rules of a running instance over its -c socket, ours or the original's. */
import {
  encodeUpdate,
  ProtocolError,
  TABLES_BYTES_MAX,
  TablesReader,
  type ToldTable,
} from '../control/pesto-protocol.ts';
import { REPORT_BYTES_MAX, REPORT_REQUEST, type Report, reportSchema } from '../control/pesto-report.ts';
import { ArgumentError, ClientError, type Option, optionLines, readArguments } from './arguments.ts';
import { applyCommands, changesAnything, listing, SPEC_ARGUMENTS } from './commands.ts';
import { hostEphemeral } from './host-ports.ts';
import { Connection } from './talk.ts';

/** For {@link readArguments}. */
export const PESTO_OPTIONS = {
  add: { type: 'boolean', short: 'A', multiple: true, help: 'Port specifications that follow are added' },
  delete: {
    type: 'boolean',
    short: 'D',
    multiple: true,
    help: 'Port specifications that follow are deleted; each must match a rule exactly',
  },
  clear: {
    type: 'string',
    short: 'C',
    multiple: true,
    argument: 'PIF',
    help: 'Delete all rules of a table: HOST (towards the namespace) or SPLICE (towards the host)',
  },
  ...SPEC_ARGUMENTS,
  show: { type: 'boolean', short: 's', multiple: true, help: 'Show the rules before and after the change' },
  debug: { type: 'boolean', short: 'd', multiple: true, help: 'Say what is done' },
  help: { type: 'boolean', short: 'h', multiple: true, help: 'Show this text' },
  version: { type: 'boolean', multiple: true, help: 'Show the version' },
} as const satisfies Record<string, Option>;

export const PESTO_USAGE = 'Usage: pesto [OPTION]... PATH';
/** Our server gives each of the clients before us five seconds, and says nothing until then. */
const GREETING_MS = 10_000;
const HELP = `${PESTO_USAGE}

Show or change the forwarding rules of the pasta or passt that serves the socket PATH (its option -c).
Without an option that changes something, the rules are shown.

${optionLines(PESTO_OPTIONS)}
Options take effect in their order. If the first of them is a port specification, its whole table is replaced, TCP
and UDP rules alike: begin with --add or --delete to change only what is named.

The exit status is 0 if all of the change is in force. It is 1 if anything failed, and then nothing was changed; the
reason is on standard error. A server that does not report (the original's) is believed to have done what it was told.
`;

export const pesto = async (args: readonly string[], version: string): Promise<number> => {
  const { options, operands } = readArguments(args, PESTO_OPTIONS);
  const has = (name: string): boolean => options.some((option) => option.name === name);
  if (has('help')) {
    process.stdout.write(HELP);
    return 0;
  }
  if (has('version')) {
    process.stdout.write(`pesto ${version} (pastiche)\n`);
    return 0;
  }
  const [path] = operands;
  if (path === undefined) throw new ArgumentError('the PATH of a socket is missing');
  if (operands.length > 1) throw new ArgumentError(`one PATH is expected, not ${operands.length}`);
  const debug = (text: string): void => {
    if (has('debug')) process.stderr.write(`${text}\n`);
  };
  const connection = await Connection.open(path);
  try {
    const before = await readTables(connection, path);
    debug(
      `Connected to ${path}: ${before.map((table) => `${table.direction} ${table.rules.length} rules`).join(', ')}`,
    );
    if (!changesAnything(options)) {
      process.stdout.write(listing('passt/pasta', path, before));
      return 0;
    }
    const after = applyCommands(before, options, hostEphemeral());
    if (has('show')) process.stdout.write(listing('Previous', path, before));
    const report = await update(connection, after);
    debug(report === null ? 'The server does not report; the change was sent' : 'The server has reported');
    if (report !== null && !report.applied) {
      const reasons = [...(report.error === null ? [] : [report.error]), ...report.failures.map((one) => one.message)];
      for (const reason of reasons) process.stderr.write(`${reason}\n`);
      process.stderr.write('Nothing was changed\n');
      return 1;
    }
    if (has('show')) process.stdout.write(listing('Updated', path, after));
    return 0;
  } finally {
    connection.close();
  }
};

const readTables = async (connection: Connection, path: string): Promise<readonly ToldTable[]> => {
  const reader = new TablesReader();
  try {
    if (await connection.read((bytes) => reader.feed(bytes), TABLES_BYTES_MAX, GREETING_MS)) return reader.tables;
  } catch (error) {
    if (error instanceof ProtocolError) throw new ClientError(`${path}: ${error.message}`);
    throw error;
  }
  throw new ClientError(`${path}: the server has closed the connection`);
};

/** Null: the server has taken it, as far as can be known. One write, so that the request for a report comes with the update's end. */
const update = async (connection: Connection, tables: readonly ToldTable[]): Promise<Report | null> => {
  connection.send(Buffer.concat([encodeUpdate(tables), REPORT_REQUEST]));
  let text = '';
  await connection.read((bytes) => {
    text += bytes.toString('utf8');
    return text.includes('\n');
  }, REPORT_BYTES_MAX);
  if (text === '') return null;
  try {
    return reportSchema().parse(JSON.parse(text));
  } catch {
    throw new ClientError('The server sent something that is not a report');
  }
};
