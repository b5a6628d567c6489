// SPDX-License-Identifier: Apache-2.0
/** What JSON.parse() does not tell: whether an object names something twice, of which it takes the last (RFC 8259 §4). */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:]/g;

/** `text` is JSON. Keys are the same when what they stand for is: `"\u0061"` is `"a"`. */
export const hasDuplicateKey = (text: string): boolean => {
  const open: (Set<string> | null)[] = [];
  let last = '';
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    else if (token === ':') {
      const keys = open.at(-1);
      const key: string = JSON.parse(last);
      if (keys?.has(key)) return true;
      keys?.add(key);
    }
    last = token;
  }
  return false;
};
