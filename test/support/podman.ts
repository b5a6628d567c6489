// SPDX-License-Identifier: Apache-2.0
/**
 * Podman in a lab, as root and as an ordinary user, with storage, runtime directory and configuration of its own: the
 * machine's own containers are neither seen nor touched. It is the machine's, or that of a Debian tree that is entered.
 *
 * A container's root directory has busybox, `witness` (test/support/witness.c) and `stream` (stream.c), linked statically.
 */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { compile, isRoot, type Lab, type Side, TEST_USER } from './lab.mjs';
import { type Finished, isAlive, type RunOptions, type Started, searchPath, status, waitFor } from './process.mjs';

/**
 * Why a test of Podman cannot run here, '' if it can. In continuous integration that is an error.
 * @param programs what must be on PATH
 */
export const podmanMissing = (programs: readonly string[]): string => {
  const onPath = (name: string) =>
    searchPath()
      .split(':')
      .some((dir) => existsSync(join(dir, name)));
  const missing = programs.filter((name) => !onPath(name));
  const why = !isRoot
    ? 'Podman is tested in a lab of root, with an ordinary user in it'
    : missing.length > 0
      ? `not installed: ${missing.join(', ')}`
      : '';
  if (why !== '' && process.env['CI'] === 'true') throw new Error(why);
  if (why !== '') console.warn(`skipped: ${why}`);
  return why;
};

const APPLETS = ['sh', 'cat', 'ip', 'nslookup', 'sleep', 'nc', 'hostname', 'wc', 'true', 'kill', 'ping'];
/** In the place where Podman runs: short, for the path of slirp4netns's API socket must fit 107 octets. */
const HOME = '/mnt/p';
const USER = 'dweller';
/** Podman's defaults are above the hard limits of a plain virtual machine. */
const ULIMITS = '["nofile=1024:4096", "nproc=1000:1000"]';

/** PID in the lab's PID namespace. */
export const labPid = (pid: number): string => status(pid)['NSpid']?.split(/\s+/)[1] ?? '';

/** The root directory of all containers. */
const makeRootfs = async (lab: Lab): Promise<string> => {
  const root = join(lab.dir, 'rootfs');
  for (const name of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'run'])
    mkdirSync(join(root, name), { recursive: true });
  cpSync('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
  const programs = ['witness', 'stream'].map((name) =>
    compile(`test/support/${name}.c`, join(root, 'bin', name), ['-static']),
  );
  await Promise.all(programs);
  chmodSync(root, 0o755);
  return root;
};

/** Makes the lab's mount namespace one in which Podman works: cgroup2, a user with subordinate identities, a runtime directory. */
const PREPARE = `
set -e
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=1777 tmpfs /dev/shm # locks are there, by names that are the same everywhere
mount -t tmpfs -o mode=755 tmpfs /mnt # not below /run, which Podman hides from the plugins of an ordinary user's bridges
mkdir -p ${HOME} /run/user/${TEST_USER} /run/netns
for file in passwd group subuid subgid; do { cat /etc/$file || true; } >${HOME}/$file; done
echo '${USER}:x:${TEST_USER}:${TEST_USER}::${HOME}/user:/bin/sh' >>${HOME}/passwd
echo '${USER}:x:${TEST_USER}:' >>${HOME}/group
for file in subuid subgid; do echo '${USER}:500000:65536' >>${HOME}/$file; done
for file in passwd group subuid subgid; do [ ! -e /etc/$file ] || mount --bind ${HOME}/$file /etc/$file; done
mount -t tmpfs -o mode=700,uid=${TEST_USER},gid=${TEST_USER} tmpfs /run/user/${TEST_USER}
for who in root user; do
  mkdir ${HOME}/$who
  cp -a "$ROOTFS_FROM" ${HOME}/$who/rootfs
done
chown -R ${TEST_USER}:${TEST_USER} ${HOME}/user
`;

/** A mount namespace whose root is the Debian tree: read-only, with the lab's devices, resolv.conf and our programs. */
const ENTER_TREE = `
set -e
mkdir -p /run/tree
mount --bind "$TREE" /run/tree
mount -o remount,bind,ro /run/tree
for d in proc dev sys; do mount --rbind /$d /run/tree/$d; done
for d in run tmp var/tmp; do mount -t tmpfs -o mode=755 tmpfs /run/tree/$d; done
chmod 1777 /run/tree/tmp /run/tree/var/tmp
mkdir -p /run/tree/run/opt/bin /run/tree/run/opt/dist /run/tree/run/old /run/tree/run/lock
mount --bind "$DIST" /run/tree/run/opt/dist
touch /run/tree/run/opt/bin/node
mount --bind "$NODE" /run/tree/run/opt/bin/node
cp -a "$ROOTFS_FROM" /run/tree/run/rootfs
cp /etc/resolv.conf /run/tree/run/resolv.conf
mount --bind /run/tree/run/resolv.conf /run/tree/etc/resolv.conf
cd /run/tree
pivot_root . run/old
umount -l /run/old
echo entered
exec cat
`;

/** Where Podman runs, as root of the lab. */
export interface Place {
  readonly side: Side;
  /** Directory of the programs under test there. */
  readonly programs: string;
  /** Put before PATH there. */
  readonly path: string;
}

/** Makes a lab ready for this machine's Podman. */
export const machinePlace = async (lab: Lab): Promise<Place> => {
  await lab.host.run(['sh', '-c', PREPARE], { env: { ROOTFS_FROM: await makeRootfs(lab) } });
  return { side: lab.host, programs: dirname(lab.binary), path: '' };
};

/** Makes a lab ready for the Podman of a Debian tree. */
export const treePlace = async (lab: Lab, tree: string): Promise<Place> => {
  const rootfs = await makeRootfs(lab);
  const dist = dirname(dirname(lab.binary));
  const holder = lab.host.spawn(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', ENTER_TREE], {
    stdin: 'pipe',
    env: { TREE: tree, DIST: dist, NODE: process.execPath, ROOTFS_FROM: rootfs },
  });
  await waitFor(() => holder.out().includes('entered') || holder.child.exitCode !== null, { what: 'the Debian tree' });
  if (holder.child.exitCode !== null) throw new Error(`the Debian tree cannot be entered:\n${holder.err()}`);
  const inside = ['nsenter', '-t', labPid(holder.pid()), '-m', '--'];
  const side = lab.host.within(inside);
  await side.run(['sh', '-c', PREPARE], { env: { ROOTFS_FROM: '/run/rootfs' } });
  return { side, programs: '/run/opt/dist/bin', path: '/run/opt/bin:' };
};

/** Processes of the lab, by a part of their command lines. */
export const processesWith = (lab: Lab, part: string): number[] =>
  lab.processes().filter((pid) => isAlive(pid) && commandLine(pid).includes(part));
/** Arguments of a process with blanks between, '' when it is gone. */
const commandLine = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
};
/** Waits until no process has this in its command line. */
export const gone = (lab: Lab, part: string, timeoutMs = 5000): Promise<true> =>
  waitFor(() => processesWith(lab, part).length === 0, { what: `the end of what has ${part}`, timeoutMs });

export interface Settings {
  /** Lines of containers.conf's `[engine]`, `[network]`, `[containers]`. */
  readonly engine?: readonly string[];
  readonly network?: readonly string[];
  /** Added to Podman's environment. */
  readonly env?: Record<string, string>;
  /** Put before PATH. */
  readonly path?: string;
  /** Of its storage and configuration, if the user has several. */
  readonly name?: string;
}

/** A container that runs. */
export interface Container {
  readonly name: string;
  /** Its first process, seen from the lab. */
  readonly pid: string;
  /** Its network namespace, with the programs of the machine. */
  readonly net: Side;
  /** `podman exec`. */
  exec(argv: readonly string[], options?: RunOptions): Promise<string>;
}

/** Podman of one user. */
export class Podman {
  readonly rootless: boolean;
  /** Everything that Podman keeps of this user. */
  readonly home: string;
  /** The directory whose files go with the containers: sockets, locks, PID files. */
  readonly runtime: string;
  readonly #storage: string;
  readonly #configuration: string;
  readonly #lab: Lab;
  readonly #env: Record<string, string>;
  readonly #side: Side;

  private constructor(lab: Lab, place: Place, who: 'root' | 'user', settings: Settings) {
    this.#lab = lab;
    this.rootless = who === 'user';
    this.home = `${HOME}/${who}`;
    this.runtime = this.rootless ? `/run/user/${TEST_USER}` : `${HOME}/root/run`;
    this.#storage = `storage${settings.name ?? ''}`;
    this.#configuration = `${this.home}/containers${settings.name ?? ''}.conf`;
    const user = ['setpriv', `--reuid=${TEST_USER}`, `--regid=${TEST_USER}`, '--clear-groups', '--inh-caps=-all', '--'];
    this.#side = this.rootless ? place.side.within(user) : place.side;
    this.#env = {
      PATH: `${settings.path ?? ''}${place.path}${searchPath()}`,
      HOME: this.home,
      USER: this.rootless ? USER : 'root',
      XDG_RUNTIME_DIR: this.runtime,
      CONTAINERS_CONF: this.#configuration,
      ...settings.env,
    };
  }

  /** @param who whose containers */
  static async make(lab: Lab, place: Place, who: 'root' | 'user', settings: Settings): Promise<Podman> {
    const podman = new Podman(lab, place, who, settings);
    const file = [
      '[containers]',
      `default_ulimits = ${ULIMITS}`,
      '[engine]',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
      'runtime = "crun"',
      ...(settings.engine ?? []),
      '[network]',
      ...(settings.network ?? []),
    ];
    await podman.#side.run(['sh', '-c', `mkdir -p ${podman.runtime}; cat >${podman.#configuration}`], {
      input: `${file.join('\n')}\n`,
    });
    await podman.run(['ps']); // an ordinary user's first call leaves a process that holds the user namespace
    return podman;
  }

  /** Command line of a subcommand. */
  argv(args: readonly string[]): string[] {
    const dirs = ['--root', `${this.home}/${this.#storage}`, '--runroot', `${this.runtime}/${this.#storage}`];
    const tmp = this.rootless ? [] : ['--tmpdir', `${this.runtime}/libpod`];
    return ['podman', ...dirs, ...tmp, '--storage-driver', 'vfs', ...args];
  }
  /** Runs a subcommand, whatever comes of it. */
  attempt(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return this.#side.attempt(this.argv(args), { ...options, env: { ...this.#env, ...options.env } });
  }
  /** Runs a subcommand that must succeed; its standard output. */
  run(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.#side.run(this.argv(args), { ...options, env: { ...this.#env, ...options.env } });
  }
  /** Runs a program of the user, beside Podman. */
  beside(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return this.#side.attempt(argv, { ...options, env: { ...this.#env, ...options.env } });
  }

  /**
   * A shell in a user namespace of this user's, as its root, as in a container that containers are started in: there Podman believes
   * that it is root. It has `podman`, with storage of its own, and ends at the end of its input.
   */
  nested(script: string): Started {
    const podman = `podman --root ${this.home}/nested --runroot ${this.runtime}/nested --tmpdir ${this.runtime}/tmp --storage-driver vfs --runtime-flag root=${this.runtime}/crun`;
    const begin = `for d in /run/lock /dev/shm; do mount -t tmpfs tmpfs $d; done; podman() { command ${podman} "$@"; }; rootfs=${this.home}/rootfs`;
    const namespaces = ['--user', '--map-auto', '--map-root-user', '--mount'];
    return this.#side.spawn(['unshare', ...namespaces, 'sh', '-c', `${begin}\n${script}`], {
      stdin: 'pipe',
      env: this.#env,
    });
  }

  /** Runs something in a container of Buildah that has the usual root directory; what it says. */
  async build(command: string): Promise<string> {
    const storage = `--root ${this.home}/build --runroot ${this.runtime}/build --storage-driver vfs`;
    const script = `set -e
buildah() { command buildah ${storage} "$@"; }
c=$(buildah from scratch)
buildah copy -q "$c" ${this.home}/rootfs / >/dev/null
buildah run "$c" -- sh -c "$1"
buildah rm "$c" >/dev/null`;
    return this.#side.run(['sh', '-c', script, 'sh', command], { env: this.#env });
  }

  /** Arguments of `podman run` or `create`. */
  #container(name: string, args: readonly string[], command: readonly string[]): string[] {
    const fixed = ['-d', '--name', name, '--cgroups=disabled', '--pidfile', `${this.runtime}/${name}.pid`];
    return [...fixed, ...args, '--rootfs', `${this.home}/rootfs`, ...command];
  }
  /** `podman run -d`, whatever comes of it. */
  tryStart(
    name: string,
    args: readonly string[],
    command: readonly string[] = ['sleep', '1000'],
    options: RunOptions = {},
  ) {
    return this.attempt(['run', ...this.#container(name, args, command)], options);
  }
  /** `podman run --rm`: what the command says, and its status. */
  foreground(args: readonly string[], command: readonly string[], options: RunOptions = {}): Promise<Finished> {
    return this.attempt(
      ['run', '--rm', '--cgroups=disabled', ...args, '--rootfs', `${this.home}/rootfs`, ...command],
      options,
    );
  }
  /** `podman run -d`, while it runs. */
  starting(name: string, args: readonly string[]): Started {
    const argv = this.argv(['run', ...this.#container(name, args, ['sleep', '1000'])]);
    return this.#side.spawn(argv, { env: this.#env });
  }
  /** `podman run -d` of something that must start. */
  async start(name: string, args: readonly string[], command?: readonly string[]): Promise<Container> {
    const done = await this.tryStart(name, args, command);
    if (done.status !== 0) throw new Error(`${name}: ${done.status}\n${done.stdout}${done.stderr}`);
    return this.container(name);
  }
  /** A container with servers at these ports (test/support/witness.c). */
  async witness(name: string, args: readonly string[], ports: readonly number[]): Promise<Container> {
    const container = await this.start(name, args, ['witness', ...ports.map(String)]);
    await this.listening(container, ports);
    return container;
  }
  async listening(container: Container, ports: readonly number[]): Promise<void> {
    const filter = ports.map((port) => `sport = ${port}`).join(' or ');
    await waitFor(
      async () => (await container.net.run(['ss', '-Hltn', filter])).trim().split('\n').length >= ports.length,
      { what: `the servers of ${container.name}` },
    );
  }
  /** A container that runs already. */
  async container(name: string): Promise<Container> {
    const pid = (await this.#side.run(['cat', `${this.runtime}/${name}.pid`])).trim();
    return {
      name,
      pid,
      net: this.#lab.host.within(['nsenter', '-t', pid, '-n', '--']),
      exec: (argv, options) => this.run(['exec', name, ...argv], options),
    };
  }
  /** The path of a container's network namespace, with which the process that serves it is called. */
  async sandbox(name: string): Promise<string> {
    return (await this.run(['inspect', '--format', '{{.NetworkSettings.SandboxKey}}', name])).trim();
  }
  /** `podman rm -f` without waiting for an orderly end. */
  async remove(...names: readonly string[]): Promise<void> {
    await this.run(['rm', '-f', '-t', '0', ...names]);
  }
}
