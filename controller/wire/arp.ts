// SPDX-License-Identifier: Apache-2.0
/** ARP for IPv4 over Ethernet, RFC 826: 28 bytes. Accessors are safe only after fits(). Addresses as in wire/ethernet.ts and wire/ipv4.ts. */
import { IPV4 } from './ethernet.ts';

const HARDWARE_TYPE = 0;
const PROTOCOL_TYPE = 2;
const HARDWARE_LENGTH = 4;
const OPERATION = 6;
const SENDER_MAC = 8;
const SENDER_IP = 14;
const TARGET_MAC = 18;
const TARGET_IP = 24;
export const BYTES = 28;

const HARDWARE_ETHERNET = 1;
/** Hardware address length 6, protocol address length 4, as one 16-bit field. */
const LENGTHS = 0x0604;
export const REQUEST = 1;
export const REPLY = 2;

/** True when the message lies within [at, end) and is about IPv4 over Ethernet. */
export const fits = (v: DataView, at: number, end: number): boolean =>
  end - at >= BYTES &&
  v.getUint16(at + HARDWARE_TYPE) === HARDWARE_ETHERNET &&
  v.getUint16(at + PROTOCOL_TYPE) === IPV4 &&
  v.getUint16(at + HARDWARE_LENGTH) === LENGTHS;

export const operation = (v: DataView, at: number): number => v.getUint16(at + OPERATION);
export const senderMacHigh = (v: DataView, at: number): number => v.getUint16(at + SENDER_MAC);
export const senderMacLow = (v: DataView, at: number): number => v.getInt32(at + SENDER_MAC + 2);
export const senderIp = (v: DataView, at: number): number => v.getInt32(at + SENDER_IP);
export const targetMacHigh = (v: DataView, at: number): number => v.getUint16(at + TARGET_MAC);
export const targetMacLow = (v: DataView, at: number): number => v.getInt32(at + TARGET_MAC + 2);
export const targetIp = (v: DataView, at: number): number => v.getInt32(at + TARGET_IP);

/** Hardware and protocol types, lengths, and the operation. */
export const setOperation = (v: DataView, at: number, operation: number): void => {
  v.setUint16(at + HARDWARE_TYPE, HARDWARE_ETHERNET);
  v.setUint16(at + PROTOCOL_TYPE, IPV4);
  v.setUint16(at + HARDWARE_LENGTH, LENGTHS);
  v.setUint16(at + OPERATION, operation);
};
export const setSender = (v: DataView, at: number, macHigh: number, macLow: number, ip: number): void => {
  v.setUint16(at + SENDER_MAC, macHigh);
  v.setInt32(at + SENDER_MAC + 2, macLow);
  v.setInt32(at + SENDER_IP, ip);
};
export const setTarget = (v: DataView, at: number, macHigh: number, macLow: number, ip: number): void => {
  v.setUint16(at + TARGET_MAC, macHigh);
  v.setInt32(at + TARGET_MAC + 2, macLow);
  v.setInt32(at + TARGET_IP, ip);
};
