// SPDX-License-Identifier: Apache-2.0
/**
 * The fuzzer itself, in the manner of AFL: take an input that is known, change it, run it, keep it if a block was
 * reached that none had reached, or more often than any had. Counters are those that scripts/lib/fuzz-bundle.mjs put into the
 * program. Given the same corpus and seed it does the same things.
 */
import { runInThisContext } from 'node:vm';
import { mutateSteps } from './mutate.ts';
import { Random } from './random.ts';
import type { Input } from './steps.ts';
import type { Target } from './target.ts';

/** No single input takes that long, nor a batch of them. */
const HANG_MS = 10_000;
const BATCH = 50;
const CHANGES_MAX = 6;
const MINIMISE_MS = 4000;

const counters = (globalThis as unknown as { __cov: Uint8Array }).__cov;
/** Of each counter, the classes of counts seen: 1, 2, 3, 4–7, 8–15, … as bits. */
const seen = new Uint8Array(counters.length);
const CLASS_OF = Uint8Array.from({ length: 256 }, (_, n) =>
  n === 0 ? 0 : n < 4 ? 1 << (n - 1) : 1 << (Math.min(Math.floor(Math.log2(n)), 6) + 1),
);

/** Notes what the last run reached; whether anything was new. */
const noteCoverage = (): boolean => {
  let fresh = false;
  for (let i = 0; i < counters.length; i++) {
    const n = counters[i] as number;
    if (n === 0) continue;
    counters[i] = 0;
    const cls = CLASS_OF[n] as number;
    if (((seen[i] as number) & cls) === 0) {
      seen[i] = (seen[i] as number) | cls;
      fresh = true;
    }
  }
  return fresh;
};
export const blocksReached = (): number => seen.reduce((total, bits) => total + (bits !== 0 ? 1 : 0), 0);
export const blocks = counters.length;

export interface Finding {
  readonly input: Input;
  readonly error: Error;
}
export interface Report {
  readonly runs: number;
  readonly kept: number;
  readonly finding: Finding | null;
}

let current: Input = [];
const attempt = (target: Target, input: Input): Error | null => {
  current = input;
  try {
    target.run(input);
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
};

/** Runs `what` to its end, or throws when it takes so long that something in it must be going round in circles. */
const guarded = <T>(what: () => T): T => {
  const key = '__fuzz';
  (globalThis as Record<string, unknown>)[key] = what;
  return runInThisContext(`globalThis.${key}()`, { timeout: HANG_MS }) as T;
};
const isHang = (error: unknown): boolean =>
  error instanceof Error && (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';

/** One input, as a finding if it is one. A run that does not end is one, too. */
export const replay = (target: Target, input: Input): Finding | null => {
  try {
    const error = guarded(() => attempt(target, input));
    return error === null ? null : { input, error };
  } catch (error) {
    if (!isHang(error)) throw error;
    return { input, error: new Error(`it does not end within ${HANG_MS / 1000} s`) };
  }
};

/** The same defect: what the message says, but for its numbers. */
const sameAs = (error: Error): string => error.message.replaceAll(/\d+/g, 'n');

/** A shorter input with the same defect, as far as that is found in a few seconds. */
const minimise = (target: Target, { input, error }: Finding): Finding => {
  const until = Date.now() + MINIMISE_MS;
  let best: Finding = { input, error };
  const shorter = (candidate: Input): boolean => {
    const found = replay(target, candidate);
    if (found === null || sameAs(found.error) !== sameAs(error)) return false;
    best = found;
    return true;
  };
  for (let again = true; again && Date.now() < until; ) {
    again = false;
    for (let i = best.input.length - 1; i >= 0 && best.input.length > 1 && Date.now() < until; i--) {
      again = shorter(best.input.filter((_, k) => k !== i)) || again;
    }
    for (let i = 0; i < best.input.length && Date.now() < until; i++) {
      for (let cut = (best.input[i]?.bytes.length ?? 0) >> 1; cut > 0 && Date.now() < until; cut >>= 1) {
        const keep = (best.input[i]?.bytes.length ?? 0) - cut;
        const candidate = best.input.map((s, k) => (k === i ? { ...s, bytes: s.bytes.subarray(0, keep) } : s));
        again = shorter(candidate) || again;
      }
    }
  }
  return best;
};

/**
 * Runs the corpus, then changed inputs until `untilMs` (Date.now()) or `runsMax`. `keep` gets each input that reached
 * something new. Ends at the first finding.
 */
export const fuzz = (
  target: Target,
  corpus: readonly Input[],
  seed: number,
  untilMs: number,
  runsMax: number,
  keep: (input: Input) => void,
): Report => {
  const random = new Random(seed);
  const known: Input[] = [];
  let runs = 0;
  for (const input of corpus) {
    runs++;
    const finding = replay(target, input);
    if (finding !== null) return { runs, kept: known.length, finding };
    noteCoverage();
    known.push(input);
  }
  const seeds = known.length;
  // Those found last have been tried least.
  const next = (): Input =>
    random.once(3) ? (known[known.length - 1 - random.below(Math.min(known.length, 50))] as Input) : random.pick(known);
  const changed = (): Input => {
    let input = next();
    for (let n = 1 + random.below(CHANGES_MAX); n > 0; n--) {
      const structured = target.mutate !== undefined && !random.once(3) ? target.mutate(input, random, next) : null;
      input = structured ?? mutateSteps(input, random, next, target.words);
    }
    return input;
  };
  const batch = (): Finding | null => {
    for (let i = 0; i < BATCH && runs < runsMax; i++) {
      const input = changed();
      runs++;
      const error = attempt(target, input);
      if (error !== null) return { input, error };
      if (noteCoverage()) {
        known.push(input);
        keep(input);
      }
    }
    return null;
  };
  while (runs < runsMax && Date.now() < untilMs) {
    let finding: Finding | null;
    try {
      finding = guarded(batch);
    } catch (error) {
      if (!isHang(error)) throw error;
      finding = { input: current, error: new Error(`it does not end within ${HANG_MS / 1000} s`) };
      return { runs, kept: known.length - seeds, finding };
    }
    if (finding !== null) return { runs, kept: known.length - seeds, finding: minimise(target, finding) };
  }
  return { runs, kept: known.length - seeds, finding: null };
};
