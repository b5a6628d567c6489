// SPDX-License-Identifier: Apache-2.0
/** Where the virtio-net header of a received frame lies, which says what is left to us of its checksum and segments. */
import * as vnet from '../wire/vnet.ts';

/** The arena begins with zeros that nobody writes to: "no offload, complete checksum". */
const NOTHING_AT = 0;

let inFront = true;

/** `headerBytes` of the link: 0, frames come without one. */
export const configure = (headerBytes: 0 | 12): void => {
  inFront = headerBytes !== 0;
};
export const hasHeader = (): boolean => inFront;
/** That of the frame whose Ethernet header is at `frameAt`. */
export const header = (frameAt: number): number => (inFront ? frameAt - vnet.HEADER_BYTES : NOTHING_AT);
