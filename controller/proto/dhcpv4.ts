// SPDX-License-Identifier: Apache-2.0
/**
 * DHCP server for the one guest (RFC 2131, RFC 2132). It has one address to give and gives it for ever, to whoever asks:
 * no lease is stored, and the same request has the same answer after a restart. (slirp4netns has a few: dhcp-pool.ts.)
 *
 * - DISCOVER → OFFER, or ACK with Rapid Commit (RFC 4039). REQUEST → ACK; NAK when it wants another address than ours
 *   (RFC 2131 §4.3.2); silence when it chose another server. INFORM → ACK without address and lease (§4.3.5).
 *   DECLINE and RELEASE change nothing. A message without a type is BOOTP and gets a BOOTREPLY (RFC 1534 §2).
 * - What is told is the same for all, so it is made once (wire/dhcpv4-options.ts): the options up to the size that every client
 *   takes (§2: 576 bytes of IP datagram), or that BOOTP has.
 * - Boot ROMs are clients like others. There is no boot server to name, so the names they send come back as they are, as from the original.
 *
 * The virtio-net header before each frame has been checked (wire/vnet sane()) or cleared before handle() is called.
 */
import { parseIpv4 } from '../host/address-text.ts';
import type { Network, Network4 } from '../host/network.ts';
import * as io from '../io/io.ts';
import { DhcpPool } from '../link/dhcp-pool.ts';
import * as out from '../link/out.ts';
import * as received from '../link/received.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import { ipv4Mask } from '../wire/addr.ts';
import * as checksum from '../wire/checksum.ts';
import * as dhcp from '../wire/dhcpv4.ts';
import { OptionTable, type Told } from '../wire/dhcpv4-options.ts';
import * as dnsName from '../wire/dns-name.ts';
import * as eth from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { UDP } from '../wire/protocols.ts';
import * as udp from '../wire/udp.ts';
import * as vnet from '../wire/vnet.ts';

// Specification.
const LEASE_INFINITE = -1;
/** An IP datagram that every client takes, and the options that fit in it. */
const DATAGRAM_BYTES = 576;
const OPTIONS_BYTES = DATAGRAM_BYTES - ipv4.HEADER_BYTES - udp.HEADER_BYTES - dhcp.HEADER_BYTES;
const LIMITED_BROADCAST = -1;
/** Bits of the Client FQDN option (RFC 4702 §2.1): server updates A records; encoded as in DNS; server updates nothing; overridden. */
const FQDN_S = 1;
const FQDN_O = 2;
const FQDN_E = 4;
const FQDN_N = 8;
/** Flags and the two deprecated RCODE fields, "255" from servers (RFC 4702 §2.2). */
const FQDN_HEADER_BYTES = 3;
const FQDN_RCODES = 0xffff;

/** What a BOOTP message has for options, the cookie included, unless the client's is longer (RFC 951 §3, RFC 1497). */
const BOOTP_OPTIONS_BYTES = 64;
/** iPXE's options (175) and the one of them by which it does not wait for a ProxyDHCP server (176): there is none on this link. */
const IPXE = 175;
const IPXE_NO_PROXY = new Uint8Array([176, 1, 1]);

// Implementation.
/** TTL of our datagrams. */
const TTL = 64;
/** Options that differ from reply to reply, in the worst case: type, server, lease, client id, machine id, Rapid Commit, end. */
const VARIABLE_BYTES = 3 + 6 + 6 + 257 + 2 + dhcp.CLIENT_MACHINE_BYTES + 2 + 1;
/** The fixed part: a reply to a client that sends the longest identifier may exceed 576 bytes by that much, which the client asked for. */
const REPLY_BYTES_MAX = dhcp.HEADER_BYTES + OPTIONS_BYTES + VARIABLE_BYTES;
const L3 = eth.HEADER_BYTES;
const L4 = L3 + ipv4.HEADER_BYTES;
const L7 = L4 + udp.HEADER_BYTES;

let on = false;
/** The address to give (where there is a pool: for the client that is being answered), our own, and the subnet's broadcast address. */
let address = 0;
let pool: DhcpPool | null = null;
let leaseS = LEASE_INFINITE;
let server = 0;
let directedBroadcast = 0;
/** What is told, the same in every reply. */
let told = new OptionTable([], 0);
/** The guest's full name as in DNS and as text; empty: none. */
let fqdnWire = new Uint8Array(0);
let fqdnText = new Uint8Array(0);

/** Makes the options. Throws RangeError for text that is no address. */
export const configure = (network: Network): void => {
  const v4 = network.v4;
  on = v4 !== null && network.enable.dhcp;
  if (v4 === null) return;
  const mask = ipv4Mask(v4.addresses[0].prefix);
  address = parseIpv4(v4.addresses[0].address);
  pool = v4.pool === undefined ? null : new DhcpPool(parseIpv4(v4.pool.first), v4.pool.count);
  leaseS = v4.pool?.leaseS ?? LEASE_INFINITE;
  server = parseIpv4(v4.gateway);
  directedBroadcast = address | ~mask;
  fqdnWire = nameBytes(network.fqdn);
  fqdnText = fqdnWire.length === 0 ? fqdnWire : asciiBytes(network.fqdn ?? '');
  told = new OptionTable(rows(network, v4, mask), OPTIONS_BYTES - reservedBytes());
};

/** Empty for what is no name, or too long for one option. */
const nameBytes = (name: string | null): Uint8Array<ArrayBuffer> => {
  const bytes = name === null ? null : dnsName.encode(name);
  return bytes === null || FQDN_HEADER_BYTES + bytes.length > 255 ? new Uint8Array(0) : new Uint8Array(bytes);
};
const asciiBytes = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(text, (c) => c.charCodeAt(0) & 0x7f);
const wordBytes = (words: readonly number[]): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(words.flatMap((w) => [w >>> 24, (w >> 16) & 0xff, (w >> 8) & 0xff, w & 0xff]));

/** The options, most needed first; the mask stands before the routers (RFC 2132 §3.3). */
const rows = (network: Network, v4: Network4, mask: number): readonly Told[] => [
  { code: dhcp.SUBNET_MASK, data: wordBytes([mask]) },
  { code: dhcp.CLASSLESS_ROUTES, data: ((server ^ address) & mask) === 0 ? new Uint8Array(0) : routeToServer() },
  { code: dhcp.ROUTER, data: wordBytes([server]) },
  {
    code: dhcp.INTERFACE_MTU,
    data: network.mtu === 0 ? new Uint8Array(0) : Uint8Array.of(network.mtu >> 8, network.mtu & 0xff),
  },
  { code: dhcp.DNS_SERVERS, data: network.tellDns ? wordBytes(v4.dns.map(parseIpv4)) : new Uint8Array(0) },
  { code: dhcp.HOST_NAME, data: asciiBytes(network.hostname ?? '') },
  {
    code: dhcp.DOMAIN_SEARCH,
    data: network.tellSearch ? dnsName.encodeListCompressed(network.search) : new Uint8Array(0),
  },
  { code: IPXE, data: IPXE_NO_PROXY, onlyAsked: true },
];
/** Type, server, lease, Rapid Commit, machine identifier, the full name and the end need their room within 576 bytes, too. */
const reservedBytes = (): number =>
  3 +
  6 +
  6 +
  2 +
  (2 + dhcp.CLIENT_MACHINE_BYTES) +
  (fqdnWire.length === 0 ? 0 : 2 + FQDN_HEADER_BYTES + fqdnWire.length) +
  1;

/** RFC 3442 for a router outside the subnet: it is on the link (a /32 via 0.0.0.0), and everything else is behind it. */
const routeToServer = (): Uint8Array =>
  Uint8Array.from([32, ...wordBytes([server]), 0, 0, 0, 0, 0, ...wordBytes([server])]);

/**
 * Handles a UDP datagram to port 67 (its header at `udpAt` fits). True: it was for this server, and is done with, also
 * when it was dropped. False: another machine's, to be treated as any datagram.
 */
export const handle = (frameAt: number, ipAt: number, udpAt: number, end: number): boolean => {
  const v = io.view;
  const dst = ipv4.dst(v, ipAt);
  if (!on || (dst !== LIMITED_BROADCAST && dst !== server && dst !== directedBroadcast)) return false;
  const request = udpAt + udp.HEADER_BYTES;
  const requestEnd = udpAt + udp.length(v, udpAt);
  if (requestEnd > end || !dhcp.fits(v, request, requestEnd) || dhcp.op(v, request) !== dhcp.BOOTREQUEST) {
    drop(DROP['dhcp-malformed']);
  } else if (!vnet.vouched(v, received.header(frameAt)) && !checksumGood(ipAt, udpAt, requestEnd)) {
    drop(DROP['udp-checksum']);
  } else {
    answer(request, requestEnd);
  }
  return true;
};

const checksumGood = (ipAt: number, udpAt: number, end: number): boolean => {
  const v = io.view;
  if (udp.checksum(v, udpAt) === 0) return true;
  const pseudo = checksum.pseudo4(ipv4.src(v, ipAt), ipv4.dst(v, ipAt), UDP, end - udpAt);
  return io.native.checksum(udpAt, end - udpAt, pseudo) === 0xffff;
};

const answer = (request: number, end: number): void => {
  const v = io.view;
  if (pool !== null) {
    const wanted = dhcp.optionWord(v, request, end, dhcp.REQUESTED_ADDRESS);
    address = pool.addressFor(dhcp.chaddrHigh(v, request), dhcp.chaddrLow(v, request), wanted);
  }
  switch (dhcp.optionByte(v, request, end, dhcp.MESSAGE_TYPE)) {
    case 0:
      // No type: BOOTP; a type of the wrong length is nothing that can be answered.
      if (dhcp.findOption(v, request, end, dhcp.MESSAGE_TYPE) >= 0) return drop(DROP['dhcp-malformed']);
      return reply(request, end, 0);
    case dhcp.DISCOVER:
      return reply(request, end, hasRapidCommit(request, end) ? dhcp.ACK : dhcp.OFFER);
    case dhcp.REQUEST:
      return requested(request, end);
    case dhcp.INFORM:
      return reply(request, end, dhcp.INFORM);
    default:
      // DECLINE, RELEASE: there is no lease to end. Others are for clients, or for servers that keep state.
      return;
  }
};

const hasRapidCommit = (request: number, end: number): boolean =>
  dhcp.findOption(io.view, request, end, dhcp.RAPID_COMMIT) >= 0;

/** RFC 2131 §4.3.2: SELECTING names the server; INIT-REBOOT, RENEWING and REBINDING only the address. */
const requested = (request: number, end: number): void => {
  const v = io.view;
  const chosen = dhcp.optionWord(v, request, end, dhcp.SERVER_ID);
  if (chosen !== 0 && chosen !== server) return;
  const option = dhcp.optionWord(v, request, end, dhcp.REQUESTED_ADDRESS);
  const wanted = option !== 0 ? option : dhcp.ciaddr(v, request);
  // Some clients name neither after an offer: then it is the offered one.
  reply(request, end, wanted === 0 || wanted === address ? dhcp.ACK : dhcp.NAK);
};

/** Sends the reply of `kind`: a message type to be sent, INFORM for the answer to one, or 0 for BOOTP. */
const reply = (request: number, end: number, kind: number): void => {
  const v = io.view;
  const at = out.reserve(L7 + REPLY_BYTES_MAX);
  const message = at + L7;
  let p = dhcp.startReply(v, message, request);
  const informed = kind === dhcp.INFORM;
  const type = informed ? dhcp.ACK : kind;
  if (type !== dhcp.NAK) {
    // Table 3 of RFC 2131: an OFFER carries no ciaddr.
    if (type !== dhcp.OFFER) dhcp.setCiaddr(v, message, dhcp.ciaddr(v, request));
    if (!informed) dhcp.setYiaddr(v, message, address);
  }
  if (type !== 0) {
    p = dhcp.putByte(v, p, dhcp.MESSAGE_TYPE, type);
    p = dhcp.putWord(v, p, dhcp.SERVER_ID, server);
  }
  if (type === dhcp.OFFER || (type === dhcp.ACK && !informed)) p = dhcp.putWord(v, p, dhcp.LEASE_TIME, leaseS);
  if (type !== dhcp.NAK) {
    dhcp.copyNames(v, message, request, end);
    p = putConfiguration(p, message, request, end, type);
  }
  p = putEchoed(p, request, end, type);
  send(at, dhcp.finish(v, message, p), request, type);
  if (type === dhcp.ACK && !informed) station.see4(address);
};

const putConfiguration = (from: number, message: number, request: number, end: number, type: number): number => {
  const v = io.view;
  // One byte is kept for the end.
  const small = type === 0 && end - request <= dhcp.MESSAGE_BYTES_MIN;
  const limit = small ? message + dhcp.HEADER_BYTES - 4 + BOOTP_OPTIONS_BYTES - 1 : message + REPLY_BYTES_MAX;
  const list = dhcp.findOption(v, request, end, dhcp.PARAMETER_LIST);
  const p = told.put(v, from, limit, list, list < 0 ? list : list + dhcp.optionLength(v, list));
  return fqdnWire.length === 0 || small ? p : putFqdn(p, request, end);
};

/** Our name for a client that sent its own (RFC 4702 §4), in the encoding it used. We keep no DNS, so nothing is updated. */
const putFqdn = (p: number, request: number, end: number): number => {
  const v = io.view;
  const theirs = dhcp.findOption(v, request, end, dhcp.CLIENT_FQDN);
  const listed = theirs < 0 && listsFqdn(request, end);
  if (theirs < 0 && !listed) return p;
  const asked = listed || dhcp.optionLength(v, theirs) === 0 ? FQDN_E : v.getUint8(theirs);
  const name = (asked & FQDN_E) !== 0 ? fqdnWire : fqdnText;
  v.setUint8(p, dhcp.CLIENT_FQDN);
  v.setUint8(p + 1, FQDN_HEADER_BYTES + name.length);
  v.setUint8(p + 2, FQDN_N | (asked & FQDN_E) | ((asked & FQDN_S) !== 0 ? FQDN_O : 0));
  v.setUint16(p + 3, FQDN_RCODES);
  io.mem.set(name, p + 2 + FQDN_HEADER_BYTES);
  return p + 2 + FQDN_HEADER_BYTES + name.length;
};
const listsFqdn = (request: number, end: number): boolean => {
  const v = io.view;
  const list = dhcp.findOption(v, request, end, dhcp.PARAMETER_LIST);
  if (list < 0) return false;
  const listEnd = list + dhcp.optionLength(v, list);
  for (let p = list; p < listEnd; p++) if (v.getUint8(p) === dhcp.CLIENT_FQDN) return true;
  return false;
};

/** The client's identifier (RFC 6842 §3), that of its machine, and Rapid Commit where it made the ACK (RFC 4039 §3.1). */
const putEchoed = (from: number, request: number, end: number, type: number): number => {
  const v = io.view;
  let p = from;
  const id = type === 0 ? -1 : dhcp.findOption(v, request, end, dhcp.CLIENT_ID);
  if (id >= 0) p = dhcp.putCopy(v, p, dhcp.CLIENT_ID, id, dhcp.optionLength(v, id));
  // PXE: a ROM may take no offer that lacks its own identifier.
  const machine = type === 0 || type === dhcp.NAK ? -1 : dhcp.findOption(v, request, end, dhcp.CLIENT_MACHINE);
  if (machine >= 0 && dhcp.optionLength(v, machine) === dhcp.CLIENT_MACHINE_BYTES)
    p = dhcp.putCopy(v, p, dhcp.CLIENT_MACHINE, machine, dhcp.CLIENT_MACHINE_BYTES);
  const discovered = dhcp.optionByte(v, request, end, dhcp.MESSAGE_TYPE) === dhcp.DISCOVER;
  return type === dhcp.ACK && discovered ? dhcp.putEmpty(v, p, dhcp.RAPID_COMMIT) : p;
};

/** RFC 2131 §4.1: to a relay; else to the address the client has; else, when it can take it, to the address it gets; else to all. */
const send = (at: number, end: number, request: number, type: number): void => {
  const v = io.view;
  const relay = dhcp.giaddr(v, request);
  let dst = destination(request, type);
  if (relay !== 0) dst = relay;
  station.ethernet(v, at, eth.IPV4);
  if (dst === LIMITED_BROADCAST) eth.setDst(v, at, 0xffff, -1);
  else if (relay === 0) eth.setDst(v, at, dhcp.chaddrHigh(v, request), dhcp.chaddrLow(v, request));
  const bytes = end - at - L4;
  station.ipv4Header(v, at + L3, ipv4.HEADER_BYTES + bytes, UDP, server, dst, TTL, 0);
  const header = at + L4;
  udp.setSrcPort(v, header, dhcp.SERVER_PORT);
  udp.setDstPort(v, header, relay === 0 ? dhcp.CLIENT_PORT : dhcp.SERVER_PORT);
  udp.setLength(v, header, bytes);
  udp.setChecksum(v, header, 0);
  udp.setChecksum(
    v,
    header,
    checksum.finishUdp(checksum.sum(v, header, bytes, checksum.pseudo4(server, dst, UDP, bytes))),
  );
  out.commit(end - at);
};
const destination = (request: number, type: number): number => {
  const v = io.view;
  if (type === dhcp.NAK) return LIMITED_BROADCAST;
  const client = dhcp.ciaddr(v, request);
  if (client !== 0) return client;
  return (dhcp.flags(v, request) & dhcp.BROADCAST) !== 0 ? LIMITED_BROADCAST : address;
};
