// SPDX-License-Identifier: Apache-2.0
/**
 * Datagrams from a flow's socket to the guest.
 *
 * Where the tap takes UDP superframes (USO), the kernel receives straight into the region of frames, with room for the
 * headers before each slot: a datagram, or a run of them that UDP_GRO made one, becomes a frame without being copied.
 * Else, and for what does not fit one frame to the guest (larger than its MTU), datagrams are received aside and copied.
 */
import { RECORDS_AT, recordAt, SLOT_BYTES, SLOTS, slotAt } from '../../flow/aside.ts';
import { type Flow, fd, guestPort, isV4, remotePort, setPorts, setRemote } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as out from '../../link/out.ts';
import * as packetOut from '../../link/packet-out.ts';
import * as station from '../../link/station.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as checksum from '../../wire/checksum.ts';
import * as eth from '../../wire/ethernet.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import { UDP } from '../../wire/protocols.ts';
import * as udp from '../../wire/udp.ts';
import * as vnet from '../../wire/vnet.ts';
import * as activity from './activity.ts';
import * as errors from './errors.ts';

/** Calls for one event: the others want their turn, and epoll comes back. */
const CALLS_MAX = 4;
const PACKET_BYTES_MAX = 65_535;
/** Payload of a superframe, so that it fits an IPv4 packet. */
const RUN_BYTES_MAX = PACKET_BYTES_MAX - ipv4.HEADER_BYTES - udp.HEADER_BYTES;
/** UDP_MAX_SEGMENTS of kernels before 6.10, which refuse superframes of more. */
const SEGMENTS_MAX = 64;
const HOP_LIMIT_UNKNOWN = 255;
const EAGAIN = 11;

let uso = false;
/** Whether the tap takes UDP superframes with partial checksums. */
export const configure = (tapTakesUso: boolean): void => {
  uso = tapTakesUso;
};

/**
 * Takes what the socket has, as far as one event goes. Until the last frame of a call is out, nothing may run that reads
 * errors or sends to sockets: both use the memory that the datagrams lie in. So the flow counts as answered only after that.
 */
export const receive = (f: Flow): void => {
  for (let i = 0; i < CALLS_MAX; i++) {
    const n = uso ? receiveInPlace(f) : receiveAside(f);
    if (n === -EAGAIN) return;
    if (n < 0) {
      // The error of an earlier datagram, reported once: the queue tells what it was.
      errors.drain(f);
      continue;
    }
    if (n > 0) activity.answered(f);
    if (n < SLOTS) return;
  }
};

const headroom = (v4: boolean): number =>
  out.VNET_ROOM + eth.HEADER_BYTES + (v4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES) + udp.HEADER_BYTES;

const receiveInPlace = (f: Flow): number => {
  const v4 = isV4(f);
  const room = headroom(v4);
  const base = out.reserveBlock(SLOTS, SLOT_BYTES);
  const n = io.native.recvDatagrams(fd(f), base + room, SLOT_BYTES, SLOTS);
  for (let i = 0; i < n; ) {
    const len = lengthOf(i);
    if (len < 0) {
      i++;
      continue;
    }
    const gso = io.col[io.COL.DGRAM_GSO + i] as number;
    if (!fitsFrame(f, len, gso)) {
      // It takes several frames, whose room may be where the next slots are.
      moveAside(base + room, i, n);
      for (let k = i; k < n; k++) emitCopy(f, k);
      break;
    }
    const frame = base + i * SLOT_BYTES;
    const end = gso === 0 ? runEnd(i, n, len) : i + 1;
    const total = end - i > 1 ? pack(frame + room, i, end) : len;
    emitInPlace(f, i, frame + out.VNET_ROOM, total, end - i > 1 ? len : gso);
    i = end;
  }
  return n;
};

/**
 * The end of the run of datagrams from `i` on that can be one superframe, as if UDP_GRO had joined them: all of `len` bytes, the
 * last one perhaps shorter, with the same TTL and traffic class. A sender that gives its kernel one datagram at a time is the
 * common case; to the guest a frame costs more than what is in it.
 */
const runEnd = (i: number, n: number, len: number): number => {
  const most = Math.min(n, i + Math.min(SEGMENTS_MAX, Math.floor(RUN_BYTES_MAX / len)));
  let k = i + 1;
  while (k < most && joins(i, k, len)) {
    k++;
    if ((io.col[io.COL.DGRAM_LEN + k - 1] as number) < len) break;
  }
  return k;
};
const joins = (i: number, k: number, len: number): boolean => {
  const own = io.col[io.COL.DGRAM_LEN + k] as number;
  return (
    own > 0 &&
    own <= len &&
    io.col[io.COL.DGRAM_GSO + k] === 0 &&
    io.col[io.COL.DGRAM_TTL + k] === io.col[io.COL.DGRAM_TTL + i] &&
    io.col[io.COL.DGRAM_TOS + k] === io.col[io.COL.DGRAM_TOS + i]
  );
};

/** Moves the payloads of a run, the first of which lies at `at`, together. Bytes of all of them: they fit the first one's slot. */
const pack = (at: number, first: number, end: number): number => {
  let total = io.col[io.COL.DGRAM_LEN + first] as number;
  for (let k = first + 1; k < end; k++) {
    const from = at + (k - first) * SLOT_BYTES;
    const len = io.col[io.COL.DGRAM_LEN + k] as number;
    io.mem.copyWithin(at + total, from, from + len);
    total += len;
  }
  return total;
};

/** The length of datagram `i`, or -1, counted, if the kernel had to cut it. */
const lengthOf = (i: number): number => {
  const len = io.col[io.COL.DGRAM_LEN + i] as number;
  if (len < 0) drop(DROP['sock-error']);
  return len;
};

/** Whether `len` bytes, in segments of `gso` if that is not 0, can be one frame: a datagram within the MTU, or a superframe of such. */
const fitsFrame = (f: Flow, len: number, gso: number): boolean => {
  const unit = gso !== 0 && gso < len ? gso : len;
  const headers = udp.HEADER_BYTES + (isV4(f) ? ipv4.HEADER_BYTES : 0);
  return packetOut.fitsMtu(f, unit + udp.HEADER_BYTES) && len + headers <= PACKET_BYTES_MAX;
};

/**
 * Writes the headers, those of datagram `i`, before the `len` bytes of payload that lie behind their place, and commits the frame
 * at `frame`; a superframe where `gso` is neither 0 nor all of it.
 */
const emitInPlace = (f: Flow, i: number, frame: number, len: number, gso: number): void => {
  const v = io.view;
  const v4 = isV4(f);
  const ip = frame + eth.HEADER_BYTES;
  const at = ip + (v4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);
  const bytes = udp.HEADER_BYTES + len;
  station.ethernet(v, frame, v4 ? eth.IPV4 : eth.IPV6);
  packetOut.ipHeader(f, ip, bytes, UDP, hopLimitOf(i), trafficClassOf(i));
  if (station.several) station.direct(v, frame);
  writePorts(f, at, bytes);
  const vnetAt = frame - vnet.HEADER_BYTES;
  vnet.clear(v, vnetAt);
  udp.setChecksum(v, at, packetOut.pseudoSum(f, UDP, bytes));
  vnet.needChecksum(v, vnetAt, at - frame, udp.CHECKSUM_OFFSET);
  if (gso !== 0 && gso < len) vnet.segment(v, vnetAt, vnet.GSO_UDP_L4, gso, at - frame + udp.HEADER_BYTES);
  out.commitAt(frame, at - frame + bytes);
};

const writePorts = (f: Flow, at: number, bytes: number): void => {
  udp.setSrcPort(io.view, at, remotePort(f));
  udp.setDstPort(io.view, at, guestPort(f));
  udp.setLength(io.view, at, bytes);
};
const hopLimitOf = (i: number): number => {
  const n = io.col[io.COL.DGRAM_TTL + i] as number;
  return n > 0 ? n & 0xff : HOP_LIMIT_UNKNOWN;
};
const trafficClassOf = (i: number): number => {
  const n = io.col[io.COL.DGRAM_TOS + i] as number;
  return n > 0 ? n & 0xff : 0;
};

const moveAside = (base: number, first: number, n: number): void => {
  for (let i = first; i < n; i++) {
    const from = base + i * SLOT_BYTES;
    const len = Math.max(io.col[io.COL.DGRAM_LEN + i] as number, 0);
    io.mem.copyWithin(slotAt(i), from, from + len);
  }
};

const receiveAside = (f: Flow): number => {
  const n = io.native.recvDatagrams(fd(f), slotAt(0), SLOT_BYTES, SLOTS);
  for (let i = 0; i < n; i++) emitCopy(f, i);
  return n;
};

/**
 * Takes what the unconnected socket of row `r` has, as far as one event goes: from whoever sent it, to the row's own
 * address and port. Whether there was something.
 */
export const receiveFromAny = (r: Flow): boolean => {
  let some = false;
  for (let call = 0; call < CALLS_MAX; call++) {
    const n = io.native.recvFrom(fd(r), slotAt(0), SLOT_BYTES, SLOTS, RECORDS_AT, false);
    for (let i = 0; i < n; i++) {
      if (!takeSource(r, recordAt(i))) continue;
      some = true;
      emitCopy(r, i);
    }
    if (n < SLOTS) break;
  }
  return some;
};

/** Makes the sender at `at` the row's remote. False, counted, for addresses that no packet to the guest can come from. */
const takeSource = (r: Flow, at: number): boolean => {
  const v = io.view;
  const w0 = v.getInt32(at);
  const w1 = v.getInt32(at + 4);
  const w2 = v.getInt32(at + 8);
  const w3 = v.getInt32(at + 12);
  const port = v.getUint16(at + 16);
  const martian = isV4(r)
    ? w3 >>> 24 === 0 || w3 >>> 24 === 127 || w3 >>> 28 >= 14 || station.isGuest4(w3)
    : ipv6.isMulticast(w0) || w0 === 0 || station.isGuest6(w0, w1, w2, w3);
  if (martian || port === 0) {
    drop(DROP['ip-martian']);
    return false;
  }
  setRemote(r, w0, w1, w2, w3);
  setPorts(r, guestPort(r), port);
  return true;
};

/** Sends datagram `i` of the last call, which lies in slot `slot` of the region aside, cut where UDP_GRO had joined, each with its own complete checksum. */
export const emitCopy = (f: Flow, i: number, slot = i): void => {
  const len = lengthOf(i);
  if (len < 0) return;
  const gso = io.col[io.COL.DGRAM_GSO + i] as number;
  const unit = gso !== 0 && gso < len ? gso : len;
  let offset = 0;
  do {
    const part = Math.min(unit, len - offset);
    // The header goes over the end of the segment before, which has been sent.
    const at = slotAt(slot) + offset - udp.HEADER_BYTES;
    const bytes = udp.HEADER_BYTES + part;
    writePorts(f, at, bytes);
    udp.setChecksum(io.view, at, 0);
    const sum = io.native.checksum(at, bytes, packetOut.pseudoSum(f, UDP, bytes));
    udp.setChecksum(io.view, at, checksum.finishUdp(sum));
    packetOut.send(f, UDP, at, bytes, hopLimitOf(i), trafficClassOf(i));
    offset += unit;
  } while (offset < len);
};
