// SPDX-License-Identifier: Apache-2.0
/**
 * What is fuzzed and tested under AddressSanitizer and UndefinedBehaviorSanitizer, built apart from the release under dist/fuzz:
 * the helper's reader with libFuzzer (clang), and addon and helper with the compilers that build them otherwise.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { FUZZ_BUNDLE } from './fuzz-bundle.mjs';
import { at } from './paths.mjs';

const OUT = at('dist', 'fuzz');
const SANITIZE = ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
export const RPC_FUZZER = join(OUT, 'rpc-fuzzer');
export const ADDON = join(OUT, 'pastiche.node');
export const HELPER = join(OUT, 'pasta');

const run = (file, args) => {
  const done = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (done.error?.code === 'ENOENT') throw new Error(`no ${file}: install it (Debian: apt-get install clang)`);
  if (done.status !== 0)
    throw new Error(`${file} ${args.join(' ')} failed:\n${done.error?.message ?? done.stdout + done.stderr}`);
  return done.stdout;
};
const isOlder = (output, inputs) =>
  !existsSync(output) || inputs.some((input) => statSync(input).mtimeMs > statSync(output).mtimeMs);
const filesOf = (dir, suffixes) =>
  readdirSync(at(...dir))
    .filter((name) => suffixes.some((suffix) => name.endsWith(suffix)))
    .map((name) => at(...dir, name));

/** What binding.gyp lists as the sources of a target. It is Python, and lists are all that we read. */
const sourcesOf = (target) => {
  const text = readFileSync(at('helper', 'binding.gyp'), 'utf8');
  const list = new RegExp(`'target_name': '${target}'[^]*?'sources': \\[([^]*?)\\]`).exec(text)?.[1];
  if (list === undefined) throw new Error(`helper/binding.gyp has no sources of ${target}`);
  return [...list.matchAll(/'([^']+)'/g)].map(([, name]) => at('helper', name));
};

/** Whether clang has the libFuzzer runtime. */
export const hasLibFuzzer = () =>
  spawnSync('clang', ['-fsanitize=fuzzer,address', '-x', 'c', '-', '-o', '/dev/null'], {
    input: 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 9; }\n',
    stdio: ['pipe', 'ignore', 'ignore'],
  }).status === 0;

const RPC_SOURCES = ['json.c', 'rpc.c', 'methods.c', 'method-table.c', 'floor.c', 'link.c'].map((name) =>
  at('helper', 'src', name),
);

/** The helper's reader with libFuzzer. */
export const buildRpcFuzzer = () => {
  const harness = at('test', 'fuzz', 'native', 'rpc-fuzzer.c');
  if (!isOlder(RPC_FUZZER, [harness, ...filesOf(['helper', 'src'], ['.c', '.h'])])) return;
  mkdirSync(OUT, { recursive: true });
  const link = (more) =>
    run('clang', [
      '-std=c11',
      '-D_GNU_SOURCE',
      ...SANITIZE,
      '-fsanitize=fuzzer',
      '-w',
      `-I${at('helper', 'gen')}`,
      harness,
      ...RPC_SOURCES,
      ...more,
      '-o',
      RPC_FUZZER,
      '-l:libjansson.a',
    ]);
  try {
    link([]);
  } catch (error) {
    // Functions of the helper that are new since the harness was written do nothing until it knows them.
    const missing = new Set(
      [...error.message.matchAll(/undefined reference to [`']([a-z_0-9]+)'/g)].map(([, name]) => name),
    );
    if (missing.size === 0) throw error;
    console.log(`fuzz: rpc: ${[...missing].join(', ')} not in rpc-fuzzer.c yet, and taken to succeed`);
    writeFileSync(join(OUT, 'stubs.c'), [...missing].map((name) => `long ${name}(void) { return 0; }\n`).join(''));
    link([join(OUT, 'stubs.c')]);
  }
};

/** Compiles side by side, as make would. */
const compileAll = async (compiler, sources, flagsOf, dir) => {
  mkdirSync(dir, { recursive: true });
  const waiting = [...sources];
  const objects = sources.map((source) => join(dir, `${basename(source)}.o`));
  const worker = async () => {
    for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
      const args = [...flagsOf(source), '-c', source, '-o', join(dir, `${basename(source)}.o`)];
      const child = spawn(compiler, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      let errors = '';
      child.stderr.on('data', (chunk) => {
        errors += chunk;
      });
      const status = await new Promise((done) => child.once('close', done));
      if (status !== 0) throw new Error(`${compiler} ${args.join(' ')} failed:\n${errors}`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return objects;
};

/** The addon under sanitizers; their runtime comes by LD_PRELOAD, because Node itself has none. */
export const buildAddon = async () => {
  const sources = sourcesOf('addon');
  if (!isOlder(ADDON, [...filesOf(['helper', 'addon'], ['.cc', '.h']), at('shared', 'abi.h')])) return;
  const napi = at('node_modules', 'node-addon-api');
  const headers = join(process.execPath, '..', '..', 'include', 'node');
  const flags = ['-std=gnu++17', '-fPIC', '-fno-exceptions', ...SANITIZE, `-I${headers}`, `-I${napi}`];
  const defines = ['NAPI_VERSION=8', 'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED'];
  const all = [...flags, ...defines.map((define) => `-D${define}`)];
  const objects = await compileAll('g++', sources, () => all, join(OUT, 'addon'));
  run('g++', ['-shared', ...SANITIZE, ...objects, '-o', ADDON]);
};

/**
 * The helper under sanitizers: dynamic, because their runtime is, and without system-call filters, because it makes calls of its
 * own. Never what is released: nothing but dist/fuzz ever holds it.
 */
export const buildHelper = async () => {
  const stub = at('test', 'fuzz', 'native', 'no-seal.c');
  if (!isOlder(HELPER, [stub, ...filesOf(['helper', 'src'], ['.c', '.h']), ...filesOf(['helper', 'gen'], ['.h'])]))
    return;
  const flags = ['-std=c11', '-D_GNU_SOURCE', '-w', ...SANITIZE, `-I${at('helper', 'gen')}`];
  const released = (source) => (basename(source) === 'seal.c' ? ['-Dseal_install=seal_install_released'] : []);
  const flagsOf = (source) => [...flags, ...released(source)];
  const objects = await compileAll('gcc', sourcesOf('helper'), flagsOf, join(OUT, 'helper'));
  const own = ['-std=c11', '-D_GNU_SOURCE', '-w', ...SANITIZE, stub];
  run('gcc', [...own, ...objects, '-o', HELPER, '-l:libjansson.a']);
};

/** Leaks are looked for in no process: Node leaves its own, and the tracer that finds them is not allowed everywhere. */
export const SANITIZER_OPTIONS = {
  ASAN_OPTIONS: 'detect_leaks=0:exitcode=97:handle_segv=0',
  UBSAN_OPTIONS: 'print_stacktrace=1',
};

/** The environment in which Node loads that addon. */
export const addonEnvironment = () => ({
  LD_PRELOAD: ['libasan.so', 'libubsan.so'].map((name) => run('g++', [`-print-file-name=${name}`]).trim()).join(' '),
  ...SANITIZER_OPTIONS,
  PASTICHE_ADDON: ADDON,
  PASTICHE_FUZZ_ADDON: ADDON,
});

/**
 * Runs libFuzzer for so many seconds on the corpus, or once on `replay`. Returns its exit status. Steps in text are made the
 * files that libFuzzer wants by the bundle of the other targets.
 */
export const runRpcFuzzer = ({ seconds, seed, replay, corpus, crashes }) => {
  const dir = join(OUT, 'corpus-rpc');
  rmSync(dir, { recursive: true, force: true });
  const from = replay === null ? corpus : replay;
  const isText = replay === null || replay.endsWith('.txt');
  if (isText) run(process.execPath, [FUZZ_BUNDLE, '--binary', from, dir]);
  const inputs = isText ? readdirSync(dir).map((name) => join(dir, name)) : [replay];
  const args = [
    `-dict=${at('test', 'fuzz', 'native', 'rpc.dict')}`,
    `-artifact_prefix=${crashes}/rpc-`,
    `-seed=${(seed % 0x7fff_ffff) + 1}`,
    '-max_len=16384',
    '-timeout=10',
    '-verbosity=0',
    '-print_final_stats=1',
    // Without a time, or with single inputs, each is run once.
    ...(replay !== null || seconds === 0 ? inputs : [`-max_total_time=${seconds}`, dir]),
  ];
  const child = spawnSync(RPC_FUZZER, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  const failed = child.error !== undefined || child.status !== 0;
  if (failed) console.error(child.error?.message ?? child.stderr);
  const runs = /number_of_executed_units: (\d+)/.exec(child.stderr)?.[1] ?? inputs.length;
  const crash = /Test unit written to (\S+)/.exec(child.stderr)?.[1];
  if (crash !== undefined) console.error(`fuzz: the input is in ${crash}; again:\n  npm run fuzz -- --replay ${crash}`);
  console.log(`fuzz: rpc: ${runs} runs, ${inputs.length} inputs, seed ${seed}${failed ? ', failed' : ''}`);
  return failed ? 1 : 0;
};
