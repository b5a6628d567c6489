// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Makes this checkout ready: installs missing Debian packages (when we may) and npm packages, builds.
 *
 *   node scripts/setup.mjs [--bench] [--vm]    --bench: also the tools that the benchmark compares with
 *                                              --vm: also the image of the virtual machines (a kernel is downloaded)
 *
 * Exit status 1 and the one line to run when packages are missing and we are not allowed to install them.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasGuests } from './lib/guest-image.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Debian package → what shows that it is there: a command, or an absolute path of a file. */
const PACKAGES = {
  'libseccomp-dev': ['/usr/include/seccomp.h'],
  'libjansson-dev': ['/usr/include/jansson.h'],
  'g++': ['g++', 'gcc'],
  make: ['make'],
  python3: ['python3'],
  iproute2: ['ip', 'ss'],
  'iputils-ping': ['ping'],
  'iputils-tracepath': ['tracepath'],
  traceroute: ['traceroute'],
  iperf3: ['iperf3'],
  'isc-dhcp-client': ['dhclient'],
  tcpdump: ['tcpdump'],
  strace: ['strace'],
  'dnsmasq-base': ['dnsmasq'],
  curl: ['curl'],
  openssl: ['openssl'],
  'ngtcp2-client': ['gtlsclient'],
  'ngtcp2-server': ['gtlsserver'],
  'util-linux': ['setpriv', 'unshare', 'nsenter'],
  procps: ['ps'],
  // Newer programs that use us, in root directories of their release.
  bubblewrap: ['bwrap'],
  rootlesskit: ['rootlesskit', 'rootlessctl'],
  mmdebstrap: ['mmdebstrap'],
  // Packages of our own, and file capabilities.
  rpm: ['rpmbuild'],
  // Runs our units, in namespaces of its own.
  systemd: ['systemd-analyze', '/lib/systemd/systemd'],
  lintian: ['lintian'],
  binutils: ['strip', 'readelf'],
  'libcap2-bin': ['setcap'],
  uidmap: ['newuidmap'],
  podman: ['podman', 'conmon'],
  'containernetworking-plugins': ['/usr/lib/cni/tuning'],
  buildah: ['buildah'],
  crun: ['crun'],
  catatonit: ['/usr/bin/catatonit'],
  // Manual pages and completions are read by what will read them.
  mandoc: ['mandoc'],
  'groff-base': ['groff'],
  zsh: ['zsh'],
  fish: ['fish'],
  // Virtual machines and what is in them.
  ...(process.arch === 'x64' ? { 'user-mode-linux': ['/usr/bin/linux.uml'] } : {}),
  'busybox-static': ['busybox'],
  ...(process.arch === 'x64' ? { 'qemu-system-x86': ['qemu-system-x86_64'] } : {}),
  // libFuzzer and its runtime, for `npm run fuzz`.
  clang: ['clang'],
  'libclang-rt-dev': ['/usr/share/doc/libclang-rt-dev'],
};
const BENCH_PACKAGES = { passt: ['pasta'], slirp4netns: ['slirp4netns'] };

const PATHS = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`.split(delimiter);

/** @param {string} what */
const isThere = (what) => {
  if (what.startsWith('/')) return existsSync(what);
  return PATHS.some((dir) => {
    try {
      accessSync(join(dir, what), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
};

/** @param {string} file @param {readonly string[]} args */
const run = (file, args) => {
  const done = spawnSync(file, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (done.status === 0) return;
  const why = done.error ? done.error.message : `${done.stdout}${done.stderr}`.trimEnd();
  throw new Error(`${file} ${args.join(' ')} failed:\n${why}`);
};

/** One line that says what happens, and when it is done how long it took. @template T @param {string} what @param {() => T} action @returns {T} */
const step = (what, action) => {
  const started = performance.now();
  process.stdout.write(`setup: ${what} … `);
  try {
    const result = action();
    process.stdout.write(`${((performance.now() - started) / 1000).toFixed(1)} s\n`);
    return result;
  } catch (error) {
    process.stdout.write('failed\n');
    throw error;
  }
};

/** The command prefix with which packages can be installed, or null. */
const privilege = () => {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? ['sudo', '-n'] : null;
};

/** @param {boolean} bench */
const installPackages = (bench) => {
  const wanted = Object.entries({ ...PACKAGES, ...(bench ? BENCH_PACKAGES : {}) });
  const missing = wanted.filter(([, signs]) => !signs.every(isThere)).map(([name]) => name);
  if (missing.length === 0) return;
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing];
  const prefix = isThere('apt-get') ? privilege() : null;
  if (prefix === null)
    throw new Error(`these packages are missing; run this line as root and start again:\n  ${install.join(' ')}`);
  const apt = (/** @type {readonly string[]} */ args) => {
    const [file = '', ...rest] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', ...args];
    run(file, rest);
  };
  step('package lists', () => apt(['apt-get', 'update', '-q']));
  step(`installing ${missing.join(' ')}`, () => apt(install));
  const still = wanted.filter(([, signs]) => !signs.every(isThere)).map(([name]) => name);
  if (still.length > 0) throw new Error(`installed, but not found: ${still.join(' ')}`);
};

/** Whether every package of the lock file is there in that version; optional ones are for other platforms. */
const modulesCurrent = () => {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(lock.packages).every(([path, entry]) => {
    if (path === '' || entry.optional || entry.devOptional || entry.peer) return true;
    try {
      return JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')).version === entry.version;
    } catch {
      return false;
    }
  });
};

/** Where the parts of a build come from; its last act is to write CODE_CACHE. */
const SOURCES = [
  'controller',
  'shared',
  'helper/src',
  'helper/addon',
  'helper/qrap',
  'helper/binding.gyp',
  'seccomp',
  'package.json',
  'scripts/build.mjs',
  'scripts/gen-options.mjs',
  'scripts/lib',
];
const CODE_CACHE = 'dist/controller.cache';

/** When the file, or the youngest one below the directory, was written; 0 where there is none. @param {string} path @returns {number} */
const youngest = (path) => {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status?.isDirectory() !== true) return path.endsWith('.test.ts') ? 0 : (status?.mtimeMs ?? 0);
  return Math.max(0, ...readdirSync(path).map((name) => youngest(join(path, name))));
};

/** Whether the last build was after the last change. */
const buildCurrent = () => {
  const built = youngest(join(root, CODE_CACHE));
  return built > 0 && SOURCES.every((source) => youngest(join(root, source)) <= built);
};

/** Whether we can build here. */
const isOurs = () => {
  const dist = join(root, 'dist');
  try {
    accessSync(existsSync(dist) ? dist : root, constants.W_OK);
    return true;
  } catch {
    return false;
  }
};

/** What npm has to do. In somebody else's checkout it can do nothing, and need not if it is built. */
const build = () => {
  if (isOurs()) {
    if (!modulesCurrent()) step('npm ci', () => run('npm', ['ci', '--no-audit', '--no-fund']));
    step('npm run build', () => run('npm', ['run', '--silent', 'build']));
  } else if (!modulesCurrent() || !buildCurrent()) {
    throw new Error(
      `this checkout belongs to another user and has to be built: its owner can run "npm ci" and "npm run build" there, or clone it for yourself`,
    );
  }
};

/** Runs a script that makes something of Debian packages; with fresh package lists when the machine's do not do. @param {string} script */
const makeOfPackages = (script) => {
  const make = () => run(process.execPath, [join(root, script)]);
  try {
    make();
  } catch (error) {
    const prefix = isThere('apt-get') ? privilege() : null;
    if (prefix === null) throw error;
    const [file = '', ...rest] = [...prefix, 'apt-get', 'update', '-q'];
    run(file, rest);
    make();
  }
};

/**
 * @typedef {object} SetupOptions
 * @property {boolean} [bench] also the tools that the benchmark compares with
 * @property {'needed' | 'wanted'} [vm] also the image of the virtual machines; wanted: without it there is a word of warning, and
 *   under CI=true an error, but on machines for which there is none yet
 * @property {boolean} [trees] also the Debian trees of programs that use us; without them the same
 */

/** Everything that demo, tests and benchmark need. Throws an Error whose message is for the user. @param {SetupOptions} [options] */
export const setup = ({ bench = false, vm, trees = false } = {}) => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    throw new Error(`Node ${process.versions.node} is too old: 20.19 or newer is needed`);
  installPackages(bench);
  build();
  /** @param {string} what @param {string} script @param {boolean} needed */
  const image = (what, script, needed) => {
    try {
      step(what, () => makeOfPackages(script));
    } catch (error) {
      if (needed) throw error;
      console.error(`setup: no ${what}: ${error instanceof Error ? error.message : error}`);
    }
  };
  const inCi = process.env['CI'] === 'true';
  if (vm !== undefined)
    image('image of the virtual machines', 'scripts/lib/guest-image.mjs', vm === 'needed' || (inCi && hasGuests()));
  if (trees) image('Debian trees', 'scripts/lib/debian-tree.mjs', inCi);
};

/** For scripts: sets up or ends with status 1. @param {SetupOptions} [options] */
export const setupOrExit = (options) => {
  try {
    setup(options);
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
};

if (process.argv[1] === fileURLToPath(import.meta.url))
  setupOrExit({ bench: process.argv.includes('--bench'), ...(process.argv.includes('--vm') && { vm: 'needed' }) });
