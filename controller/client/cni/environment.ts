// SPDX-License-Identifier: Apache-2.0
/** Parameters of a call, from the environment: CNI spec 1.1.0, section 2 "Parameters". */
import { checkNamespace } from '../attach/namespace.ts';
import { CODE, PluginError } from '../attach/plugin-error.ts';

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type Command = (typeof COMMANDS)[number];
export interface Parameters {
  readonly command: Command;
  readonly containerID: string;
  /** '' when it is not known any more. */
  readonly netns: string;
  readonly ifname: string;
  /** CNI_ARGS, which nothing but addresses is taken from. */
  readonly args: ReadonlyMap<string, string>;
}
type Environment = Readonly<Record<string, string | undefined>>;

const REQUIRED: Readonly<Record<Command, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
  VERSION: [],
};
const IFNAME_BYTES_MAX = 15;

const invalid = (variable: string, why: string): PluginError =>
  new PluginError(CODE.INVALID_ENVIRONMENT, `${variable} ${why}`, variable);

/** Of containers and networks. */
export const isName = (text: string): boolean => /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text);

const checkIfname = (name: string): void => {
  if (Buffer.byteLength(name) > IFNAME_BYTES_MAX)
    throw invalid('CNI_IFNAME', `is longer than ${IFNAME_BYTES_MAX} bytes: ${name}`);
  // What the kernel takes (dev_valid_name), no more than printable ASCII, and no `%`, which would have a number put in.
  if (name === '.' || name === '..' || !/^[!-$&-.0-9;-~]+$/.test(name))
    throw invalid('CNI_IFNAME', `is not a name of an interface: ${name}`);
};

const checkNetns = (path: string): void => {
  if (!path.startsWith('/')) throw invalid('CNI_NETNS', `is not an absolute path: ${path}`);
  checkNamespace(path);
};

const readArgs = (text: string): ReadonlyMap<string, string> => {
  const args = new Map<string, string>();
  for (const pair of text.split(';').filter(Boolean)) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (name === undefined || value === undefined) throw invalid('CNI_ARGS', `is not a list of NAME=VALUE: ${text}`);
    args.set(name, value);
  }
  const known = new Set(['IgnoreUnknown', 'IP', 'MAC']);
  const ignored = /^(1|t|true)$/i.test(args.get('IgnoreUnknown') ?? '');
  const unknown = [...args.keys()].filter((name) => !known.has(name));
  if (unknown.length > 0 && !ignored)
    throw invalid('CNI_ARGS', `has names that are not known here: ${unknown.join(', ')}`);
  return args;
};

/** Null: no command, which is how a person asks what this program is. Throws {@link PluginError}. */
export const readParameters = (env: Environment): Parameters | null => {
  const given = env['CNI_COMMAND'] ?? '';
  if (given === '') return null;
  const command = COMMANDS.find((one) => one === given);
  if (command === undefined) throw invalid('CNI_COMMAND', `is none of ${COMMANDS.join(', ')}: ${given}`);
  const missing = REQUIRED[command].filter((name) => (env[name] ?? '') === '');
  if (missing.length > 0)
    throw new PluginError(CODE.INVALID_ENVIRONMENT, `Not set, but needed: ${missing.join(', ')}`, missing.join(' '));
  const [containerID = '', netns = '', ifname = ''] = [env['CNI_CONTAINERID'], env['CNI_NETNS'], env['CNI_IFNAME']];
  if (REQUIRED[command].length > 0) {
    if (!isName(containerID)) throw invalid('CNI_CONTAINERID', `is not an ID: ${containerID}`);
    checkIfname(ifname);
  }
  if (command === 'ADD' || command === 'CHECK') checkNetns(netns);
  // What ended calls may carry along is of no use to them.
  return { command, containerID, netns, ifname, args: command === 'ADD' ? readArgs(env['CNI_ARGS'] ?? '') : new Map() };
};
