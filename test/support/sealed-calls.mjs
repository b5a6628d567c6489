// SPDX-License-Identifier: Apache-2.0
/**
 * Run by addon-sealed.test.ts: makes descriptors, installs the controller's own filter, then makes every call of the
 * addon, one JSON line each: written before the call its name, after it the result. A kill ends the output at the culprit.
 */
import { ftruncateSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [addonPath, testkitPath, filterPath] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const native = require(addonPath);
const kit = require(testkitPath);
const col = new Int32Array(native.columns);
const COL = JSON.parse(process.env['COL']);
const SOCKOPT = JSON.parse(process.env['SOCKOPT']);
const STREAM = 1;
const DGRAM = 2;
const SEQPACKET = 5;
const NONBLOCK = 0o4000;
const loopback = { 2: '127.0.0.1', 10: '::1' };

const listener = kit.socket(2, STREAM, 0);
kit.bind(listener, loopback[2], 0);
kit.listen(listener, 1);
const tcp = kit.socket(2, STREAM | NONBLOCK, 0);
kit.connect(tcp, loopback[2], kit.port(listener));
const peer = kit.accept(listener);
kit.connect(kit.socket(2, STREAM, 0), loopback[2], kit.port(listener));
const [from, into] = kit.socketpair(STREAM);
kit.write(into, Buffer.from('spliced'));
kit.send(peer, Buffer.from('0123456789'));
/** Connected to itself. */
const udp = [2, 10].map((domain) => {
  const fd = kit.socket(domain, DGRAM | NONBLOCK, 0);
  kit.bind(fd, loopback[domain], 0);
  kit.connect(fd, loopback[domain], kit.port(fd));
  return fd;
});
const [helper, channel] = kit.socketpair(SEQPACKET);
kit.sendFds(helper, Buffer.from('reply'), [helper]);
kit.sendFds(helper, Buffer.from('reply'), [helper]);
const table = openSync('/proc/net/tcp');
const counter = kit.syscall(process.arch === 'arm64' ? 19 : 290, 0, 0);
const [foreign] = kit.socketpair(STREAM);
const [tap, guest] = kit.socketpair(DGRAM | NONBLOCK);
kit.write(guest, Buffer.from('frame'));

/**
 * The memory of a guest, 64 KiB from address 0 of both views: two rings of 4 entries at 0 and at 4096 (available at 64, used at 128 of each), each with one
 * buffer of 100 bytes at 8192; the second may be read only.
 */
const RINGS_AT = 1 << 18;
const guestMemory = join(tmpdir(), `sealed-calls-${process.pid}`);
const guestFd = openSync(guestMemory, 'wx+');
unlinkSync(guestMemory);
ftruncateSync(guestFd, 1 << 16);
const words = (...list) => Buffer.from(new Uint8Array(BigUint64Array.from(list.map(BigInt)).buffer));
for (const [at, flags] of [
  [0, 2],
  [4096, 0],
]) {
  writeSync(guestFd, Buffer.concat([words(8192), Buffer.from([100, 0, 0, 0, flags, 0, 0, 0])]), 0, 16, at);
  writeSync(guestFd, Buffer.from([0, 0, 1, 0]), 0, 4, at + 64);
}
const arena = new Uint8Array(native.arena);
const rings = (queue) => {
  const at = 4096 * queue;
  arena.set(words(at, at + 128, at + 64), RINGS_AT);
  return native.vringStart(queue, 4, 0, RINGS_AT);
};

for (const [slot, value] of [
  [COL.IOV_AT, 0],
  [COL.IOV_LEN, 4],
  [COL.OUT_AT, 0],
  [COL.OUT_LEN, 60],
  [COL.OUT_AT + 1, 1 << 21],
  [COL.OUT_LEN + 1, 60],
])
  col[slot] = value;
const socketFor = (name) =>
  name.startsWith('IPV6') ? udp[1] : name.startsWith('UDP') || name === 'IP_MULTICAST_TTL' ? udp[0] : tcp;

const CALLS = {
  probeFilter: () => native.probeFilter(),
  watch: () => native.watch(tcp, 1, 1),
  'watch again': () => native.watch(tcp, 5, 1),
  wait: () => native.wait(0.5, 0),
  unwatch: () => native.unwatch(tcp),
  uvBackendFd: () => native.uvBackendFd() >= 0,
  uvTimeoutMs: () => native.uvTimeoutMs() >= -1,
  readFrames: () => native.readFrames(tap, 0, 1 << 20, 8),
  writeFrames: () => native.writeFrames(tap, 0, 1),
  writeStreamFrames: () => native.writeStreamFrames(into, 1, 2, 0),
  vringMap: () => {
    arena.set(words(0, 1 << 16, 0, 0), RINGS_AT);
    col[COL.FD] = guestFd;
    return native.vringMap(RINGS_AT, 1);
  },
  vringFeatures: () => native.vringFeatures(1),
  vringCall: () => native.vringCall(1, into),
  checkEvent: () => native.checkEvent(counter),
  signalEvent: () => native.signalEvent(counter),
  closeForeign: () => native.closeForeign(foreign),
  'vringStart, to the guest': () => rings(0),
  'vringStart, from the guest': () => rings(1),
  vringReceive: () => native.vringReceive(0, 1 << 17, 8) === 1,
  vringSend: () => native.vringSend(0, 1, 0) === 1,
  vringStop: () => native.vringStop(1) === 1,
  'vringMap, nothing': () => native.vringMap(RINGS_AT, 0),
  recvv: () => native.recvv(tcp, 1, false),
  'recvv peek': () => native.recvv(tcp, 1, true),
  discard: () => native.discard(tcp, 2),
  read: () => native.read(tcp, 0, 1),
  readAt: () => native.readAt(table, 0, 4096, 0) > 0,
  write: () => native.write(tcp, 0, 1),
  writev: () => native.writev(tcp, 1),
  udpSegment: () => native.udpSegment(udp[0], 100),
  'write of segments': () => native.write(udp[0], 0, 250),
  'write over IPv6': () => native.write(udp[1], 0, 10),
  recvDatagrams: () => native.recvDatagrams(udp[0], 0, 2048, 8),
  'recvFrom, looking': () => native.recvFrom(udp[1], 0, 2048, 1, 32_768, true),
  recvFrom: () => native.recvFrom(udp[1], 0, 2048, 8, 32_768, false),
  recvError: () => native.recvError(udp[0], 0, 2048, 4096),
  tcpInfo: () => native.tcpInfo(tcp),
  tcpOutq: () => native.tcpOutq(tcp),
  tcpRoom: () => native.tcpRoom(tcp) > 0,
  socketError: () => native.socketError(tcp),
  'pathMtu over IPv4': () => native.pathMtu(udp[0], false) > 0,
  'pathMtu over IPv6': () => native.pathMtu(udp[1], true) > 0,
  localPort: () => native.localPort(tcp) > 0,
  accept: () => native.accept(listener, 0) > 0,
  pipe: () => native.pipe(1 << 18) > 0,
  spliceThrough: () => native.spliceThrough(from, col[COL.FD + 1], col[COL.FD], into, 0, 1, true),
  channelSend: () => native.channelSend(channel, 0, 5),
  channelRecv: () => native.channelRecv(channel, 0, 100, false),
  'channelRecv, blocking': () => native.channelRecv(channel, 0, 100, true),
  checksum: () => native.checksum(0, 1000, 0) >= 0,
  random: () => native.random(0, 32),
  shutdownWrite: () => native.shutdownWrite(tcp),
  lingerZero: () => native.lingerZero(tcp),
  sendUnpaced: () => native.sendUnpaced(tcp),
  close: () => native.close(tcp),
};
// While the TCP socket is still open: before its last three calls.
const names = Object.keys(CALLS);
const options = Object.entries(SOCKOPT).map(([name, { level, option }]) => [
  `setsockopt ${name}`,
  () => native.setsockopt(socketFor(name), level, option, name === 'TCP_MAXSEG' ? 1000 : 1),
]);
const ordered = [
  ...names.slice(0, -3).map((name) => [name, CALLS[name]]),
  ...options,
  ...names.slice(-3).map((name) => [name, CALLS[name]]),
];

const filter = new Uint8Array(readFileSync(filterPath));
const say = (value) => writeSync(1, `${JSON.stringify(value)}\n`);
say(['installFilter', native.installFilter(filter)]);
for (const [name, call] of ordered) {
  say([name]);
  say([name, call()]);
}
say(['end', 0]);
