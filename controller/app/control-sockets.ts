// SPDX-License-Identifier: Apache-2.0
/**
 * The sockets over which rules are changed while we run: pesto's (-c), our own (--control) and slirp4netns' (--api-socket). Descriptors, their events and
 * what could not be written yet are here; what the bytes say is control/'s. The helper accepts, since it alone may ask
 * who a client is. No client can hold up the loop or another client: one read an event, bounded queues, time limits.
 */
import { MESSAGE_BYTES_MAX, type Params, type Result } from '../../shared/rpc/methods.ts';
import { Changes, type Forwarding } from '../control/changes.ts';
import { JsonRpcSession } from '../control/json-rpc.ts';
import { type Peer, PestoSession } from '../control/pesto-server.ts';
import { SlirpApiSession, SlirpForwards } from '../control/slirp-api.ts';
import { OTHER_REF_BASE } from '../flow/table.ts';
import type { Direction, Protocol } from '../fwd/rule.ts';
import * as io from '../io/io.ts';
import * as log from '../obs/log.ts';

/** References in the epoll set: the listening sockets, then clients. */
const REF_CONF = OTHER_REF_BASE + 16;
const REF_CONTROL = OTHER_REF_BASE + 17;
const REF_API = OTHER_REF_BASE + 19;
const REF_CLIENT = OTHER_REF_BASE + 32;
/** One of pesto's, and all others of the control socket, or of the API's. */
const CLIENTS_MAX = 32;
const CONF_SLOT = 0;

/** Behind what the channels to the helper use of the same region. */
const BYTES_AT = io.SCRATCH_AT + 2 * MESSAGE_BYTES_MAX;
const READ_BYTES = 65_536;
/** Answers that a client leaves unread: beyond it, it is hung up on. */
const BACKLOG_BYTES_MAX = 1024 * 1024;
/** How long a client that has been hung up on may take to read its last answer. */
const LINGER_MS = 5000;
/** Until the next attempt, where a client could not be let in for lack of descriptors. */
const PAUSE_MS = 1000;

const EAGAIN = 11;
const EACCES = 13;

const FOREIGN = log.site('Clients of another user');
const CROWD = log.site('Clients of the control socket hung up on to let others in');

type Kind = Params<'unix.accept'>['kind'];
const KINDS = ['conf', 'control', 'api'] as const satisfies readonly Kind[];
/** rpc/connect's. */
type Ask = (
  side: 'host',
  method: 'unix.accept',
  params: Params<'unix.accept'>,
  settle: (errno: number, result: Result<'unix.accept'> | null) => void,
) => boolean;

export interface ControlOptions {
  /** Listening sockets of `unix.listen`; null: there is none. */
  readonly conf: number | null;
  readonly control: number | null;
  /** The API's, and where its ports lead to by default. */
  readonly api: { readonly fd: number; readonly guest: string } | null;
  readonly forwarding: Forwarding;
  readonly ask: Ask;
  /** What rules may be (`CAP`), and the tables there are. */
  readonly caps: number;
  readonly directions: readonly Direction[];
  /** Protocols for which nothing may lead to the host any more. */
  readonly shut: readonly Protocol[];
}

interface Session {
  readonly wantsBytes: boolean;
  /** Hanging up on it would lose nothing. */
  readonly idle?: boolean;
  /** When `tick` is to be called. */
  readonly dueAt?: number;
  tick?(now: number): void;
  onBytes(bytes: Uint8Array): void;
  onEnd(): void;
}

let changes: Changes | null = null;
let options: ControlOptions;
/** When a listening socket is watched again; infinity: it is, or will be for another reason. */
const pausedUntil: Record<Kind, number> = {
  conf: Number.POSITIVE_INFINITY,
  control: Number.POSITIVE_INFINITY,
  api: Number.POSITIVE_INFINITY,
};
let clients: (Client | null)[] = [];
let pesto: PestoSession | null = null;
let slirp: SlirpForwards | null = null;

class Client implements Peer {
  readonly fd: number;
  readonly slot: number;
  session: Session | null = null;
  /** When it sent something last. */
  lastActive: number;
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #watched = 0;
  #eof = false;
  /** When it is closed, read or not; infinity: it is not to be closed. */
  closeAt = Number.POSITIVE_INFINITY;
  #closed = false;
  readonly #onClosed: () => void;

  constructor(fd: number, slot: number, onClosed: () => void) {
    this.fd = fd;
    this.slot = slot;
    this.lastActive = io.nowMs();
    this.#onClosed = onClosed;
  }

  send(bytes: Buffer): void {
    if (this.#closed) return;
    this.#backlog.push(bytes);
    this.#backlogBytes += bytes.length;
    if (this.#backlogBytes > BACKLOG_BYTES_MAX) this.close();
    else this.#write();
  }
  end(): void {
    if (this.#closed) return;
    if (this.#backlogBytes === 0) return this.close();
    this.closeAt = io.nowMs() + LINGER_MS;
    this.update();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clients[this.slot] = null;
    // Closing alone would do: the descriptor has no copy. An explicit end keeps the epoll set free of doubt.
    if (this.#watched !== 0) io.native.unwatch(this.fd);
    io.native.close(this.fd);
    this.session?.onEnd();
    this.#onClosed();
  }
  resume(): void {
    this.update();
  }

  onEvent(mask: number): void {
    if ((mask & io.EPOLLOUT) !== 0) this.#write();
    if ((mask & ~io.EPOLLOUT) !== 0 && this.#wantsBytes()) this.#read();
    else if ((mask & (io.EPOLLHUP | io.EPOLLERR)) !== 0 && this.#backlogBytes > 0) this.close();
    this.update();
  }

  /** Watches for what is of use now, and for nothing else: a hang-up would be told again and again. */
  update(): void {
    if (this.#closed) return;
    const wanted = (this.#wantsBytes() ? io.EPOLLIN : 0) | (this.#backlogBytes > 0 ? io.EPOLLOUT : 0);
    if (wanted === this.#watched) return;
    this.#watched = wanted;
    if (wanted === 0) io.native.unwatch(this.fd);
    else if (io.native.watch(this.fd, wanted, REF_CLIENT + this.slot) < 0) this.close();
  }

  #wantsBytes(): boolean {
    return (
      !this.#closed && !this.#eof && this.closeAt === Number.POSITIVE_INFINITY && this.session?.wantsBytes === true
    );
  }

  #read(): void {
    const n = io.native.read(this.fd, BYTES_AT, READ_BYTES);
    if (n === -EAGAIN) return;
    if (n > 0) {
      this.lastActive = io.nowMs();
      this.session?.onBytes(Buffer.from(io.mem.subarray(BYTES_AT, BYTES_AT + n)));
      return;
    }
    this.#eof = true;
    if (n < 0) this.close();
    else this.session?.onEnd();
  }

  #write(): void {
    for (let first = this.#backlog[0]; first !== undefined && !this.#closed; first = this.#backlog[0]) {
      const part = Math.min(first.length, READ_BYTES);
      io.mem.set(first.subarray(0, part), BYTES_AT);
      const n = io.native.write(this.fd, BYTES_AT, part);
      if (n === -EAGAIN) break;
      // It has closed and will not read this.
      if (n < 0) return this.close();
      this.#backlogBytes -= n;
      if (n === first.length) this.#backlog.shift();
      else this.#backlog[0] = first.subarray(n);
    }
    if (this.#backlogBytes === 0 && this.closeAt !== Number.POSITIVE_INFINITY) this.close();
    this.update();
  }
}

/** Called once, when sealed, if there is a socket at all. */
export const configure = (o: ControlOptions): void => {
  options = o;
  changes = new Changes(o.forwarding);
  clients = new Array(CLIENTS_MAX).fill(null);
  pesto = null;
  slirp = o.api === null ? null : new SlirpForwards({ changes, now: io.nowMs, guest: o.api.guest });
  for (const kind of KINDS) watchListener(kind);
};

const listenerOf = (kind: Kind): number => (kind === 'api' ? options.api?.fd : options[kind]) ?? -1;
const REFS: Record<Kind, number> = { conf: REF_CONF, control: REF_CONTROL, api: REF_API };
const watchListener = (kind: Kind): void => {
  pausedUntil[kind] = Number.POSITIVE_INFINITY;
  const fd = listenerOf(kind);
  if (fd < 0) return;
  const r = io.native.watch(fd, io.EPOLLIN, REFS[kind]);
  if (r < 0) throw new Error(`cannot watch descriptor ${fd}: errno ${-r}`);
};
const pause = (kind: Kind): void => {
  pausedUntil[kind] = io.nowMs() + PAUSE_MS;
};

/** Events of references that are nobody else's. */
export const onEvent = (ref: number, mask: number): void => {
  if (ref === REF_CONF) onConfReadable();
  else if (ref === REF_CONTROL) onClientWaits('control');
  else if (ref === REF_API) onClientWaits('api');
  else clients[ref - REF_CLIENT]?.onEvent(mask);
};

/** Somebody waits at pesto's socket. He is let in when nobody changes the rules, and until he leaves nobody else is. */
const onConfReadable = (): void => {
  io.native.unwatch(listenerOf('conf'));
  changes?.inTurn((release) => {
    accept('conf', (accepted) => {
      if (accepted === null || changes === null) return release();
      const client = new Client(accepted.fd, CONF_SLOT, () => watchListener('conf'));
      clients[CONF_SLOT] = client;
      const over = (): void => {
        pesto = null;
        release();
      };
      pesto = new PestoSession({ ...options, changes, now: io.nowMs }, accepted.pid, client, over);
      client.session = pesto;
      pesto.begin();
      client.update();
    });
  });
};

/** Clients that are served side by side. */
const onClientWaits = (kind: 'control' | 'api'): void => {
  io.native.unwatch(listenerOf(kind));
  accept(kind, (accepted) => {
    if (accepted === null || changes === null) return;
    watchListener(kind);
    const slot = freeSlot();
    if (slot < 0) {
      io.native.close(accepted.fd);
      return;
    }
    log.debug(`Control socket: client (PID ${accepted.pid})`);
    const client = new Client(accepted.fd, slot, () => {});
    clients[slot] = client;
    client.session =
      slirp === null
        ? new JsonRpcSession({ ...options, changes, now: io.nowMs }, client)
        : new SlirpApiSession(slirp, client);
    client.update();
  });
};

/** A slot for a client of the control socket; if need be, that of the one that has been quiet for longest. −1: all are being served. */
const freeSlot = (): number => {
  for (let slot = CONF_SLOT + 1; slot < CLIENTS_MAX; slot++) if (clients[slot] === null) return slot;
  const quiet = clients
    .filter((one) => one !== null && one.slot !== CONF_SLOT && one.session?.idle === true)
    .sort((a, b) => (a?.lastActive ?? 0) - (b?.lastActive ?? 0))[0];
  log.warnAt(CROWD, io.nowMs(), `Control socket: more than ${CLIENTS_MAX - 1} clients, one is hung up on`);
  quiet?.close();
  return quiet?.slot ?? -1;
};

/** Asks the helper for the next client; with null, who waits is looked at again. */
const accept = (kind: Kind, done: (accepted: { fd: number; pid: number } | null) => void): void => {
  const asked = options.ask('host', 'unix.accept', { kind }, (errno, result) => {
    if (result !== null) return done(result);
    if (errno === EACCES) log.warnAt(FOREIGN, io.nowMs(), `A client of another user was refused (${kind} socket)`);
    done(null);
    if (errno === EACCES || errno === EAGAIN) watchListener(kind);
    else pause(kind);
  });
  if (asked) return;
  done(null);
  pause(kind);
};

/** Milliseconds until {@link tick} has something to do; −1: nothing. */
export const nextDelay = (now: number): number => {
  if (changes === null) return -1;
  let next = Math.min(pausedUntil.conf, pausedUntil.control, pausedUntil.api);
  for (const client of clients)
    if (client !== null) next = Math.min(next, client.closeAt, client.session?.dueAt ?? Number.POSITIVE_INFINITY);
  let delay = next === Number.POSITIVE_INFINITY ? -1 : Math.max(0, next - now);
  for (const other of [changes.nextDelay(now), pesto?.nextDelay(now) ?? -1])
    if (other >= 0 && (delay < 0 || other < delay)) delay = other;
  return delay;
};

export const tick = (now: number): void => {
  if (changes === null) return;
  for (const kind of KINDS) if (now >= pausedUntil[kind]) watchListener(kind);
  for (const client of clients) client?.session?.tick?.(now);
  for (const client of clients) if (client !== null && now >= client.closeAt) client.close();
  pesto?.tick(now);
  changes.tick(io.nowMs);
};
