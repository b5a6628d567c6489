// SPDX-License-Identifier: Apache-2.0
/**
 * Datagrams into a flow's socket. Consecutive datagrams of one flow and one size are gathered and leave in one writev
 * with UDP_SEGMENT set on the socket: the kernel cuts the bytes again where the guest had them cut. A superframe of the
 * guest (USO) is the same thing, gathered by the guest. The last datagram of a write may be shorter than the others.
 *
 * At most one gathering exists; it ends with another flow, another size, a full write, or the batch of frames. Until
 * then the payloads stay where the tap's read put them.
 *
 * "Don't fragment" is kept (flow/fragmentation) up to the MTU of the host's own link. Larger ones, which the guest sends because its
 * tap takes them, are cut by the host without a word, as a program's on the host would be: Linux makes an error of that word for
 * every connected socket. With a tap of the host's MTU (--mtu) there are none, and the guest cuts by itself.
 */
import { IOV_MAX_BATCH, SOCKOPT } from '../../../shared/abi.ts';
import * as fragmentation from '../../flow/fragmentation.ts';
import { type Flow, fd, isV4, NO_FLOW, remoteWord } from '../../flow/table.ts';
import { writevRanges } from '../../flow/writev.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import { HEADER_BYTES as IPV4_BYTES } from '../../wire/ipv4.ts';
import { HEADER_BYTES as IPV6_BYTES } from '../../wire/ipv6.ts';
import { HEADER_BYTES } from '../../wire/udp.ts';
import * as errors from './errors.ts';
import * as state from './state.ts';

/** UDP_MAX_SEGMENTS of kernels before 6.10; later ones take more. */
const SEGMENTS_MAX = 64;
/** What fits one IPv4 packet: the kernel makes one of the whole write before it cuts. */
const WRITE_BYTES_MAX = 65_507;

const EAGAIN = 11;
/**
 * What a kernel says to segments that it will not make: larger than the path's MTU (EINVAL or EMSGSIZE, by version), or
 * a route through IPsec (EIO). Single datagrams are fragmented by the host then.
 */
const EINVAL = 22;
const EMSGSIZE = 90;
const EIO = 5;
const EOPNOTSUPP = 95;
const ENOBUFS = 105;

let flow: Flow = NO_FLOW;
let ranges = 0;
/** Size of all datagrams but the last. */
let unit = 0;
let bytes = 0;
let datagrams = 0;
const ats = new Int32Array(IOV_MAX_BATCH);
const lens = new Int32Array(IOV_MAX_BATCH);

/** The flow that has a gathering, or NO_FLOW. */
export const gathering = (): Flow => flow;

const begin = (f: Flow, at: number, len: number, segment: number): void => {
  flow = f;
  unit = segment;
  ranges = 0;
  bytes = 0;
  datagrams = 0;
  extend(at, len);
};
const extend = (at: number, len: number): void => {
  ats[ranges] = at;
  lens[ranges] = len;
  ranges++;
  bytes += len;
  datagrams += unit === 0 ? 1 : Math.ceil(len / unit);
};
const joins = (f: Flow, len: number, segment: number): boolean =>
  flow === f &&
  ranges < IOV_MAX_BATCH &&
  // Only the last one may be shorter, and a datagram without data has nothing to be cut.
  bytes % unit === 0 &&
  len > 0 &&
  (segment === unit || (segment < unit && len <= segment)) &&
  bytes + len <= WRITE_BYTES_MAX &&
  datagrams + Math.ceil(len / unit) <= SEGMENTS_MAX;

/**
 * Sends the `len` bytes of payload at `at`, its UDP header just before it, as datagrams of `segment` bytes each
 * (`segment` = `len`: one datagram). They may wait for {@link flush}. The socket is there.
 */
export const append = (
  f: Flow,
  at: number,
  len: number,
  segment: number,
  hopLimit: number,
  trafficClass: number,
  dontFragment: boolean,
): void => {
  const mode = fragmentation.wanted(f, dontFragment, ipBytes(f) + HEADER_BYTES + segment);
  if (hopLimit !== state.hopLimit(f) || trafficClass !== state.trafficClass(f) || mode !== fragmentation.mode(f)) {
    if (flow === f) flush();
    setHeaderOptions(f, hopLimit, trafficClass);
    fragmentation.set(f, mode);
  }
  // More segments than a write may have: only a superframe of the guest's can be that large.
  const most = writeBytesMax(segment);
  let offset = 0;
  for (; len - offset > most; offset += most) enqueue(f, at + offset, most, segment);
  enqueue(f, at + offset, len - offset, segment);
};

const ipBytes = (f: Flow): number => (isV4(f) ? IPV4_BYTES : IPV6_BYTES);

/** The most bytes that one write may have as datagrams of that size; one datagram is always allowed. */
const writeBytesMax = (segment: number): number =>
  segment * Math.max(Math.min(SEGMENTS_MAX, Math.floor(WRITE_BYTES_MAX / Math.max(segment, 1))), 1);

const enqueue = (f: Flow, at: number, len: number, segment: number): void => {
  if (flow !== NO_FLOW) {
    if (joins(f, len, segment)) {
      extend(at, len);
      return;
    }
    flush();
  }
  begin(f, at, len, segment);
  // Too large for segments, or nothing to gather: no reason to wait.
  if (len === 0 || len >= WRITE_BYTES_MAX || !mayBeSegments(f, segment)) flush();
};

const mayBeSegments = (f: Flow, segment: number): boolean => {
  const limit = state.segmentLimit(f);
  return limit === 0 || segment < limit;
};

/** Multicast has its own; broadcast has not. */
const hopLimitOption = (f: Flow, v4: boolean): { level: number; option: number } => {
  if (v4) return remoteWord(f, 3) >>> 28 === 14 ? SOCKOPT.IP_MULTICAST_TTL : SOCKOPT.IP_TTL;
  return remoteWord(f, 0) >>> 24 === 0xff ? SOCKOPT.IPV6_MULTICAST_HOPS : SOCKOPT.IPV6_UNICAST_HOPS;
};
/** DSCP and ECN as the guest set them: there is no outer header whose bits would have to be combined with these (RFC 6040). */
const setHeaderOptions = (f: Flow, hopLimit: number, trafficClass: number): void => {
  const v4 = isV4(f);
  if (hopLimit !== state.hopLimit(f)) {
    const o = hopLimitOption(f, v4);
    io.native.setsockopt(fd(f), o.level, o.option, hopLimit);
    state.setHopLimit(f, hopLimit);
  }
  if (trafficClass !== state.trafficClass(f)) {
    const o = v4 ? SOCKOPT.IP_TOS : SOCKOPT.IPV6_TCLASS;
    io.native.setsockopt(fd(f), o.level, o.option, trafficClass);
    state.setTrafficClass(f, trafficClass);
  }
};

/** Writes what is gathered. Called when the batch of frames is done, and before its flow ends. */
export const flush = (): void => {
  const f = flow;
  if (f === NO_FLOW) return;
  flow = NO_FLOW;
  if (datagrams === 1) {
    single(f, ats[0] as number, lens[0] as number);
    return;
  }
  if (mayBeSegments(f, unit) && segmented(f)) return;
  for (let i = 0; i < ranges; i++) singles(f, ats[i] as number, lens[i] as number);
};

const setSegment = (f: Flow, segment: number): void => {
  if (state.segment(f) === segment) return;
  io.native.udpSegment(fd(f), segment);
  state.setSegment(f, segment);
};

/** One write for all datagrams. False when that failed other than by a full socket: then each goes by itself. */
const segmented = (f: Flow): boolean => {
  setSegment(f, unit);
  let r = writeRanges(f);
  // A pending error of an earlier datagram fails the write; what it is about is in the queue.
  if (r < 0 && !isFull(r) && errors.drain(f) > 0) r = writeRanges(f);
  if (r >= 0) return true;
  if (isFull(r)) {
    for (let i = 0; i < datagrams; i++) drop(DROP['sock-full']);
    return true;
  }
  if (r === -EINVAL || r === -EMSGSIZE || r === -EIO || r === -EOPNOTSUPP) state.setSegmentLimit(f, unit);
  return false;
};
const isFull = (r: number): boolean => r === -EAGAIN || r === -ENOBUFS;

/** Again after a failure: for an error of an earlier datagram; and for the size of this one, which may be the second to be told. */
const triesFor = (r: number): number => (r === -EMSGSIZE ? 2 : 1);

const writeRanges = (f: Flow): number => writevRanges(fd(f), ats, lens, ranges);

/** Each datagram of a range by itself. */
const singles = (f: Flow, at: number, len: number): void => {
  for (let offset = 0; offset < len; offset += unit) {
    single(f, at + offset, Math.min(unit, len - offset));
  }
};

const single = (f: Flow, at: number, len: number): void => {
  const segment = state.segment(f);
  // Not worth a call when the kernel has nothing to cut anyway; but a size that was refused as segment stays refused.
  if (segment !== 0 && (len > segment || !mayBeSegments(f, segment))) setSegment(f, 0);
  let r = io.native.write(fd(f), at, len);
  // The error of an earlier datagram fails the next call once; what it was is in the queue. So is what is wrong with this one.
  for (let tries = 0; r < 0 && !isFull(r) && tries < triesFor(r); tries++) {
    errors.drain(f);
    r = errors.wasTooLong() ? cut(f, at, len) : io.native.write(fd(f), at, len);
  }
  if (r >= 0) return;
  if (isFull(r)) {
    drop(DROP['sock-full']);
    return;
  }
  drop(DROP['sock-error']);
  errors.refuseData(f, -r, at, len);
};

/** One datagram that exceeds the host's link, in fragments; for such as this one, that is not tried again. */
const cut = (f: Flow, at: number, len: number): number => {
  fragmentation.leaveToHost(f, ipBytes(f) + HEADER_BYTES + len);
  fragmentation.set(f, fragmentation.HOST);
  return io.native.write(fd(f), at, len);
};
