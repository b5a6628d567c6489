// SPDX-License-Identifier: Apache-2.0
/**
 * What one front-end has told us: features, memory, rings, and which of them run. A ring runs from when it has a size, addresses, a kick
 * descriptor, memory to lie in, and is enabled, until VHOST_USER_GET_VRING_BASE, which ends its kick descriptor, too. The descriptors that
 * are kept are this module's; all others are the caller's to close.
 */
import { VRING_SIZE_MAX } from '../../../shared/abi.ts';
import { DEVICE_FEATURES, hasReplyAck, PROTOCOL_FEATURES, PROTOCOL_OFFERED, ringBits } from './features.ts';
import {
  checkShape,
  HEADER_BYTES,
  needsReply,
  ProtocolError,
  payloadBytes,
  REGION_BYTES,
  REQUEST,
  reply64,
  replyState,
  request,
} from './message.ts';

/** The receive queue of the guest, and its transmit queue. */
export const QUEUES = 2;
/** Of the payload of SET_VRING_KICK, CALL and ERR: the queue, and that there is no descriptor. */
const QUEUE_MASK = 0xffn;
const NO_FD = 0x100n;
const ADDRESSES_BYTES = 24;

/** The rings and their memory; numbers are results of system calls, negative ones -errno. */
export interface Device {
  /** `regions` as in SET_MEM_TABLE; none: unmaps. Stops the rings. */
  map(regions: Uint8Array, fds: readonly number[]): number;
  features(bits: number): void;
  /** `addresses`: descriptors, used, available, 8 bytes each. */
  start(queue: number, size: number, base: number, addresses: Uint8Array): number;
  /** The entry to go on with. */
  stop(queue: number): number;
  call(queue: number, fd: number): void;
  watchKick(queue: number, fd: number): number;
  unwatchKick(fd: number): void;
  /** Whether it is an event counter. */
  checkEvent(fd: number): number;
  close(fd: number): void;
}

interface Ring {
  size: number;
  base: number;
  addresses: Uint8Array | null;
  kick: number;
  call: number;
  error: number;
  enabled: boolean;
  running: boolean;
}
const emptyRing = (): Ring => ({
  size: 0,
  base: 0,
  addresses: null,
  kick: -1,
  call: -1,
  error: -1,
  enabled: false,
  running: false,
});

/** Why memory or a ring cannot be used, by the errno of the addon. */
const EINVAL = 22;
const EEXIST = 17;
const memoryProblem = (errno: number): string => {
  if (errno === EINVAL) return 'a memory region that is empty, beyond its file, or of no file';
  return errno === EEXIST ? 'memory regions that overlap' : `memory that cannot be mapped (errno ${errno})`;
};

export class VhostSession {
  readonly #device: Device;
  readonly #rings: readonly Ring[] = Array.from({ length: QUEUES }, emptyRing);
  #features = 0n;
  #protocol = 0n;
  #mapped = false;

  constructor(device: Device) {
    this.#device = device;
  }

  /**
   * One message, whose header was checked: `v` holds all of it. `fds` came with it; those that are kept leave it. The reply to send; null:
   * none is wanted. Throws ProtocolError where the connection cannot go on.
   */
  handle(v: DataView, fds: number[]): Uint8Array | null {
    const code = request(v);
    const known = checkShape(code, payloadBytes(v), fds.length);
    const wanted = hasReplyAck(this.#protocol) && needsReply(v);
    if (!known) {
      // A front-end that asks learns that it is not done; one that does not must not come to rely on it.
      if (wanted) return reply64(code, 1n);
      throw new ProtocolError(`vhost-user request ${code} is not served`);
    }
    const reply = this.#dispatch(code, v, fds);
    if (reply !== null) return reply;
    return wanted ? reply64(code, 0n) : null;
  }

  /** Whether queue `index` runs. */
  runs(index: number): boolean {
    return this.#rings[index]?.running ?? false;
  }

  /** Where the front-end wants to hear that a queue is broken, -1: nowhere. */
  errorFd(index: number): number {
    return this.#rings[index]?.error ?? -1;
  }

  /** Everything is given back; the session is over. */
  end(): void {
    for (let i = 0; i < QUEUES; i++) this.#forget(i);
    this.#device.map(new Uint8Array(0), []);
    this.#device.features(0);
    this.#mapped = false;
  }

  #dispatch(code: number, v: DataView, fds: number[]): Uint8Array | null {
    switch (code) {
      case REQUEST.GET_FEATURES:
        return reply64(code, DEVICE_FEATURES);
      case REQUEST.SET_FEATURES:
        return this.#setFeatures(v.getBigUint64(HEADER_BYTES, true));
      case REQUEST.GET_PROTOCOL_FEATURES:
        return reply64(code, PROTOCOL_OFFERED);
      case REQUEST.SET_PROTOCOL_FEATURES:
        return this.#setProtocolFeatures(v.getBigUint64(HEADER_BYTES, true));
      case REQUEST.GET_QUEUE_NUM:
        // Pairs, as QEMU counts them.
        return reply64(code, 1n);
      case REQUEST.SET_OWNER:
      case REQUEST.SEND_RARP:
        return null;
      case REQUEST.RESET_OWNER:
      case REQUEST.RESET_DEVICE:
        return this.#reset();
      case REQUEST.SET_MEM_TABLE:
        return this.#setMemory(v, fds);
      case REQUEST.SET_VRING_ENABLE:
        return this.#enable(this.#ringOf(v), v.getUint32(HEADER_BYTES + 4, true));
      case REQUEST.SET_VRING_NUM:
        return this.#setSize(this.#ringOf(v), v.getUint32(HEADER_BYTES + 4, true));
      case REQUEST.SET_VRING_BASE:
        return this.#setBase(this.#ringOf(v), v.getUint32(HEADER_BYTES + 4, true));
      case REQUEST.GET_VRING_BASE:
        return this.#getBase(this.#ringOf(v));
      case REQUEST.SET_VRING_ADDR:
        return this.#setAddresses(this.#ringOf(v), v);
      default:
        return this.#setDescriptor(code, v.getBigUint64(HEADER_BYTES, true), fds);
    }
  }

  /** The queue that a message's first word names. */
  #ringOf(v: DataView): number {
    return this.#checked(v.getUint32(HEADER_BYTES, true));
  }
  #checked(index: number): number {
    if (index >= QUEUES) throw new ProtocolError(`queue ${index}: there is one pair of queues`);
    return index;
  }
  #stopped(index: number, what: string): Ring {
    const ring = this.#rings[index] as Ring;
    if (ring.running) throw new ProtocolError(`${what} of queue ${index}, which runs`);
    return ring;
  }

  #setFeatures(features: bigint): null {
    if ((features & ~DEVICE_FEATURES) !== 0n) throw new ProtocolError('features that were not offered');
    // QEMU sets them again while rings run, for its dirty log: with those we offer only the same ones.
    if (features === this.#features && this.#rings.some((ring) => ring.running)) return null;
    for (let i = 0; i < QUEUES; i++) this.#stopped(i, 'features');
    this.#features = features;
    this.#device.features(ringBits(features));
    // Without the protocol's features there is no message to enable a ring, and it is from the start.
    if ((features & PROTOCOL_FEATURES) === 0n) for (const ring of this.#rings) ring.enabled = true;
    return null;
  }
  #setProtocolFeatures(features: bigint): null {
    if ((features & ~PROTOCOL_OFFERED) !== 0n) throw new ProtocolError('protocol features that were not offered');
    this.#protocol = features;
    return null;
  }

  #reset(): null {
    for (let i = 0; i < QUEUES; i++) this.#forget(i);
    this.#features = 0n;
    this.#device.features(0);
    return null;
  }

  #setMemory(v: DataView, fds: number[]): null {
    const count = v.getUint32(HEADER_BYTES, true);
    const at = HEADER_BYTES + 8;
    const bytes = payloadBytes(v) - 8;
    // QEMU sends as many as there are, libvhost's testers all eight.
    if (count === 0 || count * REGION_BYTES > bytes || fds.length !== count) {
      throw new ProtocolError(`${count} memory regions in ${bytes} bytes with ${fds.length} descriptors`);
    }
    const running = this.#rings.map((ring) => ring.running);
    for (let i = 0; i < QUEUES; i++) this.#stop(i);
    const regions = new Uint8Array(v.buffer, v.byteOffset + at, count * REGION_BYTES);
    const r = this.#device.map(regions, fds);
    this.#mapped = r >= 0;
    if (r < 0) throw new ProtocolError(memoryProblem(-r));
    // The rings go on where they were, if they still lie in it.
    for (let i = 0; i < QUEUES; i++) if (running[i]) this.#startIfReady(i);
    return null;
  }

  #setSize(index: number, size: number): null {
    if (size === 0 || size > VRING_SIZE_MAX || (size & (size - 1)) !== 0) {
      throw new ProtocolError(`queue ${index} of ${size} entries`);
    }
    this.#stopped(index, 'the size').size = size;
    return null;
  }
  #setBase(index: number, base: number): null {
    if (base > 0xffff) throw new ProtocolError(`queue ${index} from entry ${base}`);
    this.#stopped(index, 'the base').base = base;
    return null;
  }
  #getBase(index: number): Uint8Array {
    const ring = this.#rings[index] as Ring;
    this.#stop(index);
    this.#dropKick(ring);
    return replyState(REQUEST.GET_VRING_BASE, index, ring.base);
  }
  #setAddresses(index: number, v: DataView): null {
    // Flags and the log address serve migration only: dirty pages are not logged, and that was not offered.
    const ring = this.#rings[index] as Ring;
    const running = ring.running;
    this.#stop(index);
    ring.addresses = new Uint8Array(v.buffer, v.byteOffset + HEADER_BYTES + 8, ADDRESSES_BYTES).slice();
    if (running) this.#startIfReady(index);
    return null;
  }
  #enable(index: number, on: number): null {
    if (on > 1) throw new ProtocolError(`queue ${index} enabled by ${on}`);
    (this.#rings[index] as Ring).enabled = on === 1;
    if (on === 1) this.#startIfReady(index);
    else this.#stop(index);
    return null;
  }

  #setDescriptor(code: number, payload: bigint, fds: number[]): null {
    const index = this.#checked(Number(payload & QUEUE_MASK));
    const none = (payload & NO_FD) !== 0n;
    if (payload > (QUEUE_MASK | NO_FD) || fds.length !== (none ? 0 : 1)) {
      throw new ProtocolError(`vhost-user request ${code} with ${fds.length} descriptors`);
    }
    const ring = this.#rings[index] as Ring;
    const fd = fds[0] ?? -1;
    if (code === REQUEST.SET_VRING_KICK && none) throw new ProtocolError('a queue without a kick descriptor');
    // Of anything else we might come to be the last owner: the connection's own other end, a socket that takes its time to close.
    if (fd >= 0 && this.#device.checkEvent(fd) < 0) {
      throw new ProtocolError(`vhost-user request ${code} with a descriptor that is no event counter`);
    }
    // From here on it is the ring's.
    fds.length = 0;
    if (code === REQUEST.SET_VRING_KICK) return this.#setKick(index, ring, fd);
    if (code === REQUEST.SET_VRING_CALL) {
      this.#device.call(index, fd);
      if (ring.call >= 0) this.#device.close(ring.call);
      ring.call = fd;
      return null;
    }
    if (ring.error >= 0) this.#device.close(ring.error);
    ring.error = fd;
    return null;
  }
  #setKick(index: number, ring: Ring, fd: number): null {
    this.#dropKick(ring);
    ring.kick = fd;
    if (this.#device.watchKick(index, fd) < 0) {
      this.#device.close(fd);
      ring.kick = -1;
      throw new ProtocolError('a kick descriptor that cannot be waited for');
    }
    this.#startIfReady(index);
    return null;
  }
  #dropKick(ring: Ring): void {
    if (ring.kick < 0) return;
    this.#device.unwatchKick(ring.kick);
    this.#device.close(ring.kick);
    ring.kick = -1;
  }

  #startIfReady(index: number): void {
    const ring = this.#rings[index] as Ring;
    if (ring.running || !ring.enabled || ring.kick < 0 || ring.size === 0 || ring.addresses === null) return;
    if (!this.#mapped) return;
    if (this.#device.start(index, ring.size, ring.base, ring.addresses) < 0) {
      throw new ProtocolError(`queue ${index} does not lie in the guest's memory`);
    }
    ring.running = true;
  }
  #stop(index: number): void {
    const ring = this.#rings[index] as Ring;
    if (!ring.running) return;
    ring.base = this.#device.stop(index);
    ring.running = false;
  }

  /** A ring that broke its rules: it stays as it is until the front-end asks where it ended and sets it up anew. */
  broke(index: number): void {
    this.#stop(index);
    this.#dropKick(this.#rings[index] as Ring);
  }

  #forget(index: number): void {
    const ring = this.#rings[index] as Ring;
    this.#stop(index);
    this.#dropKick(ring);
    this.#device.call(index, -1);
    if (ring.call >= 0) this.#device.close(ring.call);
    if (ring.error >= 0) this.#device.close(ring.error);
    Object.assign(ring, emptyRing());
  }
}
