// SPDX-License-Identifier: Apache-2.0
/**
 * One line about one frame, for --trace: direction, protocol, addresses, ports, flags, lengths. It reads frames that may be
 * hostile or cut short and says so instead of failing. Allocates: call it only when tracing, and before a frame from the tap is translated.
 */
import * as addr from '../wire/addr.ts';
import * as arp from '../wire/arp.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ext from '../wire/ext-header.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as protocols from '../wire/protocols.ts';
import * as tcp from '../wire/tcp.ts';
import * as udp from '../wire/udp.ts';

export type Direction = 'from tap' | 'to tap';

const TCP_FLAGS: readonly (readonly [number, string])[] = [
  [tcp.SYN, 'S'],
  [tcp.FIN, 'F'],
  [tcp.RST, 'R'],
  [tcp.PSH, 'P'],
  [tcp.ACK, '.'],
  [tcp.URG, 'U'],
  [tcp.ECE, 'E'],
  [tcp.CWR, 'W'],
];

const flagText = (flags: number): string => TCP_FLAGS.map(([bit, letter]) => (flags & bit ? letter : '')).join('');

const tcpText = (v: DataView, at: number, end: number, from: string, to: string): string => {
  if (!tcp.fits(v, at, end)) return `TCP ${from} > ${to}: malformed, ${end - at} bytes`;
  const length = end - at - tcp.headerBytes(v, at);
  const sequence = `seq ${tcp.seq(v, at) >>> 0}`;
  const ack = tcp.flags(v, at) & tcp.ACK ? ` ack ${tcp.ack(v, at) >>> 0}` : '';
  const ports = `${from}.${tcp.srcPort(v, at)} > ${to}.${tcp.dstPort(v, at)}`;
  return `TCP ${ports}: [${flagText(tcp.flags(v, at))}] ${sequence}${ack} win ${tcp.window(v, at)} length ${length}`;
};

const udpText = (v: DataView, at: number, end: number, from: string, to: string): string => {
  // Not udp.fits(): superframes of several datagrams have a length field of their own.
  if (end - at < udp.HEADER_BYTES) return `UDP ${from} > ${to}: malformed, ${end - at} bytes`;
  return `UDP ${from}.${udp.srcPort(v, at)} > ${to}.${udp.dstPort(v, at)}: length ${end - at - udp.HEADER_BYTES}`;
};

const ECHO: ReadonlyMap<number, string> = new Map([
  [icmpv4.ECHO_REQUEST, 'echo request'],
  [icmpv4.ECHO_REPLY, 'echo reply'],
]);
const ECHO6: ReadonlyMap<number, string> = new Map([
  [icmpv6.ECHO_REQUEST, 'echo request'],
  [icmpv6.ECHO_REPLY, 'echo reply'],
  [icmpv6.ROUTER_SOLICITATION, 'router solicitation'],
  [icmpv6.ROUTER_ADVERTISEMENT, 'router advertisement'],
  [icmpv6.NEIGHBOUR_SOLICITATION, 'neighbour solicitation'],
  [icmpv6.NEIGHBOUR_ADVERTISEMENT, 'neighbour advertisement'],
]);

/** ICMP and ICMPv6 have type, code, identifier and sequence at the same places. */
const icmpText = (v: DataView, at: number, end: number, from: string, to: string, v6: boolean): string => {
  const name = v6 ? 'ICMPv6' : 'ICMP';
  if (!icmpv4.fits(v, at, end)) return `${name} ${from} > ${to}: malformed, ${end - at} bytes`;
  const type = icmpv4.type(v, at);
  const known = (v6 ? ECHO6 : ECHO).get(type) ?? `type ${type} code ${icmpv4.code(v, at)}`;
  const echo = known.startsWith('echo') ? ` id ${icmpv4.id(v, at)} seq ${icmpv4.sequence(v, at)}` : '';
  return `${name} ${from} > ${to}: ${known}${echo} length ${end - at}`;
};

const transportText = (v: DataView, at: number, end: number, protocol: number, from: string, to: string): string => {
  switch (protocol) {
    case protocols.TCP:
      return tcpText(v, at, end, from, to);
    case protocols.UDP:
      return udpText(v, at, end, from, to);
    case protocols.ICMP:
      return icmpText(v, at, end, from, to, false);
    case protocols.ICMPV6:
      return icmpText(v, at, end, from, to, true);
    default:
      return `IP protocol ${protocol} ${from} > ${to}: length ${end - at}`;
  }
};

const ipv4Line = (v: DataView, at: number, end: number): string => {
  if (!ipv4.fits(v, at, end)) return `IPv4 malformed, ${end - at} bytes`;
  const [from, to] = [addr.ipv4Text(ipv4.src(v, at)), addr.ipv4Text(ipv4.dst(v, at))];
  if (ipv4.isFragment(v, at)) return `IPv4 ${from} > ${to}: fragment, ${end - at} bytes`;
  return transportText(v, at + ipv4.headerBytes(v, at), at + ipv4.totalLength(v, at), ipv4.protocol(v, at), from, to);
};

const ipv6Address = (v: DataView, at: number, word: (v: DataView, at: number, i: number) => number): string =>
  addr.ipv6Text(word(v, at, 0), word(v, at, 1), word(v, at, 2), word(v, at, 3));

/**
 * Only frames from the tap have their extension headers walked: ours have none, and the walk's result belongs to whoever is
 * translating at that moment.
 */
const ipv6Line = (direction: Direction, v: DataView, at: number, end: number): string => {
  if (!ipv6.fits(v, at, end)) return `IPv6 malformed, ${end - at} bytes`;
  const [from, to] = [ipv6Address(v, at, ipv6.srcWord), ipv6Address(v, at, ipv6.dstWord)];
  const last = at + ipv6.HEADER_BYTES + ipv6.payloadLength(v, at);
  if (direction === 'to tap') {
    return transportText(v, at + ipv6.HEADER_BYTES, last, ipv6.nextHeader(v, at), from, to);
  }
  const found = ext.walk(v, at, last);
  if (found === ext.FRAGMENT) return `IPv6 ${from} > ${to}: fragment, ${end - at} bytes`;
  if (found !== ext.OK) return `IPv6 ${from} > ${to}: extension headers not understood, ${end - at} bytes`;
  return transportText(v, ext.payloadAt(), last, ext.protocol(), from, to);
};

const arpLine = (v: DataView, at: number, end: number): string => {
  if (!arp.fits(v, at, end)) return `ARP malformed, ${end - at} bytes`;
  const [sender, target] = [addr.ipv4Text(arp.senderIp(v, at)), addr.ipv4Text(arp.targetIp(v, at))];
  if (arp.operation(v, at) === arp.REQUEST) return `ARP who has ${target} tell ${sender}`;
  return `ARP ${sender} is at ${addr.macText(arp.senderMacHigh(v, at), arp.senderMacLow(v, at))}`;
};

/** `at`: the Ethernet header; `end`: behind the frame. Never throws for a range within `v`. */
export const describeFrame = (direction: Direction, v: DataView, at: number, end: number): string => {
  if (!ethernet.fits(v, at, end)) return `${direction}: frame of ${end - at} bytes, too short`;
  const payload = at + ethernet.HEADER_BYTES;
  switch (ethernet.etherType(v, at)) {
    case ethernet.IPV4:
      return `${direction}: ${ipv4Line(v, payload, end)}`;
    case ethernet.IPV6:
      return `${direction}: ${ipv6Line(direction, v, payload, end)}`;
    case ethernet.ARP:
      return `${direction}: ${arpLine(v, payload, end)}`;
    default:
      return `${direction}: EtherType 0x${ethernet.etherType(v, at).toString(16).padStart(4, '0')}, ${end - at} bytes`;
  }
};
