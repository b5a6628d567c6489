// SPDX-License-Identifier: Apache-2.0
/**
 * rtnetlink(7) in bytes: dump requests, the walk over messages and attributes, and one pure reader for each kind of
 * message. Integers are in host byte order; a length that does not fit ends the walk. No system calls here.
 */
import { endianness } from 'node:os';
import { addressText, type Family } from './address.ts';
import type { HostAddress, HostRoute, Link, NextHop, Scope } from './facts.ts';

const LE = endianness() === 'LE';

/** struct nlmsghdr */
const HEADER_BYTES = 16;
const NLM_F_REQUEST = 1;
/** NLM_F_ROOT | NLM_F_MATCH */
const NLM_F_DUMP = 0x300;
const NLM_F_DUMP_INTR = 0x10;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** The two bits above an attribute's type: NLA_F_NESTED, NLA_F_NET_BYTEORDER. */
const NLA_TYPE_MASK = 0x3fff;

const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;

/** Message types, linux/rtnetlink.h. */
export const RTM = { NEWLINK: 16, GETLINK: 18, NEWADDR: 20, GETADDR: 22, NEWROUTE: 24, GETROUTE: 26 } as const;

const align4 = (n: number): number => (n + 3) & ~3;

/** A dump request: header and the fixed part of the family's message, zeroed (all address families). */
export const dumpRequest = (type: number, sequence: number): Uint8Array => {
  // struct ifinfomsg is the largest of the three; the others may be followed by zeros.
  const bytes = new Uint8Array(HEADER_BYTES + 16);
  const v = new DataView(bytes.buffer);
  v.setUint32(0, bytes.length, LE);
  v.setUint16(4, type, LE);
  v.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, LE);
  v.setUint32(8, sequence, LE);
  v.setUint8(HEADER_BYTES, AF_UNSPEC);
  return bytes;
};

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** What follows the header. */
  readonly body: DataView;
}

/** The messages of one datagram; a truncated or malformed one ends the list. */
export const messages = (datagram: Uint8Array): Message[] => {
  const v = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const found: Message[] = [];
  let at = 0;
  while (at + HEADER_BYTES <= v.byteLength) {
    const length = v.getUint32(at, LE);
    if (length < HEADER_BYTES || length > v.byteLength - at) break;
    found.push({
      type: v.getUint16(at + 4, LE),
      flags: v.getUint16(at + 6, LE),
      sequence: v.getUint32(at + 8, LE),
      body: new DataView(v.buffer, v.byteOffset + at + HEADER_BYTES, length - HEADER_BYTES),
    });
    at += align4(length);
  }
  return found;
};

/** The table changed during the dump, which may have missed rows. The kernel sets it on any message, the last one included. */
export const interrupted = ({ flags }: Message): boolean => (flags & NLM_F_DUMP_INTR) !== 0;

/** What a message is to the dump it belongs to. `errno` is positive. */
export type DumpStep = { readonly kind: 'row' | 'done' } | { readonly kind: 'error'; readonly errno: number };
export const dumpStep = ({ type, body }: Message): DumpStep => {
  if (type !== NLMSG_DONE && type !== NLMSG_ERROR) return { kind: 'row' };
  // Both carry 0 or a negative error: a dump that fails half-way ends with DONE.
  const errno = body.byteLength >= 4 ? -body.getInt32(0, LE) : 0;
  return errno > 0 ? { kind: 'error', errno } : { kind: 'done' };
};

/** Attributes by type, from `at`; of a repeated type the last one counts. */
const attributes = (body: DataView, at: number, end = body.byteLength): Map<number, DataView> => {
  const found = new Map<number, DataView>();
  let next = at;
  while (next + 4 <= end) {
    const length = body.getUint16(next, LE);
    if (length < 4 || length > end - next) break;
    const type = body.getUint16(next + 2, LE) & NLA_TYPE_MASK;
    found.set(type, new DataView(body.buffer, body.byteOffset + next + 4, length - 4));
    next += align4(length);
  }
  return found;
};

const bytesOf = (v: DataView): Uint8Array => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
const u32 = (v: DataView | undefined): number | null =>
  v === undefined || v.byteLength < 4 ? null : v.getUint32(0, LE);
const familyFrom = (af: number): Family | null => (af === AF_INET ? 4 : af === AF_INET6 ? 6 : null);

/** null unless the attribute has exactly the length of an IPv4 or IPv6 address. */
const addressOf = (v: DataView | undefined): string | null =>
  v !== undefined && (v.byteLength === 4 || v.byteLength === 16) ? addressText(bytesOf(v)) : null;
const addressOfFamily = (v: DataView | undefined, family: Family): string | null =>
  v?.byteLength === (family === 4 ? 4 : 16) ? addressOf(v) : null;

const scopeOf = (scope: number): Scope =>
  scope === 0 ? 'universe' : scope < 253 ? 'site' : scope === 253 ? 'link' : scope === 254 ? 'host' : 'nowhere';

/** RFC 2863 ifOperStatus, in the order of the kernel's IF_OPER_*. */
const OPERSTATES = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'] as const;
const IFF_UP = 1;
const IFF_LOOPBACK = 8;
const IFINFOMSG_BYTES = 16;
const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, OPERSTATE: 16 } as const;

/** RTM_NEWLINK; null for anything else or when it lacks a name. */
export const readLink = ({ type, body }: Message): Link | null => {
  if (type !== RTM.NEWLINK || body.byteLength < IFINFOMSG_BYTES) return null;
  const attribute = attributes(body, IFINFOMSG_BYTES);
  const nameBytes = attribute.get(IFLA.IFNAME);
  if (nameBytes === undefined) return null;
  const mac = attribute.get(IFLA.ADDRESS);
  const operstate = attribute.get(IFLA.OPERSTATE);
  const flags = body.getUint32(8, LE);
  return {
    index: body.getInt32(4, LE),
    name: Buffer.from(bytesOf(nameBytes)).toString('latin1').replace(/\0.*$/s, ''),
    mtu: u32(attribute.get(IFLA.MTU)) ?? 0,
    mac: mac?.byteLength === 6 ? Array.from(bytesOf(mac), (b) => b.toString(16).padStart(2, '0')).join(':') : null,
    up: (flags & IFF_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    operstate: OPERSTATES[operstate !== undefined && operstate.byteLength > 0 ? operstate.getUint8(0) : 0] ?? 'unknown',
  };
};

const IFADDRMSG_BYTES = 8;
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8 } as const;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;

/** RTM_NEWADDR of IPv4 or IPv6. IFA_LOCAL is ours; IFA_ADDRESS is the peer's on point-to-point links. */
export const readAddress = ({ type, body }: Message): HostAddress | null => {
  if (type !== RTM.NEWADDR || body.byteLength < IFADDRMSG_BYTES) return null;
  const family = familyFrom(body.getUint8(0));
  if (family === null) return null;
  const attribute = attributes(body, IFADDRMSG_BYTES);
  const local = addressOfFamily(attribute.get(IFA.LOCAL), family);
  const address = local ?? addressOfFamily(attribute.get(IFA.ADDRESS), family);
  const prefix = body.getUint8(1);
  if (address === null || prefix > (family === 4 ? 32 : 128)) return null;
  const flags = u32(attribute.get(IFA.FLAGS)) ?? body.getUint8(2);
  return {
    family,
    index: body.getUint32(4, LE),
    address,
    prefix,
    scope: scopeOf(body.getUint8(3)),
    deprecated: (flags & IFA_F_DEPRECATED) !== 0,
    tentative: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0,
  };
};

const RTMSG_BYTES = 12;
const RTNEXTHOP_BYTES = 8;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
const RTM_F_CLONED = 0x200;
const RTNH_F_DEAD_OR_LINKDOWN = 0x01 | 0x10;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, MULTIPATH: 9, TABLE: 15, VIA: 18 } as const;

/** RTA_GATEWAY, or RTA_VIA (family in two bytes, then an address of that family). */
const gatewayOf = (attribute: Map<number, DataView>): string | null => {
  const via = attribute.get(RTA.VIA);
  if (via === undefined || via.byteLength < 2) return addressOf(attribute.get(RTA.GATEWAY));
  return addressOf(new DataView(via.buffer, via.byteOffset + 2, via.byteLength - 2));
};

const multipath = (v: DataView): NextHop[] => {
  const hops: NextHop[] = [];
  let at = 0;
  while (at + RTNEXTHOP_BYTES <= v.byteLength) {
    const length = v.getUint16(at, LE);
    if (length < RTNEXTHOP_BYTES || length > v.byteLength - at) break;
    hops.push({
      index: v.getInt32(at + 4, LE),
      gateway: gatewayOf(attributes(v, at + RTNEXTHOP_BYTES, at + length)),
      weight: v.getUint8(at + 3) + 1,
      dead: (v.getUint8(at + 2) & RTNH_F_DEAD_OR_LINKDOWN) !== 0,
    });
    at += align4(length);
  }
  return hops;
};

/** RTM_NEWROUTE: unicast routes of the main table, not clones of the IPv6 route cache; null for all others. */
export const readRoute = ({ type, body }: Message): HostRoute | null => {
  if (type !== RTM.NEWROUTE || body.byteLength < RTMSG_BYTES) return null;
  const family = familyFrom(body.getUint8(0));
  const flags = body.getUint32(8, LE);
  if (family === null || body.getUint8(7) !== RTN_UNICAST || flags & RTM_F_CLONED) return null;
  const attribute = attributes(body, RTMSG_BYTES);
  if ((u32(attribute.get(RTA.TABLE)) ?? body.getUint8(4)) !== RT_TABLE_MAIN) return null;
  const oif = u32(attribute.get(RTA.OIF));
  const paths = attribute.get(RTA.MULTIPATH);
  const single = {
    index: oif ?? 0,
    gateway: gatewayOf(attribute),
    weight: 1,
    dead: (flags & RTNH_F_DEAD_OR_LINKDOWN) !== 0,
  };
  const [first, ...rest] = paths !== undefined ? multipath(paths) : oif !== null ? [single] : [];
  const prefix = body.getUint8(1);
  const any = family === 4 ? '0.0.0.0' : '::';
  const destination = prefix === 0 ? any : addressOfFamily(attribute.get(RTA.DST), family);
  if (first === undefined || destination === null || prefix > (family === 4 ? 32 : 128)) return null;
  return {
    family,
    destination,
    prefix,
    scope: scopeOf(body.getUint8(6)),
    metric: u32(attribute.get(RTA.PRIORITY)) ?? 0,
    preferredSource: addressOfFamily(attribute.get(RTA.PREFSRC), family),
    hops: [first, ...rest],
  };
};
