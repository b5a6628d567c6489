// SPDX-License-Identifier: Apache-2.0
/**
 * Reads a log of `strace -f -o FILE` (process numbers in front) and finds the calls that a process made under a filter
 * without an annotation for them. What happens before a process installs a filter is free.
 *
 *   const log = parseStrace(readFileSync(file, 'utf8'));
 *   const seen = callsByProfile(log, pasticheProfiles(log));
 *   expect(unannotated(seen, allowedNames(expectations()))).toEqual([]);
 */

export interface TracedCall {
  readonly pid: number;
  readonly name: string;
  /** The whole call with its result, also where strace wrote it in two parts. */
  readonly text: string;
  /** Lines on which it starts and ends; Infinity for one that never returned. */
  readonly line: number;
  readonly endLine: number;
}

/** `[pid 7] name(…`, `7 name(…` or `name(…`; a time stamp (-t, -r, -ttt) may stand before the name. */
const START = /^(?:\[pid\s+(\d+)\]\s+|(\d+)\s+)?(?:[0-9]+[0-9:.]*\s+)?([a-z_][a-z0-9_]*)\((.*)$/;
const RESUMED = /^(?:\[pid\s+(\d+)\]\s+|(\d+)\s+)?(?:[0-9]+[0-9:.]*\s+)?<\.\.\. ([a-z_][a-z0-9_]*) resumed>(.*)$/;
const UNFINISHED = / *<unfinished \.\.\.>/;

/** Calls in the order in which they start. Signals and exits are no calls. */
export const parseStrace = (log: string): TracedCall[] => {
  const calls: { -readonly [K in keyof TracedCall]: TracedCall[K] }[] = [];
  const open = new Map<string, (typeof calls)[number]>();
  for (const [line, content] of log.split('\n').entries()) {
    const resumed = RESUMED.exec(content);
    if (resumed !== null) {
      const key = `${resumed[1] ?? resumed[2] ?? 0} ${resumed[3]}`;
      const call = open.get(key);
      open.delete(key);
      if (call !== undefined) Object.assign(call, { text: call.text + (resumed[4] as string), endLine: line });
      continue;
    }
    const start = START.exec(content);
    if (start === null) continue;
    const [, bracketed, plain, name, rest] = start as unknown as [string, string?, string?, string?, string?];
    const cut = UNFINISHED.test(rest as string);
    const pid = Number(bracketed ?? plain ?? 0);
    const text = `${name}(${(rest as string).replace(UNFINISHED, '')}`;
    const call = { pid, name: name as string, text, line, endLine: cut ? Number.POSITIVE_INFINITY : line };
    calls.push(call);
    if (cut) open.set(`${pid} ${name}`, call);
  }
  return calls;
};

const INSTALLS = /^(?:seccomp\(SECCOMP_SET_MODE_FILTER\b|prctl\(PR_SET_SECCOMP, SECCOMP_MODE_FILTER\b)/;
/** The four instructions under which Node is started (no_io_uring of helper/src/launch.c): no profile of ours. */
const NO_PROFILE = /\{len=4,/;
const SUCCEEDED = /= 0$/;
const CHILD = /= (\d+)$/;
const isClone = ({ name }: TracedCall): boolean => /^(?:clone3?|v?fork)$/.test(name);

/** Maps each thread to the thread its process began with: CLONE_THREAD children to their creator's. */
const leaders = (calls: readonly TracedCall[]): ((pid: number) => number) => {
  const of = new Map<number, number>();
  for (const call of calls) {
    const child = isClone(call) && call.text.includes('CLONE_THREAD') ? CHILD.exec(call.text)?.[1] : undefined;
    if (child !== undefined) of.set(Number(child), of.get(call.pid) ?? call.pid);
  }
  return (pid) => of.get(pid) ?? pid;
};

/**
 * How many filters a process is under at a line: its own so far (of any thread: ours are TSYNC or of single-threaded
 * processes) and those that its parent had when it was made.
 */
const filterCounter = (calls: readonly TracedCall[], leaderOf: (pid: number) => number) => {
  const installs = new Map<number, number[]>();
  const births = new Map<number, { parent: number; line: number }>();
  for (const call of calls) {
    const leader = leaderOf(call.pid);
    if (INSTALLS.test(call.text) && SUCCEEDED.test(call.text) && !NO_PROFILE.test(call.text))
      installs.set(leader, [...(installs.get(leader) ?? []), call.endLine]);
    const child = isClone(call) ? CHILD.exec(call.text)?.[1] : undefined;
    if (child !== undefined && leaderOf(Number(child)) !== leader)
      births.set(Number(child), { parent: leader, line: call.line });
  }
  const count = (leader: number, line: number): number => {
    const own = (installs.get(leader) ?? []).filter((at) => at < line).length;
    const birth = births.get(leader);
    return birth === undefined ? own : own + count(birth.parent, birth.line);
  };
  return count;
};

/**
 * The calls made under filters, by the profile that `profileOf(leader, nth)` names for a process under n filters
 * (nth ≥ 1); undefined: not of interest (the guest's own command, say). One example of each name.
 */
export const callsByProfile = <P extends string>(
  calls: readonly TracedCall[],
  profileOf: (leader: number, nth: number) => P | undefined,
): Map<P, Map<string, TracedCall>> => {
  const leaderOf = leaders(calls);
  const count = filterCounter(calls, leaderOf);
  const seen = new Map<P, Map<string, TracedCall>>();
  for (const call of calls) {
    const leader = leaderOf(call.pid);
    const nth = count(leader, call.line);
    const profile = nth === 0 ? undefined : profileOf(leader, nth);
    if (profile === undefined) continue;
    const names = seen.get(profile) ?? new Map<string, TracedCall>();
    seen.set(profile, names);
    if (!names.has(call.name)) names.set(call.name, call);
  }
  return seen;
};

/**
 * Which of our processes is under which profile, in the log of one `pasta` traced from its start: the controller
 * installs its filter on all threads (TSYNC); the helper's halves install `setup` and then their own, and the host side is the
 * one that started the controller. `hostSetup`: the first filter of the host side, `sandbox` with slirp4netns' --enable-sandbox.
 */
export const pasticheProfiles = (
  calls: readonly TracedCall[],
  hostSetup: 'setup' | 'sandbox' = 'setup',
): ((
  leader: number,
  nth: number,
) => 'setup' | 'sandbox' | 'host' | 'netns' | 'controller' | 'resolver' | undefined) => {
  const leaderOf = leaders(calls);
  const installing = calls.filter(({ text }) => INSTALLS.test(text) && SUCCEEDED.test(text));
  const controllers = new Set(
    installing.filter(({ text }) => text.includes('FILTER_FLAG_TSYNC')).map(({ pid }) => leaderOf(pid)),
  );
  const helpers = new Set(installing.map(({ pid }) => leaderOf(pid)).filter((leader) => !controllers.has(leader)));
  const hosts = new Set(
    calls
      .filter((call) => isClone(call) && controllers.has(Number(CHILD.exec(call.text)?.[1])))
      .map(({ pid }) => leaderOf(pid)),
  );
  return (leader, nth) => {
    if (controllers.has(leader)) return 'controller';
    if (!helpers.has(leader)) return undefined;
    // The reader of resolv.conf has one filter, which is not `setup`.
    if (installing.filter(({ pid }) => leaderOf(pid) === leader).length === 1) return 'resolver';
    if (hosts.has(leader)) return nth === 1 ? hostSetup : 'host';
    return nth === 1 ? 'setup' : 'netns';
  };
};

/** Profile → names of its calls, from test/support/allowlist.ts's expectations. */
export const allowedNames = <P extends string>(
  expectations: ReadonlyMap<P, readonly { readonly name: string }[]>,
): Map<P, Set<string>> =>
  new Map([...expectations].map(([profile, list]) => [profile, new Set(list.map(({ name }) => name))]));

/** One sentence for each call that was seen under a profile and is not annotated for it. */
export const unannotated = <P extends string>(
  seen: ReadonlyMap<P, ReadonlyMap<string, TracedCall>>,
  allowed: ReadonlyMap<P, ReadonlySet<string>>,
): string[] =>
  [...seen].flatMap(([profile, names]) =>
    [...names.values()]
      .filter(({ name }) => allowed.get(profile)?.has(name) !== true)
      .map(({ name, pid, text }) => `${profile}: ${name} has no annotation (process ${pid}: ${text.slice(0, 120)})`),
  );
