// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The comparison with passt: four kinds of guests, each with its rows and with what is compared there. */
import { existsSync } from 'node:fs';
import { settingTable } from './report.mjs';
import { measure, secondsOf } from './run.mjs';
import { OURS } from './samples.mjs';
import { vmPeer } from './vm-guests.mjs';
import { namespacePeer, wire } from './vm-peers.mjs';
import { QEMU_STREAM_ROWS, QEMU_VHOST_ROWS, STREAM_ROWS, VHOST_ROWS } from './vm-rows.mjs';

/** @typedef {import('./peers.mjs').Peer} Peer */
/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./samples.mjs').Samples} Samples */
/** @typedef {import('./settings.mjs').Setting} Setting */
/** @typedef {{ title: string, rows: readonly Row[], peers: readonly Peer[] }} Group */

export const VM_ROWS = [...STREAM_ROWS, ...VHOST_ROWS, ...QEMU_STREAM_ROWS, ...QEMU_VHOST_ROWS];
export const REFERENCE = 'passt';
export const WIRE = wire.name;
const REFERENCE_BINARY = '/usr/bin/passt';

/**
 * What is to be measured.
 * @param {object} what
 * @param {readonly string[]} [what.only] names of peers
 * @param {readonly string[]} [what.rows] texts in names of rows
 * @param {readonly (readonly [string, string])[]} what.others name and path of more tools with passt's command line
 * @param {boolean} what.yardstick
 * @returns {Group[]}
 */
export const vmGroups = ({ only, rows, others, yardstick }) => {
  const named = existsSync(REFERENCE_BINARY)
    ? [.../** @type {const} */ ([[REFERENCE, REFERENCE_BINARY]]), ...others]
    : others;
  /** Debian's has no vhost-user: what its stream does is what that of ours is compared with. @type {Group[]} */
  const groups = [
    {
      title: 'A namespace behind the stream socket',
      rows: STREAM_ROWS,
      peers: [
        namespacePeer(OURS, 'stream'),
        ...named.map(([name, path]) => namespacePeer(name, 'stream', path)),
        ...(yardstick ? [wire] : []),
      ],
    },
    {
      title: 'A namespace behind vhost-user, beside the stream socket of the others',
      rows: VHOST_ROWS,
      peers: [namespacePeer(OURS, 'vhost-user'), ...named.map(([name, path]) => namespacePeer(name, 'stream', path))],
    },
    {
      title: 'QEMU, stream socket',
      rows: QEMU_STREAM_ROWS,
      peers: [vmPeer(OURS, 'stream'), ...named.map(([name, path]) => vmPeer(name, 'stream', path))],
    },
    {
      title: 'QEMU, vhost-user, beside the stream socket of the others',
      rows: QEMU_VHOST_ROWS,
      peers: [vmPeer(OURS, 'vhost-user'), ...named.map(([name, path]) => vmPeer(name, 'stream', path))],
    },
  ];
  return groups
    .map(({ title, ...group }) => ({
      title,
      rows: group.rows.filter(({ name }) => rows === undefined || rows.some((text) => name.includes(text))),
      peers: group.peers.filter(({ name }) => only === undefined || only.includes(name)),
    }))
    .filter((group) => group.rows.length > 0 && group.peers.length > 0);
};

/** For each guest to be there, on average. */
const START_SECONDS = 3;
/** In the first setting all rows, in the others those that depend on it. @param {Group} group @param {number} i */
const inSetting = (group, i) => ({
  ...group,
  rows: i === 0 ? group.rows : group.rows.filter((row) => row.settings === 'all'),
});

/** @param {readonly Group[]} groups @param {readonly Setting[]} settings @param {number} rounds */
export const vmSeconds = (groups, settings, rounds) =>
  settings
    .flatMap((_, i) => groups.map((group) => inSetting(group, i)))
    .reduce((sum, { rows, peers }) => {
      const labs = new Set(rows.map(({ mtu }) => mtu)).size;
      return sum + secondsOf({ rows, peers, rounds }) + labs * peers.length * START_SECONDS;
    }, 0);

/**
 * Measures all groups in all settings. A group that can not be measured is told of, and the others go on.
 * @param {readonly Group[]} groups @param {readonly Setting[]} settings @param {number} rounds @param {Samples} samples
 */
export const measureVm = async (groups, settings, rounds, samples) => {
  /** @type {{ title: string, content: string[][] }[]} */
  const tables = [];
  let failures = 0;
  for (const [i, setting] of settings.entries())
    for (const group of groups) {
      const { rows, peers } = inSetting(group, i);
      if (rows.length === 0) continue;
      const title = `${group.title}; ${setting.label}`;
      console.log(`\n${title}`);
      try {
        await measure({ setting, rows, peers, rounds, samples });
      } catch (error) {
        failures++;
        console.error(`bench: ${title}: ${error instanceof Error ? error.message : error}`);
        continue;
      }
      const names = peers.map(({ name }) => name);
      tables.push({ title, content: settingTable({ samples, rows, peers: names, settings }, setting, true) });
    }
  return { tables, failures };
};
