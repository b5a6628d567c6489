// SPDX-License-Identifier: Apache-2.0
/**
 * The wire format of pesto, version 2, both ways: what a server tells (hello, tables) and what a client sends back (tables).
 * Written from the description of the format; all integers are big-endian, addresses are 16 bytes with IPv4 mapped.
 *
 *     server   magic, version, sizes; then each table with name, capabilities and rules; then a zero
 *     client   each table with its rules, whole; then a zero. A table that it does not send is emptied
 *
 * Readers take bytes in pieces of any size and never more than {@link UPDATE_BYTES_MAX} or {@link TABLES_BYTES_MAX} of them.
 */
import ipaddr from 'ipaddr.js';
import type { Direction, Rule, Tables } from '../fwd/rule.ts';
import { RULES_MAX } from '../fwd/rule.ts';
import { addressText } from '../host/address.ts';

export const MAGIC = 'basil:s\0';
export const VERSION = 2;
/** Octets of a table's name, of an interface's name (IFNAMSIZ), of a rule. */
const NAME_BYTES = 128;
const IFNAME_BYTES = 16;
export const RULE_BYTES = 56;
export const HELLO_BYTES = 20;
/** Identifiers of tables; 2 is a name for the tap that no server sends, 0 the end. */
const PIFS: Readonly<Record<Direction, number>> = { host: 1, splice: 3 };
export const NAMES: Readonly<Record<Direction, string>> = { host: 'HOST', splice: 'SPLICE' };
/** Tables that a client takes from a server at most. */
const TABLES_MAX = 3;
const CLIENT_HEAD_BYTES = 5;
const SERVER_HEAD_BYTES = 1 + NAME_BYTES + 8;
/** The longest update that is in order: two tables and the end. */
export const UPDATE_BYTES_MAX = 2 * (CLIENT_HEAD_BYTES + RULES_MAX * RULE_BYTES) + 1;
export const TABLES_BYTES_MAX = HELLO_BYTES + TABLES_MAX * (SERVER_HEAD_BYTES + RULES_MAX * RULE_BYTES) + 1;

/** What a table's rules may be. */
export const CAP = { IPV4: 1, IPV6: 2, TCP: 4, UDP: 8, SCAN: 16, INTERFACE: 32 } as const;
/** `ANY`: every address of both IP versions by one rule. */
const FLAG = { ANY: 1, WEAK: 2, SCAN: 4 } as const;
const KNOWN_FLAGS = FLAG.ANY | FLAG.WEAK | FLAG.SCAN;
const TCP = 6;
const UDP = 17;
const UNSPECIFIED = '::';

/** The other side does not speak this protocol, or not as it should. */
export class ProtocolError extends Error {}

export interface Table {
  readonly direction: Direction;
  readonly rules: readonly Rule[];
}
/** A table as a server tells it. */
export interface ToldTable extends Table {
  readonly caps: number;
}

const addressBytes = (text: string): number[] => {
  const parsed = ipaddr.parse(text);
  return parsed.kind() === 'ipv4' ? (parsed as ipaddr.IPv4).toIPv4MappedAddress().toByteArray() : parsed.toByteArray();
};

const isMapped = (bytes: Uint8Array): boolean =>
  bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0);

const readAddress = (bytes: Uint8Array): string => addressText(isMapped(bytes) ? bytes.subarray(12) : bytes);

export const encodeRule = (rule: Rule): Buffer => {
  const bytes = Buffer.alloc(RULE_BYTES);
  bytes.set(addressBytes(rule.address === '' ? UNSPECIFIED : rule.address), 0);
  bytes.set(addressBytes(rule.target === '' ? UNSPECIFIED : rule.target), 16);
  bytes.write(rule.interface, 32, IFNAME_BYTES - 1, 'latin1');
  bytes.writeUInt16BE(rule.first, 48);
  bytes.writeUInt16BE(rule.last, 50);
  bytes.writeUInt16BE(rule.to, 52);
  bytes[54] = rule.protocol === 'tcp' ? TCP : UDP;
  bytes[55] = (rule.address === '' ? FLAG.ANY : 0) | (rule.weak ? FLAG.WEAK : 0) | (rule.scan ? FLAG.SCAN : 0);
  return bytes;
};

/** One rule of {@link RULE_BYTES}. Throws {@link ProtocolError} for what no rule can say; what a rule may say is the reader's to judge. */
export const decodeRule = (bytes: Buffer): Rule => {
  const [protocol, flags] = [bytes[54], bytes[55] as number];
  if (protocol !== TCP && protocol !== UDP) throw new ProtocolError(`a rule for protocol ${protocol}`);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw new ProtocolError(`a rule with unknown flags 0x${flags.toString(16)}`);
  const [first, last, to] = [bytes.readUInt16BE(48), bytes.readUInt16BE(50), bytes.readUInt16BE(52)];
  if (first === 0 || last < first) throw new ProtocolError(`a rule for ports ${first}-${last}`);
  if (to === 0 || to + (last - first) > 0xffff)
    throw new ProtocolError(`a rule from ports ${first}-${last} to ${to} and above`);
  const any = (flags & FLAG.ANY) !== 0;
  const address = readAddress(bytes.subarray(0, 16));
  if (any && address !== UNSPECIFIED) throw new ProtocolError(`a rule for every address and for ${address}`);
  const target = readAddress(bytes.subarray(16, 32));
  return Object.freeze({
    protocol: protocol === TCP ? 'tcp' : 'udp',
    address: any ? '' : address,
    interface: decodeName(bytes.subarray(32, 48), /^[!-.0-~]*$/),
    first,
    last,
    target: target === UNSPECIFIED || target === '0.0.0.0' ? '' : target,
    to,
    weak: (flags & FLAG.WEAK) !== 0,
    scan: (flags & FLAG.SCAN) !== 0,
  });
};

const decodeName = (bytes: Buffer, allowed: RegExp): string => {
  const end = bytes.indexOf(0);
  if (end < 0) throw new ProtocolError('a name without end');
  const name = bytes.toString('latin1', 0, end);
  if (!allowed.test(name)) throw new ProtocolError('a name that cannot be one');
  return name;
};

/** Everything a server sends. */
export const encodeTables = (tables: readonly ToldTable[]): Buffer => {
  const hello = Buffer.alloc(HELLO_BYTES);
  hello.write(MAGIC, 'latin1');
  hello.writeUInt32BE(VERSION, 8);
  hello.writeUInt32BE(NAME_BYTES, 12);
  hello.writeUInt32BE(IFNAME_BYTES, 16);
  const heads = tables.map(({ direction, caps, rules }) => {
    const head = Buffer.alloc(SERVER_HEAD_BYTES);
    head[0] = PIFS[direction];
    head.write(NAMES[direction], 1, 'latin1');
    head.writeUInt32BE(caps, 1 + NAME_BYTES);
    head.writeUInt32BE(rules.length, 5 + NAME_BYTES);
    return head;
  });
  const parts = tables.flatMap(({ rules }, i) => [heads[i] as Buffer, ...rules.map(encodeRule)]);
  return Buffer.concat([hello, ...parts, Buffer.alloc(1)]);
};

/** Everything a client sends. */
export const encodeUpdate = (tables: readonly Table[]): Buffer => {
  const parts = tables.flatMap(({ direction, rules }) => {
    const head = Buffer.alloc(CLIENT_HEAD_BYTES);
    head[0] = PIFS[direction];
    head.writeUInt32BE(rules.length, 1);
    return [head, ...rules.map(encodeRule)];
  });
  return Buffer.concat([...parts, Buffer.alloc(1)]);
};

/** What both readers do: gather bytes, read what is whole, know when the end was reached. */
abstract class Reader<T extends Table> {
  /** In the order in which they came. */
  readonly tables: T[] = [];
  #bytes = Buffer.alloc(0);
  #ended = false;
  readonly #headBytes: number;
  /** Octets that are expected next at least, and the table of which they are the rules. */
  #head: { readonly count: number; readonly make: (rules: readonly Rule[]) => T } | null = null;

  constructor(headBytes: number) {
    this.#headBytes = headBytes;
  }

  /** The zero was read. */
  get ended(): boolean {
    return this.#ended;
  }
  /** Bytes behind the zero. */
  get rest(): Buffer {
    return this.#ended ? this.#bytes : Buffer.alloc(0);
  }
  /** Something came, and not all of it. */
  get begun(): boolean {
    return this.#bytes.length > 0 || this.#head !== null || this.tables.length > 0;
  }

  /** Takes bytes; true once all is read. Throws {@link ProtocolError}. */
  feed(chunk: Uint8Array): boolean {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (!this.#ended && this.#step());
    return this.#ended;
  }

  /** Removes `n` octets from the front, null while there are fewer. */
  protected take(n: number): Buffer | null {
    if (this.#bytes.length < n) return null;
    const taken = this.#bytes.subarray(0, n);
    this.#bytes = this.#bytes.subarray(n);
    return taken;
  }
  protected abstract readHead(head: Buffer, direction: Direction): { caps: number; count: number };
  protected abstract table(direction: Direction, caps: number, rules: readonly Rule[]): T;
  /** What comes before the tables; true when it has been read. */
  protected preamble(): boolean {
    return true;
  }

  #step(): boolean {
    if (this.#head !== null) {
      const body = this.take(this.#head.count * RULE_BYTES);
      if (body === null) return false;
      const rules = Array.from({ length: this.#head.count }, (_, i) =>
        decodeRule(body.subarray(i * RULE_BYTES, (i + 1) * RULE_BYTES)),
      );
      this.tables.push(this.#head.make(rules));
      this.#head = null;
      return true;
    }
    if (!this.preamble()) return false;
    if (this.#bytes[0] === 0) {
      this.take(1);
      this.#ended = true;
      return true;
    }
    // Told at once, not when the rest has come: what cannot be right is not waited for.
    const direction = this.#bytes.length === 0 ? undefined : this.#direction(this.#bytes[0] as number);
    const head = this.take(this.#headBytes);
    if (head === null || direction === undefined) return false;
    const { caps, count } = this.readHead(head, direction);
    if (count > RULES_MAX) throw new ProtocolError(`${count} rules, at most ${RULES_MAX}`);
    this.#head = { count, make: (rules) => this.table(direction, caps, rules) };
    return true;
  }

  #direction(pif: number): Direction {
    const known = (Object.keys(PIFS) as Direction[]).find((name) => PIFS[name] === pif);
    if (known === undefined) throw new ProtocolError(`a table for interface ${pif}, which there is not`);
    if (this.tables.some(({ direction }) => direction === known))
      throw new ProtocolError(`the table ${NAMES[known]} twice`);
    return known;
  }
}

/** A server's reader of what a client sends. */
export class UpdateReader extends Reader<Table> {
  constructor() {
    super(CLIENT_HEAD_BYTES);
  }
  /** The tables as they are to be: those that were not sent are empty. */
  get update(): Tables {
    const of = (wanted: Direction) => this.tables.find(({ direction }) => direction === wanted)?.rules ?? [];
    return { host: of('host'), splice: of('splice') };
  }
  protected override readHead(head: Buffer): { caps: number; count: number } {
    return { caps: 0, count: head.readUInt32BE(1) };
  }
  protected override table(direction: Direction, _caps: number, rules: readonly Rule[]): Table {
    return { direction, rules };
  }
}

/** A client's reader of what a server tells. */
export class TablesReader extends Reader<ToldTable> {
  #greeted = false;
  constructor() {
    super(SERVER_HEAD_BYTES);
  }
  protected override preamble(): boolean {
    if (this.#greeted) return true;
    const hello = this.take(HELLO_BYTES);
    if (hello === null) return false;
    if (hello.toString('latin1', 0, MAGIC.length) !== MAGIC)
      throw new ProtocolError('the server speaks another protocol');
    const [version, name, ifname] = [hello.readUInt32BE(8), hello.readUInt32BE(12), hello.readUInt32BE(16)];
    if (version !== VERSION) throw new ProtocolError(`the server speaks version ${version}, not ${VERSION}`);
    if (name !== NAME_BYTES || ifname !== IFNAME_BYTES)
      throw new ProtocolError(
        `the server has names of ${name} and ${ifname} bytes, not ${NAME_BYTES} and ${IFNAME_BYTES}`,
      );
    this.#greeted = true;
    return true;
  }
  protected override readHead(head: Buffer, direction: Direction): { caps: number; count: number } {
    const name = decodeName(head.subarray(1, 1 + NAME_BYTES), /^[ -~]*$/);
    if (name !== NAMES[direction]) throw new ProtocolError(`a table ${name} where ${NAMES[direction]} was expected`);
    return { caps: head.readUInt32BE(1 + NAME_BYTES), count: head.readUInt32BE(5 + NAME_BYTES) };
  }
  protected override table(direction: Direction, caps: number, rules: readonly Rule[]): ToldTable {
    return { direction, caps, rules };
  }
}
