// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Archives as the kernel unpacks them into its initial RAM disk. */

/**
 * @typedef {object} Entry
 * @property {number} mode type and permissions, as in stat(2)
 * @property {Buffer} [content] of a file, or the target of a symbolic link
 */

const NEWC_HEADER_BYTES = 110;
const hex8 = (/** @type {number} */ n) => n.toString(16).padStart(8, '0');

/** A cpio archive in the "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). @param {ReadonlyMap<string, Entry>} entries */
export const cpio = (entries) => {
  /** @type {Buffer[]} */
  const parts = [];
  let inode = 0;
  const pad = (/** @type {number} */ bytes) => Buffer.alloc(-bytes & 3);
  const add = (/** @type {string} */ path, /** @type {Entry} */ { mode, content = Buffer.alloc(0) }) => {
    inode += 1;
    const name = Buffer.from(`${path}\0`);
    const [owner, group, links, time, major, minor] = [0, 0, 1, 0, 0, 0];
    const fields = [inode, mode, owner, group, links, time, content.length, major, minor, 0, 0, name.length, 0];
    parts.push(Buffer.from(`070701${fields.map(hex8).join('')}`), name, pad(NEWC_HEADER_BYTES + name.length));
    parts.push(content, pad(content.length));
  };
  for (const [path, entry] of entries) add(path, entry);
  add('TRAILER!!!', { mode: 0 });
  return Buffer.concat(parts);
};
