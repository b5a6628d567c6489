// SPDX-License-Identifier: Apache-2.0
/**
 * A container runtime's side of CNI, as strict as the reference implementation: parameters in the environment, the configuration on standard
 * input, one JSON text or nothing on standard output, read to its end. Shapes: CNI spec 1.1.0, section 5, and older ones.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import * as z from 'zod';
import { descendants, type Lab, type Side } from './lab.mjs';
import { isAlive, type Started, waitFor } from './process.mjs';

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION';
export type Config = Readonly<Record<string, unknown>>;

const dns = z.strictObject({
  nameservers: z.array(z.string()).optional(),
  domain: z.string().optional(),
  search: z.array(z.string()).optional(),
  options: z.array(z.string()).optional(),
});
const ipText = z.union([z.ipv4(), z.ipv6()]);
const cidr = z.union([z.cidrv4(), z.cidrv6()]);
const macText = z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
const route = z.strictObject({ dst: cidr, gw: ipText.optional() });
const oldIp = z.strictObject({ ip: cidr, gateway: ipText.optional(), routes: z.array(route) }).optional();
const result = (version: string) => {
  const cniVersion = z.literal(version);
  if (version < '0.3.0') return z.strictObject({ cniVersion, ip4: oldIp, ip6: oldIp, dns });
  const one = { name: z.string(), mac: macText.optional(), sandbox: z.string().optional() };
  const ip = { address: cidr, gateway: ipText.optional(), interface: z.int().optional() };
  return z.strictObject({
    cniVersion,
    interfaces: z.array(z.strictObject(version < '1.1.0' ? one : { ...one, mtu: z.int().optional() })),
    ips: z.array(z.strictObject(version < '1.0.0' ? { ...ip, version: z.enum(['4', '6']) } : ip)),
    routes: z.array(route),
    dns,
  });
};
const error = z.strictObject({
  cniVersion: z.string(),
  code: z.int().check(z.gte(1)),
  msg: z.string().check(z.minLength(1)),
  details: z.string(),
});
export type CniError = z.output<typeof error>;
// biome-ignore lint/suspicious/noExplicitAny: of whatever version was asked for
export type CniResult = any;

export interface Call {
  readonly id?: string;
  readonly netns?: string;
  readonly ifname?: string;
  readonly config?: Config;
  readonly env?: Readonly<Record<string, string>>;
}
export interface Answer {
  readonly ok: boolean;
  /** Of a call that succeeded and has one. */
  readonly result: CniResult;
  /** Of one that failed. */
  readonly error: CniError;
  readonly stderr: string;
}

export const NETWORK = 'lab-net';
export const CONF: Config = { cniVersion: '1.1.0', name: NETWORK, type: 'pastiche-cni' };

/** The plugin in a lab, as its root. */
export class Runtime {
  readonly lab: Lab;
  readonly side: Side;
  readonly #plugin: string;
  #count = 0;

  constructor(lab: Lab) {
    this.lab = lab;
    this.side = lab.host;
    this.#plugin = join(dirname(lab.binary), 'pastiche-cni');
  }

  /** A new network namespace, by a name below /run/netns; its path. */
  async namespace(): Promise<string> {
    const name = `cni-${process.pid}-${++this.#count}`;
    await this.side.run(['ip', 'netns', 'add', name]);
    return `/run/netns/${name}`;
  }
  /** Inside one. */
  inside(netns: string): Side {
    return this.side.within(['nsenter', `--net=${netns}`, '--']);
  }

  start(command: Command, call: Call, side = this.side): Started {
    const { id, netns, ifname, config = CONF, env = {} } = call;
    const given = {
      CNI_COMMAND: command,
      CNI_PATH: dirname(this.#plugin),
      ...(id === undefined ? {} : { CNI_CONTAINERID: id }),
      ...(netns === undefined ? {} : { CNI_NETNS: netns }),
      ...(id === undefined ? {} : { CNI_IFNAME: ifname ?? 'eth0' }),
      ...env,
    };
    return side.spawn([this.#plugin], { env: given, input: JSON.stringify(config) });
  }
  async call(command: Command, call: Call = {}, side = this.side): Promise<Answer> {
    const started = this.start(command, call, side);
    await Promise.race([
      started.closed,
      waitFor(() => started.child.exitCode !== null, { what: `the end of ${command}`, timeoutMs: 60_000 }),
    ]);
    // A process left behind with our pipes would keep a runtime waiting for ever.
    let ended = false;
    void started.closed.then(() => {
      ended = true;
    });
    await waitFor(() => ended, { what: `the end of the output of ${command}`, timeoutMs: 5000 });
    return this.read(command, started, String((call.config ?? CONF)['cniVersion'] ?? '0.1.0'));
  }
  /** What a call that has ended says, in the form that it has to have. */
  read(command: Command, started: Started, version: string): Answer {
    const [out, stderr, status] = [started.out(), started.err(), started.child.exitCode];
    if (status === 0) {
      if (command === 'ADD')
        return { ok: true, result: result(version).parse(JSON.parse(out)), error: NO_ERROR, stderr };
      if (command === 'VERSION') return { ok: true, result: JSON.parse(out), error: NO_ERROR, stderr };
      expect(out).toBe('');
      return { ok: true, result: null, error: NO_ERROR, stderr };
    }
    expect({ status, out, stderr }).toMatchObject({ status: 1, stderr: '' });
    return { ok: false, result: null, error: error.parse(JSON.parse(out)), stderr };
  }
  /** A call that must succeed; its result. */
  async good(command: Command, call: Call = {}, side = this.side): Promise<CniResult> {
    const answer = await this.call(command, call, side);
    expect(answer.error).toEqual(NO_ERROR);
    return answer.result;
  }
  /** A call that must fail; its code. */
  async bad(command: Command, call: Call = {}, side = this.side): Promise<CniError> {
    const answer = await this.call(command, call, side);
    expect(answer.ok).toBe(false);
    return answer.error;
  }

  /** Directories of attachments, as paths that can be read from here. */
  state(): string[] {
    const base = `/proc/${this.lab.init}/root/run/pastiche/cni`;
    try {
      return readdirSync(base).map((name) => join(base, name));
    } catch {
      return [];
    }
  }
  /** Of the attachment to this namespace: null, there is none. */
  record(netns: string): { readonly directory: string; readonly attached: boolean } | null {
    for (const directory of this.state()) {
      try {
        const { netns: its, attached } = JSON.parse(readFileSync(join(directory, 'attachment.json'), 'utf8'));
        if (its === netns) return { directory, attached };
      } catch {
        // Not yet, or not any more.
      }
    }
    return null;
  }
  /** Processes of instances for this namespace, as seen from here. */
  processes(netns: string): number[] {
    return descendants(this.lab.init).filter((pid) => {
      const words = commandLine(pid);
      return words.includes('--lock-fd') && words.includes(netns) && isAlive(pid);
    });
  }
  async interfaces(netns: string): Promise<string[]> {
    const links = JSON.parse(await this.inside(netns).run(['ip', '-j', 'link', 'show'])) as { ifname: string }[];
    return links.map(({ ifname }) => ifname).filter((name) => name !== 'lo');
  }
  /** Nothing of the attachment is left: no state, no process, no interface. */
  async expectNothing(netns: string, exists = true): Promise<void> {
    expect(this.record(netns)).toBeNull();
    expect(this.processes(netns).map((pid) => commandLine(pid).join(' '))).toEqual([]);
    if (exists) expect(await this.interfaces(netns)).toEqual([]);
  }
}
const NO_ERROR: CniError = { cniVersion: '', code: 0, msg: '', details: '' };

export const commandLine = (pid: number): string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
  } catch {
    return [];
  }
};
