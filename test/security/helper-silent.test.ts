// SPDX-License-Identifier: Apache-2.0
/**
 * A controller that says nothing before it is ready: the start ends by itself, with nothing left. A file of its own, because it
 * takes the time that the slowest of starts may take between two requests.
 */
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { descendants } from '../support/lab.mjs';
import { finish, isAlive, waitFor } from '../support/process.mjs';
import { call, Installation, NO_OUTBOUND, type Step } from './helper-harness.ts';

const SENTENCE = 'The controller says nothing for 30 s and is not ready: has Node.js too little memory (ulimit -v)?\n';

it('a start of which nothing is heard ends with one sentence; one that is ready has all the time', async () => {
  const hello = call('host', 'session.hello', { protocol: 1 });
  const seal = call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND });
  const never = { pause: 'never' };
  const starts: readonly (readonly [string, readonly string[], readonly Step[]])[] = [
    ['passt', [], [never]],
    ['passt', ['-f'], [hello, never]],
    ['pasta', ['-I', 'tap0', '--', 'sleep', '1000'], [never]],
    ['passt', ['-f'], [hello, call('host', 'guest.open'), seal, { release: true }, call('host', 'ready'), never]],
  ];
  const all = starts.map(([name, args, steps]) => {
    const install = new Installation();
    mkdirSync(install.path('run'));
    chmodSync(install.path('run'), 0o777);
    const files = ['pid', ...(name === 'passt' ? ['socket'] : [])].map((file) => install.path(`run/${file}`));
    const [pid = '', socket] = files;
    const where = ['-P', pid, ...(socket === undefined ? [] : ['-s', socket])];
    return { install, files, one: install.start([...where, ...args], { program: `bin/${name}`, steps }) };
  });
  try {
    for (const { install } of all) await install.paused('never');
    const silent = all.slice(0, 3);
    const family = silent.flatMap(({ one }) => descendants(one.pid()));
    expect(family.length).toBeGreaterThanOrEqual(5);
    for (const { one, files } of silent) {
      const done = await finish(one, { timeoutMs: 40_000 });
      expect(done).toMatchObject({ status: 1, stdout: '', stderr: SENTENCE });
      expect(files.filter(existsSync)).toEqual([]);
    }
    await waitFor(() => !family.some(isAlive), { what: 'all of them to end' });
    expect(all[3]?.one.child.exitCode).toBe(null);
    expect(all[3]?.files.every(existsSync)).toBe(true);
  } finally {
    for (const { install } of all) install.remove();
  }
});
