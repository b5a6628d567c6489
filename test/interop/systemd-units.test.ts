// SPDX-License-Identifier: Apache-2.0
/** What systemd itself says of our units: that they are correct, and how exposed each is. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { REPOSITORY } from '../support/lab.mjs';
import { finish, start } from '../support/process.mjs';
import { type Manager, renderUnits } from '../support/systemd-box.ts';

const dir = mkdtempSync(join(tmpdir(), 'pastiche-units-'));
renderUnits(dir, join(REPOSITORY, 'dist/bin'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const MANAGERS: readonly Manager[] = ['system', 'user'];
const unitsOf = (manager: Manager): string[] =>
  readdirSync(join(dir, manager)).filter((name) => /\.(service|socket)$/.test(name));
const UNITS = MANAGERS.flatMap((manager) => unitsOf(manager).map((unit) => ({ manager, unit })));
const SERVICES = UNITS.filter(({ unit }) => unit.endsWith('.service'));

/** systemd-analyze for a template: as if it had an instance. */
const analyze = async (manager: Manager, ...args: readonly string[]) => {
  const argv = ['systemd-analyze', '--no-pager', ...(manager === 'user' ? ['--user'] : []), ...args];
  const options = { env: { XDG_RUNTIME_DIR: dir } };
  return finish(start(argv, options), options);
};

it('there are some of each kind', () => {
  expect(unitsOf('system').length).toBeGreaterThan(4);
  expect(unitsOf('user').length).toBeGreaterThan(1);
});

describe.each(UNITS)('$manager/$unit', ({ manager, unit }) => {
  it('is correct', async () => {
    const done = await analyze(manager, '--man=no', 'verify', join(dir, manager, unit));
    expect(done).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });
});

interface Row {
  readonly json_field: string;
  readonly exposure: string | null;
  readonly set: boolean | null;
}
const LIMIT = 2;
/**
 * What a user's manager cannot give, by the name of systemd-analyze's row. It does not run as root, whatever the row says of a unit
 * without User=. pastiche@ joins the user namespace of the one it serves, so it may have none of its own, and with it none of what the
 * manager makes by one (docs/SYSTEMD.md).
 */
const NO_ROOT = ['UserOrDynamicUser'];
const EXCEPT: Readonly<Record<string, readonly string[]>> = {
  'user/passt@.service': NO_ROOT,
  'user/pastiche@.service': [
    ...[...NO_ROOT, 'PrivateUsers', 'PrivateDevices', 'PrivateMounts', 'PrivateTmp', 'ProtectSystem', 'ProtectHome'],
    ...['ProtectProc', 'ProtectClock', 'ProtectHostname', 'ProtectControlGroups', 'ProtectKernelLogs'],
    ...[
      'ProtectKernelModules',
      'ProtectKernelTunables',
      'DeviceAllow',
      'RootDirectoryOrRootImage',
      'CapabilityBoundingSet',
    ],
  ],
};

describe.each(SERVICES)('$manager/$unit', ({ manager, unit }) => {
  it('is exposed at most to 2.0 of 10', async () => {
    // The bounding set has a row for every few capabilities.
    const except = EXCEPT[`${manager}/${unit}`] ?? [];
    const isExcused = (row: Row) => row.exposure !== null && except.some((name) => row.json_field.startsWith(name));
    const done = await analyze(manager, 'security', '--offline=true', '--json=short', join(dir, manager, unit));
    const rows: Row[] = JSON.parse(done.stdout);
    const excused = rows.filter(isExcused);
    expect(except.filter((name) => !excused.some((row) => row.json_field.startsWith(name)))).toEqual([]);
    const total = await analyze(manager, 'security', '--offline=true', join(dir, manager, unit));
    const overall = Number(/Overall exposure level.*: ([0-9.]+)/.exec(total.stdout)?.[1] ?? Number.NaN);
    expect(overall - excused.reduce((sum, row) => sum + Number(row.exposure), 0)).toBeLessThanOrEqual(LIMIT);
  });
});
