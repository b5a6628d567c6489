// SPDX-License-Identifier: Apache-2.0
/**
 * From a frame of the guest to the protocol that handles it: one explicit switch a layer. Everything a handler may rely
 * on is checked here, once: the frame holds an Ethernet header, the IP header with its options or extension headers lies
 * in the packet, the packet lies in the frame, its checksum is right, its addresses may be on a wire, and the
 * virtio-net header agrees with all of it.
 */
import type { Network } from '../host/network.ts';
import * as io from '../io/io.ts';
import * as icmpAbout from '../link/icmp-about.ts';
import * as reassembly from '../link/reassembly.ts';
import * as received from '../link/received.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as arp from '../proto/arp.ts';
import * as dhcpv4 from '../proto/dhcpv4.ts';
import * as dhcpv6 from '../proto/dhcpv6.ts';
import * as icmp from '../proto/icmp.ts';
import * as igmp from '../proto/igmp.ts';
import * as mld from '../proto/mld.ts';
import * as ndp from '../proto/ndp.ts';
import * as tcp from '../proto/tcp/from-tap.ts';
import * as udp from '../proto/udp/from-tap.ts';
import * as checksum from '../wire/checksum.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ext from '../wire/ext-header.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as mldWire from '../wire/mld.ts';
import { ICMP, ICMPV6, IGMP, TCP, UDP } from '../wire/protocols.ts';
import * as udpWire from '../wire/udp.ts';
import * as vnet from '../wire/vnet.ts';

const DHCP_SERVER_PORT = 67;
const DHCPV6_SERVER_PORT = 547;

let enable: Network['enable'];
let ipv4On = false;
let ipv6On = false;

export const configure = (network: Network): void => {
  enable = network.enable;
  ipv4On = network.v4 !== null;
  ipv6On = network.v6 !== null;
};

/**
 * One frame as read from the tap: `at` is its first byte (the virtio-net header where there is one), `len` its length.
 */
export const frame = (at: number, len: number, vnetBytes: number): void => {
  const eth = at + vnetBytes;
  const end = at + len;
  if (end - eth < ethernet.HEADER_BYTES) return drop(DROP['frame-too-short']);
  station.learn(io.view, eth);
  switch (ethernet.etherType(io.view, eth)) {
    case ethernet.IPV4:
      return ipv4On ? packet4(eth, end) : drop(DROP.disabled);
    case ethernet.IPV6:
      return ipv6On ? packet6(eth, end) : drop(DROP.disabled);
    case ethernet.ARP:
      return ipv4On ? arp.handle(eth, end) : drop(DROP.disabled);
    default:
      return drop(DROP.ethertype);
  }
};

const vnetSane = (eth: number, end: number, etherType: number, protocol: number, transportAt: number): boolean => {
  if (!received.hasHeader()) return true;
  if (vnet.sane(io.view, received.header(eth), end, etherType, protocol, transportAt)) return true;
  drop(DROP['vnet-header']);
  return false;
};

/** RFC 1122 §3.2.1.3: 0/8, 127/8 and 240/4 (broadcast too) never are a source; 0/8 and 127/8 never a destination from a wire. */
const martianSource4 = (a: number): boolean => a >>> 24 === 0 || a >>> 24 === 127 || a >>> 28 >= 14;
const martianDestination4 = (a: number): boolean => a >>> 24 === 0 || a >>> 24 === 127;

/** What is left to us of a checksum or of segments cannot be done to a fragment. */
const fragmentSane = (eth: number): boolean => {
  if (vnet.isComplete(io.view, received.header(eth))) return true;
  drop(DROP['vnet-header']);
  return false;
};

const packet4 = (eth: number, frameEnd: number): void => {
  const v = io.view;
  const at = eth + ethernet.HEADER_BYTES;
  if (!ipv4.fits(v, at, frameEnd)) return drop(DROP['ip4-malformed']);
  const headerBytes = ipv4.headerBytes(v, at);
  if (checksum.sum(v, at, headerBytes, 0) !== 0xffff) return drop(DROP['ip4-checksum']);
  // Ethernet padding is not part of the packet.
  const end = at + ipv4.totalLength(v, at);
  if (ipv4.isFragment(v, at)) return fragment4(eth, at, end);
  const transport = at + headerBytes;
  const protocol = ipv4.protocol(v, at);
  if (!vnetSane(eth, end, ethernet.IPV4, protocol, transport)) return;
  const src = ipv4.src(v, at);
  const dst = ipv4.dst(v, at);
  if (protocol === UDP && udpWire.fits(v, transport, end) && udpWire.dstPort(v, transport) === DHCP_SERVER_PORT) {
    // Before the address checks: a client without an address sends from 0.0.0.0 (RFC 2131 §4.1).
    if (enable.dhcp && dhcpv4.handle(eth, at, transport, end)) return;
    return drop(DROP.disabled);
  }
  // A host without an address reports from 0.0.0.0 (RFC 3376 §4.2.13).
  if (protocol === IGMP) return igmp.handle(transport, end);
  if (martianSource4(src) || martianDestination4(dst)) return drop(DROP['ip-martian']);
  station.see4(src);
  switch (protocol) {
    case TCP:
      if (!enable.tcp) return drop(DROP.disabled);
      if (dst >>> 28 >= 14 || ethernet.toGroup(v, eth)) return drop(DROP['ip-martian']);
      return tcp.fromTap(eth, at, transport, end, true);
    case UDP:
      return enable.udp ? udp.fromTap(eth, at, transport, end, true) : drop(DROP.disabled);
    case ICMP:
      return enable.icmp ? icmp.fromTap(eth, at, transport, end, true) : drop(DROP.disabled);
    default:
      drop(DROP['ip-protocol']);
      return icmpAbout.tell4(at, end, icmpv4.UNREACHABLE, icmpv4.PROTOCOL_UNREACHABLE, 0);
  }
};

const fragment4 = (eth: number, at: number, end: number): void => {
  const v = io.view;
  if (!fragmentSane(eth)) return;
  if (martianSource4(ipv4.src(v, at)) || martianDestination4(ipv4.dst(v, at))) return drop(DROP['ip-martian']);
  const whole = reassembly.take4(at, end);
  if (whole !== reassembly.NONE) packet4(whole, reassembly.wholeEnd());
};

/** ::/128 and ::1, and the forms that carry an IPv4 address past the rules for IPv4 (::/96, ::ffff:0:0/96: RFC 4291 §2.5.5). */
const martian6 = (at: number): boolean => {
  const v = io.view;
  return (v.getInt32(at) | v.getInt32(at + 4)) === 0 && (v.getInt32(at + 8) === 0 || v.getInt32(at + 8) === 0xffff);
};

const isUnspecified6 = (at: number): boolean => {
  const v = io.view;
  return (v.getInt32(at) | v.getInt32(at + 4) | v.getInt32(at + 8) | v.getInt32(at + 12)) === 0;
};

const packet6 = (eth: number, frameEnd: number): void => {
  const v = io.view;
  const at = eth + ethernet.HEADER_BYTES;
  if (!ipv6.fits(v, at, frameEnd)) return drop(DROP['ip6-malformed']);
  const end = at + ipv6.HEADER_BYTES + ipv6.payloadLength(v, at);
  const verdict = ext.walk(v, at, end);
  if (verdict === ext.FRAGMENT) return fragment6(eth, at, end);
  if (verdict !== ext.OK) return refuseExtension(at, end);
  const transport = ext.payloadAt();
  const protocol = ext.protocol();
  if (!vnetSane(eth, end, ethernet.IPV6, protocol, transport)) return;
  const src0 = ipv6.srcWord(v, at, 0);
  if (ipv6.isMulticast(src0)) return drop(DROP['ip-martian']);
  if (protocol === ICMPV6 && icmpv6.fits(v, transport, end)) {
    if (icmpv6.isNdp(icmpv6.type(v, transport))) {
      // RFC 6980 §5: nothing of it may come in fragments, not even in one.
      if (ext.isFragmented() || reassembly.isMade(eth)) return drop(DROP['ndp-malformed']);
      // A host without an address solicits from :: (RFC 4861 §4.1, §4.3); the other martians do not.
      if ((!isUnspecified6(at + ipv6.SRC) && martian6(at + ipv6.SRC)) || martian6(at + ipv6.DST)) {
        return drop(DROP['ip-martian']);
      }
      return enable.ndp ? ndp.handle(eth, at, transport, end) : drop(DROP.disabled);
    }
    // From :: as well, while the address is tentative (RFC 3590).
    if (mldWire.isMld(icmpv6.type(v, transport))) return mld.handle(at, transport, end);
  }
  if (martian6(at + ipv6.SRC) || martian6(at + ipv6.DST)) return drop(DROP['ip-martian']);
  station.see6(src0, ipv6.srcWord(v, at, 1), ipv6.srcWord(v, at, 2), ipv6.srcWord(v, at, 3));
  switch (protocol) {
    case TCP:
      if (!enable.tcp) return drop(DROP.disabled);
      if (ipv6.isMulticast(ipv6.dstWord(v, at, 0)) || ethernet.toGroup(v, eth)) return drop(DROP['ip-martian']);
      return tcp.fromTap(eth, at, transport, end, false);
    case UDP:
      if (udpWire.fits(v, transport, end) && udpWire.dstPort(v, transport) === DHCPV6_SERVER_PORT) {
        if (enable.dhcpv6 && dhcpv6.handle(eth, at, transport, end)) return;
        return drop(DROP.disabled);
      }
      return enable.udp ? udp.fromTap(eth, at, transport, end, false) : drop(DROP.disabled);
    case ICMPV6:
      return enable.icmp ? icmp.fromTap(eth, at, transport, end, false) : drop(DROP.disabled);
    default:
      return refuseProtocol6(at, end, transport);
  }
};

const fragment6 = (eth: number, at: number, end: number): void => {
  if (!fragmentSane(eth)) return;
  if (ipv6.isMulticast(ipv6.srcWord(io.view, at, 0)) || martian6(at + ipv6.SRC) || martian6(at + ipv6.DST)) {
    return drop(DROP['ip-martian']);
  }
  // Fragments within fragments are nothing that a sender makes.
  if (reassembly.isMade(eth)) return drop(DROP['ip6-extension']);
  const whole = reassembly.take6(at, ext.payloadAt(), end);
  if (whole !== reassembly.NONE) packet6(whole, reassembly.wholeEnd());
};

/** RFC 8200 §4.2, §4.4: an option or routing header that must not be stepped over is told to the sender, if it wants that. */
const refuseExtension = (at: number, end: number): void => {
  drop(DROP['ip6-extension']);
  const problem = ext.problemAt();
  if (problem < 0) return;
  const toGroup = ext.problemCode() === ext.UNRECOGNISED_OPTION && (io.view.getUint8(problem) & 0xc0) === 0x80;
  icmpAbout.tell6(at, end, icmpv6.PARAMETER_PROBLEM, ext.problemCode(), problem - at, -1, end, toGroup);
};

/** RFC 8200 §4: the place of the next-header field that has a value nobody here takes. */
const refuseProtocol6 = (at: number, end: number, transport: number): void => {
  drop(DROP['ip-protocol']);
  const code = icmpv6.UNRECOGNISED_NEXT_HEADER;
  icmpAbout.tell6(at, end, icmpv6.PARAMETER_PROBLEM, code, ext.protocolAt() - at, ext.protocol(), transport);
};
