// SPDX-License-Identifier: Apache-2.0
/** Bytes for tests of wire formats: hexadecimal in, hexadecimal out, and views that end exactly where the bytes do. */

/** Bytes of a hexadecimal text; white space is for the reader. */
export const hex = (text: string): Uint8Array<ArrayBuffer> => {
  const digits = text.replaceAll(/\s/g, '');
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error(`not hexadecimal: ${text}`);
  return Uint8Array.from(Buffer.from(digits, 'hex'));
};
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** A view over a copy of its own: one byte beyond the end throws RangeError. */
export const viewOf = (bytes: Uint8Array): DataView<ArrayBuffer> => new DataView(Uint8Array.from(bytes).buffer);

/** The first `n` bytes for each n below `bytes.length`: what truncation can leave. */
export const truncations = (bytes: Uint8Array): DataView<ArrayBuffer>[] =>
  Array.from(bytes, (_, n) => viewOf(bytes.subarray(0, n)));
export const bytesOf = (v: DataView): Uint8Array => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
