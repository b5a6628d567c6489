// SPDX-License-Identifier: Apache-2.0
/** Features of the device (virtio 1.2 §5.1.3, §6) and of the protocol, and what they mean for the rings. */
import {
  VRING_CSUM,
  VRING_EVENT_IDX,
  VRING_INDIRECT,
  VRING_LONG_HEADER,
  VRING_MRG_RXBUF,
  VRING_TSO4,
  VRING_TSO6,
  VRING_USO,
} from '../../../shared/abi.ts';

const bit = (n: number): bigint => 1n << BigInt(n);

const CSUM = bit(0);
const GUEST_CSUM = bit(1);
const GUEST_TSO4 = bit(7);
const GUEST_TSO6 = bit(8);
const HOST_TSO4 = bit(11);
const HOST_TSO6 = bit(12);
const MRG_RXBUF = bit(15);
const ANY_LAYOUT = bit(27);
const INDIRECT_DESC = bit(28);
const EVENT_IDX = bit(29);
/** VHOST_USER_F_PROTOCOL_FEATURES: of the protocol, but told with the device's. Rings then begin disabled. */
export const PROTOCOL_FEATURES = bit(30);
const VERSION_1 = bit(32);
const GUEST_USO4 = bit(54);
const GUEST_USO6 = bit(55);
const HOST_USO = bit(56);

/** What we offer. No MQ (one pair of queues), no packed rings, no dirty log (live migration). */
export const DEVICE_FEATURES =
  CSUM |
  GUEST_CSUM |
  GUEST_TSO4 |
  GUEST_TSO6 |
  HOST_TSO4 |
  HOST_TSO6 |
  MRG_RXBUF |
  ANY_LAYOUT |
  INDIRECT_DESC |
  EVENT_IDX |
  PROTOCOL_FEATURES |
  VERSION_1 |
  GUEST_USO4 |
  GUEST_USO6 |
  HOST_USO;

const PROTOCOL_RARP = bit(2);
const PROTOCOL_REPLY_ACK = bit(3);
const PROTOCOL_RESET_DEVICE = bit(13);
export const PROTOCOL_OFFERED = PROTOCOL_RARP | PROTOCOL_REPLY_ACK | PROTOCOL_RESET_DEVICE;
export const hasReplyAck = (protocol: bigint): boolean => (protocol & PROTOCOL_REPLY_ACK) !== 0n;

/** VRING_* bits of shared/abi.ts for the features that the guest took. A superframe of UDP has no family in its header, so it takes both. */
export const ringBits = (features: bigint): number => {
  const has = (wanted: bigint): boolean => (features & wanted) === wanted;
  return (
    (has(VERSION_1) || has(MRG_RXBUF) ? VRING_LONG_HEADER : 0) |
    (has(MRG_RXBUF) ? VRING_MRG_RXBUF : 0) |
    (has(EVENT_IDX) ? VRING_EVENT_IDX : 0) |
    (has(INDIRECT_DESC) ? VRING_INDIRECT : 0) |
    (has(GUEST_CSUM) ? VRING_CSUM : 0) |
    (has(GUEST_TSO4) ? VRING_TSO4 : 0) |
    (has(GUEST_TSO6) ? VRING_TSO6 : 0) |
    (has(GUEST_USO4 | GUEST_USO6) ? VRING_USO : 0)
  );
};
