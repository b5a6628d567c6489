// SPDX-License-Identifier: Apache-2.0
/**
 * One client of slirp4netns' API socket: one JSON request, one JSON reply without newline in one write, end. A request is complete
 * when its value is, in however many pieces it comes; what follows it is not looked at. Replies, their order and the order of the
 * checks are those of slirp4netns 1.3, byte for byte, but for two: a missing `proto`, which ends the original, is a bad one here,
 * and `list_hostfwd` answers what is documented as well as what the original does.
 */
import { conflict, type Protocol, type Rule, type Tables } from '../fwd/rule.ts';
import { parseAddress } from '../host/address.ts';
import type { Changes } from './changes.ts';
import { hasDuplicateKey } from './json-keys.ts';
import type { Peer } from './pesto-server.ts';

/** A request of this many bytes or more is refused. */
const REQUEST_BYTES_MAX = 4096;
/** For a request that is not complete. */
const REQUEST_MS = 1000;
/** Forwarded ports of one instance; descriptors may allow fewer. */
const FORWARDS_MAX = 4096;
const PORT_MAX = 65_535;

interface Forward {
  readonly id: number;
  readonly rule: Rule;
}

export interface SlirpApiOptions {
  readonly changes: Changes;
  readonly now: () => number;
  /** Where ports lead to if a request names no address. */
  readonly guest: string;
}

type Json = object;
type Reply = (value: Json) => void;
/** What is looked at of a request. */
interface Request {
  readonly execute?: unknown;
  readonly arguments?: unknown;
}
interface Args {
  readonly proto?: unknown;
  readonly host_addr?: unknown;
  readonly host_port?: unknown;
  readonly guest_addr?: unknown;
  readonly guest_port?: unknown;
  readonly id?: unknown;
}

/** What is forwarded, and under which numbers: one for all clients. */
export class SlirpForwards {
  readonly #o: SlirpApiOptions;
  readonly #forwards: Forward[] = [];
  #lastId = 0;

  constructor(options: SlirpApiOptions) {
    this.#o = options;
  }
  get now(): () => number {
    return this.#o.now;
  }

  list(): Json {
    const entries = this.#forwards.map(({ id, rule }) => ({
      id,
      proto: rule.protocol,
      host_addr: rule.address,
      host_port: rule.first,
      guest_addr: rule.target,
      guest_port: rule.to,
    }));
    return { return: { entries }, entries };
  }

  add(args: Args, reply: Reply): void {
    const rule = readRule(args, this.#o.guest);
    if (typeof rule === 'string') return reply(refused(`add_hostfwd: bad arguments.${rule}`));
    this.#change(
      (tables) => {
        const none = tables.host.length >= FORWARDS_MAX || conflict(tables.host, rule) !== null;
        return none ? null : { ...tables, host: [...tables.host, rule] };
      },
      (applied) => {
        if (!applied) return reply(refused('add_hostfwd: slirp_add_hostfwd failed'));
        const id = ++this.#lastId;
        this.#forwards.push({ id, rule });
        reply({ return: { id } });
      },
    );
  }

  remove(args: Args, reply: Reply): void {
    const at = this.#forwards.findIndex(({ id }) => id === integer(args.id));
    const [found] = at < 0 ? [] : this.#forwards.splice(at, 1);
    if (found === undefined) return reply(refused('remove_hostfwd: bad arguments.id'));
    this.#change(
      (tables) => ({ ...tables, host: tables.host.filter((rule) => rule !== found.rule) }),
      (applied) => {
        if (applied) return reply({ return: {} });
        this.#forwards.splice(at, 0, found);
        reply(refused('remove_hostfwd: slirp_remove_hostfwd failed'));
      },
    );
  }

  /** `next` null: it cannot be. */
  #change(next: (tables: Tables) => Tables | null, done: (applied: boolean) => void): void {
    const { changes, now } = this.#o;
    changes.inTurn((release) => {
      const tables = next(changes.forwarding.tables());
      const settle = (applied: boolean): void => {
        done(applied);
        release();
      };
      if (tables === null) return settle(false);
      changes.change(tables, 'all-or-nothing', now, (_failures, applied) => settle(applied));
    });
  }
}

const refused = (why: string): Json => ({ error: { desc: `bad request: ${why}` } });

/** Numbers are cut to integers; what is none is 0, which is nothing's number. */
const integer = (value: unknown): number => (typeof value === 'number' ? Math.trunc(value) : 0);
const address4 = (value: unknown, fallback: string): string | null => {
  if (typeof value !== 'string' || value === '') return fallback;
  const parsed = parseAddress(value);
  return parsed?.family === 4 ? parsed.address : null;
};
const isPort = (port: number): boolean => port >= 1 && port <= PORT_MAX;

/** The rule, or the argument that is wrong. */
const readRule = (args: Args, guest: string): Rule | string => {
  const { proto } = args;
  if (proto !== 'tcp' && proto !== 'udp') return 'proto';
  const address = address4(args.host_addr, '0.0.0.0');
  if (address === null) return 'host_addr';
  const first = integer(args.host_port);
  if (!isPort(first)) return 'host_port';
  const target = address4(args.guest_addr, guest);
  if (target === null) return 'guest_addr';
  const to = integer(args.guest_port);
  if (!isPort(to)) return 'guest_port';
  const protocol: Protocol = proto;
  return { protocol, address, interface: '', first, last: first, target, to, weak: false, scan: false };
};

/** Where the JSON value that `text` begins with ends; 0: not in what there is of it; −1: it begins with none. */
const endOfValue = (text: string): number => {
  let depth = 0;
  let quoted = false;
  for (let i = text.length - text.trimStart().length; i < text.length; i++) {
    const char = text[i];
    if (quoted) {
      if (char === '\\') i++;
      else if (char === '"') quoted = false;
      if (!quoted && depth === 0) return i + 1;
    } else if (char === '"') quoted = true;
    else if (char === '{' || char === '[') depth++;
    else if ((char === '}' || char === ']') && --depth <= 0) return i + 1;
    else if (depth === 0) return endOfScalar(text, i);
  }
  return 0;
};
const endOfScalar = (text: string, from: number): number => {
  const scalar = /^(?:true|false|null|-?[0-9][0-9.eE+-]*)/.exec(text.slice(from));
  return scalar === null ? -1 : from + scalar[0].length;
};

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export class SlirpApiSession {
  readonly #forwards: SlirpForwards;
  readonly #peer: Peer;
  #text = Buffer.alloc(0);
  #done = false;
  /** When an incomplete request is answered as what it is. */
  readonly #deadline: number;

  constructor(forwards: SlirpForwards, peer: Peer) {
    this.#forwards = forwards;
    this.#peer = peer;
    this.#deadline = forwards.now() + REQUEST_MS;
  }

  get wantsBytes(): boolean {
    return !this.#done;
  }
  /** Nothing has come yet that would be lost with it. */
  get idle(): boolean {
    return !this.#done && this.#text.length === 0;
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#done) return;
    this.#text = Buffer.concat([this.#text, bytes]);
    if (this.#text.length >= REQUEST_BYTES_MAX) return this.#answer(refused('too large message'));
    const text = this.#text.toString('utf8');
    const end = endOfValue(text);
    if (end !== 0) this.#take(end < 0 ? '' : text.slice(0, end));
  }

  /** The client sends no more. */
  onEnd(): void {
    if (!this.#done) this.#take('');
  }

  /** When {@link tick} is due; infinity: never. */
  get dueAt(): number {
    return this.#done ? Number.POSITIVE_INFINITY : this.#deadline;
  }
  tick(now: number): void {
    if (now >= this.dueAt) this.onEnd();
  }

  #take(text: string): void {
    this.#done = true;
    let request: unknown;
    try {
      request = JSON.parse(text);
    } catch {
      return this.#answer(refused('cannot parse JSON'));
    }
    if (hasDuplicateKey(text)) return this.#answer(refused('cannot parse JSON'));
    if (!isObject(request)) return this.#answer(refused('json_object() failed'));
    const { execute, arguments: given }: Request = request;
    const args: Args = isObject(given) ? given : {};
    const reply: Reply = (value) => this.#answer(value);
    switch (execute) {
      case 'add_hostfwd':
        return this.#forwards.add(args, reply);
      case 'list_hostfwd':
        return reply(this.#forwards.list());
      case 'remove_hostfwd':
        return this.#forwards.remove(args, reply);
      default:
        return reply(refused(typeof execute === 'string' ? 'unknown execute' : 'no execute found'));
    }
  }

  #answer(value: Json): void {
    this.#done = true;
    this.#peer.send(Buffer.from(JSON.stringify(value)));
    this.#peer.end();
  }
}
