// SPDX-License-Identifier: Apache-2.0
/** Whether there may be a network namespace to attach to. What it is when it is entered, keeper.c and the instance look at again. */
import { type Stats, statSync } from 'node:fs';
import { CODE, PluginError } from './plugin-error.ts';

const statOf = (path: string): Stats | undefined => {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const known = code === 'EACCES' || code === 'EPERM' ? CODE.INVALID_ENVIRONMENT : CODE.UNKNOWN_CONTAINER;
    throw new PluginError(known, `The network namespace ${path} cannot be looked at`, message);
  }
};

/**
 * Throws {@link PluginError} for a path where none is, and for the namespace of the plugin itself: that is the network which an instance is
 * the way out to, so what it set up there would take the host's own routes away. No setting allows that.
 */
export const checkNamespace = (path: string): void => {
  const [theirs, own] = [statOf(path), statSync('/proc/self/ns/net')];
  if (theirs === undefined)
    throw new PluginError(CODE.UNKNOWN_CONTAINER, `There is no network namespace ${path}`, path);
  if (theirs.ino === own.ino && theirs.dev === own.dev)
    throw new PluginError(CODE.OWN_NAMESPACE, `The network namespace ${path} is the plugin's own`, path);
};
