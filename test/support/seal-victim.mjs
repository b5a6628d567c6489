// SPDX-License-Identifier: Apache-2.0
/** Run by addon-seal.test.ts: installs the filter given as hex and prints what came of it, as one JSON line. */
import { readdirSync, readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';

const native = createRequire(import.meta.url)(process.env['PASTICHE_ADDON']);
const state = () =>
  readdirSync('/proc/self/task').map((thread) => {
    const status = readFileSync(`/proc/self/task/${thread}/status`, 'utf8');
    return [/^NoNewPrivs:\t(\d)/m, /^Seccomp:\t(\d)/m].map((line) => Number(line.exec(status)?.[1]));
  });
const filter = Uint8Array.from(Buffer.from(process.argv[2], 'hex'));
const before = { probe: native.probeFilter(), threads: state() };
const result = native.installFilter(filter);
writeSync(1, JSON.stringify({ before, result, after: { probe: native.probeFilter(), threads: state() } }));
