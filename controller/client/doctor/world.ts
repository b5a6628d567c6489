// SPDX-License-Identifier: Apache-2.0
/** What the checks look at: the native program's trials, and files. Tests put another world in their place. */
import { accessSync, constants, readFileSync } from 'node:fs';
import * as z from 'zod/mini';

/** Null: it worked; else why not, as a start would say it. */
const outcome = () => z.nullable(z.string());

/** What helper/src/doctor.c tried, as the user that pasta runs as. */
export const nativeFacts = () =>
  z.strictObject({
    /** User ID of the caller; root's trials are nobody's (--runas). */
    caller: z.int(),
    /** The program itself, free of links. */
    executable: z.string(),
    wasRoot: z.boolean(),
    node: z.strictObject({ path: z.string(), version: z.string() }),
    /** A user and a network namespace, for a command. */
    namespaces: outcome(),
    controllerNamespaces: outcome(),
    /** A ping socket in such a namespace. */
    guestPing: outcome(),
    /** A tap there. */
    tap: outcome(),
    tapOffload: z.strictObject({ tso: z.boolean(), uso: z.boolean(), header: z.boolean() }),
    tunDevice: outcome(),
    tunOpen: outcome(),
    ping4: outcome(),
    ping6: outcome(),
    socket6: outcome(),
    /** CAP_NET_BIND_SERVICE. */
    lowPorts: z.boolean(),
    filter: outcome(),
    /** SO_PEEK_OFF of TCP. */
    peekOffset: z.boolean(),
    udpGro: z.boolean(),
    inotify: outcome(),
    /** Interfaces with a default route, or null. */
    template4: z.nullable(z.string()),
    template6: z.nullable(z.string()),
    /** RLIMIT_NOFILE; -1: no limit. */
    nofile: z.strictObject({ soft: z.int(), hard: z.int() }),
  });
export type NativeFacts = z.output<ReturnType<typeof nativeFacts>>;

export interface World {
  readonly native: NativeFacts;
  /** The text of a file; null: it is not there, or not for us. */
  readonly read: (path: string) => string | null;
  /** Whether a program is on PATH. */
  readonly hasProgram: (name: string) => boolean;
}

export const realWorld = (native: NativeFacts): World => ({
  native,
  read: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return null;
    }
  },
  hasProgram: (name) =>
    (process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin').split(':').some((directory) => {
      try {
        accessSync(`${directory}/${name}`, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    }),
});
