// SPDX-License-Identifier: Apache-2.0
/**
 * The whole controller from demux to sockets, over the checked memory of io.ts: frames of a guest and events of a host
 * in, frames and system calls out, one input after the other. What must hold, whatever comes:
 *
 *   W1 nothing throws, and no byte is read, sent or summed that nobody wrote (io.ts)
 *   W2 a frame counts as dropped once at most, and its description for logs can be made
 *   W3 every frame to the guest is sound (judge.ts); every request to the helper passes the schema
 *   W4 no call is made on a descriptor that is not open; every descriptor is closed once
 *   W5 the loop comes to rest; sequence numbers keep their order (conn.ts T1 and T2)
 *   W6 when everything has ended, nothing is left: rows, timers, kept datagrams, stash, requests, descriptors
 */
import { configureProtocols } from '../../controller/app/start.ts';
import * as turns from '../../controller/app/turn.ts';
import type { Plan } from '../../controller/cli/plan-schema.ts';
import * as lru from '../../controller/flow/lru.ts';
import * as pending from '../../controller/flow/pending.ts';
import * as flows from '../../controller/flow/table.ts';
import * as wheel from '../../controller/flow/wheel.ts';
import type { Network } from '../../controller/host/network.ts';
import * as fragmentSlots from '../../controller/link/fragment-slots.ts';
import * as groups from '../../controller/link/groups.ts';
import * as out from '../../controller/link/out.ts';
import * as station from '../../controller/link/station.ts';
import { tapLink } from '../../controller/link/tap-link.ts';
import { DROPS, type DropReason, dropCount } from '../../controller/obs/drops.ts';
import * as log from '../../controller/obs/log.ts';
import { describeFrame } from '../../controller/obs/trace.ts';
import { hasReady } from '../../controller/proto/tcp/close.ts';
import * as conn from '../../controller/proto/tcp/conn.ts';
import * as inbound from '../../controller/proto/tcp/inbound.ts';
import * as outOfOrder from '../../controller/proto/tcp/out-of-order.ts';
import * as stash from '../../controller/proto/tcp/stash.ts';
import * as connect from '../../controller/rpc/connect.ts';
import { HOST_CHANNEL_FD, METHODS, NETNS_CHANNEL_FD } from '../../shared/rpc/methods.ts';
import * as fake from '../support/fake-io.ts';
import { Stream, streams } from '../support/fake-stream.ts';
import { makeNetwork } from '../support/network.ts';
import * as io from './io.ts';
import { judge } from './judge.ts';
import { Random } from './random.ts';
import { layersOf, repair, VNET_BYTES } from './repair.ts';
import type { Input, Step } from './steps.ts';

const TAP_FD = 9;
const FIRST_FD = 100;
const START_MS = 1_000_000;
const TCP = 6;
const ETIMEDOUT = 110;
const ECONNRESET = 104;
const FRAMES_A_BATCH = 64;
const TURNS_MAX = 2000;
/** Longer than any timer: TCP's idle time is hours. */
const FOR_EVER_MS = 40 * 3600 * 1000;
const TEARDOWN_TURNS_MAX = 20_000;

/** Bits of the number of the step `world`. */
export const WORLD = {
  NO_VNET: 1,
  SMALL_MTU: 2,
  NO_USO: 4,
  NO_PEEK_OFF: 8,
  SMALL_ROOM: 16,
  SMALL_CAPS: 32,
  MULTICAST: 64,
} as const;
const MTU_LARGE = 65_520;
const MTU_SMALL = 1280;
const SMALL_ROOM_BYTES = 3000;

const LRU_CLASSES = Object.entries(lru).flatMap(([name, cls]) => (/^LRU_/.test(name) ? [cls as number] : []));
const SMALL_CAP = 3;
/** Who sends to sockets that are not connected. */
const STRANGER_4 = '00000000000000000000ffffc6336409';
const STRANGER_6 = 'fe800000000000000000000000000099';
const STRANGER_PORT = 5353;
/** Clients of the guest's own service, as words. */
const CLIENT_4 = [0, 0, flows.MAPPED_WORD, 0xc633_6407 | 0] as const;
const CLIENT_6 = [0x2001_0db8, 0x0002_0000, 0, 7] as const;
const GUEST_PORT = 8080;

type Socket = Stream | fake.FakeSocket;
interface Request {
  readonly jsonrpc: string;
  readonly id: number;
  readonly method: keyof typeof METHODS;
  readonly params: { readonly protocol?: string; readonly role?: string };
}

/** As by default: the gateway stands for the host's loopback. */
const natOf = ({ v4, v6 }: Network): Plan['nat'] => ({
  hostLoopback4: v4?.gateway ?? null,
  hostLoopback6: v6?.gateway ?? null,
  guestAddr4: null,
  guestAddr6: null,
  dnsForward4: v4?.dns[0] ?? null,
  dnsForward6: v6?.dns[0] ?? null,
  host4: null,
  host6: null,
  dnsHost4: '127.0.0.53',
  dnsHost6: '::1',
  resolvers: [],
});

class World {
  private flags = 0;
  private mtu = MTU_LARGE;
  private vnetBytes: 0 | 12 = 12;
  private sockets: Socket[] = [];
  private ears = new Set<Socket>();
  private nextFd = FIRST_FD;
  /** Frames that wait for the next batch, what is to be repaired in each, and the longest so far, bytes. */
  private frames: Buffer[] = [];
  private repairs: number[] = [];
  private largest = 0;
  private refs = new Map<number, number>();
  private answered = 0;
  private untilMs = 0;
  private lastDelay = -1;
  private eventCount = 0;
  private isns = new Map<number, number>();
  private dropsBefore = new Float64Array(DROPS.length);
  private framesSeen = 0;
  private random = new Random(1);

  private begin(flags: number): void {
    this.flags = flags;
    this.mtu = flags & WORLD.SMALL_MTU ? MTU_SMALL : MTU_LARGE;
    this.vnetBytes = flags & WORLD.NO_VNET ? 0 : 12;
    this.sockets = [];
    this.ears = new Set();
    this.nextFd = FIRST_FD;
    this.frames = [];
    this.refs = new Map();
    this.answered = 0;
    this.isns = new Map();
    this.repairs = [];
    this.largest = 0;
    this.framesSeen = 0;
    this.random = new Random(flags);
    fake.reset();
    fake.setNow(START_MS);
    fake.setVnetBytes(this.vnetBytes);
    streams.clear();
    io.forgetAll();
    io.forgetDescriptors();
    for (const fd of [TAP_FD, HOST_CHANNEL_FD, NETNS_CHANNEL_FD, io.UV_FD]) {
      fake.addSocket(fd);
      io.lend(fd);
    }
    io.hooks.randomByte = () => this.random.below(256);
    io.hooks.watch = (fd, _events, ref) => this.refs.set(fd, ref);
    io.hooks.wait = (timeoutMs) => this.wait(timeoutMs);
    io.hooks.readFrames = () => this.readFrames();
    // The only other randomness: moments of router advertisements.
    Math.random = () => this.random.unit();
    const network = makeNetwork({ mtu: this.mtu });
    const tso = this.vnetBytes !== 0;
    const link = tapLink(TAP_FD, this.vnetBytes, tso, tso && !(flags & WORLD.NO_USO));
    const multicast = (flags & WORLD.MULTICAST) !== 0;
    const plan = { network, nat: natOf(network), guest: null, pcap: null, multicast };
    configureProtocols(plan as unknown as Plan, link, false);
    turns.configure({
      link,
      hostChannel: HOST_CHANNEL_FD,
      netnsChannel: NETNS_CHANNEL_FD,
      observe: (at, len) => this.observe(at, len),
      endTurn: null,
    });
    if (flags & WORLD.SMALL_CAPS) for (const cls of LRU_CLASSES) lru.setCap(cls, SMALL_CAP);
    out.setObserver((at, len) => {
      describeFrame('to tap', io.view, at, at + len);
    });
    this.untilMs = START_MS;
    this.settle();
  }

  private observe(at: number, len: number): void {
    this.frameDone();
    describeFrame('from tap', io.view, at, at + len);
    this.framesSeen++;
    for (let i = 0; i < OF_FRAMES.length; i++) this.dropsBefore[i] = dropCount(OF_FRAMES[i] as DropReason);
  }
  /** W2, for the frame before this one. */
  private frameDone(): void {
    if (this.framesSeen === 0) return;
    const counted = OF_FRAMES.filter((reason, i) => dropCount(reason) !== this.dropsBefore[i]);
    if (counted.length > 1) throw new Error(`one frame is counted as dropped twice: ${counted.join(', ')}`);
  }

  private readFrames(): number {
    const n = Math.min(this.frames.length, FRAMES_A_BATCH, io.FRAMES_MAX);
    let at: number = io.RX_AT;
    for (let i = 0; i < n; i++) {
      const whole = this.frames[i] as Buffer;
      repair(whole, this.repairs[i] as number, (port) => this.isns.get(port) ?? 0);
      const bytes = this.vnetBytes === 0 ? whole.subarray(VNET_BYTES) : whole;
      fake.mem.set(bytes, at);
      io.mark(at, bytes.length);
      this.largest = Math.max(this.largest, bytes.length);
      fake.col[fake.COL.FRAME_AT + i] = at;
      fake.col[fake.COL.FRAME_LEN + i] = bytes.length;
      at = (at + bytes.length + VNET_BYTES + 63) & -64;
    }
    this.frames.splice(0, n);
    this.repairs.splice(0, n);
    this.framesSeen = 0;
    if (n === FRAMES_A_BATCH) return n;
    // An empty one after them, so that the last of them is seen to be done.
    fake.col[fake.COL.FRAME_AT + n] = at;
    fake.col[fake.COL.FRAME_LEN + n] = this.vnetBytes;
    io.mark(at, this.vnetBytes);
    return n + 1;
  }

  private event(ref: number, mask: number): void {
    if (this.eventCount === 256) return;
    fake.col[fake.COL.EVENT_REF + this.eventCount] = ref;
    fake.col[fake.COL.EVENT_MASK + this.eventCount] = mask;
    this.eventCount++;
  }
  private collectEvents(): void {
    this.eventCount = 0;
    if (this.frames.length > 0) this.event(this.refs.get(TAP_FD) as number, io.EPOLLIN);
    if (fake.channelIncoming.length > 0) this.event(this.refs.get(HOST_CHANNEL_FD) as number, io.EPOLLIN);
    for (const s of this.sockets) {
      if (s.closed) continue;
      if (s instanceof Stream) {
        if (!s.raised || !s.watched) continue;
        s.raised = false;
        if (s.mask !== 0) this.event(s.ref, s.mask);
      } else {
        const mask = (s.errors.length > 0 ? io.EPOLLERR : 0) | (s.incoming.length > 0 ? io.EPOLLIN : 0);
        if (s.events !== 0 && mask !== 0) this.event(s.ref, mask);
      }
    }
  }
  /** The program sleeps: events, or the clock goes on, not beyond what the present step allows. */
  private wait(timeoutMs: number): number {
    if (!(timeoutMs === -1 || timeoutMs >= 0)) throw new Error(`a wait of ${timeoutMs} ms`);
    this.lastDelay = timeoutMs;
    this.collectEvents();
    if (this.eventCount === 0) {
      const now = fake.nowMs();
      fake.setNow(timeoutMs < 0 ? this.untilMs : Math.min(now + timeoutMs, this.untilMs));
    }
    return this.eventCount;
  }

  private turn(): void {
    turns.turn();
    this.framesSeen = 0;
    this.takeFrames();
    io.forgetReceived();
    for (const s of this.sockets) {
      if (!(s instanceof Stream) || s.closed || s.ref < 0) continue;
      const f = s.ref as flows.Flow;
      if (flows.typeOf(f) !== flows.FLOW_TCP) continue;
      const acked = conn.has(f, conn.ESTABLISHED) ? (conn.ackFromTap(f) - conn.seqInSock(f)) | 0 : 0;
      if (((conn.seqToTap(f) - conn.ackFromTap(f)) | 0) < 0 || acked < 0) throw new Error('T1 does not hold');
      if (((conn.edgeToTap(f) - conn.seqFromTap(f)) | 0) < 0) throw new Error('T2 does not hold');
    }
  }
  /** Turns until nothing happens without the clock. */
  private settle(): void {
    this.untilMs = fake.nowMs();
    for (let n = 0; n < TURNS_MAX; n++) {
      this.turn();
      if (this.eventCount === 0 && this.lastDelay !== 0 && !hasReady()) return;
    }
    throw new Error('the loop does not come to rest');
  }
  private after(ms: number, turnsMax = TURNS_MAX): void {
    const until = fake.nowMs() + ms;
    for (let n = 0; n < turnsMax && fake.nowMs() < until; n++) {
      this.untilMs = until;
      this.turn();
    }
    this.settle();
  }

  private takeFrames(): void {
    for (let i = 0; i < fake.tapFrames.length; i++) {
      const frame = fake.tapFrames[i] as Buffer;
      // A guest that sends more than its MTU may get as much back.
      judge(frame, fake.tapVnet[i] as Buffer, Math.max(this.mtu, this.largest));
      const l = layersOf(frame, 0);
      if (l?.protocol === TCP && !l.fragment && ((frame[l.l4 + 13] as number) & 2) !== 0) {
        this.isns.set(frame.readUInt16BE(l.l4 + 2), frame.readInt32BE(l.l4 + 4));
      }
    }
    fake.tapFrames.length = 0;
    fake.tapVnet.length = 0;
  }

  /** The helper answers everything that was asked: sockets, or an errno; −1: refused by the floor. */
  private answer(errno: number): void {
    for (; this.answered < fake.channelSent.length; this.answered++) {
      const batch = JSON.parse(fake.channelSent[this.answered] as string) as Request[];
      const fds: number[] = [];
      const replies = batch.map((request) => {
        METHODS[request.method].params.parse(request.params);
        const { id } = request;
        if (errno !== 0) {
          const code = errno < 0 ? -32_001 : -32_000;
          return { jsonrpc: '2.0', id, error: { code, message: 'no', data: { errno: Math.abs(errno) & 127 } } };
        }
        fds.push(this.addSocket(request.params));
        return { jsonrpc: '2.0', id, result: { fd: fds.length - 1 } };
      });
      fake.channelIncoming.push({ text: JSON.stringify(replies), fds });
    }
  }
  private addSocket({ protocol, role }: Request['params']): number {
    const fd = this.nextFd++;
    io.lend(fd);
    let s: Socket;
    if (protocol === 'tcp') {
      s = new Stream(fd);
      s.peekOffset = (this.flags & WORLD.NO_PEEK_OFF) === 0;
      if (this.flags & WORLD.SMALL_ROOM) s.room = SMALL_ROOM_BYTES;
      streams.set(fd, s);
    } else {
      s = fake.addSocket(fd);
      if (role === 'answers' || role === 'group') this.ears.add(s);
    }
    this.sockets.push(s);
    return fd;
  }

  /** A client of the network has connected: IPv6 where the port is odd. */
  private accept(port: number): void {
    const fd = this.nextFd++;
    io.lend(fd);
    const s = new Stream(fd);
    s.connected();
    s.peekOffset = (this.flags & WORLD.NO_PEEK_OFF) === 0;
    streams.set(fd, s);
    this.sockets.push(s);
    const remotePort = Math.abs(port) & 0xffff;
    const [r0, r1, r2, r3] = remotePort & 1 ? CLIENT_6 : CLIENT_4;
    if (remotePort & 1) {
      const [g0, g1, g2, g3] = [0, 1, 2, 3].map(station.guest6Word) as [number, number, number, number];
      inbound.open(fd, false, r0, r1, r2, r3, remotePort, g0, g1, g2, g3, GUEST_PORT);
    } else {
      inbound.open(fd, true, r0, r1, r2, r3, remotePort, 0, 0, flows.MAPPED_WORD, station.guest4Word(), GUEST_PORT);
    }
  }

  private play({ verb, arg, bytes }: Step): void {
    switch (verb) {
      case 'frame': {
        if (this.frames.length >= FRAMES_A_BATCH) this.settle();
        this.frames.push(Buffer.from(bytes));
        this.repairs.push(arg & 15);
        // Frames of one batch share a turn; bit 4 ends the batch.
        if ((arg & 16) === 0) this.settle();
        return;
      }
      case 'turn':
        return this.settle();
      case 'answer':
        this.answer(arg);
        return this.settle();
      case 'accept':
        this.accept(arg);
        return this.settle();
      case 'after':
        return this.after(Math.min(Math.abs(arg), FOR_EVER_MS));
      default:
    }
    const s = this.sockets[this.sockets.length === 0 ? 0 : Math.abs(arg) % this.sockets.length];
    if (s === undefined || s.closed) return;
    if (s instanceof Stream) this.playStream(s, verb, bytes);
    else this.playDatagrams(s, verb, bytes);
    this.settle();
  }
  private playStream(s: Stream, verb: string, bytes: Uint8Array): void {
    switch (verb) {
      case 'connected':
        return s.connected();
      case 'data':
        // Two bytes say how much; a stream's content does not matter.
        return s.receives(Buffer.alloc(((bytes[0] ?? 0) << 8) | (bytes[1] ?? 1), 0x61));
      case 'end':
        return s.ends();
      case 'fail':
        return s.fails(bytes[0] ?? ECONNRESET);
      case 'room':
        return s.gainsRoom(((bytes[0] ?? 1) << 8) | (bytes[1] ?? 0));
      case 'refuse':
        s.failures[(['writev', 'recvv', 'discard', 'watch'] as const)[(bytes[0] ?? 0) & 3] ?? 'writev'] = bytes[1] || 5;
        return;
      default:
    }
  }
  private playDatagrams(s: fake.FakeSocket, verb: string, bytes: Uint8Array): void {
    switch (verb) {
      case 'data': {
        const [gso = 0, ttl = 0, tos = 0] = bytes;
        const from = [Buffer.from(tos & 1 ? STRANGER_6 : STRANGER_4, 'hex'), STRANGER_PORT] as const;
        s.incoming.push({ bytes: bytes.subarray(3), gso: gso * 16, ttl: ttl === 0 ? -1 : ttl, tos, from });
        return;
      }
      case 'error': {
        // What never sends is never told of an error.
        if (this.ears.has(s)) return;
        const [origin = 2, type = 3, code = 3, info = 0, errno = 111] = bytes;
        const offender = bytes.subarray(5, 21);
        s.errors.push({
          payload: bytes.subarray(21),
          origin: origin & 3,
          type,
          code,
          info: info * 16,
          errno,
          ...(offender.length === 16 ? { offender } : {}),
        });
        return;
      }
      case 'refuse':
        s.writeResults.push(-(bytes[0] || 11));
        return;
      case 'fail':
        s.receiveResults.push(-(bytes[0] || 111));
        return;
      default:
    }
  }

  /** Ends whatever lives, and holds that nothing is left. */
  private end(): void {
    this.settle();
    for (let n = 0; n < 4; n++) {
      this.answer(ETIMEDOUT);
      this.settle();
      for (const s of this.sockets) if (s instanceof Stream && !s.closed) s.fails(ECONNRESET);
      this.settle();
    }
    // A listener lives as long as the guest is in its group.
    if (groups.count() > groups.GROUPS_MAX) throw new Error(`${groups.count()} groups`);
    for (let i = 0; i < flows.highWater(); i++) {
      const f = i as flows.Flow;
      if (flows.typeOf(f) !== flows.FLOW_GROUP) continue;
      groups.leave(flows.guestWord(f, 0), flows.guestWord(f, 1), flows.guestWord(f, 2), flows.guestWord(f, 3));
    }
    for (let n = 0; n < TEARDOWN_TURNS_MAX && alive() > 0; n++) {
      this.untilMs = fake.nowMs() + FOR_EVER_MS;
      this.turn();
    }
    this.settle();
    const left = {
      TCP: flows.count(flows.FLOW_TCP),
      UDP: flows.count(flows.FLOW_UDP),
      ping: flows.count(flows.FLOW_PING),
      groups: flows.count(flows.FLOW_GROUP),
      'data out of order': outOfOrder.chunksInUse(),
      'kept datagrams': pending.size(),
      stash: stash.chunksInUse(),
      'datagrams in fragments': fragmentSlots.size(),
      requests: connect.outstanding(),
      timers: wheel.nextDelay(fake.nowMs()) + 1,
      descriptors: io.lent() - 4,
      'flows in order of use': LRU_CLASSES.reduce((total, cls) => total + lru.size(cls), 0),
    };
    for (const [what, n] of Object.entries(left)) if (n !== 0) throw new Error(`${what} left behind: ${n}`);
  }

  run(input: Input): void {
    const first = input[0];
    this.begin(first?.verb === 'world' ? first.arg : 0);
    for (const step of input) this.play(step);
    this.end();
  }
}

const TYPES = [flows.FLOW_TCP, flows.FLOW_UDP, flows.FLOW_PING, flows.FLOW_GROUP] as const;
const alive = (): number => TYPES.reduce<number>((n, type) => n + flows.count(type), fragmentSlots.size());
/** Reasons that are about the frame itself: others may go because of it, and answers be kept back. */
const OF_FRAMES = DROPS.filter((name) => !/^(sock|flow|tap|group)-|-(limit|limited|evicted|timeout)$/.test(name));

const world = new World();
/** Plays one input in a fresh world; throws when something of W1 to W6 does not hold. */
export const play = (input: Input): void => {
  log.setLevel('quiet');
  world.run(input);
};
