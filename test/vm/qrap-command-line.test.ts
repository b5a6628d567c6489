// SPDX-License-Identifier: Apache-2.0
/** qrap against a QEMU that tells how it was started: which command line becomes which, and what else it is given. */
import { linkSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Finished } from '../support/process.mjs';
import { answers, framed, isSilent, type Manner, Peer, Place, QEMU, QRAP, seen } from '../support/qrap.ts';

let place: Place;
let passt: Peer;
beforeAll(async () => {
  place = await new Place().prepare();
  passt = await Peer.listen(join(place.dir, 'passt.socket'), answers);
});
afterAll(async () => {
  await passt.close();
  place.remove();
});

const qrap = (args: readonly string[], socket = passt.path): Promise<Finished> =>
  place.run(args, { env: { PASTICHE_SOCKET: socket } });
const words = (line: string): string[] => line.split(' ').filter((word) => word !== '');

const NETDEV = '-netdev socket,fd=5,id=hostnet0';
const CARD = '-device virtio-net-pci,netdev=hostnet0,x-txburst=4096';
const json = (value: object): string => JSON.stringify(value);
const JSON_NETDEV = `-netdev ${json({ type: 'socket', fd: '5', id: 'hostnet0' })}`;
/** A card in JSON, in the order in which qrap writes it. */
const jsonCard = (kept: object, driver = 'virtio-net-pci'): string =>
  `-device ${json({ driver, ...kept, netdev: 'hostnet0', 'x-txburst': 4096 })}`;
const port = (n: number): string =>
  `-device ${json({ driver: 'pcie-root-port', port: 15 + n, chassis: n, id: `pci.${n}`, bus: 'pcie.0', addr: `0x2.0x${n - 1}` })}`;
const blk = (bus: string, addr: string): string =>
  `-device ${json({ driver: 'virtio-blk-pci', bus, addr, drive: 'd', id: `on-${bus}` })}`;
const slots = (from: number, to: number): string =>
  Array.from(
    { length: to - from + 1 },
    (_, i) => `-device virtio-rng-pci,bus=pci.0,addr=0x${(from + i).toString(16)}`,
  ).join(' ');

/** What was asked for, what stays of it, what comes behind that. */
const TABLE: readonly (readonly [name: string, line: string, stays: string, comes: string])[] = [
  [
    'the example of the manual',
    'test.qcow2 -m 1024 -display none -nodefaults -nographic',
    'test.qcow2 -m 1024 -display none -nodefaults -nographic',
    `${CARD} ${NETDEV}`,
  ],
  ['-netdev and -device', '-netdev user,id=n0 -device virtio-net-pci,netdev=n0 -m 1', '-m 1', `${CARD} ${NETDEV}`],
  ['two dashes', '--netdev user,id=n0 --device e1000,netdev=n0 --m 1', '--m 1', `${CARD} ${NETDEV}`],
  ['driver= first', '-device driver=e1000e,netdev=n0 -netdev tap,id=n0', '', `${CARD} ${NETDEV}`],
  ['driver= last', '-device netdev=n0,driver=rtl8139 -netdev tap,id=n0', '', `${CARD} ${NETDEV}`],
  ['-net', '-net nic,model=e1000 -net user', '', `${CARD} ${NETDEV}`],
  [
    '-net keeps the MAC',
    '-net nic,macaddr=52:54:00:01:02:03 -net user',
    '',
    `-device virtio-net-pci,mac=52:54:00:01:02:03,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    '-nic',
    '-nic user,model=virtio,mac=52:54:00:01:02:04',
    '',
    `-device virtio-net-pci,mac=52:54:00:01:02:04,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  ['-net none beside a card', '-net none -device e1000', '', `${CARD} ${NETDEV}`],
  ['a card of another make', '-netdev user,id=n -device vmxnet3,netdev=n,addr=0x4 -m 1', '-m 1', `${CARD} ${NETDEV}`],
  [
    'two cards become one, the first',
    '-device e1000,mac=52:54:00:00:00:01 -device e1000,mac=52:54:00:00:00:02',
    '',
    `-device virtio-net-pci,mac=52:54:00:00:00:01,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'what the card was known by',
    '-device virtio-net-pci,id=net0,mac=52:54:00:00:00:01,bus=pci.0,addr=0x9,bootindex=2,netdev=n,rombar=0',
    '',
    `-device virtio-net-pci,id=net0,mac=52:54:00:00:00:01,bootindex=2,bus=pci.0,addr=0x9,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'a transitional card stays so',
    '-device virtio-net-pci-transitional,netdev=n',
    '',
    `-device virtio-net-pci-transitional,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'a comma in a value',
    '-device e1000,id=a,,b',
    '',
    `-device virtio-net-pci,id=a,,b,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'a card whose place was left to QEMU',
    '-device e1000 -device virtio-rng-pci,addr=0x2 -device virtio-blk-pci,drive=d -machine pc',
    '-device virtio-rng-pci,addr=0x2 -device virtio-blk-pci,drive=d -machine pc',
    `${CARD} ${NETDEV}`,
  ],
  [
    'pc: the lowest free slot',
    `-nodefaults -machine pc ${slots(2, 4)}`,
    `-nodefaults -machine pc ${slots(2, 4)}`,
    `-device virtio-net-pci,bus=pci.0,addr=0x5,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'pc: a gap',
    `-nodefaults -machine pc-i440fx-7.2 ${slots(2, 3)} ${slots(5, 5)}`,
    `-nodefaults -machine pc-i440fx-7.2 ${slots(2, 3)} ${slots(5, 5)}`,
    `-device virtio-net-pci,bus=pci.0,addr=0x4,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'pc: slot 2 is the default display',
    '-machine type=pc -device virtio-rng-pci,addr=07',
    '-machine type=pc -device virtio-rng-pci,addr=07',
    `-device virtio-net-pci,bus=pci.0,addr=0x3,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'pc: another bus does not count',
    '-nodefaults -M pc -device pci-bridge,id=pci.1,bus=pci.0,addr=0x2,chassis_nr=1 -device virtio-rng-pci,bus=pci.1,addr=0x3',
    '-nodefaults -M pc -device pci-bridge,id=pci.1,bus=pci.0,addr=0x2,chassis_nr=1 -device virtio-rng-pci,bus=pci.1,addr=0x3',
    `-device virtio-net-pci,bus=pci.0,addr=0x3,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'q35, plain: a free root port',
    '-nodefaults -machine q35 -device pcie-root-port,id=pci.1,bus=pcie.0,addr=0x2 -device pcie-root-port,id=pci.2,bus=pcie.0,addr=0x3 -device virtio-rng-pci,bus=pci.1,addr=0x0',
    '-nodefaults -machine q35 -device pcie-root-port,id=pci.1,bus=pcie.0,addr=0x2 -device pcie-root-port,id=pci.2,bus=pcie.0,addr=0x3 -device virtio-rng-pci,bus=pci.1,addr=0x0',
    `-device virtio-net-pci,bus=pci.2,addr=0x0,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'q35, JSON: a free root port',
    `-machine pc-q35-7.2,usb=off ${port(1)} ${port(2)} ${port(3)} ${blk('pci.1', '0x0')} ${blk('pci.2', '0x0')}`,
    `-machine pc-q35-7.2,usb=off ${port(1)} ${port(2)} ${port(3)} ${blk('pci.1', '0x0')} ${blk('pci.2', '0x0')}`,
    `${jsonCard({ bus: 'pci.3', addr: '0x0' })} ${NETDEV}`,
  ],
  [
    'q35, JSON: no root port is free',
    `-machine pc-q35-7.2 -nodefaults ${port(1)} ${blk('pci.1', '0x0')}`,
    `-machine pc-q35-7.2 -nodefaults ${port(1)} ${blk('pci.1', '0x0')}`,
    `${jsonCard({ bus: 'pcie.0', addr: '0x3' })} ${NETDEV}`,
  ],
  [
    'q35, JSON: the old place',
    `-machine q35 ${port(1)} -device ${json({ driver: 'virtio-net-pci', netdev: 'hostnet0', id: 'net0', mac: '52:54:00:0a:0b:0c', bus: 'pci.1', addr: '0x0', bootindex: 1 })} -netdev ${json({ type: 'user', id: 'hostnet0' })}`,
    `-machine q35 ${port(1)}`,
    `${jsonCard({ id: 'net0', mac: '52:54:00:0a:0b:0c', bootindex: 1, bus: 'pci.1', addr: '0x0' })} ${JSON_NETDEV}`,
  ],
  [
    'JSON with blanks before it',
    `-device ${' '.trim()}{"netdev":"n","driver":"e1000","multifunction":true,"addr":"0x4"}`,
    '',
    `${jsonCard({ addr: '0x4', multifunction: true })} ${NETDEV}`,
  ],
  [
    'plain card among JSON',
    '-device {"driver":"virtio-rng-pci"} -device e1000,netdev=n,bootindex=3,multifunction=on,addr=0x6',
    '-device {"driver":"virtio-rng-pci"}',
    `${jsonCard({ bootindex: 3, addr: '0x6', multifunction: true })} ${NETDEV}`,
  ],
  ['JSON that is none goes to QEMU', '-device {"driver": -m 1', '-device {"driver": -m 1', `${CARD} ${NETDEV}`],
  [
    's390: the lowest free number',
    '-machine s390-ccw-virtio-7.2 -device virtio-blk-ccw,devno=fe.0.0001 -device virtio-rng-ccw,devno=FE.0.0002',
    '-machine s390-ccw-virtio-7.2 -device virtio-blk-ccw,devno=fe.0.0001 -device virtio-rng-ccw,devno=FE.0.0002',
    `-device virtio-net-ccw,devno=fe.0.0003,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    's390: the old number',
    '-machine s390-ccw-virtio -device virtio-net-ccw,devno=fe.0.0000,netdev=n -device virtio-blk-ccw,devno=fe.0.0001',
    '-machine s390-ccw-virtio -device virtio-blk-ccw,devno=fe.0.0001',
    `-device virtio-net-ccw,devno=fe.0.0000,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    's390 without numbers',
    '-machine s390-ccw-virtio -device virtio-net-ccw,netdev=n',
    '-machine s390-ccw-virtio',
    `-device virtio-net-ccw,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'microvm',
    '-M microvm -device virtio-net-device,netdev=n',
    '-M microvm',
    `-device virtio-net-device,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'virt',
    '-machine virt-7.2,gic-version=3 -device virtio-net-pci,netdev=n',
    '-machine virt-7.2,gic-version=3',
    `${CARD} ${NETDEV}`,
  ],
  [
    'the last machine wins',
    '-machine pc -M microvm',
    '-machine pc -M microvm',
    `-device virtio-net-device,netdev=hostnet0,x-txburst=4096 ${NETDEV}`,
  ],
  [
    'a name like an option',
    '-name -netdev -append -device -kernel -net',
    '-name -netdev -append -device -kernel -net',
    `${CARD} ${NETDEV}`,
  ],
  [
    'a flag before an option',
    '-nographic -netdev user,id=n -S -device e1000,netdev=n -snapshot',
    '-nographic -S -snapshot',
    `${CARD} ${NETDEV}`,
  ],
  ['a flag nobody has heard of', '-no-such-flag -device e1000 -m 1', '-no-such-flag -m 1', `${CARD} ${NETDEV}`],
  ['an option without its argument', '-m 1 -device', '-m 1 -device', `${CARD} ${NETDEV}`],
  [
    'names that only begin like it',
    '-device virtio-net-console -device e1000-82545em -object netdev,id=x',
    '-device virtio-net-console -device e1000-82545em -object netdev,id=x',
    `${CARD} ${NETDEV}`,
  ],
];

describe('the command line', () => {
  test.each(TABLE)('%s', async (_name, line, stays, comes) => {
    const { argv } = seen(await qrap(words(line)));
    expect(argv).toEqual([join(place.bin, QEMU), ...words(stays), ...words(comes)]);
  });
  test('empty words and blanks stay as they are', async () => {
    const odd = ['', '-append', ' a  b ', '-name', '', '-fw_cfg', 'x,string= "y" '];
    expect(seen(await qrap(odd)).argv.slice(1, 1 + odd.length)).toEqual(odd);
  });
  test('blanks before JSON', async () => {
    const { argv } = seen(await qrap(['-device', ' \n{"driver": "e1000"}', '-netdev', '\t{"type":"user","id":"n"}']));
    expect(argv.slice(1)).toEqual(words(`${jsonCard({})} ${JSON_NETDEV}`));
  });
  test('no place is left', async () => {
    const done = await qrap(words(`-nodefaults -machine pc ${slots(2, 0x1e)}`));
    expect(done).toMatchObject({ status: 1, stdout: '' });
    expect(done.stderr).toBe("Couldn't find free address for device\n");
  });
  test('with FD and QEMU, arguments stay as they are', async () => {
    const line = words('-machine pc -net socket,fd=17 -net nic,model=virtio -version');
    const state = seen(await qrap(['17', QEMU, ...line]));
    expect(state.argv).toEqual([QEMU, ...line]);
    expect(place.descriptors(state)).toEqual(['17']);
  });
});

describe('no connection is needed', () => {
  test.each([
    '-version',
    '--version -m 1',
    '-h',
    '-help',
    '-machine help',
    '-M ?',
    '-cpu help',
    '-device help',
    '-device virtio-net-pci,help',
    '-netdev help',
    '-net nic,model=help',
    '-nic model=?',
    '-object help',
    '-accel help',
    '-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg -qmp unix:/x/qmp.monitor,server=on,wait=off -pidfile /x/qmp.pid -daemonize',
    '-machine type=none',
    '-M none -device e1000',
    '-net none',
    '-nic none -m 1',
  ])('%s', async (line) => {
    const before = passt.connections;
    const state = seen(await qrap(words(line)));
    expect(state.argv.slice(1)).toEqual(words(line));
    expect(place.descriptors(state)).toEqual([]);
    expect(passt.connections).toBe(before);
  });
  test.each(['-append help', '-name help', '-kernel ?', '-drive file=help -m 1'])('but for: %s', async (line) => {
    expect(seen(await qrap(words(line))).argv.slice(-2)).toEqual(words(NETDEV));
  });
});

describe('its own words', () => {
  test('without arguments: usage, status 1', async () => {
    const done = await place.run([]);
    expect(done).toMatchObject({ status: 1, stdout: '' });
    expect(done.stderr).toMatch(/^Usage: qrap FD QEMU /);
  });
  test('--help and --version', async () => {
    expect(await place.run(['--help'])).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringMatching(/^Usage: qrap /),
    });
    expect(await place.run(['--version'])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^qrap \d+\.\d+\.\d+ /),
    });
  });
  test.each([
    [['5', 'no-such-qemu', '-m', '1'], "Couldn't find qemu command no-such-qemu\n"],
    [['2', QEMU], 'Invalid descriptor 2: it must be between 3 and 2147483647\n'],
    [['99999999999999999999', QEMU], 'Invalid descriptor 99999999999999999999: it must be between 3 and 2147483647\n'],
  ])('%j', async (args, sentence) => {
    expect(await qrap(args)).toMatchObject({ status: 1, stdout: '', stderr: sentence });
  });
  test('a descriptor beyond the limit', async () => {
    const done = await qrap(['2147483647', QEMU]);
    expect(done.status).toBe(1);
    expect(done.stderr).toContain("Couldn't make the connection descriptor 2147483647: Bad file descriptor\n");
  });
  test('no QEMU on PATH', async () => {
    const done = await place.run(['-version'], { path: '/nonexistent' });
    // A distribution may have the last candidate, which is no matter of PATH.
    if (done.status !== 0)
      expect(done).toMatchObject({ status: 1, stdout: '', stderr: "Couldn't find qemu command\n" });
  });
});

describe('under the name of a QEMU', () => {
  test.each([
    ['a symbolic link', symlinkSync],
    ['a hard link', linkSync],
  ])('%s on PATH is never run by itself', async (_kind, link) => {
    const dir = join(place.dir, 'links');
    mkdirSync(dir);
    try {
      for (const name of ['kvm', 'qemu-kvm', QEMU])
        try {
          link(QRAP, join(dir, name));
        } catch (error) {
          // The checkout may be on another file system than /tmp: then there is no such link to be taken for QEMU.
          if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
        }
      const path = `${dir}:${place.bin}`;
      const env = { PASTICHE_SOCKET: passt.path };
      expect(seen(await place.run(['-m', '1'], { path, env })).argv[0]).toBe(join(place.bin, QEMU));
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
  test('the QEMU of that name is run, and answers --version', async () => {
    const dir = join(place.dir, 'names');
    mkdirSync(dir);
    symlinkSync(QRAP, join(dir, 'qemu-system-s390x'));
    symlinkSync(join(place.bin, QEMU), join(place.bin, 'qemu-system-s390x'));
    const options = {
      path: `${dir}:${place.bin}`,
      program: join(dir, 'qemu-system-s390x'),
      env: { PASTICHE_SOCKET: passt.path },
    };
    expect(seen(await place.run(['--version'], options)).argv).toEqual([
      join(place.bin, 'qemu-system-s390x'),
      '--version',
    ]);
    const { argv } = seen(await place.run([], options));
    expect(argv.slice(1)).toEqual(words(`-device virtio-net-ccw,netdev=hostnet0,x-txburst=4096 ${NETDEV}`));
    rmSync(join(place.bin, 'qemu-system-s390x'));
  });
});

describe('what QEMU inherits', () => {
  test('the connection, blocking and with nothing left of the answers, and nothing else of ours', async () => {
    const state = seen(await qrap(['-m', '1']));
    expect(place.descriptors(state)).toEqual(['5']);
    expect(state.descriptors['5']).toEqual({ socket: 1, blocks: true, waiting: 0 });
  });
  test('descriptors, umask, blocked and ignored signals of the caller', async () => {
    const script = `umask 027; trap '' PIPE; exec 4</dev/null 5</dev/null "$0" -m 1`;
    const done = await place.run(['-c', script, QRAP], {
      program: '/bin/sh',
      env: { PASTICHE_SOCKET: passt.path },
      path: place.bin,
    });
    const state = seen(done);
    expect(state).toMatchObject({ umask: 0o027, pipeIgnored: true, blocked: [] });
    // 5 is taken: the connection is at the next one, and the argument says so.
    expect(place.descriptors(state)).toEqual(['4', '5', '6']);
    expect(state.descriptors['6']?.socket).toBe(1);
    expect(state.argv.at(-1)).toBe('socket,fd=6,id=hostnet0');
  });
});

describe('passt is asked', () => {
  test('by one ARP request and one neighbour solicitation, with the MAC of the guest', async () => {
    await qrap(words('-device virtio-net-pci,mac=52:54:00:aa:bb:cc'));
    const question = passt.questions.at(-1) as Buffer;
    expect(question.readUInt32BE(0)).toBe(42);
    expect(question.readUInt32BE(46)).toBe(86);
    expect(question.length).toBe(4 + 42 + 4 + 86);
    expect(question.subarray(4).toString('hex', 0, 16)).toBe('ffffffffffff525400aabbcc08060001');
    const solicitation = question.subarray(50);
    expect(solicitation.toString('hex', 0, 14)).toBe('3333ff000001525400aabbcc86dd');
    expect(solicitation.toString('hex', 22, 38)).toBe('fe80000000000000505400fffeaabbcc');
    // Pseudo-header and message together come to nothing but ones (RFC 4443 §2.3).
    let sum = 58 + 32;
    for (let i = 22; i < 86; i += 2) sum += solicitation.readUInt16BE(i);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    expect(sum).toBe(0xffff);
  });

  const half = framed(42).subarray(0, 20);
  const HOSTILE: readonly (readonly [name: string, manner: Manner, why: RegExp])[] = [
    ['is silent', isSilent, /no answer/],
    ['hangs up', (peer) => peer.end(), /it hung up; it may have another guest/],
    ['has another guest', null, /it hung up; it may have another guest/],
    ['answers half a frame', (peer) => peer.write(half), /no answer/],
    ['answers half a length', (peer) => peer.write(half.subarray(0, 3)), /no answer/],
    ['answers half a frame and hangs up', (peer) => peer.end(half), /it hung up/],
    ['answers one frame and a half', (peer) => peer.write(Buffer.concat([framed(60), half])), /no answer/],
    ['answers 64 KiB of junk', (peer) => peer.write(Buffer.alloc(65_536, 0xee)), /the answer is no frame/],
    ['answers an empty frame', (peer) => peer.write(Buffer.alloc(64)), /the answer is no frame/],
    ['speaks text', (peer) => peer.write('HTTP/1.1 400 Bad Request\r\n\r\n'), /the answer is no frame/],
  ];
  test.concurrent.each(HOSTILE)('one that %s is none', async (name, manner, why) => {
    const peer = await Peer.listen(join(place.dir, name.replaceAll(' ', '-')), manner);
    const done = await qrap(['-m', '1'], peer.path);
    await peer.close();
    expect(done).toMatchObject({ status: 1, stdout: '' });
    expect(done.stderr).toContain(`Probe of ${peer.path} failed: `);
    expect(done.stderr).toMatch(why);
    expect(done.stderr).toMatch(/Couldn't find a passt that answers\n$/);
  });
  test('answers of all sizes and in pieces are read to the end of a frame', async () => {
    const all = Buffer.concat([framed(86), framed(65_535), framed(14)]);
    const peer = await Peer.listen(join(place.dir, 'many'), async (to) => {
      for (let i = 0; i < all.length; i += 9001) {
        to.write(all.subarray(i, i + 9001));
        await new Promise((done) => setImmediate(done));
      }
    });
    const { descriptors } = seen(await qrap(['-m', '1'], peer.path));
    await peer.close();
    // What came while it looked is gone; what came later is whole frames.
    expect([0, 18, 65_539 + 18]).toContain(descriptors['5']?.waiting);
  });
  test('a stale path, a missing one, one that is too long, one that is no socket', async () => {
    for (const [path, why] of [
      [join(place.dir, 'missing'), 'No such file or directory'],
      [`/${'x'.repeat(200)}`, 'File name too long'],
      [place.bin, 'Connection refused'],
    ] as const)
      expect(await qrap(['-m', '1'], path)).toMatchObject({
        status: 1,
        stderr: `Probe of ${path} failed: ${why}\nCouldn't find a passt that answers\n`,
      });
  });
  test('one that hangs up at first is asked again', async () => {
    let times = 0;
    const peer = await Peer.listen(join(place.dir, 'restarting'), (to) => (++times < 4 ? to.destroy() : answers(to)));
    const done = await qrap(['-m', '1'], peer.path);
    await peer.close();
    expect(done.stderr).toBe(`Connected to ${peer.path}\n`);
    expect(times).toBe(4);
  });
});

describe('the first of /tmp/passt_1.socket to 64 that answers', () => {
  const listen = (number: number, manner: Manner) => Peer.listen(join(place.tmp, `passt_${number}.socket`), manner);

  test('none is there', async () => {
    const done = await place.runWithOwnTmp(['-m', '1']);
    expect(done).toMatchObject({ status: 1, stdout: '' });
    expect(done.stderr).toBe(
      "Probe of /tmp/passt_1.socket failed, and of all to number 64: No such file or directory\nCouldn't find a passt that answers\n",
    );
  });
  test('past the silent, the busy and the broken', async () => {
    const peers = [
      await listen(2, isSilent),
      await listen(3, null),
      await listen(7, (peer) => peer.write('junk, and more of it')),
      await listen(63, answers),
      await listen(64, answers),
    ];
    const done = await place.runWithOwnTmp(['-m', '1']);
    const connections = peers.map((peer) => peer.connections);
    await Promise.all(peers.map((peer) => peer.close()));
    expect(done.stderr).toBe(
      'Probe of /tmp/passt_2.socket failed: no answer\nProbe of /tmp/passt_7.socket failed: the answer is no frame\nConnected to /tmp/passt_63.socket\n',
    );
    expect(connections).toEqual([1, 1, 1, 1, 0]);
    expect(seen(done).descriptors['5']?.socket).toBe(1);
  });
});
