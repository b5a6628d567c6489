// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Virtual machines in the lab: QEMU runs in the "host" namespace as the ordinary user, emulated (no /dev/kvm needed), with
 * the image of scripts/lib/guest-image.mjs. All of it dies with the lab.
 *
 *     const lab = await makeLab();
 *     const passt = await startPasst(lab, '/run/scratch/a.socket', ['--mtu', '1500']);
 *     const vm = await startVm(lab, { netdev: streamTo('/run/scratch/a.socket') });       // resolves when it has booted
 *     await vm.must('ip link set eth0 up && udhcpc -i eth0 -n -q -s /etc/dhcp-hook.sh');  // standard output; throws if it fails
 *     const { status, stdout, stderr } = await vm.run('ping -c 1 192.0.2.1');             // any number at once
 *     await vm.reboot();                                                                  // pause(), resume()
 *     await vm.powerOff();                                                                // or vm.kill(), or lab.cleanup()
 *
 * vhost-user:  startVm(lab, { netdev: 'vhost-user,chardev=c', args: ['-chardev', `socket,id=c,path=${path}`], sharedMemory: true })
 * qrap:        startVm(lab, { netdev: 'socket,fd=5', wrap: (argv) => [qrap, '5', ...argv] }), or `network: []` for a qrap that
 *              adds what is needed itself
 *
 * The guest: one virtio-net card, eth0, down; lo up; busybox, iproute2's ip and ss, iputils' ping, dhclient, iperf3, and
 * the repository's stream, crowd and witness. `/run/scratch` is a directory of the lab (not of the guest) where the ordinary user may
 * write. Commands run at once and see /dev/null as standard input. Something that goes on is started as
 * `PROGRAM >/tmp/log 2>&1 &`.
 */
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { guestImage, hasGuests } from '../../scripts/lib/guest-image.mjs';
import { finish, hasExited, searchPath, waitFor } from './process.mjs';

/** @typedef {import('./lab.mjs').Lab} Lab */
/** @typedef {import('./process.mjs').Started} Started */

/** Where DHCP clients of a guest note what they were told: a line `name=value` for each. */
export const LEASE_LOG = '/tmp/lease';

const BOOT_MS = 60_000;
const COMMAND_MS = 20_000;
/** How much later than the guest we give up a command: it answers for itself unless it is stopped or lost. */
const GRACE_MS = 5000;
const CONSOLE_TAIL = 3000;
/** The kernel takes no longer argument of a program (MAX_ARG_STRLEN). */
const COMMAND_BYTES_MAX = 0x1ffff;

/**
 * @typedef {object} VmOptions
 * @property {string} [netdev] QEMU's -netdev, without the id
 * @property {string} [mac] of the guest's card
 * @property {string} [device] additional properties of the card, like `mrg_rxbuf=off`
 * @property {readonly string[]} [network] all of the network's arguments, instead of those three
 * @property {readonly string[]} [args] more arguments for QEMU
 * @property {number} [memoryMib] default 256
 * @property {number} [cpus] default 1
 * @property {boolean} [sharedMemory] the guest's memory is a memfd that another process may map, as vhost-user needs
 * @property {string} [append] more of the kernel's command line
 * @property {string} [machine] default pc
 * @property {(argv: string[]) => string[]} [wrap] makes the command line that is run of QEMU's
 * @property {Record<string, string>} [env] added to the environment of QEMU, or of what `wrap` makes of it
 */
/**
 * @typedef {object} Answer
 * @property {number} status exit status; 128 + a signal's number; 124: the time was over
 * @property {string} stdout
 * @property {string} stderr
 */

/** -netdev for a UNIX socket that carries frames with their length. @param {string} path @param {string} [more] */
export const streamTo = (path, more = '') => `stream,server=off,addr.type=unix,addr.path=${path}${more}`;

/** Our passt, or $PASTICHE_PASST. @param {Lab} lab */
export const passtBinary = (lab) => process.env['PASTICHE_PASST'] ?? join(dirname(lab.binary), 'passt');

/**
 * Starts passt in the foreground; resolves when its socket is there.
 * @param {Lab} lab @param {string} socket path in the lab @param {readonly string[]} [args] @param {string} [binary]
 * @returns {Promise<Started>}
 */
export const startPasst = async (lab, socket, args = [], binary = passtBinary(lab)) => {
  const listening = async () => (await lab.host.attempt(['ss', '-Hlx', 'src', socket])).stdout.includes(socket);
  // One that was killed is there until its controller is gone, and the next would be refused.
  await waitFor(async () => !(await listening()), { what: `nobody to listen at ${socket}` });
  const passt = lab.user.spawn([binary, '-f', '-s', socket, ...args]);
  await waitFor(async () => hasExited(passt) || (await listening()), { what: `${socket} to listen` });
  if (hasExited(passt)) throw new Error(`passt ended (${passt.child.exitCode}):\n${passt.err()}`);
  return passt;
};

/**
 * Null where virtual machines can be run, else why not. Says it, too, so that nothing is skipped silently; under CI=true it is
 * an error, but on machines for which there is no image yet.
 * @returns {string | null}
 */
export const whyNoVm = () => {
  try {
    const { emulator } = guestImage();
    if (
      searchPath()
        .split(':')
        .every((dir) => !existsSync(join(dir, emulator)))
    )
      throw new Error(`there is no ${emulator}: run node scripts/setup.mjs --vm`);
    return null;
  } catch (error) {
    if (process.env['CI'] === 'true' && hasGuests()) throw error;
    const why = error instanceof Error ? error.message : String(error);
    console.warn(`skipped: virtual machines: ${why}`);
    return why;
  }
};

/** Kernel and initial RAM disk where the lab's ordinary user can read them. @param {Lab} lab */
const imageFor = (lab) => {
  const image = guestImage();
  const [kernel, initramfs] = [join(lab.dir, 'vmlinuz'), join(lab.dir, 'initramfs')];
  for (const [from, to] of /** @type {const} */ ([
    [image.kernel, kernel],
    [image.initramfs, initramfs],
  ]))
    if (!existsSync(to)) {
      copyFileSync(from, to);
      chmodSync(to, 0o644);
    }
  return { ...image, kernel, initramfs };
};

/** @param {Lab} lab @param {string} console path @param {VmOptions} options */
const commandLine = (lab, console, options) => {
  const { kernel, initramfs, emulator } = imageFor(lab);
  const { memoryMib = 256, cpus = 1, machine = 'pc', mac = '52:54:00:12:34:56', wrap = (argv) => argv } = options;
  const memory = options.sharedMemory
    ? ['-object', `memory-backend-memfd,id=ram,share=on,size=${memoryMib}M`, '-machine', 'memory-backend=ram']
    : [];
  // No option ROM: it would boot from the network, and its own frames are not what is tested.
  const card = `virtio-net-pci,netdev=n0,mac=${mac},romfile=${options.device ? `,${options.device}` : ''}`;
  const network = options.network ?? (options.netdev ? ['-netdev', `${options.netdev},id=n0`, '-device', card] : []);
  return wrap([
    emulator,
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', machine, ...memory, '-accel', 'tcg', '-cpu', 'max', '-smp', String(cpus), '-m', `${memoryMib}M`],
    ...['-kernel', kernel, '-initrd', initramfs, '-append', `console=ttyS0 quiet ${options.append ?? ''}`],
    ...['-serial', `file:${console}`],
    ...['-chardev', 'stdio,id=agent,signal=off'],
    ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=agent'],
    ...network,
    ...(options.args ?? []),
  ]);
};

/** Boots a virtual machine; resolves when it takes commands. @param {Lab} lab @param {VmOptions} options */
export const startVm = async (lab, options) => {
  const dir = mkdtempSync(join(lab.dir, 'vm-'));
  chmodSync(dir, 0o777); // QEMU is another user's
  const console = join(dir, 'console');
  const argv = commandLine(lab, console, options);
  const vm = new Vm(lab.user.spawn(argv, { stdin: 'pipe', ...(options.env && { env: options.env }) }), console);
  try {
    await vm.ready();
    return vm;
  } catch (error) {
    vm.kill();
    throw error;
  }
};

/** @typedef {{ done: (answer: Answer) => void, fail: (error: Error) => void, timer: NodeJS.Timeout }} Waiting */

export class Vm {
  /** QEMU. */
  tool;
  /** How often the guest has started. */
  boots = 0;
  /** @type {Map<string, Waiting>} */
  #waiting = new Map();
  #partial = '';
  #lastId = 0;
  #console;

  /** @param {Started} tool @param {string} console path of the file */
  constructor(tool, console) {
    this.tool = tool;
    this.#console = console;
    tool.child.stdout?.on('data', (/** @type {string} */ text) => this.#take(text));
    tool.child.once('close', () => this.#failAll('QEMU ended'));
  }

  /** PID of QEMU, seen from outside. */
  get pid() {
    return this.tool.pid();
  }
  /** What the kernel, the agent and QEMU said. */
  console() {
    const kernel = existsSync(this.#console) ? readFileSync(this.#console, 'utf8') : '';
    return `${kernel}${this.tool.err()}`;
  }

  /** @param {number} [boot] waits for this start of the guest */
  async ready(boot = 1) {
    await waitFor(() => this.boots >= boot || hasExited(this.tool), { what: 'the guest', timeoutMs: BOOT_MS }).catch(
      (error) => {
        throw new Error(`${error.message}\n${this.console().slice(-CONSOLE_TAIL)}`);
      },
    );
    if (hasExited(this.tool)) {
      await this.tool.closed;
      throw new Error(`QEMU ended (${this.tool.child.exitCode}):\n${this.console().slice(-CONSOLE_TAIL)}`);
    }
  }

  /**
   * Runs a shell command in the guest. Rejects only when the guest can not answer.
   * @param {string} command @param {{ timeoutMs?: number }} [options] @returns {Promise<Answer>}
   */
  run(command, { timeoutMs = COMMAND_MS } = {}) {
    const text = Buffer.from(command);
    if (text.length > COMMAND_BYTES_MAX) throw new Error(`a command of ${text.length} octets`);
    this.#lastId += 1;
    const id = String(this.#lastId);
    return new Promise((done, fail) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        fail(new Error(`the guest does not answer: ${command}\n${this.console().slice(-CONSOLE_TAIL)}`));
      }, timeoutMs + GRACE_MS);
      this.#waiting.set(id, { done, fail, timer });
      this.tool.child.stdin?.write(Buffer.concat([Buffer.from(`${id} ${timeoutMs} ${text.length}\n`), text]));
    });
  }

  /** Standard output of a shell command that must succeed. @param {string} command @param {{ timeoutMs?: number }} [options] */
  async must(command, options) {
    const { status, stdout, stderr } = await this.run(command, options);
    if (status !== 0)
      throw new Error(`in the guest: ${command}: status ${status}\n${stdout.slice(-2000)}${stderr.slice(-2000)}`);
    return stdout;
  }

  /** Runs a command in the guest until it succeeds. @param {string} command @param {{ timeoutMs?: number }} [options] @returns {Promise<string>} its standard output */
  async until(command, { timeoutMs = COMMAND_MS } = {}) {
    /** @type {Answer | undefined} */
    let last;
    await waitFor(
      async () => {
        last = await this.run(command);
        return last.status === 0;
      },
      { what: `the guest's ${command}`, timeoutMs, everyMs: 50 },
    );
    return last?.stdout ?? '';
  }

  /** Restarts the guest, not QEMU, without any farewell to the network; resolves when it takes commands again. */
  async reboot() {
    const boot = this.boots + 1;
    this.run('reboot -f').catch(() => {}); // there is no answer
    await this.ready(boot);
  }
  /** Ends the guest in order, and with it QEMU. */
  async powerOff() {
    this.run('poweroff -f').catch(() => {});
    return finish(this.tool, { timeoutMs: 10_000 });
  }
  /** Stops QEMU where it is, until `resume`. */
  pause() {
    this.tool.kill('SIGSTOP');
  }
  resume() {
    this.tool.kill('SIGCONT');
    this.tool.child.kill('SIGCONT'); // nsenter, which stops with its child
  }
  /** Ends QEMU at once. */
  kill() {
    this.tool.kill('SIGKILL');
    return this.tool.closed;
  }

  /** @param {string} text */
  #take(text) {
    this.#partial += text;
    const lines = this.#partial.split('\n');
    this.#partial = lines.pop() ?? '';
    for (const line of lines) {
      const [id = '', status = '', stdout = '', stderr = ''] = line.split(' ');
      if (id === 'ready') {
        this.#failAll('the guest restarted');
        this.boots += 1;
        continue;
      }
      const waiting = this.#waiting.get(id);
      if (waiting === undefined) continue; // given up
      this.#waiting.delete(id);
      clearTimeout(waiting.timer);
      const text = (/** @type {string} */ field) => (field === '-' ? '' : Buffer.from(field, 'base64').toString());
      waiting.done({ status: Number(status), stdout: text(stdout), stderr: text(stderr) });
    }
  }
  /** @param {string} why */
  #failAll(why) {
    this.#partial = '';
    for (const { fail, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      fail(new Error(why));
    }
    this.#waiting.clear();
  }
}
