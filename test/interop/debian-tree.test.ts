// SPDX-License-Identifier: Apache-2.0
/** scripts/lib/debian-tree.mjs: what runs in a tree sees it alone, changes nothing, and leaves nothing. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { debianTree, TREES, treeCommand } from '../../scripts/lib/debian-tree.mjs';
import { REPOSITORY } from '../support/lab.mjs';
import { finish, start, waitFor } from '../support/process.mjs';

type TreeOptions = Parameters<typeof treeCommand>[1];
let tree: string;
let scratch: string;
beforeAll(() => {
  tree = debianTree(TREES.consumers);
  scratch = mkdtempSync(join(tmpdir(), 'pastiche-tree-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const inTree = async (options: TreeOptions, script: string) =>
  finish(start(treeCommand(tree, options, ['sh', '-c', script]), {}), {});

it('is a root directory of that release', async () => {
  const { stdout, status } = await inTree(
    {},
    '. /etc/os-release; echo $VERSION_CODENAME; rootlesskit --version; exit 7',
  );
  expect(stdout).toMatch(/^trixie\nrootlesskit version 2\./);
  expect(status).toBe(7);
});

it('forgets what is written, and has what is bound read-only, shared writable', async () => {
  writeFileSync(join(scratch, 'file'), 'there');
  const options = {
    binds: { '/pastiche': REPOSITORY, '/etc/bound': join(scratch, 'file') },
    shares: { '/tmp/out': scratch },
  };
  const script =
    'echo new >/etc/new; cat /etc/new /etc/bound; ls /pastiche/package.json; touch /pastiche/x /etc/bound; pwd >/tmp/out/pwd';
  const { stdout, stderr } = await inTree({ ...options, cwd: '/usr' }, script);
  expect(stdout).toBe('new\nthere/pastiche/package.json\n');
  expect(stderr.match(/Read-only file system/g)?.length).toBe(2);
  expect(readFileSync(join(scratch, 'pwd'), 'utf8')).toBe('/usr\n');
  expect(existsSync(join(tree, 'etc/new'))).toBe(false);
});

it('has an ordinary user who can make namespaces with many ids', async () => {
  const script =
    'id -u; echo $XDG_RUNTIME_DIR $HOME; touch $XDG_RUNTIME_DIR/x $HOME/x && unshare --user --map-root-user --map-auto cat /proc/self/uid_map';
  const { stdout, stderr } = await inTree({ user: 'user' }, script);
  expect(stderr).toBe('');
  expect(stdout.replace(/ +/g, ' ')).toBe('1000\n/run/user/1000 /home/user\n 0 1000 1\n 1 100000 65535\n');
});

it('ends all its processes when the command is killed, daemons too', async () => {
  const mark = `pastiche-tree-${process.pid}`;
  const mine = (): number =>
    readdirSync('/proc').filter((name) => {
      try {
        return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`, 'utf8').includes(`MARK=${mark}`);
      } catch {
        return false; // gone meanwhile, or not ours to read
      }
    }).length;
  const script = 'setsid sleep 1000 & setsid -f sleep 1000; echo on; sleep 1000';
  const started = start(treeCommand(tree, { env: { MARK: mark } }, ['sh', '-c', script]), {});
  await waitFor(() => started.out() === 'on\n' && mine() === 4, { what: 'the processes' });
  started.child.kill('SIGKILL');
  await started.closed;
  await waitFor(() => mine() === 0, { what: 'their end' });
});

it('says why there is no tree', () => {
  expect(() => debianTree({ suite: 'no-such-release', include: ['iproute2'] })).toThrow(
    /no Debian tree of no-such-release with iproute2: .*mmdebstrap/s,
  );
});
