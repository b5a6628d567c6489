// SPDX-License-Identifier: Apache-2.0
/** Makes and ends attachments: the part that CNI and netavark have in common. */
import { closeSync } from 'node:fs';
import { argumentsOf, type Wanted } from './instance.ts';
import { isHeld, lookAt, startInstance } from './native.ts';
import { CODE, PluginError } from './plugin-error.ts';
import { Attachment, type AttachmentRecord, allAttachments, type Identity, LOCK_MS, readRecord } from './state.ts';

/**
 * The network of a container: there and ready on return, or an error and nothing of it is left. `kept` is for whoever looks at the
 * attachment later. Returns the warnings of the instance.
 */
export const attach = (identity: Identity, wanted: Wanted, kept: unknown): string => {
  const { attachment, seen } = Attachment.begin(identity, wanted.netns);
  if (seen !== '' && !wasOfTheDead(attachment, wanted)) {
    if (attachment.read() === null) attachment.destroy();
    else attachment.close();
    throw new PluginError(CODE.INTERFACE_EXISTS, `${wanted.ifname} is already there in ${wanted.netns}`);
  }
  try {
    // Of a container that was made again before anybody ended its old network.
    attachment.endInstance();
    const record: AttachmentRecord = { ...identity, netns: wanted.netns, attached: false, kept };
    attachment.write(record);
    const warnings = start(attachment, wanted);
    attachment.write({ ...record, attached: true });
    attachment.close();
    return warnings;
  } catch (error) {
    try {
      attachment.destroy();
    } catch {
      // The runtime calls DEL now, which says what this would.
    }
    throw error;
  }
};

/** An interface that the kernel is about to remove, since the instance that made it was killed a moment ago. */
const wasOfTheDead = (attachment: Attachment, { netns, ifname }: Wanted): boolean => {
  const instance = attachment.openInstance();
  if (instance === null) return false;
  try {
    if (isHeld(instance)) return false;
  } finally {
    closeSync(instance);
  }
  attachment.endInstance();
  return lookAt(netns, ifname) === '';
};

const start = (attachment: Attachment, wanted: Wanted): string => {
  const instance = attachment.makeInstance();
  try {
    return startInstance(argumentsOf(wanted), instance, attachment.directory);
  } finally {
    closeSync(instance);
  }
};

/** Whatever was there, nothing is on return. */
export const detach = (identity: Identity): void => {
  Attachment.find(identity)?.destroy();
};

/** For a call that has a lock, but has not said yet of which network it is. */
const UNSAID_MS = 1000;
const isBusy = (error: unknown): error is PluginError => error instanceof PluginError && error.code === CODE.TRY_AGAIN;

/** Ends an attachment if it is one that `isLost`, or nothing was started for it. */
const collect = (directory: string, isLost: (record: AttachmentRecord) => boolean): void => {
  const before = readRecord(directory);
  if (before !== null && !isLost(before)) return;
  try {
    const attachment = Attachment.findDirectory(directory, before === null ? UNSAID_MS : LOCK_MS);
    const now = attachment?.read() ?? null;
    if (now === null || isLost(now)) attachment?.destroy();
    else attachment?.close();
  } catch (error) {
    if (!isBusy(error)) throw error;
    const now = readRecord(directory);
    // Somebody works on it, who may be of any network, and nothing was started that could be left behind.
    if (now === null) return;
    if (before === null) return collect(directory, isLost);
    throw new PluginError(error.code, `${now.containerID}, ${now.ifname}: ${error.message}`);
  }
};

/** Ends what a network has beside these. All are tried; throws the first error. */
export const detachOthers = (network: string, valid: readonly Omit<Identity, 'network'>[]): void => {
  const isLost = (record: AttachmentRecord): boolean =>
    record.network === network &&
    !valid.some(({ containerID, ifname }) => containerID === record.containerID && ifname === record.ifname);
  let first: unknown;
  for (const directory of allAttachments()) {
    try {
      collect(directory, isLost);
    } catch (error) {
      first ??= error;
    }
  }
  if (first !== undefined) throw first;
};
