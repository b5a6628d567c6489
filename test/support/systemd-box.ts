// SPDX-License-Identifier: Apache-2.0
/** A systemd that runs our units, beside the machine's own: process 1 of its own namespaces, in a lab's host network. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandName, descendants, type Lab, REPOSITORY, Side } from './lab.mjs';
import { finish, hasExited, type Started, waitFor } from './process.mjs';

export type Manager = 'system' | 'user';

/** The units as an installation has them: the sources' and the generated ones, with `bin` for every directory. */
export const renderUnits = (to: string, bin: string): void => {
  for (const tree of ['systemd', 'dist/systemd'])
    cpSync(join(REPOSITORY, tree), to, { recursive: true, filter: (path) => !path.endsWith('.md') });
  for (const entry of readdirSync(to, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const text = readFileSync(path, 'utf8').replace(/@(?:BINDIR|LIBEXECDIR)@/g, bin);
    writeFileSync(path, text.replace(/@LIBDIR@/g, join(bin, '..')));
  }
};

const BIN = '/opt/pastiche/bin';
/** Where Node is a file of the developer's, no unit would find it. */
const USE_NODE = '[Service]\nEnvironment=PASTICHE_NODE=/opt/node\n';

export class SystemdBox extends Side {
  readonly #outer: Started;
  readonly init: number;
  private constructor(outer: Started, init: number) {
    super(['nsenter', '-t', String(init), '-m', '-n', '-p', '-C', '-i', '-u', '--'], 1);
    this.#outer = outer;
    this.init = init;
  }

  /** Boots; rejects with what was said when the machine cannot have one. */
  static async boot(lab: Lab): Promise<SystemdBox> {
    const script = join(REPOSITORY, 'test/support/systemd-box.sh');
    const argv = ['unshare', '--mount', 'sh', script, join(REPOSITORY, 'dist'), process.execPath];
    const outer = lab.host.spawn(argv);
    const init = await waitFor(
      () => (hasExited(outer) ? -1 : descendants(outer.pid()).find((pid) => commandName(pid) === 'systemd')),
      { what: 'systemd as process 1', timeoutMs: 20_000 },
    );
    if (init < 0) throw new Error(`no systemd can be booted here:\n${outer.err()}`);
    const box = new SystemdBox(outer, init);
    await waitFor(async () => (await box.attempt(['systemctl', 'is-active', 'box.target'])).stdout === 'active\n', {
      what: 'systemd to be up',
      timeoutMs: 20_000,
    });
    await box.#installUnits();
    return box;
  }

  async #installUnits(): Promise<void> {
    const dir = mkdtempSync(join(tmpdir(), 'pastiche-units-'));
    try {
      renderUnits(dir, BIN);
      for (const manager of ['system', 'user'])
        for (const unit of readdirSync(join(dir, manager)).filter((name) => name.endsWith('.d')))
          writeFileSync(join(dir, manager, unit, '10-node.conf'), USE_NODE);
      const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
      for (const entry of files) {
        const path = join(entry.parentPath ?? entry.path, entry.name);
        const place = path.slice(dir.length + 1).replace(/^(system|user)\//, 'systemd/$1/');
        await this.write(`/run/${place}`, readFileSync(path, 'utf8'));
      }
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
    await this.run(['systemd-sysusers', '/run/sysusers.d/pastiche.conf']);
    await this.run(['systemd-tmpfiles', '--create', '/run/tmpfiles.d/pastiche.conf']);
    await this.systemctl('daemon-reload');
  }

  async write(path: string, content: string): Promise<void> {
    await this.run(['sh', '-c', 'mkdir -p "$(dirname "$1")" && cat >"$1"', 'sh', path], { input: content });
  }
  async systemctl(...args: readonly string[]): Promise<string> {
    return this.run(['systemctl', '--no-pager', ...args]);
  }
  /** A property of a unit. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.systemctl('show', '--value', '-p', property, unit)).trim();
  }
  async journal(unit: string, ...more: readonly string[]): Promise<string> {
    await this.run(['journalctl', '--sync']);
    return this.run(['journalctl', '--no-pager', '-o', 'cat', ...more, '-u', unit]);
  }
  /** Of a unit's main process, as seen from outside the box; 0: it has none. */
  async mainPid(unit: string): Promise<number> {
    const inside = await this.show(unit, 'MainPID');
    const outside = descendants(this.init).find((pid) => nsPid(pid) === inside);
    return inside === '0' ? 0 : (outside ?? 0);
  }

  async shutDown(): Promise<void> {
    if (existsSync(`/proc/${this.init}`)) process.kill(this.init, 'SIGKILL');
    await finish(this.#outer, { timeoutMs: 20_000 });
  }
}

const nsPid = (pid: number): string => {
  try {
    return /^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
  } catch {
    return '';
  }
};
