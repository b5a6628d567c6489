// SPDX-License-Identifier: Apache-2.0
/**
 * Takes the controller's place in tests of the helper: sends the messages of script.json, writes each reply to
 * replies.ndjson as one line { reply, fds }, and then waits for the end of its channel. Runs in the controller's
 * namespaces, so it sees what the controller would see.
 */
'use strict';
const {
  appendFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} = require('node:fs');

const here = __dirname;
const native = require(`${here}/pastiche.node`);
const mem = new Uint8Array(native.arena);
const col = new Int32Array(native.columns);
const FD_COUNT = 4224;
const CHANNELS = { host: 3, netns: 4 };
const REPLIES = `${here}/replies.ndjson`;

/** What the process was given, before it changes anything. */
const surroundings = () => ({
  argv: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  descriptors: readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => fd <= 4)
    .map((fd) => [fd, readlinkSync(`/proc/self/fd/${fd}`)]),
  status: readFileSync('/proc/self/status', 'utf8'),
});

const exchange = (side, text) => {
  const bytes = Buffer.from(text);
  mem.set(bytes, 0);
  const sent = native.channelSend(CHANNELS[side], 0, bytes.length);
  if (sent !== bytes.length) return { sent };
  const n = native.channelRecv(CHANNELS[side], 0, 65_536, true);
  if (n <= 0) return { received: n };
  for (let i = 0; i < col[FD_COUNT]; i++) received.push(col[3968 + i]);
  return { reply: JSON.parse(Buffer.from(mem.subarray(0, n)).toString()), fds: col[FD_COUNT] };
};

/** Every descriptor that came, in order, for the steps that use one. */
const received = [];

/** Until the test has made the file of this name, which it does when it has seen `paused`. */
const pause = (name) => {
  writeFileSync(`${here}/paused-${name}`, '');
  while (!existsSync(`${here}/${name}`)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
};

/** From the request to its reply, microseconds a request; the fastest of many, descriptors closed again. */
const measure = (side, text, rounds) => {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < rounds; i++) {
    const bytes = Buffer.from(text);
    const start = performance.now();
    mem.set(bytes, 0);
    native.channelSend(CHANNELS[side], 0, bytes.length);
    native.channelRecv(CHANNELS[side], 0, 65_536, true);
    best = Math.min(best, performance.now() - start);
    for (let fd = 0; fd < col[FD_COUNT]; fd++) native.close(col[3968 + fd]);
  }
  return { microseconds: best * 1000 };
};

const { steps } = JSON.parse(readFileSync(`${here}/script.json`, 'utf8'));
writeFileSync(`${here}/surroundings.json`, JSON.stringify(surroundings()));
writeFileSync(REPLIES, '');
for (const step of steps) {
  if (step.release) {
    const fd = openSync('/dev/null', 'r+');
    for (const to of [0, 1, 2]) native.dup2(fd, to);
    continue;
  }
  if (step.pause !== undefined) {
    pause(step.pause);
    continue;
  }
  if (step.send !== undefined) {
    mem.set(Buffer.from(step.text), 0);
    native.channelSend(received[step.send], 0, step.text.length);
    continue;
  }
  if (step.take !== undefined) {
    const n = native.channelRecv(received[step.take], 0, 65_536, false);
    appendFileSync(
      REPLIES,
      `${JSON.stringify({ received: n, text: Buffer.from(mem.subarray(0, Math.max(0, n))).toString() })}\n`,
    );
    continue;
  }
  if (step.close !== undefined) {
    native.close(received[step.close]);
    continue;
  }
  if (step.exit !== undefined) process.exit(step.exit);
  if (step.hang) {
    native.close(CHANNELS.host);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }
  if (step.forbidden) {
    native.installFilter(new Uint8Array(readFileSync(`${here}/controller.bpf`)));
    process.kill(process.pid, 0); // kill(2), without a signal
  }
  if (step.signal !== undefined) process.kill(process.pid, step.signal);
  const outcome = step.rounds ? measure(step.side, step.text, step.rounds) : exchange(step.side, step.text);
  appendFileSync(REPLIES, `${JSON.stringify(outcome)}\n`);
  if (outcome.reply === undefined && outcome.microseconds === undefined) process.exit(1);
}
writeFileSync(`${here}/script-done`, '');
native.channelRecv(CHANNELS.host, 0, 65_536, true);
process.exit(0);
