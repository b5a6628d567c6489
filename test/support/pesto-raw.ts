// SPDX-License-Identifier: Apache-2.0
/**
 * A client of the pesto protocol as the original's is: written from the format alone, without our codec, so that a fault in that
 * one is not the test's as well. Like the original, it never reads after it has sent its update.
 */
import { createConnection, type Socket } from 'node:net';

const NAME_OCTETS = 128;
const RULE_OCTETS = 56;

export interface RawTable {
  readonly pif: number;
  readonly name: string;
  readonly caps: number;
  readonly rules: readonly Buffer[];
}

/** One rule, octet by octet; addresses as 16 octets in hex, '' for `::`. */
export const rawRule = (
  protocol: 'tcp' | 'udp',
  first: number,
  {
    last = first,
    to = first,
    address = '',
    flags = address === '' ? 1 : 0,
    name = '',
  }: { last?: number; to?: number; address?: string; flags?: number; name?: string } = {},
): Buffer => {
  const bytes = Buffer.alloc(RULE_OCTETS);
  bytes.write(address, 0, 'hex');
  bytes.write(name, 32, 'latin1');
  bytes.writeUInt16BE(first, 48);
  bytes.writeUInt16BE(last, 50);
  bytes.writeUInt16BE(to, 52);
  bytes[54] = protocol === 'tcp' ? 6 : 17;
  bytes[55] = flags;
  return bytes;
};
/** 0.0.0.0, as an address of {@link rawRule}. */
export const ANY4 = '00000000000000000000ffff00000000';

const parseTables = (bytes: Buffer): RawTable[] | null => {
  if (bytes.length < 20) return null;
  if (bytes.toString('latin1', 0, 8) !== 'basil:s\0' || bytes.readUInt32BE(8) !== 2) throw new Error('no hello');
  const tables: RawTable[] = [];
  for (let at = 20; ; ) {
    if (at >= bytes.length) return null;
    const pif = bytes[at++] as number;
    if (pif === 0) {
      if (at !== bytes.length) throw new Error('something behind the end');
      return tables;
    }
    if (bytes.length < at + NAME_OCTETS + 8) return null;
    const name = bytes.toString('latin1', at, bytes.indexOf(0, at));
    const caps = bytes.readUInt32BE(at + NAME_OCTETS);
    const count = bytes.readUInt32BE(at + NAME_OCTETS + 4);
    at += NAME_OCTETS + 8;
    if (bytes.length < at + count * RULE_OCTETS) return null;
    const rules = Array.from({ length: count }, (_, i) =>
      Buffer.from(bytes.subarray(at + i * RULE_OCTETS, at + (i + 1) * RULE_OCTETS)),
    );
    at += count * RULE_OCTETS;
    tables.push({ pif, name, caps, rules });
  }
};

export class RawPesto {
  readonly socket: Socket;
  /** Everything that came after the tables. */
  after = Buffer.alloc(0);
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.closed = new Promise((done) => socket.once('close', () => done()));
    socket.on('error', () => {});
  }

  static connect(path: string): RawPesto {
    return new RawPesto(createConnection({ path, allowHalfOpen: true }));
  }

  tables(): Promise<RawTable[]> {
    return new Promise((resolve, reject) => {
      let bytes = Buffer.alloc(0);
      const take = (chunk: Buffer): void => {
        bytes = Buffer.concat([bytes, chunk]);
        const tables = parseTables(bytes);
        if (tables === null) return;
        this.socket.off('data', take);
        this.socket.on('data', (more) => {
          this.after = Buffer.concat([this.after, more]);
        });
        resolve(tables);
      };
      this.socket.on('data', take);
      this.socket.once('end', () => {
        this.socket.end();
        reject(new Error(`closed after ${bytes.length} octets`));
      });
    });
  }

  /** The tables whole, and the end; waits until the server has closed. */
  async update(tables: readonly { readonly pif: number; readonly rules: readonly Buffer[] }[]): Promise<void> {
    const parts = tables.flatMap(({ pif, rules }) => {
      const head = Buffer.alloc(5);
      head[0] = pif;
      head.writeUInt32BE(rules.length, 1);
      return [head, ...rules];
    });
    this.socket.end(Buffer.concat([...parts, Buffer.alloc(1)]));
    await this.closed;
  }
  close(): void {
    this.socket.destroy();
  }
}
