// SPDX-License-Identifier: Apache-2.0
/** What a build needs from the machine, each with the sentence that is printed when it is missing. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { at } from './paths.mjs';

/** Runs `command` for its exit status only. */
const runs = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** Whether the C compiler finds a header; a compiler's search path is more than /usr/include. */
const hasHeader = (header) =>
  spawnSync('cc', ['-E', '-x', 'c', '-'], { input: `#include <${header}>\n`, stdio: ['pipe', 'ignore', 'ignore'] })
    .status === 0;

/** `cc -print-file-name` echoes the bare name when it finds no such archive. */
const hasArchive = (archive) => {
  const found = spawnSync('cc', [`-print-file-name=${archive}`], { encoding: 'utf8' });
  return found.status === 0 && found.stdout.trim() !== archive;
};

const TOOLS = [
  [() => runs('cc', '--version'), 'no C compiler (cc): install gcc (Debian: apt-get install gcc)'],
  [() => runs('c++', '--version'), 'no C++ compiler (c++): install g++ (Debian: apt-get install g++)'],
  [() => runs('make', '--version'), 'no make: install it (Debian: apt-get install make)'],
  [() => runs('python3', '--version'), 'no python3, which gyp runs in: install it (Debian: apt-get install python3)'],
];
const LIBRARIES = [
  [() => hasHeader('seccomp.h'), 'no <seccomp.h>: install libseccomp (Debian: apt-get install libseccomp-dev)'],
  [() => hasHeader('jansson.h'), 'no <jansson.h>: install jansson (Debian: apt-get install libjansson-dev)'],
  [() => hasHeader('linux/if_tun.h'), 'no kernel headers: install them (Debian: apt-get install linux-libc-dev)'],
  [
    () => hasArchive('libjansson.a'),
    'no libjansson.a, the static archive: install it (Debian: apt-get install libjansson-dev)',
  ],
  [() => hasArchive('libc.a'), 'no libc.a, the static C library: install it (Debian: apt-get install libc6-dev)'],
];
const MODULES = [
  [() => existsSync(at('node_modules', 'node-gyp', 'package.json')), 'no node-gyp in node_modules: run npm ci first'],
  [() => existsSync(at('node_modules', 'rolldown', 'package.json')), 'no rolldown in node_modules: run npm ci first'],
];

/** Sentences for what is missing, most basic first; empty when a build can start. */
export const missingTools = () => {
  const absent = (rows) => rows.filter(([present]) => !present()).map(([, sentence]) => sentence);
  const tools = absent(TOOLS);
  // Without a compiler every header would be reported as missing, too.
  return [...tools, ...(tools.length === 0 ? absent(LIBRARIES) : []), ...absent(MODULES)];
};
