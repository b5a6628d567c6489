// SPDX-License-Identifier: Apache-2.0
/**
 * The grammar of an annotation:
 *
 *     #syscalls:PROFILE[,PROFILE…] CALL [CALL…] [=> ERRNO] — REASON
 *     CALL      = [ARCH:]NAME[|NAME…][(ARGUMENT[, ARGUMENT…])]
 *     ARGUMENT  = *  |  VALUE[|VALUE…]  |  &MASK==VALUE
 *     VALUE     = TERM[+TERM…]          TERM = C constant, decimal or 0x number, negative decimal
 *
 * NAME|NAME: the first that the architecture has. `|` between values: any of them. `+`: the bits of all of them.
 * `=> ERRNO`: the calls fail with that errno instead of running. Several annotations of one call add up.
 */
export const PROFILES = ['setup', 'sandbox', 'host', 'netns', 'controller', 'resolver'];
export const ARCHITECTURES = ['x86_64', 'i686', 'aarch64', 'armv7l', 'ppc64le', 'riscv64', 's390x'];

const NAME = /^[a-z_][a-z0-9_]*$/;
const TERM = /^(?:[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+|0x[0-9A-Fa-f]+)$/;
/** libseccomp and the kernel's struct seccomp_data have six. */
const ARGUMENTS_MAX = 6;

/** What is wrong with one annotation, in one sentence; `collect` puts file and line in front. */
export class AnnotationError extends Error {}

/** Splits at `separator` outside parentheses. */
const splitOutside = (text, separator) => {
  const parts = [''];
  let depth = 0;
  for (const char of text) {
    if (char === '(') depth++;
    if (char === ')') depth--;
    if (depth < 0) throw new AnnotationError(`one ")" too many in "${text}"`);
    if (depth === 0 && char === separator) parts.push('');
    else parts[parts.length - 1] += char;
  }
  if (depth > 0) throw new AnnotationError(`"(" is not closed in "${text}"`);
  return parts;
};

/** 'A+B' → 'A|B' in C, each term checked. */
const parseValue = (text) => {
  const terms = text.split('+').map((term) => term.trim());
  const bad = terms.find((term) => !TERM.test(term));
  if (bad !== undefined) throw new AnnotationError(`"${bad}" is no C constant and no number`);
  return terms.join(' | ');
};

/** One argument → alternatives [{ mask, value }] of C expressions; mask '' compares all 64 bits. `*` → []. */
const parseArgument = (text) => {
  const argument = text.trim();
  if (argument === '*') return [];
  if (argument === '') throw new AnnotationError('an argument is empty; "*" stands for any value');
  const masked = /^&\s*(.+?)\s*==\s*(.+)$/.exec(argument);
  if (masked) return [{ mask: parseValue(masked[1]), value: parseValue(masked[2]) }];
  return argument.split('|').map((value) => ({ mask: '', value: parseValue(value.trim()) }));
};

const parseCall = (text) => {
  const shape = /^(?:([a-z0-9_]+):)?([a-z0-9_|]+)(?:\((.*)\))?$/s.exec(text);
  if (!shape) throw new AnnotationError(`"${text}" is no system call with arguments`);
  const [, arch = '', names, list] = shape;
  if (arch !== '' && !ARCHITECTURES.includes(arch))
    throw new AnnotationError(`unknown architecture "${arch}"; known are ${ARCHITECTURES.join(' ')}`);
  const bad = names.split('|').find((name) => !NAME.test(name));
  if (bad !== undefined) throw new AnnotationError(`"${bad}" is no name of a system call`);
  const args = list === undefined ? [] : list.split(',').map(parseArgument);
  if (args.length > ARGUMENTS_MAX) throw new AnnotationError(`${names} has more than ${ARGUMENTS_MAX} arguments`);
  return { arch, names: names.split('|'), args, text };
};

/** 'A(…) B => EPERM' → calls; the errno is that of all of them. */
const parseCalls = (text) => {
  const [list, errno = '', ...more] = text.split('=>').map((part) => part.trim());
  if (more.length > 0) throw new AnnotationError('"=>" may stand once, after the last system call');
  if (text.includes('=>') && !/^E[A-Z0-9]+$/.test(errno))
    throw new AnnotationError('"=>" needs an errno such as EACCES after it');
  const words = splitOutside(list.replace(/\s+\(/g, '('), ' ').filter((word) => word !== '');
  if (words.length === 0) throw new AnnotationError('no system call is named');
  return words
    .map(parseCall)
    .map((call) => ({ ...call, errno, text: errno === '' ? call.text : `${call.text} => ${errno}` }));
};

/**
 * One annotation, from after '#syscalls:' to its end.
 * Returns { profiles, calls: [{ arch, names, args, errno, text }], reason }; throws AnnotationError.
 */
export const parseAnnotation = (text) => {
  const dash = text.indexOf('—');
  if (dash < 0) throw new AnnotationError('no reason: an em dash (—) and why the call is needed must follow');
  const reason = text.slice(dash + 1).trim();
  if (reason === '') throw new AnnotationError('the reason after the em dash is empty');
  const head = /^([a-z,]+)\s+(.*)$/s.exec(text.slice(0, dash).trim());
  if (!head) throw new AnnotationError('a profile and a system call are needed: #syscalls:PROFILE CALL — REASON');
  const profiles = head[1].split(',');
  const unknown = profiles.find((profile) => !PROFILES.includes(profile));
  if (unknown !== undefined) throw new AnnotationError(`unknown profile "${unknown}"; known are ${PROFILES.join(' ')}`);
  return { profiles, calls: parseCalls(head[2]), reason };
};

/** The cross product of the arguments' alternatives: [[{ arg, mask, value }…]…]; no condition gives [[]]. */
export const combinations = (args) =>
  args.reduce(
    (rows, alternatives, arg) =>
      alternatives.length === 0 ? rows : rows.flatMap((row) => alternatives.map((one) => [...row, { arg, ...one }])),
    [[]],
  );
