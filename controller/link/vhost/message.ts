// SPDX-License-Identifier: Apache-2.0
/**
 * Messages of the vhost-user protocol (QEMU, docs/interop/vhost-user.rst), little endian:
 *
 *   0         4       8              12
 *   | request | flags | payload size | payload
 *
 * The front-end is the hypervisor; all of it is input. What a request may carry is one row here, checked before anything of it is used.
 */

export const HEADER_BYTES = 12;
/** The payload of VHOST_USER_SET_MEM_TABLE with all its regions, the largest of those we take. */
export const PAYLOAD_BYTES_MAX = 8 + 8 * 32;
export const REGIONS_MAX = 8;
export const REGION_BYTES = 32;

const VERSION = 1;
const VERSION_MASK = 3;
const REPLY = 4;
const NEED_REPLY = 8;

export const REQUEST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  RESET_DEVICE: 34,
} as const;

interface Shape {
  /** Size of the payload: exactly, or from and to. */
  readonly bytes: number | readonly [number, number];
  /** Descriptors beside it at most; the handler says how many it must be. */
  readonly fds: number;
}
const U64 = 8;
/** struct vhost_vring_state: index and number, 32 bits each. */
const STATE = 8;
/** struct vhost_vring_addr. */
const ADDRESSES = 40;

const SHAPES: Readonly<Record<number, Shape>> = {
  [REQUEST.GET_FEATURES]: { bytes: 0, fds: 0 },
  [REQUEST.SET_FEATURES]: { bytes: U64, fds: 0 },
  [REQUEST.SET_OWNER]: { bytes: 0, fds: 0 },
  [REQUEST.RESET_OWNER]: { bytes: 0, fds: 0 },
  [REQUEST.SET_MEM_TABLE]: { bytes: [8 + REGION_BYTES, PAYLOAD_BYTES_MAX], fds: REGIONS_MAX },
  [REQUEST.SET_VRING_NUM]: { bytes: STATE, fds: 0 },
  [REQUEST.SET_VRING_ADDR]: { bytes: ADDRESSES, fds: 0 },
  [REQUEST.SET_VRING_BASE]: { bytes: STATE, fds: 0 },
  [REQUEST.GET_VRING_BASE]: { bytes: STATE, fds: 0 },
  [REQUEST.SET_VRING_KICK]: { bytes: U64, fds: 1 },
  [REQUEST.SET_VRING_CALL]: { bytes: U64, fds: 1 },
  [REQUEST.SET_VRING_ERR]: { bytes: U64, fds: 1 },
  [REQUEST.GET_PROTOCOL_FEATURES]: { bytes: 0, fds: 0 },
  [REQUEST.SET_PROTOCOL_FEATURES]: { bytes: U64, fds: 0 },
  [REQUEST.GET_QUEUE_NUM]: { bytes: 0, fds: 0 },
  [REQUEST.SET_VRING_ENABLE]: { bytes: STATE, fds: 0 },
  [REQUEST.SEND_RARP]: { bytes: U64, fds: 0 },
  [REQUEST.RESET_DEVICE]: { bytes: 0, fds: 0 },
};

/** What the peer did that ends its connection, in one sentence. */
export class ProtocolError extends Error {}

export const request = (v: DataView): number => v.getUint32(0, true);
/** REPLY_ACK: whether the sender waits for an answer that this request has not by itself. */
export const needsReply = (v: DataView): boolean => (v.getUint32(4, true) & NEED_REPLY) !== 0;
export const payloadBytes = (v: DataView): number => v.getUint32(8, true);

/** Checks a header, of 12 bytes at the start of `v`, as far as it can be without its payload. Throws ProtocolError. */
export const checkHeader = (v: DataView): void => {
  const flags = v.getUint32(4, true);
  if ((flags & VERSION_MASK) !== VERSION) throw new ProtocolError(`vhost-user version ${flags & VERSION_MASK}, not 1`);
  if ((flags & REPLY) !== 0) throw new ProtocolError('a vhost-user reply where a request was expected');
  const size = payloadBytes(v);
  if (size > PAYLOAD_BYTES_MAX) throw new ProtocolError(`a vhost-user message of ${size} bytes`);
};

/** Whether we know the request, and its payload and descriptors are as many as it may have. Throws ProtocolError for a known one with others. */
export const checkShape = (code: number, bytes: number, fds: number): boolean => {
  const shape = SHAPES[code];
  if (shape === undefined) return false;
  const [least, most] = typeof shape.bytes === 'number' ? [shape.bytes, shape.bytes] : shape.bytes;
  if (bytes < least || bytes > most) throw new ProtocolError(`vhost-user request ${code} with ${bytes} bytes`);
  if (fds > shape.fds) throw new ProtocolError(`vhost-user request ${code} with ${fds} descriptors`);
  return true;
};

/** A reply whose payload is one number of 64 bits. */
export const reply64 = (code: number, value: bigint): Uint8Array => {
  const v = reply(code, 8);
  v.setBigUint64(HEADER_BYTES, value, true);
  return new Uint8Array(v.buffer);
};
/** A reply with a struct vhost_vring_state. */
export const replyState = (code: number, index: number, number: number): Uint8Array => {
  const v = reply(code, STATE);
  v.setUint32(HEADER_BYTES, index, true);
  v.setUint32(HEADER_BYTES + 4, number, true);
  return new Uint8Array(v.buffer);
};
const reply = (code: number, bytes: number): DataView => {
  const v = new DataView(new ArrayBuffer(HEADER_BYTES + bytes));
  v.setUint32(0, code, true);
  v.setUint32(4, VERSION | REPLY, true);
  v.setUint32(8, bytes, true);
  return v;
};
