// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Kernel and initial RAM disk of the lab's virtual machines, made from Debian packages: the cloud kernel (downloaded once, not
 * installed), busybox, and the programs of this machine that tests run in a guest, with their libraries. All is kept below
 * ${XDG_CACHE_HOME:-~/.cache}/pastiche/guest, by version and content; no network is needed while it is there.
 *
 *   node scripts/lib/guest-image.mjs    makes the image and says where it is
 *
 * The first process is test/support/guest-agent.c. The archive is not compressed: an emulated CPU unpacks slowly.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpio } from './cpio.mjs';
import { at } from './paths.mjs';

/** @typedef {import('./cpio.mjs').Entry} Entry */

/**
 * @typedef {object} Architecture
 * @property {string} kernel Debian's metapackage of the kernel
 * @property {string} emulator QEMU's program
 */
/** By process.arch. @type {Readonly<Record<string, Architecture>>} */
const ARCHITECTURES = {
  x64: { kernel: 'linux-image-cloud-amd64', emulator: 'qemu-system-x86_64' },
};

/** Kernel modules that a guest needs; what they depend on is found in them. */
const MODULES = ['virtio_pci', 'virtio_net', 'virtio_console', 'tcp_bbr'];

/** Programs of this machine, copied with their libraries. A shell, too: busybox's own prefers its own applets to them. */
const PROGRAMS = ['dash', 'dhclient', 'ip', 'iperf3', 'ping', 'ss'];

/** Programs of the repository, linked statically: name in the guest's /bin → source. */
const TOOLS = {
  stream: 'test/support/stream.c',
  crowd: 'test/support/crowd.c',
  witness: 'test/support/witness.c',
  load: 'test/bench/load.c',
};
const AGENT = 'test/support/guest-agent.c';

/** Its own delay before the first word is up to five seconds. */
const DHCLIENT_CONF = `initial-delay 0;
also request interface-mtu, domain-search, host-name;
also request dhcp6.name-servers, dhcp6.domain-search, dhcp6.fqdn;
`;

const DIRECTORIES = [
  'bin',
  'sbin',
  'dev',
  'etc',
  'lib',
  'modules',
  'proc',
  'run',
  'sys',
  'tmp',
  'usr',
  'var',
  'var/lib',
];

/**
 * @typedef {object} GuestImage
 * @property {string} kernel path
 * @property {string} initramfs path
 * @property {string} emulator QEMU's program for it
 * @property {string} version the kernel's, as Debian counts
 */

/** Whether there are guests for this kind of machine. */
export const hasGuests = () => ARCHITECTURES[process.arch] !== undefined;

/** This machine's row. Throws on a machine whose guests are not there yet. */
export const guestArchitecture = () => {
  const found = ARCHITECTURES[process.arch];
  if (found === undefined)
    throw new Error(
      `there is no virtual machine for ${process.arch} yet, only for ${Object.keys(ARCHITECTURES).join(', ')}: scripts/lib/guest-image.mjs has the table`,
    );
  return found;
};

const cacheRoot = () => join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'pastiche', 'guest');

const PATHS = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/bin`;

/** @param {string} file @param {readonly string[]} args @param {string} [cwd] */
const attempt = (file, args, cwd = '/') =>
  spawnSync(file, args, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, PATH: PATHS, LC_ALL: 'C' },
  });

/** Standard output of a program that must succeed. @param {string} file @param {readonly string[]} args @param {string} [cwd] */
const run = (file, args, cwd) => {
  const done = attempt(file, args, cwd);
  if (done.status !== 0)
    throw new Error(`${file} ${args.join(' ')}: ${done.error?.message ?? `${done.stdout}${done.stderr}`.trim()}`);
  return done.stdout;
};

/** Makes a directory of the cache, whole or not at all. @param {string} path @param {(dir: string) => void} fill */
const makeOnce = (path, fill) => {
  if (existsSync(path)) return path;
  mkdirSync(cacheRoot(), { recursive: true });
  const fresh = mkdtempSync(join(cacheRoot(), 'new-'));
  try {
    fill(fresh);
    try {
      renameSync(fresh, path);
    } catch (error) {
      if (!existsSync(path)) throw error; // else another process was faster
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return path;
};

/** Field of a Debian package's stanza. @param {string} stanza @param {string} name */
const field = (stanza, name) => new RegExp(`^${name}: (.+)$`, 'm').exec(stanza)?.[1] ?? '';

/** The kernel that the package lists name: its package, version and hash; null without lists. @param {string} meta */
const candidate = (meta) => {
  const name = /^ +Depends: (linux-image-\S+)$/m.exec(attempt('apt-cache', ['depends', meta]).stdout ?? '')?.[1];
  if (name === undefined) return null;
  const stanza = (attempt('apt-cache', ['show', '--no-all-versions', name]).stdout ?? '').split('\n\n')[0] ?? '';
  const [version, sha256] = [field(stanza, 'Version'), field(stanza, 'SHA256')];
  return version === '' || sha256 === '' ? null : { name, version, sha256 };
};

/** File name → path, of all files below. @param {string} dir @returns {Map<string, string>} */
const filesBelow = (dir) =>
  new Map(
    readdirSync(dir, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => [entry.name, join(entry.parentPath, entry.name)]),
  );

/** The modules wanted and those that they need, in the order of loading. @param {Map<string, string>} all */
const inOrder = (all) => {
  /** @type {Map<string, string>} */
  const order = new Map();
  const add = (/** @type {string} */ name) => {
    const path = all.get(`${name}.ko`) ?? all.get(`${name.replaceAll('_', '-')}.ko`);
    if (path === undefined) throw new Error(`the kernel has no module ${name}`);
    if (order.has(name)) return;
    const depends = /\0depends=([^\0]*)\0/.exec(readFileSync(path, 'latin1'))?.[1] ?? '';
    for (const each of depends.split(',').filter(Boolean)) add(each);
    order.set(name, path);
  };
  for (const name of MODULES) add(name);
  return order;
};

/**
 * A directory with `vmlinuz`, the modules, and `order`, their names in the order of loading.
 * @param {string} meta @returns {{ dir: string, version: string }}
 */
const kernelOf = (meta) => {
  const found = candidate(meta);
  // Other modules want another directory.
  const modules = createHash('sha256').update(MODULES.join()).digest('hex').slice(0, 8);
  const prefix = `${meta}_${modules}_`;
  const kept = () =>
    (existsSync(cacheRoot()) ? readdirSync(cacheRoot()) : []).filter((name) => name.startsWith(prefix)).sort();
  const path = (/** @type {string} */ version) => join(cacheRoot(), `${prefix}${version}`);
  const last = kept().at(-1);
  if (found === null) {
    if (last === undefined) throw new Error(`apt knows no ${meta}: run apt-get update`);
    return { dir: join(cacheRoot(), last), version: last.slice(prefix.length) };
  }
  try {
    const dir = makeOnce(path(found.version), (fresh) => {
      // apt checks the package against its signed lists; unauthenticated ones are refused here whatever the machine's settings are.
      const strictly = ['-q', '-o', 'APT::Get::AllowUnauthenticated=false', '-o', 'APT::Sandbox::User=root'];
      run('apt-get', [...strictly, 'download', `${found.name}=${found.version}`], fresh);
      const [file = ''] = readdirSync(fresh);
      const archive = join(fresh, file);
      const hash = createHash('sha256').update(readFileSync(archive)).digest('hex');
      if (hash !== found.sha256) throw new Error(`${file} is not what the package lists say`);
      const tree = join(fresh, 'tree');
      run('dpkg-deb', ['-x', archive, tree]);
      const all = filesBelow(tree);
      const kernel = [...all.keys()].find((name) => name.startsWith('vmlinuz-'));
      if (kernel === undefined) throw new Error(`${file} has no kernel`);
      cpSync(all.get(kernel) ?? '', join(fresh, 'vmlinuz'));
      const order = inOrder(all);
      for (const [name, from] of order) cpSync(from, join(fresh, `${name}.ko`));
      writeFileSync(join(fresh, 'order'), `${[...order.keys()].join('\n')}\n`);
      rmSync(tree, { recursive: true });
      rmSync(archive);
    });
    for (const old of kept())
      if (old !== basename(dir)) rmSync(join(cacheRoot(), old), { recursive: true, force: true });
    return { dir, version: found.version };
  } catch (error) {
    if (last === undefined) throw error;
    console.error(`guest image: ${last} is used: ${error instanceof Error ? error.message : error}`);
    return { dir: join(cacheRoot(), last), version: last.slice(prefix.length) };
  }
};

/** @param {string} name @returns {string} absolute path of one of this machine's programs */
const programPath = (name) => {
  const dir = PATHS.split(':').find((each) => existsSync(join(each, name)));
  if (dir === undefined) throw new Error(`this machine has no ${name}: run node scripts/setup.mjs`);
  return join(dir, name);
};

/** A dynamic program's libraries and loader, by the path they have. @param {string} path */
const librariesOf = (path) =>
  run('ldd', [path])
    .split('\n')
    .map((line) => /(?:=> |^\s*)(\/\S+) \(0x/.exec(line)?.[1])
    .filter((each) => each !== undefined);

/** One of the repository's C programs as a static one, compiled when its sources or the compiler have changed. @param {string} source */
const compiled = (source) => {
  const key = createHash('sha256').update(run('gcc', ['--version']));
  for (const each of [source, 'test/support/tool.h']) key.update(readFileSync(at(each)));
  const name = `tool-${basename(source, '.c')}-${key.digest('hex').slice(0, 16)}`;
  const dir = makeOnce(join(cacheRoot(), name), (fresh) => {
    const flags = ['-std=gnu11', '-O2', '-static', '-s', '-w'];
    run('gcc', [...flags, '-o', join(fresh, 'program'), at(source)]);
  });
  return readFileSync(join(dir, 'program'));
};

/** All that goes into the archive, by path without the leading slash. @param {string} kernelDir */
const contents = (kernelDir) => {
  /** @type {Map<string, Entry>} */
  const entries = new Map(DIRECTORIES.map((path) => [path, { mode: 0o040755 }]));
  const file = (/** @type {string} */ path, /** @type {Buffer} */ content, mode = 0o100755) => {
    const parts = path.split('/').slice(0, -1);
    for (let n = 1; n <= parts.length; n++) {
      const dir = parts.slice(0, n).join('/');
      if (!entries.has(dir)) entries.set(dir, { mode: 0o040755 });
    }
    entries.set(path, { mode, content });
  };
  const order = readFileSync(join(kernelDir, 'order'), 'utf8').trim().split('\n');
  for (const name of order) file(`modules/${name}.ko`, readFileSync(join(kernelDir, `${name}.ko`)), 0o100644);
  file('modules/order', Buffer.from(order.map((name) => `/modules/${name}.ko\n`).join('')), 0o100644);
  file('init', compiled(AGENT));
  for (const [name, source] of Object.entries(TOOLS)) file(`bin/${name}`, compiled(source));
  file('bin/busybox', readFileSync(programPath('busybox')));
  for (const name of PROGRAMS) {
    const path = programPath(name);
    file(`bin/${name}`, readFileSync(path));
    for (const library of librariesOf(path)) file(library.slice(1), readFileSync(library));
  }
  entries.set('bin/sh', { mode: 0o120777, content: Buffer.from('dash') });
  file('etc/dhclient.conf', Buffer.from(DHCLIENT_CONF), 0o100644);
  file('etc/passwd', Buffer.from('root:x:0:0:root:/tmp:/bin/sh\n'), 0o100644);
  file('etc/group', Buffer.from('root:x:0:\n'), 0o100644);
  file('etc/dhcp-hook.sh', readFileSync(at('test/support/dhcp-hook.sh')));
  return entries;
};

/** Kernel and initial RAM disk, made when they are not there. Throws an Error whose message is for the user. @returns {GuestImage} */
export const guestImage = () => {
  const { kernel: meta, emulator } = guestArchitecture();
  const { dir: kernelDir, version } = kernelOf(meta);
  const archive = cpio(contents(kernelDir));
  const hash = createHash('sha256').update(archive).digest('hex').slice(0, 16);
  const dir = makeOnce(join(cacheRoot(), `initramfs-${hash}`), (fresh) => {
    writeFileSync(join(fresh, 'initramfs'), archive);
  });
  return { kernel: join(kernelDir, 'vmlinuz'), initramfs: join(dir, 'initramfs'), emulator, version };
};

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(guestImage());
  } catch (error) {
    console.error(`guest image: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}
