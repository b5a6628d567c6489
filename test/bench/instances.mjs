// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * What many instances on one node cost: `node test/bench/instances.mjs [--peer NAME=PATH]... COUNT...`, as root. For each count, that
 * many are started at once, each with a namespace and a command of its own, and then left alone for ten seconds.
 * For docs/SCALING.md.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { textTable } from '../../scripts/lib/table.mjs';
import { makeLab } from '../support/lab.mjs';
import { contextSwitches, pssKib } from '../support/process.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */

const SETTLE_MS = 2000;
const IDLE_MS = 10_000;
/** USER_HZ, the unit of /proc/PID/stat. */
const TICKS_PER_SECOND = 100;

/** KiB that the kernel says a new program could have. */
const availableKib = () => Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
/** Processor time of a process and of its children that have ended, seconds. @param {number} pid */
const seconds = (pid) => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
};
/** @param {number} pid @param {string} what directory below /proc/PID */
const entries = (pid, what) => readdirSync(`/proc/${pid}/${what}`).length;

/** @param {Lab} lab @param {string | undefined} binary @param {number} count */
const measure = async (lab, binary, count) => {
  const freeBefore = availableKib();
  const began = performance.now();
  const guests = await Promise.all(Array.from({ length: count }, () => lab.guest(['--config-net', '-q'], binary)));
  const startMs = performance.now() - began;
  await sleep(SETTLE_MS);
  const pids = guests.flatMap((guest) => guest.toolProcesses());
  /** @param {(pid: number) => number} of */
  const sum = (of) => pids.reduce((total, pid) => total + of(pid), 0);
  const used = sum(seconds);
  const wakes = sum(contextSwitches);
  await sleep(IDLE_MS);
  const row = [
    count,
    (startMs / 1000).toFixed(2),
    ((1000 * used) / count).toFixed(0),
    (sum(pssKib) / count / 1024).toFixed(1),
    ((freeBefore - availableKib()) / count / 1024).toFixed(1),
    (((sum(contextSwitches) - wakes) * 60_000) / IDLE_MS / count).toFixed(1),
    (pids.length / count).toFixed(1),
    (sum((pid) => entries(pid, 'task')) / count).toFixed(1),
    (sum((pid) => entries(pid, 'fd')) / count).toFixed(1),
  ];
  await Promise.all(guests.map((guest) => guest.close()));
  return row.map(String);
};

const HEADING = [
  'instances',
  'start of all, s',
  'processor time of a start, ms',
  'PSS each, MiB',
  'less memory available, each, MiB',
  'wake-ups each, 1/min',
  'processes',
  'threads',
  'descriptors',
];

const main = async () => {
  const { values, positionals } = parseArgs({
    options: { peer: { type: 'string', multiple: true } },
    allowPositionals: true,
  });
  const lab = await makeLab();
  try {
    for (const each of ['pastiche=', ...(values.peer ?? [])]) {
      const [name = '', path = ''] = each.split('=');
      const rows = [];
      for (const count of positionals) rows.push(await measure(lab, path === '' ? undefined : path, Number(count)));
      console.log(`${name}\n${textTable([HEADING, ...rows])}`);
    }
  } finally {
    await lab.cleanup();
  }
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
