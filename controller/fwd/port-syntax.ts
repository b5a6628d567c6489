// SPDX-License-Identifier: Apache-2.0
/**
 * The text of -t, -u, -T and -U, taken apart. What it means depends on the host and on the direction: `port-spec.ts`.
 *
 *     spec  = "none" | [where "/"] chunk *("," chunk)
 *     where = any ["%" interface] | "%" interface        any = address | "[" address "]" | "*" | "[*]"
 *     chunk = "all" [":" target] | "auto" | "~" ports | ports [":" [target "/"] ports | ":" target]
 *     ports = first ["-" last]                           target = address | "[" address "]"
 *
 * What precedes the first "/" is `where` if it is an address, so a target behind a port reads best in brackets:
 * "80:fd00::1/81" is port 81 of the address 80:fd00::1, "80:[fd00::1]/81" is port 80 mapped to port 81 of fd00::1.
 */
import { parseAddress } from '../host/address.ts';

export const PORT_MAX = 65_535;
/** IFNAMSIZ - 1 */
const IFNAME_CHARS_MAX = 15;

/** One sentence that ends with the character at fault; `position` counts from 1, length + 1 is the text's end. */
export class PortSpecError extends Error {
  readonly position: number;
  constructor(text: string, position: number, what: string, lead = `Invalid port specifier ${text}: `) {
    const code = text.codePointAt(position - 1);
    const where =
      code === undefined ? 'at the end' : `character ${position}, ${JSON.stringify(String.fromCodePoint(code))}`;
    super(`${lead}${what} (${where})`);
    this.name = 'PortSpecError';
    this.position = position;
  }
}

export interface Chunk {
  readonly kind: 'all' | 'auto' | 'except' | 'ports';
  /** Where it begins, from 1. */
  readonly position: number;
  /** Of 'except' and 'ports'. */
  readonly first: number;
  readonly last: number;
  /** The target's port for `first`. */
  readonly to: number;
  /** As given, canonical text; '': none. */
  readonly target: string;
  readonly targetPosition: number;
}
export interface PortSyntax {
  /** Something precedes a "/". */
  readonly placed: boolean;
  /** Canonical text; '': every address. */
  readonly address: string;
  /** '': any. */
  readonly interface: string;
  /** Empty: "none". */
  readonly chunks: readonly Chunk[];
}

/** RFC 4291 §2.5.5.2: an IPv4-mapped address, in canonical text, is the IPv4 one. */
const unmapped = (address: string): string => {
  const words = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(address);
  if (words === null) return address;
  const bytes = words.slice(1).flatMap((word) => {
    const value = Number.parseInt(word, 16);
    return [value >> 8, value & 0xff];
  });
  return bytes.join('.');
};

/** Parts are numbered from 0 in here, and errors from 1. */
class Reader {
  readonly text: string;
  /** What a chunk may be, for messages. */
  readonly choice: string;
  constructor(text: string, auto: boolean) {
    this.text = text;
    this.choice = `a port, a range, "all"${auto ? ', "auto"' : ''} or "~" is expected`;
  }
  fail(at: number, what: string): never {
    throw new PortSpecError(this.text, at + 1, what);
  }

  /** One port at `at`, and where it ends. */
  port(at: number, end: number): readonly [number, number] {
    let next = at;
    while (next < end && /[0-9]/.test(this.text.charAt(next))) next++;
    if (next === at) this.fail(at, 'a port is expected');
    const value = Number(this.text.slice(at, next));
    if (value < 1 || value > PORT_MAX) this.fail(at, `a port is a number from 1 to ${PORT_MAX}`);
    return [value, next];
  }

  /** first ["-" last], and where it ends. */
  ports(at: number, end: number): readonly [number, number, number] {
    const [first, next] = this.port(at, end);
    if (next >= end || this.text[next] !== '-') return [first, first, next];
    const [last, after] = this.port(next + 1, end);
    if (last < first) this.fail(next + 1, 'the range ends before it begins');
    return [first, last, after];
  }

  /** The whole of `at` to `end`, with or without brackets, as canonical text; '*' gives ''. An IPv4-mapped address is the IPv4 one. */
  address(at: number, end: number, star: boolean): string {
    const bracket = this.text[at] === '[' && at < end;
    if (bracket && this.text[end - 1] !== ']') this.fail(end, '"]" is expected');
    const [from, to] = bracket ? [at + 1, end - 1] : [at, end];
    const inner = this.text.slice(from, to);
    if (star && inner === '*') return '';
    const parsed = parseAddress(inner);
    if (parsed === null) {
      const stray = inner.search(/[^0-9a-f:.]/i);
      this.fail(from + Math.max(stray, 0), 'an IP address is expected');
    }
    return unmapped(parsed.address);
  }

  interface(at: number, end: number): string {
    const name = this.text.slice(at, end);
    if (name === '' || name === '.' || name === '..') this.fail(at, 'the name of an interface is expected');
    const stray = name.search(/[^!-.0-9;-~]/);
    if (stray >= 0) this.fail(at + stray, 'an interface has no such character in its name');
    if (name.length > IFNAME_CHARS_MAX)
      this.fail(at + IFNAME_CHARS_MAX, `an interface's name has at most ${IFNAME_CHARS_MAX} characters`);
    return name;
  }

  where(end: number): Pick<PortSyntax, 'address' | 'interface'> {
    const percent = this.text.slice(0, end).indexOf('%');
    const addressEnd = percent < 0 ? end : percent;
    return {
      address: percent === 0 ? '' : this.address(0, addressEnd, true),
      interface: percent < 0 ? '' : this.interface(percent + 1, end),
    };
  }

  chunk(at: number, end: number): Chunk {
    const none = { position: at + 1, first: 0, last: 0, to: 0, target: '', targetPosition: 0 };
    if (this.text[at] === '~' && at < end) {
      const [first, last, next] = this.ports(at + 1, end);
      if (next < end) this.fail(next, '"," or the end is expected');
      return { ...none, kind: 'except', first, last };
    }
    const word = /^[a-z]*/i.exec(this.text.slice(at, end))?.[0] ?? '';
    if (word !== '') return this.word(word, none, at, end);
    if (at >= end || !/[0-9]/.test(this.text.charAt(at))) this.fail(at, this.choice);
    const [first, last, next] = this.ports(at, end);
    const ports = { ...none, kind: 'ports', first, last, to: first } as const;
    if (next >= end) return ports;
    if (this.text[next] !== ':') this.fail(next, '":", "," or the end is expected');
    return this.mapping(ports, next + 1, end);
  }

  word(word: string, none: Omit<Chunk, 'kind'>, at: number, end: number): Chunk {
    const next = at + word.length;
    if (word === 'auto' && next === end) return { ...none, kind: 'auto' };
    if (word === 'none') this.fail(at, '"none" stands alone');
    if (word !== 'all' && word !== 'auto') this.fail(at, this.choice);
    if (word === 'all' && next === end) return { ...none, kind: 'all' };
    if (word === 'auto' || this.text[next] !== ':')
      this.fail(next, word === 'auto' ? '"," or the end is expected' : '":", "," or the end is expected');
    return { ...none, kind: 'all', target: this.address(next + 1, end, false), targetPosition: next + 2 };
  }

  /** What follows a range's colon. */
  mapping(chunk: Chunk, at: number, end: number): Chunk {
    const rest = this.text.slice(at, end);
    if (rest === '') this.fail(at, 'a port or an address is expected');
    const slash = rest.indexOf('/');
    const portsOnly = slash < 0 && !/[.:[]/.test(rest) && /^[0-9]/.test(rest);
    const target = portsOnly ? '' : this.address(at, slash < 0 ? end : at + slash, false);
    const targetPosition = at + 1;
    if (!portsOnly && slash < 0) return { ...chunk, target, targetPosition };
    const toAt = portsOnly ? at : at + slash + 1;
    const [to, toLast, next] = this.ports(toAt, end);
    if (next < end) this.fail(next, '"," or the end is expected');
    if (toLast - to !== chunk.last - chunk.first) this.fail(toAt, 'the two ranges differ in length');
    return { ...chunk, to, target, targetPosition };
  }
}

/** Whether what precedes the first slash says where to listen, rather than being a port with a target. */
const isPlace = (head: string): boolean =>
  parseAddress(head.replace(/%.*$/, '')) !== null ||
  !/^(all:|(all|auto|none|~?\d+(-\d+)?)[:,]|~?\d+(-\d+)?:)/.test(head);

/** `auto`: whether messages name it. Throws {@link PortSpecError}. */
export const readPortSyntax = (text: string, auto: boolean): PortSyntax => {
  if (text === 'none') return { placed: false, address: '', interface: '', chunks: [] };
  const reader = new Reader(text, auto);
  const slash = text.indexOf('/');
  const placed = slash >= 0 && isPlace(text.slice(0, slash));
  const where = placed ? reader.where(slash) : { address: '', interface: '' };
  const chunks: Chunk[] = [];
  let at = placed ? slash + 1 : 0;
  for (;;) {
    const comma = text.indexOf(',', at);
    const end = comma < 0 ? text.length : comma;
    chunks.push(reader.chunk(at, end));
    if (comma < 0) return { placed, ...where, chunks };
    at = comma + 1;
  }
};
