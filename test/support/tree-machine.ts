// SPDX-License-Identifier: Apache-2.0
/**
 * A machine of another Debian release in the lab's "host" namespace: its programs, an ordinary user with subordinate ids, the lab's
 * network and name servers, and this checkout at /pastiche. It ends with the lab.
 */
import { debianTree, TREES, treeCommand } from '../../scripts/lib/debian-tree.mjs';
import { commandName, descendants, isRoot, type Lab, REPOSITORY, Side } from './lab.mjs';
import { hasExited, waitFor } from './process.mjs';

/** Why the tests of this machine's programs cannot run for this user, or false. */
export const noTreeMachine = (): string | false =>
  isRoot ? false : 'an ordinary user’s lab has one user id, and the programs need 65,536';

export interface TreeMachine {
  readonly root: Side;
  readonly user: Side;
}

/** PATH of the machine's users: our drop-in names, before Debian's programs of the same names. */
const PATH = '/pastiche/dist/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const ENVIRONMENT = ['env', '-C', '/', '-i', `PATH=${PATH}`, 'LC_ALL=C.UTF-8'];
const AS_USER = ['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups'];

/** @param binds path on the machine → path of this one, read-only there @param spec which Debian tree */
export const treeMachine = async (
  lab: Lab,
  binds: Readonly<Record<string, string>> = {},
  spec = TREES.consumers,
): Promise<TreeMachine> => {
  const options = { binds: { '/pastiche': REPOSITORY, '/etc/resolv.conf': '/run/resolv.conf', ...binds } };
  const command = treeCommand(debianTree(spec), options, ['sh', '-c', 'echo on; exec cat']);
  const init = lab.host.spawn(command, { stdin: 'pipe' });
  await waitFor(() => init.out() === 'on\n' || hasExited(init), { what: 'the machine' });
  if (hasExited(init)) throw new Error(`no machine: ${init.err()}`);
  const first = await waitFor(() => descendants(init.pid()).find((pid) => commandName(pid) === 'cat'), {
    what: 'its process',
  });
  const enter = ['nsenter', '-t', `${first}`, '-m', '-n', '-p', '--'];
  const home = ['HOME=/home/user', 'USER=user', 'XDG_RUNTIME_DIR=/run/user/1000'];
  return {
    root: new Side([...enter, ...ENVIRONMENT, 'HOME=/root', 'USER=root'], 1),
    user: new Side([...enter, ...AS_USER, ...ENVIRONMENT, ...home], 1),
  };
};
