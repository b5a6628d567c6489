// SPDX-License-Identifier: Apache-2.0
/**
 * DHCPv6 server for the one guest (RFC 8415). Like its sibling for IPv4 it has one address and no memory: the same message
 * has the same answer after a restart, and its DUID is made from our MAC address, so a guest that outlives us may renew.
 *
 * - SOLICIT → ADVERTISE, or REPLY with Rapid Commit; REQUEST, RENEW, REBIND → REPLY with the address in the first IA_NA.
 *   Further IA_NAs, IA_TA and IA_PD get the status that says there is none. CONFIRM → REPLY that says whether every address is ours.
 *   RELEASE, DECLINE → REPLY with success. INFORMATION-REQUEST → REPLY with the configuration.
 * - Messages that §16 says to discard are discarded. Nothing is sent that needs more than 1280 bytes.
 *
 * The virtio-net header before each frame has been checked (wire/vnet sane()) or cleared before handle() is called.
 */
import { parseIpv6, parseMac } from '../host/address-text.ts';
import type { Network } from '../host/network.ts';
import * as io from '../io/io.ts';
import * as out from '../link/out.ts';
import * as received from '../link/received.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as checksum from '../wire/checksum.ts';
import * as dhcp from '../wire/dhcpv6.ts';
import * as dnsName from '../wire/dns-name.ts';
import * as eth from '../wire/ethernet.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { UDP } from '../wire/protocols.ts';
import * as udp from '../wire/udp.ts';
import * as vnet from '../wire/vnet.ts';

// Specification.
/** No fragmentation on this link may be needed (RFC 8200 §5). */
const MESSAGE_BYTES_MAX = 1280 - ipv6.HEADER_BYTES - udp.HEADER_BYTES;
/** DUID-LL (§11.4) and hardware type Ethernet. */
const DUID_LL = 3;
const HARDWARE_ETHERNET = 1;
/** A client that sees this preference takes the offer without waiting for others (§18.2.1). */
const PREFERENCE_MAX = 255;
/** Bits of the Client FQDN option (RFC 4704 §4.1): client wants the server to update; overridden; nothing is updated. */
const FQDN_S = 1;
const FQDN_O = 2;
const FQDN_N = 4;
/** §7.1: All_DHCP_Relay_Agents_and_Servers, ff02::1:2; and All_DHCP_Servers, ff05::1:3. */
const ALL_AGENTS_0 = 0xff020000 | 0;
const ALL_AGENTS_3 = 0x00010002;
const ALL_SERVERS_0 = 0xff050000 | 0;
const ALL_SERVERS_3 = 0x00010003;

// Implementation.
const HOP_LIMIT = 64;
/** Identity associations, and addresses in them, that one message gets an answer for: bounds the reply. Clients send one of each kind. */
const IAS_MAX = 4;
const ADDRESSES_MAX = 4;
const L3 = eth.HEADER_BYTES;
const L4 = L3 + ipv6.HEADER_BYTES;
const L7 = L4 + udp.HEADER_BYTES;

let on = false;
/** The address to give; `given` is false when there is none. */
let given = false;
const address = new Int32Array(4);
/** The server identifier, as a DUID. */
let duid = new Uint8Array(0);
/** DNS servers and search list, whole options. */
let options = new Uint8Array(0);
/** The guest's full name as in DNS; empty: none. */
let fqdn = new Uint8Array(0);

/** Makes DUID and options. Throws RangeError for text that is no address. */
export const configure = (network: Network): void => {
  const v6 = network.v6;
  on = v6 !== null && network.enable.dhcpv6;
  if (v6 === null) return;
  const first = v6.addresses[0];
  given = first !== undefined;
  address.set(first === undefined ? [0, 0, 0, 0] : parseIpv6(first.address));
  duid = makeDuid(network.ourMac);
  fqdn = new Uint8Array(network.fqdn === null ? [] : (dnsName.encode(network.fqdn) ?? []));
  options = build(network, v6.dns);
};

const makeDuid = (macText: string): Uint8Array<ArrayBuffer> => {
  const mac = parseMac(macText);
  const v = new DataView(new ArrayBuffer(10));
  v.setUint16(0, DUID_LL);
  v.setUint16(2, HARDWARE_ETHERNET);
  v.setUint16(4, mac.high);
  v.setInt32(6, mac.low);
  return new Uint8Array(v.buffer);
};

/** Room for everything else in a message: header, identifiers, preference, IAs (each with its status and addresses), name. */
const reservedBytes = (): number =>
  dhcp.HEADER_BYTES +
  (dhcp.OPTION_HEADER_BYTES + dhcp.DUID_BYTES_MAX) * 2 +
  (dhcp.OPTION_HEADER_BYTES + 1) * 2 +
  IAS_MAX * (dhcp.OPTION_HEADER_BYTES * 2 + dhcp.IA_BYTES + dhcp.STATUS_BYTES) +
  (ADDRESSES_MAX + 1) * (dhcp.OPTION_HEADER_BYTES + dhcp.IA_ADDRESS_BYTES) +
  (fqdn.length === 0 ? 0 : dhcp.OPTION_HEADER_BYTES + 1 + fqdn.length);

const build = (network: Network, dns: readonly string[]): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(MESSAGE_BYTES_MAX - reservedBytes());
  const v = new DataView(bytes.buffer);
  let p = 0;
  for (const [code, data] of [
    [dhcp.DNS_SERVERS, network.tellDns ? addressBytes(dns) : new Uint8Array(0)],
    [dhcp.DOMAIN_LIST, network.tellSearch ? dnsName.encodeList(network.search) : new Uint8Array(0)],
  ] as const) {
    const fits = dhcp.OPTION_HEADER_BYTES + data.length <= bytes.length - p;
    if (data.length > 0 && fits) p = dhcp.putBytes(v, p, code, data);
  }
  return bytes.slice(0, p);
};
const addressBytes = (addresses: readonly string[]): Uint8Array => {
  const v = new DataView(new ArrayBuffer(addresses.length * ipv6.ADDRESS_BYTES));
  for (const [i, word] of addresses.flatMap((a) => parseIpv6(a)).entries()) v.setInt32(i * 4, word);
  return new Uint8Array(v.buffer);
};

/** The message being answered: options [optionsAt, requestEnd), where client and server identifier lie (-1: none). One at a time. */
let requestAt = 0;
let optionsAt = 0;
let requestEnd = 0;
let clientIdAt = -1;
let serverIdAt = -1;

/**
 * Handles a UDP datagram to port 547 (its header at `udpAt` fits). True: it was for this server, and is done with, also
 * when it was dropped. False: another machine's, to be treated as any datagram.
 */
export const handle = (frameAt: number, ipAt: number, udpAt: number, end: number): boolean => {
  if (!on || !isForServers(ipAt)) return false;
  const v = io.view;
  const messageEnd = udpAt + udp.length(v, udpAt);
  requestAt = udpAt + udp.HEADER_BYTES;
  if (messageEnd > end || !dhcp.fits(v, requestAt, messageEnd)) {
    drop(DROP['dhcpv6-malformed']);
  } else if (!vnet.vouched(v, received.header(frameAt)) && !checksumGood(ipAt, udpAt, messageEnd)) {
    drop(DROP['udp-checksum']);
  } else {
    optionsAt = requestAt + dhcp.HEADER_BYTES;
    requestEnd = messageEnd;
    answer(ipAt);
  }
  return true;
};

const isForServers = (ipAt: number): boolean => {
  const v = io.view;
  const d0 = ipv6.dstWord(v, ipAt, 0);
  const d3 = ipv6.dstWord(v, ipAt, 3);
  if ((ipv6.dstWord(v, ipAt, 1) | ipv6.dstWord(v, ipAt, 2)) !== 0) return false;
  return (d0 === ALL_AGENTS_0 && d3 === ALL_AGENTS_3) || (d0 === ALL_SERVERS_0 && d3 === ALL_SERVERS_3);
};

/** Unlike over IPv4 there must be one (RFC 8200 §8.1). */
const checksumGood = (ipAt: number, udpAt: number, end: number): boolean => {
  const v = io.view;
  if (udp.checksum(v, udpAt) === 0) return false;
  const pseudo = checksum.pseudo6(v, ipAt + ipv6.SRC, UDP, end - udpAt);
  return io.native.checksum(udpAt, end - udpAt, pseudo) === 0xffff;
};

/** §16: who must be named in which message; the others are discarded. Then the reply of §18.3. */
const answer = (ipAt: number): void => {
  const v = io.view;
  clientIdAt = dhcp.findOption(v, optionsAt, requestEnd, dhcp.CLIENT_ID);
  serverIdAt = dhcp.findOption(v, optionsAt, requestEnd, dhcp.SERVER_ID);
  if (clientIdAt >= 0 && !isDuid(clientIdAt)) return drop(DROP['dhcpv6-malformed']);
  const type = dhcp.type(v, requestAt);
  switch (type) {
    case dhcp.SOLICIT:
    case dhcp.REBIND:
    case dhcp.CONFIRM:
      if (clientIdAt < 0 || serverIdAt >= 0) return drop(DROP['dhcpv6-malformed']);
      break;
    case dhcp.REQUEST:
    case dhcp.RENEW:
    case dhcp.RELEASE:
    case dhcp.DECLINE:
      if (clientIdAt < 0 || serverIdAt < 0) return drop(DROP['dhcpv6-malformed']);
      // Another server's business.
      if (!isOurDuid(serverIdAt)) return;
      break;
    case dhcp.INFORMATION_REQUEST:
      if (hasIa()) return drop(DROP['dhcpv6-malformed']);
      if (serverIdAt >= 0 && !isOurDuid(serverIdAt)) return;
      break;
    default:
      return drop(DROP['dhcpv6-malformed']);
  }
  // §18.3.3: without an address there is nothing to confirm.
  if (type === dhcp.CONFIRM && confirmation() < 0) return;
  reply(ipAt, type);
};

const isDuid = (p: number): boolean => {
  const len = dhcp.optionLength(io.view, p);
  return len >= dhcp.DUID_BYTES_MIN && len <= dhcp.DUID_BYTES_MAX;
};
const isOurDuid = (p: number): boolean => {
  const v = io.view;
  if (dhcp.optionLength(v, p) !== duid.length) return false;
  for (let i = 0; i < duid.length; i++) if (v.getUint8(dhcp.optionData(p) + i) !== duid[i]) return false;
  return true;
};
const hasOption = (code: number): boolean => dhcp.findOption(io.view, optionsAt, requestEnd, code) >= 0;
const hasIa = (): boolean => hasOption(dhcp.IA_NA) || hasOption(dhcp.IA_TA) || hasOption(dhcp.IA_PD);

/** Writes and sends the reply to a message of `type`, which may have one. */
const reply = (ipAt: number, type: number): void => {
  const v = io.view;
  const at = out.reserve(L7 + MESSAGE_BYTES_MAX);
  const message = at + L7;
  const rapid = type === dhcp.SOLICIT && hasOption(dhcp.RAPID_COMMIT);
  const advertised = type === dhcp.SOLICIT && !rapid;
  dhcp.setTransaction(v, message, advertised ? dhcp.ADVERTISE : dhcp.REPLY, dhcp.transaction(v, requestAt));
  let p = dhcp.putBytes(v, message + dhcp.HEADER_BYTES, dhcp.SERVER_ID, duid);
  if (clientIdAt >= 0) p = dhcp.putCopy(v, p, clientIdAt);
  if (advertised) p = dhcp.putByte(v, p, dhcp.PREFERENCE, PREFERENCE_MAX);
  if (rapid) p = dhcp.putHeader(v, p, dhcp.RAPID_COMMIT, 0);
  p = putBody(p, type);
  send(at, p, ipAt);
  const committed = rapid || type === dhcp.REQUEST || type === dhcp.RENEW || type === dhcp.REBIND;
  if (committed && given && hasOption(dhcp.IA_NA)) {
    station.see6(address[0] as number, address[1] as number, address[2] as number, address[3] as number);
  }
};

const putBody = (p: number, type: number): number => {
  switch (type) {
    case dhcp.CONFIRM:
      return dhcp.putStatus(io.view, p, confirmation());
    case dhcp.RELEASE:
    case dhcp.DECLINE:
      return dhcp.putStatus(io.view, p, dhcp.SUCCESS);
    case dhcp.INFORMATION_REQUEST:
      return putConfiguration(p);
    default:
      return putConfiguration(putAssociations(p, type));
  }
};

/** Answers up to IAS_MAX identity associations; the first IA_NA gets the address. */
const putAssociations = (from: number, type: number): number => {
  const v = io.view;
  let p = from;
  let answered = 0;
  let free = given;
  for (let o = optionsAt; o < requestEnd && answered < IAS_MAX; o = dhcp.nextOption(v, o)) {
    const code = dhcp.optionCode(v, o);
    const len = dhcp.optionLength(v, o);
    if (code === dhcp.IA_NA && len >= dhcp.IA_BYTES) {
      p = free ? putAssociation(p, o, type) : putRefusal(p, o, dhcp.IA_BYTES, dhcp.NO_ADDRS_AVAIL);
      free = false;
    } else if (code === dhcp.IA_TA && len >= dhcp.IA_TA_BYTES) {
      p = putRefusal(p, o, dhcp.IA_TA_BYTES, dhcp.NO_ADDRS_AVAIL);
    } else if (code === dhcp.IA_PD && len >= dhcp.IA_BYTES) {
      p = putRefusal(p, o, dhcp.IA_BYTES, dhcp.NO_PREFIX_AVAIL);
    } else continue;
    answered++;
  }
  return p;
};

/** The IA option at `o` again, with a status instead of addresses; T1 and T2, where it has them, are the server's to choose (0). */
const putRefusal = (p: number, o: number, fixedBytes: number, status: number): number => {
  const v = io.view;
  const statusBytes = dhcp.OPTION_HEADER_BYTES + dhcp.STATUS_BYTES;
  const data = dhcp.putHeader(v, p, dhcp.optionCode(v, o), fixedBytes + statusBytes);
  putIaid(data, o, fixedBytes, 0);
  return dhcp.putStatus(v, data + fixedBytes, status);
};
const putIaid = (data: number, o: number, fixedBytes: number, timersS: number): void => {
  const v = io.view;
  v.setInt32(data, v.getInt32(dhcp.optionData(o)));
  for (let i = 4; i < fixedBytes; i += 4) v.setInt32(data + i, timersS);
};

/**
 * The answer to the IA_NA at `o`. An address in it that is not ours makes a REQUEST fail (§18.3.2); in RENEW and REBIND it is
 * returned with lifetimes 0, so that the client gives it up, beside ours (§18.3.4).
 */
const putAssociation = (p: number, o: number, type: number): number => {
  const v = io.view;
  const strange = type !== dhcp.SOLICIT && countStrange(o) > 0;
  if (strange && type === dhcp.REQUEST) return putRefusal(p, o, dhcp.IA_BYTES, dhcp.NOT_ON_LINK);
  const data = dhcp.putHeader(v, p, dhcp.IA_NA, 0);
  putIaid(data, o, dhcp.IA_BYTES, dhcp.INFINITE);
  let q = data + dhcp.IA_BYTES;
  const w0 = address[0] as number;
  const w1 = address[1] as number;
  const w2 = address[2] as number;
  const w3 = address[3] as number;
  q = dhcp.putAddress(v, q, w0, w1, w2, w3, dhcp.INFINITE);
  if (strange) q = putStrange(q, o);
  dhcp.putHeader(v, p, dhcp.IA_NA, q - data);
  return q;
};

/** Where the next IA address in the options [from, end) begins; `end` when there is none. */
const nextAddress = (from: number, end: number): number => {
  const v = io.view;
  let p = from;
  while (p < end && (dhcp.optionCode(v, p) !== dhcp.IA_ADDRESS || dhcp.optionLength(v, p) < dhcp.IA_ADDRESS_BYTES)) {
    p = dhcp.nextOption(v, p);
  }
  return p;
};
const isOurAddress = (p: number): boolean => {
  for (let i = 0; i < 4; i++) if (io.view.getInt32(dhcp.optionData(p) + i * 4) !== address[i]) return false;
  return given;
};
/** Where the options of the IA_NA at `o` begin; at its end when they are not whole. */
const associationOptions = (o: number): number => {
  const v = io.view;
  const from = dhcp.optionData(o) + dhcp.IA_BYTES;
  const end = dhcp.nextOption(v, o);
  return dhcp.optionsFit(v, from, end) ? from : end;
};
const countStrange = (o: number): number => {
  const v = io.view;
  const end = dhcp.nextOption(v, o);
  let n = 0;
  for (let p = nextAddress(associationOptions(o), end); p < end; p = nextAddress(dhcp.nextOption(v, p), end)) {
    if (!isOurAddress(p)) n++;
  }
  return n;
};
const putStrange = (from: number, o: number): number => {
  const v = io.view;
  const end = dhcp.nextOption(v, o);
  let q = from;
  let n = 0;
  for (let p = nextAddress(associationOptions(o), end); p < end; p = nextAddress(dhcp.nextOption(v, p), end)) {
    if (isOurAddress(p) || n++ >= ADDRESSES_MAX) continue;
    const a = dhcp.optionData(p);
    q = dhcp.putAddress(v, q, v.getInt32(a), v.getInt32(a + 4), v.getInt32(a + 8), v.getInt32(a + 12), 0);
  }
  return q;
};

/** Whether all addresses in all IA_NAs are ours: SUCCESS or NOT_ON_LINK; -1 when there is none. */
const confirmation = (): number => {
  const v = io.view;
  let status = -1;
  for (let o = optionsAt; o < requestEnd; o = dhcp.nextOption(v, o)) {
    if (dhcp.optionCode(v, o) !== dhcp.IA_NA || dhcp.optionLength(v, o) < dhcp.IA_BYTES) continue;
    const end = dhcp.nextOption(v, o);
    if (nextAddress(associationOptions(o), end) === end) continue;
    if (countStrange(o) > 0) return dhcp.NOT_ON_LINK;
    status = dhcp.SUCCESS;
  }
  return status;
};

const putConfiguration = (from: number): number => {
  io.mem.set(options, from);
  const p = from + options.length;
  const theirs = dhcp.findOption(io.view, optionsAt, requestEnd, dhcp.CLIENT_FQDN);
  return fqdn.length === 0 || (theirs < 0 && !listsFqdn()) ? p : putFqdn(p, theirs);
};
/** Our name for a client that sent its own or asks for it (RFC 4704 §6). We keep no DNS, so nothing is updated. */
const putFqdn = (p: number, theirs: number): number => {
  const v = io.view;
  const asked = theirs >= 0 && dhcp.optionLength(v, theirs) > 0 ? v.getUint8(dhcp.optionData(theirs)) : 0;
  const data = dhcp.putHeader(v, p, dhcp.CLIENT_FQDN, 1 + fqdn.length);
  v.setUint8(data, FQDN_N | ((asked & FQDN_S) !== 0 ? FQDN_O : 0));
  io.mem.set(fqdn, data + 1);
  return data + 1 + fqdn.length;
};
const listsFqdn = (): boolean => {
  const v = io.view;
  const o = dhcp.findOption(v, optionsAt, requestEnd, dhcp.ORO);
  if (o < 0) return false;
  const end = dhcp.nextOption(v, o);
  for (let p = dhcp.optionData(o); p + 2 <= end; p += 2) if (v.getUint16(p) === dhcp.CLIENT_FQDN) return true;
  return false;
};

/** Sends the message that ends at `end` to the address the request in the packet at `ipAt` came from. */
const send = (at: number, end: number, ipAt: number): void => {
  const v = io.view;
  station.ethernet(v, at, eth.IPV6);
  const bytes = end - at - L4;
  const s0 = station.ourLinkLocal6Word(0);
  const s1 = station.ourLinkLocal6Word(1);
  const s2 = station.ourLinkLocal6Word(2);
  const s3 = station.ourLinkLocal6Word(3);
  const d0 = ipv6.srcWord(v, ipAt, 0);
  const d1 = ipv6.srcWord(v, ipAt, 1);
  const d2 = ipv6.srcWord(v, ipAt, 2);
  const d3 = ipv6.srcWord(v, ipAt, 3);
  station.ipv6Header(v, at + L3, bytes, UDP, s0, s1, s2, s3, d0, d1, d2, d3, HOP_LIMIT, 0, 0);
  const header = at + L4;
  udp.setSrcPort(v, header, dhcp.SERVER_PORT);
  udp.setDstPort(v, header, dhcp.CLIENT_PORT);
  udp.setLength(v, header, bytes);
  udp.setChecksum(v, header, 0);
  const pseudo = checksum.pseudo6(v, at + L3 + ipv6.SRC, UDP, bytes);
  udp.setChecksum(v, header, checksum.finishUdp(checksum.sum(v, header, bytes, pseudo)));
  out.commit(end - at);
};
