// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Root directories of Debian releases, for programs that this machine's release has not: made by mmdebstrap once and kept below
 * ${XDG_CACHE_HOME:-~/.cache}/pastiche/trees, by release, packages and architecture. What runs in one sees it through an overlay that is
 * thrown away, so nothing ever changes a tree, and any number of programs use it at once.
 *
 *   node scripts/lib/debian-tree.mjs                    makes the trees of TREES that are not there, and says where they are
 *   node scripts/lib/debian-tree.mjs SUITE PACKAGE,…    makes this one
 *
 * Every tree has an ordinary user `user` (1000) with 65,536 subordinate ids. Delete the directory to have newer packages.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @typedef {object} TreeSpec
 * @property {string} suite code name of a Debian release
 * @property {readonly string[]} include packages, beside the essential ones and apt
 */

/** The trees that tests use. @type {Readonly<Record<'consumers' | 'docker' | 'plain', TreeSpec>>} */
export const TREES = {
  /** Programs that start pasta and slirp4netns, in newer versions than Debian 12 has. */
  consumers: {
    suite: 'trixie',
    include: [
      ...['podman', 'buildah', 'crun', 'conmon', 'netavark', 'aardvark-dns', 'rootlesskit', 'passt', 'slirp4netns'],
      ...['nodejs', 'uidmap', 'dbus', 'systemd', 'iptables', 'nftables', 'fuse-overlayfs', 'ca-certificates'],
      ...['iproute2', 'iputils-ping', 'procps', 'curl', 'socat', 'busybox-static'],
    ],
  },
  /** Rootless Docker, which brings a container runtime of its own. */
  docker: {
    suite: 'trixie',
    include: [
      ...['docker.io', 'rootlesskit', 'slirp4netns', 'fuse-overlayfs', 'nodejs', 'uidmap', 'dbus', 'ca-certificates'],
      ...['iproute2', 'iptables', 'procps', 'curl', 'busybox-static'],
    ],
  },
  /** Where a package is installed: nothing there but what it depends on. */
  plain: { suite: 'trixie', include: ['nodejs', 'iproute2', 'rpm', 'uidmap', 'apparmor'] },
};

const cacheRoot = () => join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'pastiche', 'trees');
const isRoot = () => process.getuid?.() === 0;

/** Trees that nothing entered for so long are deleted when another one is made. */
const KEPT_MS = 30 * 24 * 3600 * 1000;

/** @param {string} file @param {readonly string[]} args */
const attempt = (file, args) =>
  spawnSync(file, args, { cwd: '/', encoding: 'utf8', maxBuffer: 1 << 26, env: { ...process.env, LC_ALL: 'C' } });

/** Throws what the program says if it fails. @param {string} file @param {readonly string[]} args */
const run = (file, args) => {
  const { status, error, stdout, stderr } = attempt(file, args);
  if (status !== 0) throw new Error(error?.message ?? `${stdout}${stderr}`.trim().slice(-2000));
};

/** In a user namespace of their own, ordinary users have what a tree's files belong to. */
const USERNS = ['--user', '--map-root-user', '--map-auto', '--cgroup'];

/** Why an ordinary user cannot have a tree, or null. */
const obstacle = () => {
  if (isRoot()) return null;
  const { username, uid } = userInfo();
  const hasIds = (/** @type {string} */ file) =>
    existsSync(file) &&
    readFileSync(file, 'utf8')
      .split('\n')
      .some((line) => [username, `${uid}`].includes(line.split(':')[0] ?? ''));
  if (!hasIds('/etc/subuid') || !hasIds('/etc/subgid'))
    return `${username} has no subordinate user and group ids (/etc/subuid, /etc/subgid), which a Debian tree's files need`;
  const tried = attempt('unshare', [...USERNS, 'true']);
  return tried.status === 0
    ? null
    : `no user namespace with subordinate ids: ${tried.error?.message ?? tried.stderr.trim()}`;
};

/** This machine's source of Debian packages, as apt knows it; none where it has other ones. */
const mirror = () => {
  const format = ['--format', '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)', 'Identifier: Packages'];
  const found = (attempt('apt-get', ['indextargets', ...format]).stdout ?? '')
    .split('\n')
    .find((line) => / Debian Debian main$/.test(line));
  return found === undefined ? [] : [found.split(' ')[0] ?? ''];
};

/** How this machine's apt reaches its source: proxies, certificates, and whether the lists' dates count. */
const transport = () => {
  const names = ['Acquire::http', 'Acquire::https', 'Acquire::Check-Valid-Until', 'Acquire::Check-Date'];
  const dumped = attempt('apt-config', ['dump', '--format', '%f "%v";%n', ...names]).stdout ?? '';
  const set = dumped.split('\n').filter((line) => / "[^"]+";$/.test(line));
  return [...set, 'Acquire::Retries "3";'].map((line) => `--aptopt=${line}`);
};

/** Done in a tree that is otherwise complete; $1 is its root. */
const CUSTOMIZE = `--customize-hook=set -e
echo user:x:1000:1000::/home/user:/bin/sh >>"$1/etc/passwd"
echo user:x:1000: >>"$1/etc/group"
for f in subuid subgid; do echo user:100000:65536 >"$1/etc/$f"; done
mkdir -p "$1/home/user" "$1/dev/net"
chown 1000:1000 "$1/home/user"
echo tree >"$1/etc/hostname"
printf '127.0.0.1 localhost tree\\n::1 localhost\\n' >"$1/etc/hosts"`;

/** @param {TreeSpec} spec */
const pathOf = ({ suite, include }) => {
  const key = JSON.stringify([[...new Set(include)].sort(), CUSTOMIZE]);
  return join(cacheRoot(), `${suite}-${process.arch}-${createHash('sha256').update(key).digest('hex').slice(0, 16)}`);
};

/** Deletes a tree, whose files may be of other users. @param {string} path */
const remove = (path) => {
  const command = ['rm', '-rf', '--one-file-system', path];
  if (isRoot()) attempt('rm', command.slice(1));
  else attempt('unshare', [...USERNS, ...command]);
};

/** Makes a tree: whole, or not at all. Call with the lock held. @param {TreeSpec} spec */
const make = (spec) => {
  const path = pathOf(spec);
  if (existsSync(path)) return;
  for (const name of readdirSync(cacheRoot())) {
    const old = join(cacheRoot(), name);
    // What an interrupted run left, and what nobody uses any more.
    if (name.startsWith('new-') || (/-[0-9a-f]{16}$/.test(name) && Date.now() - statSync(old).mtimeMs > KEPT_MS))
      remove(old);
  }
  const fresh = mkdtempSync(join(cacheRoot(), 'new-'));
  try {
    const tree = join(fresh, 'tree');
    const packages = `--include=${[...new Set(spec.include)].sort().join()}`;
    const common = ['mmdebstrap', '--quiet', '--variant=minbase', packages, ...transport(), CUSTOMIZE, spec.suite];
    if (isRoot()) run('env', [...common, '--mode=root', tree, ...mirror()]);
    else {
      // Its own user namespace maps other ids than the one in which the tree is used, so it comes by an archive; without devices.
      mkdirSync(tree);
      const unpack = ['unshare', ...USERNS, 'tar', '-xp', '--numeric-owner', '--exclude=./dev/*', '-C', tree];
      const script = `set -o pipefail; "$@" | ${unpack.join(' ')}`;
      run('bash', ['-c', script, 'bash', ...common, '--mode=unshare', '-', ...mirror()]);
    }
    renameSync(tree, path);
  } catch (error) {
    throw new Error(
      `no Debian tree of ${spec.suite} with ${spec.include.join(', ')}: ${error instanceof Error ? error.message : error}`,
    );
  } finally {
    remove(fresh);
  }
};

/**
 * A Debian release's root directory, made when it is not there (about half a minute, and the packages are downloaded). Throws an Error
 * whose message is for the user: no mmdebstrap, no packages, no subordinate ids. @param {TreeSpec} spec @returns {string} its path
 */
export const debianTree = (spec) => {
  const why = obstacle();
  if (why !== null) throw new Error(why);
  const path = pathOf(spec);
  if (!existsSync(path)) {
    mkdirSync(cacheRoot(), { recursive: true });
    const self = [process.execPath, fileURLToPath(import.meta.url), '--locked', spec.suite, spec.include.join()];
    run('flock', [join(cacheRoot(), 'lock'), ...self]);
  }
  if (isRoot()) utimesSync(path, new Date(), new Date());
  return path;
};

/**
 * @typedef {object} TreeOptions
 * @property {Readonly<Record<string, string>>} [binds] path in the tree → path of this machine, seen there read-only
 * @property {Readonly<Record<string, string>>} [shares] the same, but writable
 * @property {'root' | 'user'} [user] who runs the program; `user` has XDG_RUNTIME_DIR=/run/user/1000
 * @property {Readonly<Record<string, string>>} [env] all of its environment but PATH, HOME, USER, LC_ALL and XDG_RUNTIME_DIR
 * @property {string} [cwd] in the tree
 */

/**
 * Runs in the new namespaces. Arguments: the tree, an empty directory of this machine to mount on, ro|rw FROM TO …, --, command.
 * What is below /dev, /sys and the cgroups is bound or mounted as it is needed by containers; the root is left by pivot_root, as
 * programs that make namespaces themselves want it.
 */
const ENTER = `set -e
tree=$1 base=$2 top=$3; shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
root=$base/root
mount -t overlay -o "lowerdir=$tree,upperdir=$base/upper,workdir=$base/work" overlay "$root"
mount -t proc proc "$root/proc"
if [ "$top" = root ]; then
  mount -t sysfs sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount --rbind /sys "$root/sys"
fi
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
for each in null zero full random urandom tty net/tun fuse; do
  [ -e "/dev/$each" ] || continue
  : >"$root/dev/$each"
  mount --bind "/dev/$each" "$root/dev/$each"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for each in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/\${each%:*}" "$root/dev/\${each#*:}"; done
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root/run/user/1000" "$root/run/lock"
chown 1000:1000 "$root/run/user/1000"
chmod 700 "$root/run/user/1000"
while [ "$1" != -- ]; do
  if [ -d "$2" ]; then mkdir -p "$root$3"; else mkdir -p "$(dirname "$root$3")"; [ -e "$root$3" ] || : >"$root$3"; fi
  mount --rbind "$2" "$root$3"
  [ "$1" = rw ] || mount -o remount,bind,ro "$root$3"
  shift 3
done
shift
cd "$root"
pivot_root . .
umount -l .
# Not in place of this shell, which waits for orphans.
"$@" && exit 0 || exit $?
`;

/**
 * The command that runs `argv` in a tree, in mount and process namespaces of its own: all its processes end with it, and it with
 * SIGKILL of the command. The network is the caller's; its resolv.conf is the tree's own unless bound.
 * @param {string} tree @param {TreeOptions} options @param {readonly string[]} argv @returns {string[]}
 */
export const treeCommand = (tree, { binds = {}, shares = {}, user = 'root', env = {}, cwd = '/' }, argv) => {
  // A place to mount on; each process sees its own there.
  const base = join(cacheRoot(), 'mount');
  mkdirSync(base, { recursive: true });
  const mounts = [
    ...Object.entries(binds).flatMap(([to, from]) => ['ro', resolve(from), to]),
    ...Object.entries(shares).flatMap(([to, from]) => ['rw', resolve(from), to]),
  ];
  const ids = ['--reuid', '1000', '--regid', '1000', '--clear-groups'];
  const as = user === 'root' ? [] : ['setpriv', ...ids];
  const home = user === 'root' ? '/root' : '/home/user';
  const variables = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: home,
    USER: user,
    LC_ALL: 'C.UTF-8',
    ...(user === 'user' && { XDG_RUNTIME_DIR: '/run/user/1000' }),
    ...env,
  };
  const environment = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', ...(isRoot() ? [] : USERNS)];
  const enter = ['sh', '-c', ENTER, 'sh', tree, base, isRoot() ? 'root' : 'user', ...mounts, '--'];
  return ['unshare', ...namespaces, ...enter, ...as, 'env', '-i', '-C', cwd, ...environment, ...argv];
};

/** @param {readonly string[]} args */
const main = (args) => {
  const locked = args[0] === '--locked';
  const [suite, packages] = locked ? args.slice(1) : args;
  const specs =
    suite === undefined ? Object.values(TREES) : [{ suite, include: (packages ?? '').split(',').filter(Boolean) }];
  for (const spec of specs) {
    if (locked) make(spec);
    else console.log(`${spec.suite}: ${debianTree(spec)}`);
  }
};

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
