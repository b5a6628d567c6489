// SPDX-License-Identifier: Apache-2.0
/** Whether an attachment still is what it was made as: its instance, its ports, its interface. */
import { closeSync } from 'node:fs';
import { type ListResult, listResult } from '../../control/rule-schema.ts';
import { ClientError } from '../arguments.ts';
import { ask } from '../ask.ts';
import { Connection } from '../talk.ts';
import type { PortMapping } from './instance.ts';
import { parseLook, type Seen } from './look.ts';
import { isHeld, lookAt } from './native.ts';
import { CODE, PluginError } from './plugin-error.ts';
import { Attachment, type AttachmentRecord, type Identity } from './state.ts';

/** An instance answers within milliseconds; one that is stopped or hangs does not. */
const PATIENCE_MS = 2000;
const fault = (what: string, details = ''): PluginError => new PluginError(CODE.NOT_AS_MADE, what, details);

export interface Expected {
  readonly netns: string;
  readonly mac: string;
  /** `ADDRESS/PREFIX`, canonical. */
  readonly addresses: readonly string[];
  readonly routes: readonly { readonly dst: string; readonly gw: string }[];
  readonly ports: readonly PortMapping[];
}

const isListening = (
  list: ListResult,
  { protocol, hostAddress, hostPort, containerPort, count }: PortMapping,
): boolean =>
  list.rules.some(
    (rule) =>
      rule.direction === 'host' &&
      rule.protocol === protocol &&
      (hostAddress === '' || rule.address === hostAddress) &&
      rule.first === hostPort &&
      rule.last === hostPort + count - 1 &&
      rule.to === containerPort &&
      rule.state === 'listening',
  );

const checkPorts = async (attachment: Attachment, ports: readonly PortMapping[]): Promise<void> => {
  // By a name without directories, which are too long for the address of a socket as often as not.
  process.chdir(attachment.directory);
  let connection: Connection | null = null;
  try {
    connection = await Connection.open('control');
    const answer = await ask(connection, 'ports.list', {}, PATIENCE_MS);
    if ('error' in answer) throw fault('The instance does not list its ports', answer.error.message);
    const list = listResult().parse(answer.result);
    for (const mapping of ports)
      if (!isListening(list, mapping))
        throw fault(
          `${mapping.protocol.toUpperCase()} port ${mapping.hostPort} of the host does not lead to the container`,
        );
  } catch (error) {
    if (error instanceof ClientError) throw fault('The instance does not answer', error.message);
    throw error;
  } finally {
    connection?.close();
  }
};

const checkInterface = (seen: Seen | null, ifname: string, expected: Expected): void => {
  if (seen === null) throw fault(`There is no interface ${ifname} in ${expected.netns}`);
  if (!seen.up) throw fault(`Interface ${ifname} is down`);
  if (seen.mac !== expected.mac) throw fault(`Interface ${ifname} has the address ${seen.mac}, not ${expected.mac}`);
  for (const address of expected.addresses)
    if (!seen.addresses.includes(address)) throw fault(`Interface ${ifname} does not have the address ${address}`);
  for (const { dst, gw } of expected.routes)
    if (!seen.routes.some((route) => route.dst === dst && route.gw === gw))
      throw fault(`The route to ${dst} by ${gw} is not there`);
};

/** `expect` is told what was kept when the attachment was made. Throws {@link PluginError} when something is not as it was. */
export const checkAttachment = async (
  identity: Identity,
  expect: (record: AttachmentRecord) => Expected,
): Promise<void> => {
  const attachment = Attachment.find(identity);
  const record = attachment?.read() ?? null;
  try {
    if (attachment === null || record === null || !record.attached)
      throw fault(`${identity.containerID} has no interface ${identity.ifname} in network ${identity.network}`);
    const expected = expect(record);
    if (expected.netns !== record.netns)
      throw fault(`${identity.ifname} was made in ${record.netns}, not in ${expected.netns}`);
    const instance = attachment.openInstance();
    try {
      if (instance === null || !isHeld(instance)) throw fault('The instance has ended');
    } finally {
      if (instance !== null) closeSync(instance);
    }
    checkInterface(parseLook(lookAt(expected.netns, identity.ifname), identity.ifname), identity.ifname, expected);
    await checkPorts(attachment, expected.ports);
  } finally {
    attachment?.close();
  }
};
