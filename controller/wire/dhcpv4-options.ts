// SPDX-License-Identifier: Apache-2.0
/**
 * DHCP options that are the same in every reply: made once, then put into each one, what the client asked for first and in its
 * order (RFC 2132 §9.8), the rest behind it. What does not fit is left out.
 */
import * as dhcp from './dhcpv4.ts';

export interface Told {
  readonly code: number;
  /** Empty: not told. */
  readonly data: Uint8Array;
  /** Told to those that ask for it only. */
  readonly onlyAsked?: boolean;
}

const CODES = 256;

export class OptionTable {
  /** The options, one behind another, as they are sent. */
  private readonly bytes: DataView;
  private readonly startOf = new Uint16Array(CODES);
  /** With headers; 0: there is no such option. */
  private readonly bytesOf = new Uint16Array(CODES);
  /** Codes of those that everybody gets. */
  private readonly always: readonly number[];
  /** Number of the last reply that got each option. */
  private readonly putIn = new Float64Array(CODES);
  private replies = 0;

  /** `rows`: most needed first; as many as `room` bytes hold. */
  constructor(rows: readonly Told[], room: number) {
    this.bytes = new DataView(new ArrayBuffer(room));
    const always: number[] = [];
    let p = 0;
    for (const { code, data, onlyAsked } of rows) {
      if (data.length === 0 || dhcp.bytesRoom(data.length) > room - p) continue;
      this.startOf[code] = p;
      this.bytesOf[code] = dhcp.bytesRoom(data.length);
      p = dhcp.putBytes(this.bytes, p, code, data);
      if (onlyAsked !== true) always.push(code);
    }
    this.always = always;
  }

  /** Puts them at `from`, up to `limit`: those of the parameter list [listAt, listEnd) in its order, then the rest. Returns their end. */
  put(v: DataView, from: number, limit: number, listAt: number, listEnd: number): number {
    this.replies++;
    let p = from;
    for (let q = listAt; q < listEnd; q++) {
      const code = v.getUint8(q);
      // RFC 2132 §3.3: the mask stands before the routers, whatever was asked.
      if (code === dhcp.ROUTER) p = this.putOne(v, p, limit, dhcp.SUBNET_MASK);
      p = this.putOne(v, p, limit, code);
    }
    for (let i = 0; i < this.always.length; i++) p = this.putOne(v, p, limit, this.always[i] as number);
    return p;
  }

  private putOne(v: DataView, p: number, limit: number, code: number): number {
    const n = this.bytesOf[code] as number;
    if (n === 0 || this.putIn[code] === this.replies || p + n > limit) return p;
    this.putIn[code] = this.replies;
    const start = this.startOf[code] as number;
    for (let i = 0; i < n; i++) v.setUint8(p + i, this.bytes.getUint8(start + i));
    return p + n;
  }
}
