// SPDX-License-Identifier: Apache-2.0
/**
 * What the fuzzer feeds to a target: a short program of steps. In a file each is a line, so that a corpus and a crash
 * can be read and written by people:
 *
 *   # a comment
 *   VERB NUMBER HEX…        the number and the bytes may be left out; blanks between bytes mean nothing
 *   VERB NUMBER "TEXT"      bytes as a JSON string, for targets that read text
 */
export interface Step {
  readonly verb: string;
  readonly arg: number;
  readonly bytes: Uint8Array;
}
export type Input = readonly Step[];

export const step = (verb: string, arg = 0, bytes: ArrayLike<number> = []): Step => ({
  verb,
  arg,
  bytes: Uint8Array.from(bytes),
});

const LINE = /^([a-z][a-z0-9-]*)(?:\s+(-?\d+))?(?:\s+(".*"|[0-9a-f\s]*))?$/i;

/** Throws on a line that is none of these forms, naming it. */
export const parseInput = (text: string): Input => {
  const steps: Step[] = [];
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.replace(/\s*#[^"]*$/, '').trim();
    if (line === '') continue;
    const match = LINE.exec(line);
    if (match === null) throw new Error(`line ${i + 1} is no step: ${line.slice(0, 60)}`);
    const [, verb = '', arg = '0', rest = ''] = match;
    const bytes = rest.startsWith('"')
      ? Buffer.from(JSON.parse(rest) as string, 'utf8')
      : Buffer.from(rest.replaceAll(/\s/g, ''), 'hex');
    steps.push({ verb, arg: Number(arg), bytes: new Uint8Array(bytes) });
  }
  return steps;
};

const isText = (bytes: Uint8Array): boolean =>
  bytes.length > 0 && bytes.every((b) => (b >= 0x20 && b < 0x7f) || b === 10 || b === 9) && !bytes.includes(0x23);

export const printInput = (input: Input): string =>
  input
    .map(({ verb, arg, bytes }) => {
      const text = isText(bytes)
        ? JSON.stringify(Buffer.from(bytes).toString('latin1'))
        : Buffer.from(bytes).toString('hex');
      return `${verb} ${arg}${bytes.length > 0 ? ` ${text}` : ''}\n`;
    })
    .join('');
