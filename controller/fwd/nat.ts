// SPDX-License-Identifier: Apache-2.0
/**
 * Address translation: some addresses that the guest sees stand for others of the host. A flow's remote address is always the
 * one that the guest sees; the host's is worked out where a socket is asked for, once a flow.
 *
 * From the tap, by destination, the first that fits:
 *   --dns-forward, ports 53 and 853            the host's resolver (--dns-host)
 *   --map-host-loopback (default: the gateway) 127.0.0.1, ::1. But a gateway that is a resolver of the host answers for names itself
 *   --map-guest-addr                           the host's own address
 *   what is closed (slirp4netns' own addresses) nowhere
 * From the host, by source: what the guest may not be told (loopback), or what would be its own address, is shown as one of these,
 * or as the gateway. The rest is left as it is.
 */
import { FLOW_PING, type Flow, isV4, MAPPED_WORD, remotePort, remoteWord, typeOf } from '../flow/table.ts';
import { parseIpv4, parseIpv6 } from '../host/address-text.ts';
import * as station from '../link/station.ts';
import * as addr from '../wire/addr.ts';
import * as ipv6 from '../wire/ipv6.ts';

/** As in a plan: canonical text, null for what is not mapped or not there. */
export interface Nat {
  readonly hostLoopback4: string | null;
  readonly hostLoopback6: string | null;
  readonly guestAddr4: string | null;
  readonly guestAddr6: string | null;
  readonly dnsForward4: string | null;
  readonly dnsForward6: string | null;
  readonly host4: string | null;
  readonly host6: string | null;
  readonly dnsHost4: string | null;
  readonly dnsHost6: string | null;
  readonly resolvers: readonly string[];
  readonly closed?: readonly string[] | undefined;
  readonly dnsPorts?: readonly number[] | undefined;
}

const DNS_PORT = 53;
/** RFC 7858 §3.1, RFC 9250 §4.1.1 */
const DNS_OVER_TLS_PORT = 853;

const LOOPBACK_4 = 0x7f00_0001;
const WORDS = 4;
// Places of addresses in the table below, in IPv6 form; the first word of none is NONE.
const HOST_LOOPBACK = 0;
const GUEST_ADDR = 1;
const DNS_FORWARD = 2;
const HOST = 3;
const DNS_HOST = 4;
const PLACES = 5;

/** The table of each family, IPv4 first, and which of its places are taken. */
const addresses = new Int32Array(2 * PLACES * WORDS);
const taken = new Uint8Array(2 * PLACES);
/** Whether the address that stands for the loopback is also a resolver of the host: bit 0 IPv4, bit 1 IPv6. */
let loopbackResolves = 0;
/** Four words each. */
let closed = new Int32Array(0);
let dnsPorts: readonly number[] = [DNS_PORT, DNS_OVER_TLS_PORT];

const place = (v4: boolean, which: number): number => (v4 ? 0 : PLACES) + which;
const set = (v4: boolean, which: number, text: string | null): void => {
  const at = place(v4, which);
  taken[at] = text === null ? 0 : 1;
  if (text === null) return;
  if (v4) addresses.set([0, 0, MAPPED_WORD, parseIpv4(text)], at * WORDS);
  else addresses.set(parseIpv6(text), at * WORDS);
};

/** Called once, before the first frame. Throws RangeError for text that is no address. */
export const configure = (nat: Nat): void => {
  set(true, HOST_LOOPBACK, nat.hostLoopback4);
  set(false, HOST_LOOPBACK, nat.hostLoopback6);
  set(true, GUEST_ADDR, nat.guestAddr4);
  set(false, GUEST_ADDR, nat.guestAddr6);
  set(true, DNS_FORWARD, nat.dnsForward4);
  set(false, DNS_FORWARD, nat.dnsForward6);
  set(true, HOST, nat.host4);
  set(false, HOST, nat.host6);
  set(true, DNS_HOST, nat.dnsHost4);
  set(false, DNS_HOST, nat.dnsHost6);
  const resolves = (text: string | null): boolean => text !== null && nat.resolvers.includes(text);
  loopbackResolves = (resolves(nat.hostLoopback4) ? 1 : 0) | (resolves(nat.hostLoopback6) ? 2 : 0);
  closed = Int32Array.from((nat.closed ?? []).flatMap(wordsOf));
  dnsPorts = nat.dnsPorts ?? [DNS_PORT, DNS_OVER_TLS_PORT];
};
const wordsOf = (text: string): readonly number[] =>
  text.includes(':') ? parseIpv6(text) : [0, 0, MAPPED_WORD, parseIpv4(text)];

const isAt = (v4: boolean, which: number, w0: number, w1: number, w2: number, w3: number): boolean => {
  const at = place(v4, which);
  if (taken[at] === 0) return false;
  const i = at * WORDS;
  return addresses[i + 3] === w3 && addresses[i + 2] === w2 && addresses[i + 1] === w1 && addresses[i] === w0;
};
const has = (v4: boolean, which: number): boolean => taken[place(v4, which)] !== 0;
const remoteIs = (f: Flow, which: number): boolean =>
  isAt(isV4(f), which, remoteWord(f, 0), remoteWord(f, 1), remoteWord(f, 2), remoteWord(f, 3));

const isNames = (f: Flow): boolean => {
  const port = remotePort(f);
  return typeOf(f) !== FLOW_PING && (port === DNS_PORT || port === DNS_OVER_TLS_PORT);
};
/** Whether the flow is for the host's resolver, by the address that stands for it. */
export const isForResolver = (f: Flow): boolean =>
  typeOf(f) !== FLOW_PING && dnsPorts.includes(remotePort(f)) && remoteIs(f, DNS_FORWARD);

/** Another resolver of the host, `dnsHost4` or `dnsHost6`; null: there is none now. Flows that there are stay where they are. */
export const setDnsHost = (v4: boolean, text: string | null): void => set(v4, DNS_HOST, text);

/** Whether the flow's destination is none: nobody is at that address, or not at that port. */
export const leadsNowhere = (f: Flow): boolean =>
  isClosed(remoteWord(f, 0), remoteWord(f, 1), remoteWord(f, 2), remoteWord(f, 3)) && !translate(f);
const isClosed = (w0: number, w1: number, w2: number, w3: number): boolean => {
  for (let i = 0; i < closed.length; i += WORDS)
    if (closed[i + 3] === w3 && closed[i + 2] === w2 && closed[i + 1] === w1 && closed[i] === w0) return true;
  return false;
};

/** Where the flow leads on the host, in IPv6 form; valid until the next call of {@link translate}. */
const destination = new Int32Array(WORDS);

/** Works {@link destination} out. False: it is the remote address itself. */
const translate = (f: Flow): boolean => {
  const v4 = isV4(f);
  if (isForResolver(f) && has(v4, DNS_HOST)) return lead(v4, DNS_HOST);
  if (remoteIs(f, HOST_LOOPBACK) && !(isNames(f) && (loopbackResolves & (v4 ? 1 : 2)) !== 0)) {
    destination[0] = 0;
    destination[1] = 0;
    destination[2] = v4 ? MAPPED_WORD : 0;
    destination[3] = v4 ? LOOPBACK_4 : 1;
    return true;
  }
  return remoteIs(f, GUEST_ADDR) && has(v4, HOST) && lead(v4, HOST);
};
const lead = (v4: boolean, which: number): true => {
  const i = place(v4, which) * WORDS;
  for (let k = 0; k < WORDS; k++) destination[k] = addresses[i + k] as number;
  return true;
};

/** The address that the flow's socket is to be connected to, canonical text. Cold: once a flow. */
export const destinationText = (f: Flow): string => {
  const mapped = translate(f);
  const w0 = mapped ? (destination[0] as number) : remoteWord(f, 0);
  const w1 = mapped ? (destination[1] as number) : remoteWord(f, 1);
  const w2 = mapped ? (destination[2] as number) : remoteWord(f, 2);
  const w3 = mapped ? (destination[3] as number) : remoteWord(f, 3);
  return isV4(f) ? addr.ipv4Text(w3) : addr.ipv6Text(w0, w1, w2, w3);
};

/** Whether the address stands for the host itself, or is one of our own: pings to it are answered without asking. */
export const standsForHost = (v4: boolean, w0: number, w1: number, w2: number, w3: number): boolean =>
  isClosed(w0, w1, w2, w3) ||
  isAt(v4, HOST_LOOPBACK, w0, w1, w2, w3) ||
  (isAt(v4, GUEST_ADDR, w0, w1, w2, w3) && has(v4, HOST));

/**
 * Who an ICMP error about flow `f` is from, as the guest knows it: replaces `from` (four words, IPv6 form or word 3 alone). False: it is nobody
 * that is translated.
 */
export const offender = (f: Flow, from: Int32Array): boolean => {
  const v4 = isV4(f);
  if (translate(f) && sameAddress(v4, from)) {
    for (let k = v4 ? 3 : 0; k < WORDS; k++) from[k] = remoteWord(f, k);
    return true;
  }
  const w2 = v4 ? MAPPED_WORD : (from[2] as number);
  const own = isAt(v4, HOST, v4 ? 0 : (from[0] as number), v4 ? 0 : (from[1] as number), w2, from[3] as number);
  if (!own || !has(v4, GUEST_ADDR)) return false;
  const i = place(v4, GUEST_ADDR) * WORDS;
  for (let k = v4 ? 3 : 0; k < WORDS; k++) from[k] = addresses[i + k] as number;
  return true;
};
const sameAddress = (v4: boolean, from: Int32Array): boolean => {
  for (let k = v4 ? 3 : 0; k < WORDS; k++) if (from[k] !== destination[k]) return false;
  return true;
};

/** What {@link fromHost} found, in IPv6 form, until its next call. */
export const source = new Int32Array(WORDS);

/**
 * Who a connection or datagram from the host comes from, as the guest shall see it: into {@link source}. The words are those of
 * the peer's address in IPv6 form (IPv4 as ::ffff:a.b.c.d). `toLinkLocal`: it goes to a link-local address of the guest, which
 * only answers such. False: no host can have that address, or there is none to show instead.
 */
export const fromHost = (
  v4: boolean,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  toLinkLocal: boolean,
): boolean => {
  if (v4 ? !canSend4(w3) : ipv6.isMulticast(w0) || ipv6.isUnspecified(w0, w1, w2, w3)) return false;
  if (v4 ? w3 >>> 24 === 127 : ipv6.isLoopback(w0, w1, w2, w3)) return show(v4, HOST_LOOPBACK, toLinkLocal);
  if (isAt(v4, HOST, w0, w1, w2, w3) && has(v4, GUEST_ADDR)) return show(v4, GUEST_ADDR, toLinkLocal);
  if (v4 ? station.isGuest4(w3) : station.isGuest6(w0, w1, w2, w3)) return show(v4, GUEST_ADDR, toLinkLocal);
  source[0] = w0;
  source[1] = w1;
  source[2] = w2;
  source[3] = w3;
  return true;
};

/** RFC 1122 §3.2.1.3: neither "this network", nor a group, nor broadcast. */
const canSend4 = (word: number): boolean => word >>> 24 !== 0 && word >>> 24 < 224;

/** The address at that place if there is one, else our own. */
const show = (v4: boolean, which: number, toLinkLocal: boolean): boolean => {
  const i = place(v4, which) * WORDS;
  const given = has(v4, which) && (v4 || !toLinkLocal || ipv6.isLinkLocal(addresses[i] as number));
  for (let k = 0; k < WORDS; k++) source[k] = given ? (addresses[i + k] as number) : ourWord(v4, k, toLinkLocal);
  return v4
    ? source[3] !== 0
    : !ipv6.isUnspecified(source[0] as number, source[1] as number, source[2] as number, source[3] as number);
};
const ourWord = (v4: boolean, k: number, toLinkLocal: boolean): number => {
  if (v4) return k < 2 ? 0 : k === 2 ? MAPPED_WORD : station.our4Word();
  return toLinkLocal ? station.ourLinkLocal6Word(k) : station.our6Word(k);
};
