// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Tables for the terminal and for Markdown. */

/** @param {readonly (readonly string[])[]} rows the first one is the heading */
const widths = (rows) => (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));

/** Columns padded with blanks, a rule below the heading. @param {readonly (readonly string[])[]} rows */
export const textTable = (rows) => {
  const wide = widths(rows);
  const line = (/** @type {readonly string[]} */ row) =>
    row
      .map((cell, i) => cell.padEnd(wide[i] ?? 0))
      .join('  ')
      .trimEnd();
  const [heading = [], ...body] = rows;
  return [line(heading), wide.map((width) => '─'.repeat(width)).join('  '), ...body.map(line)].join('\n');
};

/** @param {readonly (readonly string[])[]} rows */
export const markdownTable = (rows) => {
  const [heading = [], ...body] = rows;
  const line = (/** @type {readonly string[]} */ row) => `| ${row.join(' | ')} |`;
  return [line(heading), `|${heading.map(() => '---').join('|')}|`, ...body.map(line)].join('\n');
};
