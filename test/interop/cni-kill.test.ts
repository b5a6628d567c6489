// SPDX-License-Identifier: Apache-2.0
/**
 * SIGKILL for everything that takes part in a call, at each step of it: an ADD that fails has left nothing, one that was killed is
 * finished off by the next DEL or GC, and nothing is left of a DEL that was killed after the next one.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONF, type Config, commandLine, Runtime } from '../support/cni.ts';
import { commandName, type Lab, makeLab } from '../support/lab.mjs';
import { childrenOf, isAlive, type Started, waitFor } from '../support/process.mjs';

let lab: Lab;
let runtime: Runtime;
beforeAll(async () => {
  lab = await makeLab();
  runtime = new Runtime(lab);
});
afterAll(() => lab.cleanup());

/** Each round has a port, so that it shows whether somebody still has it. */
let nextPort = 21_000;
const newCall = async () => {
  const port = nextPort++;
  const netns = await runtime.namespace();
  const runtimeConfig = { portMappings: [{ hostPort: port, containerPort: 80, protocol: 'tcp' }] };
  // Each has a network of its own, so that GC is for it alone.
  const config: Config & { readonly name: string } = { ...CONF, name: `net-${port}`, runtimeConfig };
  return { id: `kill-${port}`, netns, config, port };
};
type NewCall = Awaited<ReturnType<typeof newCall>>;

/** By the kernel's own table of the lab's namespace: the state of a socket that listens is 0A. */
const isListening = (port: number): boolean =>
  ['tcp', 'tcp6'].some((table) =>
    new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')} \\S+ 0A `).test(
      readFileSync(`/proc/${lab.init}/net/${table}`, 'ascii'),
    ),
  );
const expectNothing = async ({ netns, port }: NewCall): Promise<void> => {
  await runtime.expectNothing(netns);
  expect(isListening(port)).toBe(false);
};

interface Moment {
  readonly plugin: number;
  /** Of the instance, oldest first: launched process, host side, controller, broker, as far as they are there. */
  readonly processes: readonly number[];
  readonly directory: string | null;
  readonly attached: boolean;
}
const isThere = (directory: string | null, name: string): boolean =>
  directory !== null && existsSync(join(directory, name));
const isController = (pid: number): boolean => commandLine(pid)[1]?.endsWith('controller.cjs') ?? false;

/** Steps of ADD, in their order, each as what shows that it is reached. */
const STEPS = {
  'the plugin has started': ({ plugin }: Moment) => plugin > 0 && commandName(plugin) !== 'nsenter',
  'what is to be is written': ({ directory }: Moment) => directory !== null,
  'the instance is launched': ({ processes }: Moment) => processes.length >= 1,
  'it is in the background': ({ processes }: Moment) => processes.length >= 2,
  'its controller runs': ({ processes }: Moment) => processes.some(isController),
  'all of it is there': ({ processes }: Moment) => processes.length >= 4,
  'it listens for us': ({ directory }: Moment) => isThere(directory, 'control'),
  'the launched process is gone': ({ processes, directory }: Moment) =>
    processes.length === 3 && isThere(directory, 'control'),
  'it is complete': ({ attached }: Moment) => attached,
} as const;
/** Whom it hits. */
const VICTIMS = {
  plugin: ({ plugin }: Moment) => [plugin],
  'launched process': ({ processes }: Moment) => processes.slice(0, 1),
  'host side': ({ processes }: Moment) => processes.filter((pid) => childrenOf(pid).length > 0).slice(-1),
  controller: ({ processes }: Moment) => processes.filter(isController),
  broker: ({ processes }: Moment) =>
    processes
      .slice(2)
      .filter((pid) => !isController(pid))
      .slice(-1),
  'plugin and whole instance': ({ plugin, processes }: Moment) => [plugin, ...processes],
} as const;

const kill = (pid: number): void => {
  try {
    if (pid > 0) process.kill(pid, 'SIGKILL');
  } catch {
    // It was quicker.
  }
};

const momentOf = ({ netns }: NewCall, started: Started): Moment => {
  const record = runtime.record(netns);
  return {
    plugin: started.pid(),
    processes: runtime.processes(netns),
    directory: record?.directory ?? null,
    attached: record?.attached ?? false,
  };
};
let struck = 0;
/** Lets a call run until the step is reached, and kills. Returns whether the plugin itself was hit. */
const strike = async (
  call: NewCall,
  started: Started,
  step: (moment: Moment) => boolean,
  victims: (moment: Moment) => readonly number[],
) => {
  const isOver = () => started.child.exitCode !== null || started.child.signalCode !== null;
  let moment = momentOf(call, started);
  while (!isOver() && !step(moment)) {
    await sleep(3);
    moment = momentOf(call, started);
  }
  const hit = victims(moment).filter((pid) => pid > 0);
  hit.forEach(kill);
  struck += hit.length;
  await started.closed;
  return started.child.signalCode !== null;
};
/** What was killed is taken apart by the kernel, and what hung on it ends then. */
const settled = async (netns: string): Promise<void> => {
  const whole = [0, 3];
  await waitFor(() => whole.includes(runtime.processes(netns).length), { what: 'a whole instance, or none' });
};

const OTHERS = [
  VICTIMS['launched process'],
  VICTIMS['host side'],
  VICTIMS.controller,
  VICTIMS.broker,
  VICTIMS['plugin and whole instance'],
];
/** At every step the plugin and two others, so that each is hit at several. */
const rounds = Object.entries(STEPS).flatMap(([step, reached], i) =>
  [VICTIMS.plugin, ...OTHERS.filter((_, j) => j === i % 5 || j === (i + 2) % 5)].map((victims, j) => ({
    step,
    reached,
    victims,
    collects: (i + j) % 2 === 0,
  })),
);

describe('ADD', () => {
  it.each(Object.keys(STEPS))('killed when %s', async (name) => {
    await Promise.all(
      rounds
        .filter(({ step }) => step === name)
        .map(async ({ reached, victims, collects }) => {
          const call = await newCall();
          const started = runtime.start('ADD', call);
          const wasHit = await strike(call, started, reached, victims);
          if (!wasHit) {
            // It has an answer then, and a failure has left nothing.
            const answer = runtime.read('ADD', started, '1.1.0');
            if (!answer.ok) await expectNothing(call);
          }
          if (collects) await runtime.good('GC', { config: { ...call.config, 'cni.dev/valid-attachments': [] } });
          else await runtime.good('DEL', call);
          await expectNothing(call);
        }),
    );
  });
  it('killed at any moment: GC finds all of it', async () => {
    const config = { ...CONF, name: 'collected' };
    const calls = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const call = { ...(await newCall()), config };
        const started = runtime.start('ADD', call);
        const at = performance.now() + 20 + i * 35;
        await strike(
          call,
          started,
          () => performance.now() >= at,
          ({ plugin }) => [plugin],
        );
        return call;
      }),
    );
    await runtime.good('GC', { config: { ...config, 'cni.dev/valid-attachments': [] } });
    for (const call of calls) await runtime.expectNothing(call.netns);
  });
});

it('somebody was hit in most of these rounds', () => {
  expect(struck).toBeGreaterThan(rounds.length);
});

describe.each(['DEL', 'GC'] as const)('%s', (command) => {
  it('killed at any moment: the next one leaves nothing', async () => {
    await Promise.all(
      Array.from({ length: 4 }, async (_, i) => {
        const added = await newCall();
        await runtime.good('ADD', added);
        const call = command === 'DEL' ? added : { config: { ...added.config, 'cni.dev/valid-attachments': [] } };
        const started = runtime.start(command, call);
        const at = performance.now() + 40 + i * 30;
        await strike(
          added,
          started,
          () => performance.now() >= at,
          ({ plugin }) => [plugin, ...childrenOf(plugin)],
        );
        await runtime.good(command, call);
        await expectNothing(added);
      }),
    );
  });
});

describe('an instance that dies later', () => {
  it.each(['host side', 'controller', 'broker'] as const)(
    'killed: its %s; nothing of it runs on, and DEL cleans up',
    async (victim) => {
      const call = await newCall();
      const prevResult = await runtime.good('ADD', call);
      const pids = runtime.processes(call.netns);
      expect(pids).toHaveLength(3);
      const moment = { plugin: 0, processes: [0, ...pids], directory: null, attached: true };
      VICTIMS[victim](moment).forEach(kill);
      await waitFor(() => !pids.some(isAlive), { what: 'the end of the rest' });
      expect(await runtime.bad('CHECK', { ...call, config: { ...call.config, prevResult } })).toMatchObject({
        code: 102,
      });
      // The runtime may as well begin anew.
      await runtime.good('ADD', call);
      await runtime.good('DEL', call);
      await expectNothing(call);
    },
  );
  it('CHECK that is killed changes nothing', async () => {
    const call = await newCall();
    const prevResult = await runtime.good('ADD', call);
    const check = { ...call, config: { ...call.config, prevResult } };
    await Promise.all(
      [30, 60, 90].map(async (ms) => {
        const at = performance.now() + ms;
        await strike(
          call,
          runtime.start('CHECK', check),
          () => performance.now() >= at,
          ({ plugin }) => [plugin],
        );
      }),
    );
    await runtime.good('CHECK', check);
    await runtime.good('DEL', call);
    await settled(call.netns);
    await expectNothing(call);
  });
});
