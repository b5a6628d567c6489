// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * The test lab: a "host" and a "remote" network namespace joined by a veth pair, in private mount, PID and network
 * namespaces of their own, so that nothing of it is seen outside and all of it dies with the process that made it.
 *
 *     guest ─ tool under test ─ host 192.0.2.2, 2001:db8:1::2 ═ veth ═ 192.0.2.1, 2001:db8:1::1 remote
 *                                                                       198.51.100.1, 2001:db8:2::1 (servers, DNS)
 *
 * Plain JavaScript because the demo and the benchmark use it before anything is built. Works for root (the tool then
 * runs as an ordinary user) and for an ordinary user with user namespaces (who is user 0 of the lab's namespace).
 * The lab's first process reads a pipe from us: when we end, however we end, it ends, and with it its PID namespace.
 */
import { spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { childrenOf, finish, hasExited, start, waitFor } from './process.mjs';

/** @typedef {import('./process.mjs').Finished} Finished */
/** @typedef {import('./process.mjs').RunOptions} RunOptions */
/** @typedef {import('./process.mjs').Started} Started */

export const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Numeric identity of the ordinary user that runs the tool when the lab belongs to root; needs no passwd entry. */
export const TEST_USER = 64_009;

export const NET = Object.freeze({
  host4: '192.0.2.2',
  host6: '2001:db8:1::2',
  gateway4: '192.0.2.1',
  gateway6: '2001:db8:1::1',
  server4: '198.51.100.1',
  server6: '2001:db8:2::1',
  name: 'server.lab.test',
  search: 'lab.test',
});

/** Port forwarding that the reference tool does by default and that these tests do not want. */
export const NO_FORWARDS = Object.freeze(['-t', 'none', '-u', 'none', '-T', 'none', '-U', 'none']);

export const isRoot = process.getuid?.() === 0;

/** For nsenter: an ordinary user is user 0 of the namespaces made by himself, anyway, and may not set groups there. */
const AS_USER_0 = isRoot ? ['-S', '0', '-G', '0'] : ['--preserve-credentials'];

/**
 * @typedef {object} LabOptions
 * @property {number} [mtu] MTU of the link between host and remote, bytes (default 1500)
 * @property {string} [binary] the tool under test (default: $PASTICHE_BIN, else dist/bin/pasta)
 * @property {ShimOptions} [shim] join host and remote by two taps and an impairing program instead of a veth pair
 * @property {string} [congestion] TCP congestion control in both namespaces, where the kernel has it (default cubic)
 */
/**
 * What the shim does to each frame, in both directions; probabilities in percent.
 * @typedef {object} ShimOptions
 * @property {number} seed
 * @property {number} [loss]
 * @property {number} [duplicate]
 * @property {number} [reorder] percentage of frames held back by another `reorderMs`
 * @property {number} [reorderMs]
 * @property {number} [delayMs] one way
 */

/** @param {number} mtu @param {boolean} shim */
const hostScript = (mtu, shim) => `
set -e
trap 'cat "$LAB_DIR"/*.log >&2 || true' EXIT
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
mkdir -m 1777 /run/scratch
if [ "$LAB_ROOT" = 1 ]; then
  mknod /run/tun c 10 200 && chmod 666 /run/tun && mount --bind /run/tun /dev/net/tun
fi
printf 'nameserver %s\\nnameserver %s\\nsearch %s\\n' ${NET.server4} ${NET.server6} ${NET.search} > /run/resolv.conf
mount --bind /run/resolv.conf "$(readlink -f /etc/resolv.conf)"
ip netns add remote
remote() { nsenter --net=/run/netns/remote "$@"; }
quiet='
  for s in accept_dad=0 dad_transmits=0; do
    for i in all default; do echo "\${s#*=}" > /proc/sys/net/ipv6/conf/$i/\${s%%=*}; done
  done
  echo "$LAB_CONGESTION" > /proc/sys/net/ipv4/tcp_congestion_control
  echo "0 2147483647" > /proc/sys/net/ipv4/ping_group_range || echo "0 0" > /proc/sys/net/ipv4/ping_group_range
'
sh -c "$quiet" 2>/dev/null || true
remote sh -c "$quiet" 2>/dev/null || true
ip link set lo up
remote ip link set lo up
${
  shim
    ? `"$LAB_DIR/shim" /proc/self/ns/net /run/netns/remote eth0 $LAB_SHIM </dev/null >"$LAB_DIR/shim.log" 2>&1 &
n=0
until ip link show eth0 && remote ip link show eth0; do sleep 0.02; n=$((n + 1)); [ $n -lt 250 ]; done >/dev/null 2>&1
ip link set eth0 mtu ${mtu}; remote ip link set eth0 mtu ${mtu}`
    : `ip link add eth0 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns remote`
}
ip addr add ${NET.host4}/24 dev eth0
ip addr add ${NET.host6}/64 dev eth0 nodad
remote ip addr add ${NET.gateway4}/24 dev eth0
remote ip addr add ${NET.gateway6}/64 dev eth0 nodad
remote ip addr add ${NET.server4}/32 dev lo
remote ip addr add ${NET.server6}/128 dev lo nodad
ip link set eth0 up
remote ip link set eth0 up
ip route add default via ${NET.gateway4}
ip -6 route add default via ${NET.gateway6}
remote dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root --group= \
  --listen-address=${NET.server4},${NET.server6} --bind-interfaces --log-facility=/dev/null \
  --host-record=${NET.name},${NET.server4},${NET.server6} --txt-record=long.${NET.search},"$(printf 'x%.0s' $(seq 200))" \
  </dev/null >"$LAB_DIR/dnsmasq.log" 2>&1 &
n=0
until ip -o link show eth0 | grep -q 'state U' && remote ip -o link show eth0 | grep -q 'state U' &&
  ip -o -6 addr show eth0 | grep -q fe80 && remote ip -o -6 addr show eth0 | grep -q fe80 # carrier is told with delay
do sleep 0.02; n=$((n + 1)); [ $n -lt 250 ]; done
echo ready
exec 3<&0
cat <&3 >/dev/null & # an asynchronous command's own standard input is /dev/null
wait $! || true
trap - EXIT
rm -rf "$LAB_DIR"
`;

/** @param {string} program @returns {string} absolute path of the binary under test */
const resolveBinary = (program) => {
  const path = resolve(REPOSITORY, program);
  accessSync(path, constants.X_OK);
  return path;
};

/** Whether every directory above `path` may be entered, and the file run, by any user. @param {string} path */
const openToAll = (path) => {
  if ((statSync(path).mode & 0o005) !== 0o005) return false;
  for (let at = dirname(realpathSync(path)); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === '/') return true;
  }
};

/** A world-readable home for the tool: itself, or a copy of the whole `dist` it lies in. @param {string} path @param {string} dir */
const reachable = (path, dir) => {
  if (!isRoot || openToAll(path)) return path;
  const from = resolve(dirname(path), '..');
  const to = join(dir, 'dist');
  cpSync(from, to, { recursive: true, verbatimSymlinks: true });
  return join(to, basename(dirname(path)), basename(path));
};

/** Compiles one of the lab's C programs. @param {string} source path in the repository @param {string} output @param {readonly string[]} [flags] */
export const compile = async (source, output, flags = []) => {
  const cc = start(
    ['gcc', '-std=gnu11', '-O2', '-Wall', '-Wextra', ...flags, '-o', output, join(REPOSITORY, source)],
    {},
  );
  const { status, stderr } = await finish(cc, { timeoutMs: 60_000 });
  if (status !== 0) throw new Error(`${source} does not compile:\n${stderr}`);
  return output;
};

/** @param {ShimOptions} o */
export const shimArguments = (o) =>
  [o.seed, o.loss ?? 0, o.duplicate ?? 0, o.reorder ?? 0, o.reorderMs ?? 5, o.delayMs ?? 0].join(' ');

/**
 * Builds a lab. Rejects with the set-up's own words when the machine can not have one.
 * @param {LabOptions} [options]
 */
export const makeLab = async (options = {}) => {
  const dir = mkdtempSync(join(tmpdir(), 'pastiche-lab-'));
  chmodSync(dir, 0o755);
  /** @type {Lab | undefined} */
  let lab;
  try {
    if (options.shim) await compile('test/support/shim.c', join(dir, 'shim'));
    lab = new Lab(dir, options);
    await lab.ready();
    return lab;
  } catch (error) {
    await lab?.cleanup();
    rmSync(dir, { recursive: true, force: true });
    throw error;
  }
};

/** One place to run programs in: a prefix of commands that enters it. */
export class Side {
  #prefix;
  #depth;
  /** @param {readonly string[]} prefix @param {number} depth how many of the prefix's programs stay as our child's ancestors */
  constructor(prefix, depth) {
    this.#prefix = prefix;
    this.#depth = depth;
  }
  /** A place further in. @param {readonly string[]} prefix commands that become the program, without a process of their own */
  within(prefix) {
    return new Side([...this.#prefix, ...prefix], this.#depth);
  }
  /** Starts a program. @param {readonly string[]} argv @param {RunOptions} [options] @returns {Started} */
  spawn(argv, options = {}) {
    return start([...this.#prefix, ...argv], { ...options, depth: this.#depth });
  }
  /** Runs a program to its end, whatever that is. @param {readonly string[]} argv @param {RunOptions} [options] @returns {Promise<Finished>} */
  async attempt(argv, options = {}) {
    return finish(this.spawn(argv, options), options);
  }
  /** Runs a program that must succeed. @param {readonly string[]} argv @param {RunOptions} [options] @returns {Promise<string>} its standard output */
  async run(argv, options = {}) {
    const done = await this.attempt(argv, options);
    if (done.status !== 0) {
      const how = done.timedOut ? 'timed out' : (done.signal ?? `exit ${done.status}`);
      throw new Error(`${argv.join(' ')}: ${how}\n${done.stdout.slice(-2000)}${done.stderr.slice(-4000)}`);
    }
    return done.stdout;
  }
}

export class Lab {
  /** World-readable directory of this lab, removed with it. */
  dir;
  binary;
  #holder;
  /** @type {number} process that holds the lab's namespaces, as seen from outside */
  #init = 0;
  #ended = false;
  /** Prefix that makes a command of the lab's root one of the ordinary user's. @type {readonly string[]} */
  asUser = isRoot
    ? ['setpriv', `--reuid=${TEST_USER}`, `--regid=${TEST_USER}`, '--clear-groups', '--inh-caps=-all', '--']
    : [];
  /** @type {Side} */ #host;
  /** @type {Side} */ #remote;
  /** @type {Side} */ #user;
  /** @type {Promise<void>} */ #ready;

  /** @param {string} dir @param {LabOptions} options */
  constructor(dir, options) {
    this.dir = dir;
    this.binary = reachable(resolveBinary(options.binary ?? process.env['PASTICHE_BIN'] ?? 'dist/bin/pasta'), dir);
    const own = isRoot ? [] : ['--user', '--map-root-user'];
    const argv = [
      ...own,
      '--mount',
      '--net',
      '--pid',
      '--ipc',
      '--fork',
      '--kill-child',
      '--mount-proc',
      '--propagation',
      'private',
    ];
    const script = hostScript(options.mtu ?? 1500, options.shim !== undefined);
    this.#holder = spawn('unshare', [...argv, 'sh', '-c', script], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
        LAB_DIR: dir,
        LAB_ROOT: isRoot ? '1' : '0',
        LAB_CONGESTION: options.congestion ?? 'cubic',
        LAB_SHIM: options.shim ? shimArguments(options.shim) : '',
      },
    });
    this.#ready = this.#awaitReady();
    this.#host = this.#remote = this.#user = new Side(['false'], 0);
    this.#ready.catch(() => {});
  }

  async #awaitReady() {
    const { stdout, stderr } = this.#holder;
    let said = '';
    stderr.on('data', (chunk) => {
      said += chunk;
    });
    await new Promise((done, fail) => {
      stdout.once('data', done);
      this.#holder.once('close', (status) => fail(new Error(`the lab can not be built (exit ${status}):\n${said}`)));
      this.#holder.once('error', fail);
    });
    const [init] = childrenOf(/** @type {number} */ (this.#holder.pid));
    if (init === undefined) throw new Error('the lab has no first process');
    this.#init = init;
    const enter = [
      'nsenter',
      '-t',
      String(init),
      ...(isRoot ? [] : ['-U', '--preserve-credentials']),
      '-m',
      '-n',
      '-p',
      '-i',
      '--',
    ];
    this.#host = new Side(enter, 1);
    this.#remote = new Side([...enter, 'nsenter', '--net=/run/netns/remote', '--'], 1);
    this.#user = new Side([...enter, ...this.asUser], 1);
    await waitFor(
      async () => (await this.#remote.attempt(['ss', '-Hlun', 'sport', '=', '53'])).stdout.includes(NET.server4),
      {
        what: 'the name server',
      },
    );
  }
  ready() {
    return this.#ready;
  }

  /** The "host" namespace, as the lab's root. */
  get host() {
    return this.#host;
  }
  /** The "remote" namespace, as the lab's root. */
  get remote() {
    return this.#remote;
  }
  /** The "host" namespace, as the ordinary user that runs the tool under test. */
  get user() {
    return this.#user;
  }

  /**
   * Command line of the tool under test, without port forwards.
   * @param {readonly string[]} args @param {readonly string[]} [command] @param {string} [binary] another tool with the same command line
   */
  argv(args, command = [], binary = this.binary) {
    return [binary, ...NO_FORWARDS, ...args, ...(command.length > 0 ? ['--', ...command] : [])];
  }

  /** Runs the tool as the ordinary user, to its end. @param {readonly string[]} args @param {readonly string[]} [command] @param {RunOptions} [options] */
  async pasta(args, command = [], options = {}) {
    return this.user.attempt(this.argv(args, command), options);
  }

  /**
   * Starts the tool with a command that waits, and gives a way into the new namespace once the command runs.
   * @param {readonly string[]} args @param {string} [binary] another tool with the same command line
   * @param {{ forwards?: boolean }} [options] forwards: the arguments say themselves what is forwarded
   * @returns {Promise<Guest>}
   */
  async guest(args, binary = this.binary, { forwards = false } = {}) {
    const command = ['sh', '-c', 'echo running; exec cat'];
    const argv = forwards ? [binary, ...args, '--', ...command] : this.argv(args, command, binary);
    const tool = this.user.spawn(argv, { stdin: 'pipe' });
    try {
      await waitFor(() => tool.out().includes('running') || hasExited(tool), {
        what: 'the command in the namespace',
        timeoutMs: 20_000,
      });
      if (hasExited(tool)) throw new Error(`the tool ended (${tool.child.exitCode}):\n${tool.err()}`);
      const inside = await waitFor(() => descendantNamed(tool.pid(), 'cat'), { what: 'the command in the namespace' });
      return new Guest(tool, /** @type {number} */ (inside));
    } catch (error) {
      tool.kill('SIGKILL');
      throw error;
    }
  }

  /** The network namespace of a process, as user 0 there. @param {string} pid in the lab's PID namespace */
  into(pid) {
    return this.#host.within(['nsenter', '-t', pid, '-U', ...AS_USER_0, '-n', '--']);
  }
  /** PID of the process that holds the lab's namespaces, seen from outside. */
  get init() {
    return this.#init;
  }
  /** PIDs of everything in the lab, as seen from outside, without the lab's own first process. */
  processes() {
    return descendants(this.#init);
  }

  /** Ends everything in the lab and waits until it is gone. */
  async cleanup() {
    if (this.#ended) return;
    this.#ended = true;
    const gone = hasExited({ child: this.#holder }) ? null : new Promise((done) => this.#holder.once('exit', done));
    this.#holder.stdin.end();
    const deadline = setTimeout(() => this.#holder.kill('SIGKILL'), 3000);
    await gone;
    clearTimeout(deadline);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A running tool and the namespace it serves. */
export class Guest extends Side {
  tool;
  commandPid;
  /** @param {Started} tool @param {number} commandPid PID of the command, seen from outside */
  constructor(tool, commandPid) {
    super(['nsenter', '-t', String(commandPid), '-U', ...AS_USER_0, '-m', '-n', '-p', '--'], 1);
    this.tool = tool;
    this.commandPid = commandPid;
  }
  /** PID of the launched tool, seen from outside. */
  get pid() {
    return this.tool.pid();
  }
  /** PIDs of the tool's own processes: the launched one and its descendants, without the command's. */
  toolProcesses() {
    const command = new Set([this.commandPid, ...descendants(this.commandPid)]);
    return [this.pid, ...descendants(this.pid)].filter((pid) => !command.has(pid));
  }
  /** Ends the command and waits for the tool. @returns {Promise<Finished>} */
  async close() {
    this.tool.child.stdin?.end();
    return finish(this.tool, { timeoutMs: 5000 });
  }
}

/** @param {number} pid @returns {number[]} */
export const descendants = (pid) => childrenOf(pid).flatMap((child) => [child, ...descendants(child)]);

/** @param {number} pid @param {string} name */
const descendantNamed = (pid, name) => descendants(pid).find((each) => commandName(each) === name);

/** Short name of a process, '' when it is gone. @param {number} pid */
export const commandName = (pid) => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
};
