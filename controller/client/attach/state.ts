// SPDX-License-Identifier: Apache-2.0
/**
 * What is known of attachments: a directory each, named by a hash of what identifies it, with
 *
 *   lock              whoever changes the attachment has it locked, so that calls for one attachment come one after the other
 *   attachment.json   what it is; written before anything is started, and again when it is complete
 *   instance          the lock file that all processes of its instance hold (helper/src/hold.c): free means that none is left
 *   control           the instance's socket
 *
 * Nothing in it is a process ID, so nothing in it goes stale: whoever died at whatever point, and whether or not the host was
 * started anew, the next call finds out from the kernel what is left, and ends it.
 */
import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { lazy } from '../../control/rule-schema.ts';
import { endInstance, lockAndLookAt, lockFile } from './native.ts';
import { CODE, PluginError } from './plugin-error.ts';

/** What identifies an attachment: spec 1.1.0, section 2. */
export interface Identity {
  readonly network: string;
  readonly containerID: string;
  readonly ifname: string;
}

/** As long as a start may take, and more. */
export const LOCK_MS = 45_000;
/** For an instance to end, killed after the first second. */
const END_MS = 15_000;

const recordSchema = lazy(() =>
  z.object({
    network: z.string(),
    containerID: z.string(),
    ifname: z.string(),
    netns: z.string(),
    /** Whether it was completed. */
    attached: z.boolean(),
    /** What the plugin that made it keeps for itself. */
    kept: z.unknown(),
  }),
);
export type AttachmentRecord = z.output<ReturnType<typeof recordSchema>>;

const isCode = (error: unknown, ...codes: string[]): boolean =>
  codes.includes((error as NodeJS.ErrnoException).code ?? '');
const ioError = (doing: string, error: unknown): PluginError =>
  new PluginError(CODE.IO, doing, (error as Error).message);

/** Whoever else may change it could tell us to end instances, or which to believe in. */
const checkOwned = (path: string): void => {
  const { uid, mode } = lstatSync(path);
  if ((mode & constants.S_IFMT) !== constants.S_IFDIR || uid !== process.geteuid?.() || (mode & 0o022) !== 0)
    throw new PluginError(
      CODE.IO,
      `${path} is not a directory that only this user may change: state is not kept there`,
    );
};

/** Of this mode, whatever the umask; one that is there stays as it is. */
const makeDirectory = (path: string, mode: number): void => {
  try {
    mkdirSync(path, { mode: 0o700 });
    chmodSync(path, mode);
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error;
  }
};

/** Below /run for root, who may write there, else below $XDG_RUNTIME_DIR. Throws {@link PluginError}. */
export const stateDirectory = (): string => {
  const candidates = process.geteuid?.() === 0 ? ['/run'] : [];
  const runtime = process.env['XDG_RUNTIME_DIR'] ?? '';
  if (runtime.startsWith('/')) candidates.push(runtime);
  for (const candidate of candidates) {
    const path = join(candidate, 'pastiche', 'cni');
    try {
      // Units of pastiche have theirs in it, as other users.
      makeDirectory(join(candidate, 'pastiche'), 0o755);
      makeDirectory(path, 0o700);
      accessSync(path, constants.W_OK);
    } catch {
      // The next one, if there is one.
      continue;
    }
    checkOwned(join(candidate, 'pastiche'));
    checkOwned(path);
    return path;
  }
  throw new PluginError(
    CODE.IO,
    `No directory for the state: ${candidates.join(', ') || 'XDG_RUNTIME_DIR is not set'}`,
  );
};

const directoryOf = ({ network, containerID, ifname }: Identity): string =>
  join(
    stateDirectory(),
    createHash('sha256').update(`${network}\0${containerID}\0${ifname}`).digest('hex').slice(0, 32),
  );

/** An attachment that nobody else changes at the same time. */
export class Attachment {
  readonly directory: string;
  readonly #lock: number;

  private constructor(directory: string, lock: number) {
    this.directory = directory;
    this.#lock = lock;
  }

  /** Makes the directory if there is none, and says what the interface `ifname` of `netns` is like: '' for none of that name. */
  static begin(identity: Identity, netns: string): { readonly attachment: Attachment; readonly seen: string } {
    const directory = directoryOf(identity);
    let seen = '';
    for (;;) {
      const attachment = Attachment.#open(directory, true, (lock) => {
        seen = lockAndLookAt(lock, LOCK_MS, netns, identity.ifname);
      });
      if (attachment !== null) return { attachment, seen };
    }
  }
  /** Null: it is not there. */
  static find(identity: Identity): Attachment | null {
    return Attachment.findDirectory(directoryOf(identity));
  }
  /** Waits `ms` at most for whoever has it. */
  static findDirectory(directory: string, ms = LOCK_MS): Attachment | null {
    for (;;) {
      const attachment = Attachment.#open(directory, false, (lock) => lockFile(lock, ms));
      if (attachment !== null) return attachment;
      try {
        statSync(directory);
      } catch {
        return null;
      }
    }
  }
  /** Null: it was removed while we waited, or was not there. */
  static #open(directory: string, make: boolean, take: (lock: number) => void): Attachment | null {
    const path = join(directory, 'lock');
    let lock: number;
    try {
      if (make) mkdirSync(directory, { recursive: true, mode: 0o700 });
      lock = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    } catch (error) {
      if (isCode(error, 'ENOENT')) return null;
      throw ioError(`Can't open ${path}`, error);
    }
    try {
      take(lock);
      const [ours, theirs] = [fstatSync(lock), statSync(path, { throwIfNoEntry: false })];
      if (theirs?.ino === ours.ino && theirs.dev === ours.dev) return new Attachment(directory, lock);
    } catch (error) {
      // A directory that we made for nothing: whoever has it locked is using it.
      if (!(error instanceof PluginError && error.code === CODE.TRY_AGAIN)) removeUnused(directory, lock);
      closeSync(lock);
      throw error;
    }
    closeSync(lock);
    return null;
  }

  /** Null: nothing was begun, or an older version wrote something else. */
  read(): AttachmentRecord | null {
    return readRecord(this.directory);
  }
  /** In one step: a reader sees the old record or the new one. */
  write(record: AttachmentRecord): void {
    const path = join(this.directory, 'attachment.json');
    try {
      remove(this.directory, 'attachment.json.new');
      writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600, flag: 'wx' });
      renameSync(`${path}.new`, path);
    } catch (error) {
      throw ioError(`Can't write ${path}`, error);
    }
  }
  /** The instance's lock file, to be closed by the caller; null: there is none. */
  openInstance(): number | null {
    try {
      return openSync(
        join(this.directory, 'instance'),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
    } catch (error) {
      if (isCode(error, 'ENOENT')) return null;
      throw ioError("Can't open the lock file of the instance", error);
    }
  }
  makeInstance(): number {
    try {
      return openSync(
        join(this.directory, 'instance'),
        constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL,
        0o600,
      );
    } catch (error) {
      throw ioError("Can't make the lock file of the instance", error);
    }
  }
  /** Ends the instance, if there is one, and forgets it. */
  endInstance(): void {
    const fd = this.openInstance();
    if (fd === null) return;
    try {
      endInstance(fd, END_MS);
      // While it is locked: an instance that was about to start finds that its lock file is gone.
      remove(this.directory, 'instance');
      remove(this.directory, 'control');
    } finally {
      closeSync(fd);
    }
  }
  /** Ends the instance and removes the directory. */
  destroy(): void {
    this.endInstance();
    removeAll(this.directory);
    this.close();
  }
  /** Lets the next one have it. */
  close(): void {
    closeSync(this.#lock);
  }
}

const remove = (directory: string, name: string): void => {
  try {
    unlinkSync(join(directory, name));
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw ioError(`Can't remove ${join(directory, name)}`, error);
  }
};
/** The lock last: until then, whoever comes waits for us. */
const removeAll = (directory: string): void => {
  for (const name of ['attachment.json', 'attachment.json.new', 'control', 'instance', 'lock']) remove(directory, name);
  try {
    rmdirSync(directory);
  } catch (error) {
    // Somebody has begun anew.
    if (!isCode(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST')) throw ioError(`Can't remove ${directory}`, error);
  }
};
/** Of a lock that we have, or are the only one to know: a namespace that is not there leaves no directory. */
const removeUnused = (directory: string, lock: number): void => {
  const [ours, theirs] = [fstatSync(lock), statSync(join(directory, 'lock'), { throwIfNoEntry: false })];
  if (theirs?.ino === ours.ino && readdirSync(directory).length === 1) removeAll(directory);
};

/** Null: nothing, or nothing complete. */
export const readRecord = (directory: string): AttachmentRecord | null => {
  try {
    return recordSchema().parse(JSON.parse(readFileSync(join(directory, 'attachment.json'), 'utf8')));
  } catch {
    return null;
  }
};

/** Every directory there is, of all networks. */
export const allAttachments = (): readonly string[] => {
  const base = stateDirectory();
  return readdirSync(base)
    .filter((name) => /^[0-9a-f]{32}$/.test(name))
    .map((name) => join(base, name));
};
