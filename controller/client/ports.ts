// SPDX-License-Identifier: Apache-2.0
/** `pastiche ports`: forwarding rules over the JSON-RPC socket of a running instance (--control), with a result for each. */
import * as z from 'zod/mini';
import { capsOf } from '../control/check-rules.ts';
import { NAMES } from '../control/pesto-protocol.ts';
import { type GivenRules, type ListResult, listResult, type RuleResult, rulesResult } from '../control/rule-schema.ts';
import { PortSpecError } from '../fwd/port-syntax.ts';
import { ArgumentError, ClientError, type Option, optionLines, readArguments, type Token } from './arguments.ts';
import { type Answer, ask } from './ask.ts';
import { rulesOf, SPEC_ARGUMENTS, SPEC_OPTIONS } from './commands.ts';
import { hostEphemeral } from './host-ports.ts';
import { Connection } from './talk.ts';

export const PORTS_OPTIONS = {
  ...SPEC_ARGUMENTS,
  json: { type: 'boolean', multiple: true, help: 'The answer as JSON on one line' },
  help: { type: 'boolean', short: 'h', multiple: true, help: 'Show this text' },
  version: { type: 'boolean', multiple: true, help: 'Show the version' },
} as const satisfies Record<string, Option>;

export const PORTS_USAGE = 'Usage: pastiche ports list|add|remove PATH [OPTION]...';
const HELP = `${PORTS_USAGE}

Show or change the forwarding rules of the instance that serves the control socket PATH (its option --control).

  list                          Every rule, and how it fares
  add                           Add the rules of -t, -u, -T, -U: all of them, or none if one cannot be
  remove                        Remove the rules of -t, -u, -T, -U, which must be there exactly so

${optionLines(PORTS_OPTIONS)}
Established connections live on, whatever is changed. The exit status is 0, or 1 if nothing was changed; the results of
the rules say why.
`;

type Method = 'ports.list' | 'ports.add' | 'ports.remove';
const METHODS: Readonly<Record<string, Method>> = {
  list: 'ports.list',
  add: 'ports.add',
  remove: 'ports.remove',
};
export const PORTS_METHODS: readonly string[] = Object.values(METHODS);
/** Of errors that the server has no part in, with --json. */
const CLIENT_FAULT = -1;

export const ports = async (args: readonly string[], version: string): Promise<number> => {
  const { options, operands } = readArguments(args, PORTS_OPTIONS);
  const has = (name: string): boolean => options.some((option) => option.name === name);
  if (has('help')) {
    process.stdout.write(HELP);
    return 0;
  }
  if (has('version')) {
    process.stdout.write(`pastiche ${version}\n`);
    return 0;
  }
  const [command = '', path, ...others] = operands;
  const method = Object.hasOwn(METHODS, command) ? METHODS[command] : undefined;
  const specs = options.filter(({ name }) => SPEC_OPTIONS[name] !== undefined);
  if (method === undefined)
    throw new ArgumentError(command === '' ? 'list, add or remove?' : `there is no command ${command}`);
  if (path === undefined) throw new ArgumentError('the PATH of a socket is missing');
  if (others.length > 0) throw new ArgumentError(`one PATH is expected, not ${others.length + 1}`);
  if (method === 'ports.list' && specs.length > 0) throw new ArgumentError('list takes no port specification');
  if (method !== 'ports.list' && specs.length === 0) throw new ArgumentError(`${command} takes one of -t, -u, -T, -U`);
  if (!has('json')) return talk(path, method, specs, false);
  try {
    return await talk(path, method, specs, true);
  } catch (error) {
    // Whoever reads the answer as JSON reads this as well.
    if (error instanceof ClientError || error instanceof PortSpecError)
      process.stdout.write(`${JSON.stringify({ error: { code: CLIENT_FAULT, message: error.message } })}\n`);
    throw error;
  }
};

const talk = async (path: string, method: Method, specs: readonly Token[], json: boolean): Promise<number> => {
  const connection = await Connection.open(path);
  try {
    const list = await ask(connection, 'ports.list', {});
    if ('error' in list) throw new ClientError(list.error.message);
    const now = listResult().parse(list.result);
    if (method === 'ports.list') return show(now, json);
    return tell(await ask(connection, method, rulesFor(specs, now)), json);
  } catch (error) {
    if (error instanceof z.core.$ZodError) throw new ClientError(`${path}: the server sent an answer of another form`);
    throw error;
  } finally {
    connection.close();
  }
};

const rulesFor = (specs: readonly Token[], { enabled }: ListResult): GivenRules => {
  const caps = capsOf({ v4: enabled.ipv4, v6: enabled.ipv6, tcp: enabled.tcp, udp: enabled.udp, scan: true });
  const ephemeral = hostEphemeral();
  const rules = specs.flatMap(({ name, value }) => {
    const { direction = 'host' } = SPEC_OPTIONS[name] ?? {};
    return rulesOf(name, value, caps, ephemeral).map((rule) => ({ direction, ...rule }));
  });
  if (rules.length === 0) throw new ClientError('These port specifications stand for no rule');
  return { rules };
};

const line = (rule: RuleResult): string => {
  const sockets = rule.sockets === 0 ? '' : ` (${rule.sockets} socket${rule.sockets === 1 ? '' : 's'})`;
  const error = rule.error === null ? '' : `: ${rule.port === null ? '' : `port ${rule.port}: `}${rule.error}`;
  return `${rule.text}  ${rule.state}${sockets}${error}`;
};

const show = (list: ListResult, json: boolean): number => {
  if (json) {
    process.stdout.write(`${JSON.stringify(list)}\n`);
    return 0;
  }
  for (const direction of ['host', 'splice'] as const) {
    if (direction === 'splice' && !list.enabled.outbound) continue;
    process.stdout.write(`${NAMES[direction]}\n`);
    for (const rule of list.rules) if (rule.direction === direction) process.stdout.write(`  ${line(rule)}\n`);
  }
  return 0;
};

const tell = (answer: Answer, json: boolean): number => {
  const failed = 'error' in answer;
  const data = failed ? answer.error.data : answer.result;
  const rules = data === undefined ? [] : rulesResult().parse(data).rules;
  if (json) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else for (const rule of rules) (failed ? process.stderr : process.stdout).write(`${line(rule)}\n`);
  if (!failed) return 0;
  process.stderr.write(`${answer.error.message}\n`);
  return 1;
};
