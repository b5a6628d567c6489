// SPDX-License-Identifier: Apache-2.0
/** The readable and exchangeable forms say what the filters do. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PROFILES } from '../../seccomp/grammar.mjs';
import { DROP_INS } from '../../seccomp/listings.mjs';
import { ALL_BITS, expectations, filterBytes } from '../support/allowlist.ts';
import { RET } from '../support/bpf.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const all = expectations();
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const audit = z.object({
  defaultAction: z.literal('kill-process'),
  profiles: z.array(
    z.object({
      name: z.string(),
      instructions: z.number(),
      sha256: z.string(),
      rules: z.array(
        z.object({ call: z.string(), reason: z.string().min(3), source: z.string().regex(/^[a-z/._-]+:[0-9]+$/) }),
      ),
    }),
  ),
});
/** Numbers stay text: the values are 64 bits wide. */
const oci = z.object({
  defaultAction: z.literal('SCMP_ACT_KILL_PROCESS'),
  architectures: z.array(z.string()).length(1),
  syscalls: z.array(
    z.object({
      names: z.array(z.string()).min(1),
      action: z.enum(['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO']),
      errnoRet: z.string().optional(),
      args: z
        .array(z.object({ index: z.string(), value: z.string(), valueTwo: z.string().optional(), op: z.string() }))
        .optional(),
    }),
  ),
});
const withNumbersAsText = (json: string): unknown => JSON.parse(json.replace(/: ([0-9]+)/g, ': "$1"'));

describe('pastiche audit', () => {
  const json = execFileSync(path('dist/bin/pastiche'), ['audit', '--json'], { encoding: 'utf8' });
  const text = execFileSync(path('dist/bin/pastiche'), ['audit'], { encoding: 'utf8' });
  const { profiles } = audit.parse(JSON.parse(json));

  it.each(PROFILES)('names the filter of %s by its hash, and each call with its reason', (name) => {
    const profile = profiles.find((one) => one.name === name);
    expect(profile?.sha256).toBe(sha256(filterBytes(name)));
    expect(profile?.instructions).toBe(filterBytes(name).length / 8);
    expect(new Set(profile?.rules.map(({ call }) => call))).toEqual(new Set(all.get(name)?.map((one) => one.name)));
    expect(text).toContain(`profile ${name}: ${profile?.instructions} instructions, SHA-256 ${profile?.sha256}`);
  });

  it('gives the hash of the file that the controller loads', () => {
    expect(profiles.find(({ name }) => name === 'controller')?.sha256).toBe(
      sha256(readFileSync(path('dist/controller.bpf'))),
    );
  });
});

/** One text a rule: call, action, conditions in the order of arguments. */
const ociRules = (name: string): Set<string> => {
  const document = oci.parse(withNumbersAsText(readFileSync(path(`dist/seccomp/${name}.oci.json`), 'utf8')));
  return new Set(
    document.syscalls.flatMap(({ names, errnoRet, args = [] }) =>
      names.map((call) => {
        const conditions = args.map(({ index, value, valueTwo, op }) =>
          op === 'SCMP_CMP_EQ' ? `${index}=${value}` : `${index}&${value}=${valueTwo}`,
        );
        return [call, errnoRet ?? 'allow', ...conditions].join(' ');
      }),
    ),
  );
};

describe('OCI profiles', () => {
  it.each(PROFILES)('%s has the rules of the annotations', (name) => {
    const list = all.get(name) ?? [];
    const wanted = list
      // An unconditional rule makes the conditional ones of its call superfluous.
      .filter(
        (one) =>
          one.matches.length === 0 || !list.some((other) => other.number === one.number && other.matches.length === 0),
      )
      .map(({ name: call, action, matches }) => {
        const conditions = matches.map(({ arg, mask, value }) =>
          mask === ALL_BITS ? `${arg}=${value}` : `${arg}&${mask}=${value}`,
        );
        return [call, action === RET.ALLOW ? 'allow' : String(action & 0xffff), ...conditions].join(' ');
      });
    expect(ociRules(name)).toEqual(new Set(wanted));
  });
});

it.each(Object.entries(DROP_INS))(
  'the drop-in of %s names every call of its allowlists',
  (unit, { profiles, without }) => {
    const dropIn = readFileSync(path(`dist/systemd/${unit}.d/50-syscalls.conf`), 'utf8');
    // What is taken away is taken before the calls are named.
    const added = dropIn.slice(dropIn.lastIndexOf('SystemCallFilter=~'));
    const named = new Set(
      [...added.matchAll(/^SystemCallFilter=([^~].*)$/gm)].flatMap(([, names = '']) => names.split(' ')),
    );
    const wanted = [...all].filter(([profile]) => profiles.includes(profile)).flatMap(([, rules]) => rules);
    expect(wanted.length).toBeGreaterThan(20);
    expect(wanted.filter(({ name }) => !named.has(name) && !without.includes(name))).toEqual([]);
    expect(dropIn).toContain('SystemCallArchitectures=native');
  },
);
