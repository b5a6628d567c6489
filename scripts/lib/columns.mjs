// SPDX-License-Identifier: Apache-2.0
/**
 * The columns of the bundle (typed arrays made once, as constants of a module) are given their memory from a few shared
 * buffers instead of one buffer each.
 *
 * Why: the columns for 131 072 flows are 70 MiB of address space that nothing has touched yet, but V8 counts each buffer as
 * memory in use and collects garbage, several times, before the first line of the program has run. It does not count shared
 * buffers. One mapping for many columns is also a hundred system calls fewer, and lets neighbours begin 64 octets further
 * into a page each: were all columns to begin at the same place, one flow's row would be in the same few lines of the
 * first-level cache in all of them.
 *
 * Only the bundle is rewritten: sources and tests say `new Int32Array(FLOW_MAX)`, and mean it.
 */

const HELPER = `const columnOf = (() => {
	const CHUNK_BYTES = 16 * 1024 * 1024;
	const LINE_BYTES = 64;
	const COLUMN_BYTES_MIN = 4096;
	let chunk = null;
	let at = 0;
	return (Column, size) => {
		const bytes = size * Column.BYTES_PER_ELEMENT;
		if (!(bytes >= COLUMN_BYTES_MIN)) return new Column(size);
		if (chunk === null || at + bytes > chunk.byteLength) {
			chunk = new SharedArrayBuffer(Math.max(CHUNK_BYTES, bytes));
			at = 0;
		}
		const column = new Column(chunk, at, size);
		at += Math.ceil(bytes / LINE_BYTES) * LINE_BYTES + LINE_BYTES;
		return column;
	};
})();
`;

/** A length worked out from constants: never a view of a buffer or a copy. */
const LENGTH = String.raw`[A-Z_$\d]+(?: [*+] [A-Z_$\d]+)*`;
const KIND = '(?:Ui|I)nt(?:8|16|32)Array|Float(?:32|64)Array';
/** Variables of a module, and whatever is as long as the flow table. */
const COLUMN = new RegExp(
  String.raw`^((?:const|let) [\w$]+ = (?:/\* @__PURE__ \*/ )?)new (${KIND})\((${LENGTH})\);$|new (${KIND})\((FLOW_MAX)\)`,
  'gm',
);
const COLUMNS_MIN = 100;

/** A plug-in of rolldown. */
export const sharedColumns = () => ({
  name: 'shared-columns',
  renderChunk: (code) => {
    let found = 0;
    const rewritten = code.replace(COLUMN, (_, before, column, size, other, otherSize) => {
      found++;
      return before === undefined ? `columnOf(${other}, ${otherSize})` : `${before}columnOf(${column}, ${size});`;
    });
    if (found < COLUMNS_MIN) throw new Error(`${found} columns in the bundle: do their lines look differently now?`);
    return { code: HELPER + rewritten, map: null };
  },
});
