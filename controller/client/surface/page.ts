// SPDX-License-Identifier: Apache-2.0
/**
 * Manual pages: a hand-written frame in man(7)'s macros (docs/man), in which a line `@OPTIONS PROGRAM@` becomes the options of
 * that program, `@FRAME NAME@` the text of NAME.inc, `@COMPATIBILITY PROGRAM@` those that --help does not offer, and `@VERSION@` the release.
 */
import { MANUAL } from '../../cli/manual/manual.ts';
import type { OptionName } from '../../cli/options.ts';
import { CLIENTS, SLIRP } from './client-manual.ts';
import { type Program, type ProgramOption, program } from './programs.ts';

/** The longer text of an option; the line of --help where there is none. */
export const manualOf = ({ name }: Program, option: ProgramOption): string => {
  if (name === 'pasta' || name === 'passt') {
    const text = MANUAL[option.name as OptionName];
    return typeof text === 'string' ? text : text[name];
  }
  const texts = name === 'slirp4netns' ? SLIRP : CLIENTS[name];
  const text = texts?.[option.name];
  if (text === undefined) throw new Error(`${name} --${option.name} has no text for its manual page`);
  return text;
};

/** Plain text as roff: nothing in it is a request, an escape or outside ASCII. */
export const roff = (text: string): string =>
  text
    .replace(/\\/g, '\\e')
    .replace(/^([.'])/gm, '\\&$1')
    .replace(/’/g, '\\(cq')
    .replace(/…/g, '...')
    .replace(/[\u0080-\uffff]/g, (char) => `\\[u${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}]`);

/** Words as they are typed: minus signs, not hyphens; what is in capitals stands for something. */
const typed = (text: string): string =>
  text
    .split(/([A-Z][A-Z_]+(?![a-z]))/)
    .map((part, i) => {
      const escaped = roff(part).replace(/-/g, '\\-');
      return part === '' ? '' : i % 2 === 1 ? `\\fI${escaped}\\fR` : `\\fB${escaped}\\fR`;
    })
    .join('');

const LINE_CHARS = 78;
/** Lines of a readable length; a line that begins with a dot or an apostrophe would be a request. */
const wrapped = (text: string): string => {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > LINE_CHARS) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].map((one) => one.replace(/^([.'])/, '\\&$1')).join('\n');
};

/** Text with `words as typed` and page(8) references. */
const paragraph = (text: string): string =>
  wrapped(
    text
      .split('`')
      .map((part, i) =>
        i % 2 === 1 ? typed(part) : roff(part).replace(/\b([a-z][a-z0-9_.-]*)(\(\d\))/g, '\\fB$1\\fR$2'),
      )
      .join(''),
  );

/** `-m, --mtu MTU`, as the page shows it. */
const heading = ({ name, short, argument }: ProgramOption): string => {
  const long = `\\fB\\-\\-${name.replace(/-/g, '\\-')}\\fR`;
  const letter = short === null ? '' : `\\fB\\-${short}\\fR, `;
  return `${letter}${long}${argument === null ? '' : ` \\fI${roff(argument)}\\fR`}`;
};

const item = (owner: Program, option: ProgramOption): string => {
  const paragraphs = manualOf(owner, option).split('\n\n').map(paragraph);
  return `.TP\n${heading(option)}\n${paragraphs.join('\n.IP\n')}`;
};

const optionItems = (name: string): string => {
  const owner = program(name);
  const offered = owner.options.filter(({ help }) => help !== null);
  const groups = [...new Set(offered.map(({ group }) => group))];
  return groups
    .map((group) => {
      const items = offered.filter((one) => one.group === group).map((option) => item(owner, option));
      return [...(group === '' ? [] : [`.SS ${group}`]), ...items].join('\n');
    })
    .join('\n');
};

const compatibilityItems = (name: string): string => {
  const owner = program(name);
  return owner.options
    .filter(({ help }) => help === null)
    .map((option) => item(owner, option))
    .join('\n');
};

/** The page of a frame; `includes` by file name. Throws for a placeholder of what there is not. */
export const manualPage = (frame: string, release: string, includes: Readonly<Record<string, string>>): string =>
  frame
    .replace(/^@FRAME ([a-z]+)@$/gm, (_line, name: string) => {
      const text = includes[`${name}.inc`];
      if (text === undefined) throw new Error(`there is no frame ${name}`);
      // Its licence is the page's.
      return text.replace(/^\.\\".*\n/, '').trimEnd();
    })
    .replace(/^@OPTIONS ([a-z0-9 ]+)@$/gm, (_line, name: string) => optionItems(name))
    .replace(/^@COMPATIBILITY ([a-z0-9 ]+)@$/gm, (_line, name: string) => compatibilityItems(name))
    .replaceAll('@VERSION@', release);
