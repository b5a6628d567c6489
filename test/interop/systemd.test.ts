// SPDX-License-Identifier: Apache-2.0
/** Our units, run by a systemd: with traffic, killed in parts, restarted, and refused. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isRoot, type Lab, makeLab, NET, type Side, TEST_USER } from '../support/lab.mjs';
import { isAlive, status, waitFor } from '../support/process.mjs';
import { ECHO_PORT, echoServer } from '../support/programs.ts';
import { SystemdBox } from '../support/systemd-box.ts';

const GONE_WITHIN_MS = 1000;
const AS_USER = ['setpriv', `--reuid=${TEST_USER}`, `--regid=${TEST_USER}`, '--clear-groups', '--'];
const RUNTIME = `/run/user/${TEST_USER}`;
const PARTS = (name: string) => [`pastiche@${name}`, `pastiche-broker@${name}`, `pastiche-controller@${name}`] as const;

if (!isRoot) console.log('skipped: a systemd as process 1 of a container needs root');

describe.skipIf(!isRoot)('the units, run by a systemd', () => {
  let lab: Lab;
  let box: SystemdBox;
  beforeAll(async () => {
    lab = await makeLab();
    await echoServer(lab);
    box = await SystemdBox.boot(lab);
  });
  afterAll(async () => {
    await box?.shutDown();
    await lab?.cleanup();
  });

  const inside = (name: string): Side => box.within(['ip', 'netns', 'exec', name]);
  const makeNamespace = async (name: string, options?: string): Promise<void> => {
    await box.run(['ip', 'netns', 'add', name]);
    if (options !== undefined) await box.write(`/etc/pastiche/${name}.conf`, `PASTICHE_OPTIONS=${options}\n`);
  };
  /** One line over TCP, there and back. */
  const speak = (side: Side, server: string) =>
    side.run([
      'bash',
      '-c',
      'exec 3<>"/dev/tcp/$0/$1" && echo word >&3 && read -r -t 5 a <&3 && echo "$a"',
      server,
      `${ECHO_PORT}`,
    ]);
  const expectTraffic = async (side: Side): Promise<void> => {
    const all = [speak(side, NET.server4), speak(side, NET.server6), side.run(['ping', '-c1', '-W5', NET.server4])];
    const [four, six] = await Promise.all(all);
    expect([four, six]).toEqual(['word\n', 'word\n']);
  };
  const pidsOf = (units: readonly string[]) => Promise.all(units.map((unit) => box.mainPid(unit)));
  const statesOf = (units: readonly string[]) => Promise.all(units.map((unit) => box.show(unit, 'ActiveState')));
  const gone = (pids: readonly number[], what: string) =>
    waitFor(() => !pids.some(isAlive), { what: `${what} to be gone`, timeoutMs: GONE_WITHIN_MS });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.log(await box.run(['journalctl', '--no-pager', '-n', '60']));
    await box.attempt(['sh', '-c', 'systemctl stop "pastiche*@*" "passt@*"; systemctl reset-failed']);
    await box.attempt(['sh', '-c', 'ip -all netns delete']);
  });

  it('a namespace: active is when its network is there; each part has its rights and no others', async () => {
    await makeNamespace('one');
    await box.systemctl('start', 'pastiche@one');
    // No waiting: what was started after it relies on that.
    expect(await inside('one').run(['ip', '-4', 'route', 'show', 'default'])).toContain(NET.gateway4);
    await expectTraffic(inside('one'));
    expect(await box.show('pastiche@one', 'StatusText')).toBe('The namespace has its network');

    const pids = await pidsOf(PARTS('one'));
    for (const pid of pids) {
      const { Uid, CapEff, CapPrm, NoNewPrivs, Seccomp, Seccomp_filters } = status(pid);
      expect(Number(Uid?.split('\t')[0])).toBeGreaterThan(0);
      expect({ CapEff, NoNewPrivs, Seccomp }).toEqual({ CapEff: '0000000000000000', NoNewPrivs: '1', Seccomp: '2' });
      expect(CapPrm).toBe('0000000000000000');
      // Our own are two a process; the others are the unit's.
      expect(Number(Seccomp_filters)).toBeGreaterThan(5);
    }
    expect(new Set(pids.map((pid) => status(pid)['Uid'])).size).toBe(3);
    expect(await box.journal('pastiche-controller@one')).toContain('IPv4: 192.0.2.2/24, router 192.0.2.1');
    expect(await box.journal('pastiche-controller@one', '-p', 'warning')).toBe('');

    await box.systemctl('stop', 'pastiche@one');
    // The parts are told one after the other, and waited for by nobody.
    await waitFor(async () => (await statesOf(PARTS('one'))).every((state) => state === 'inactive'), {
      what: 'all parts to have stopped',
      timeoutMs: GONE_WITHIN_MS,
    });
    await gone(pids, 'the processes of a stopped unit');
    expect(await inside('one').run(['ip', '-o', 'link'])).not.toContain('eth0');
    expect((await box.attempt(['ls', '/run/pastiche/one'])).stdout).toBe('');
  });

  it.each([0, 1, 2])(
    'part %i is killed: the others end, all start anew, and the network is there again',
    async (part) => {
      await makeNamespace('two');
      await box.systemctl('start', 'pastiche@two');
      const before = await pidsOf(PARTS('two'));
      process.kill(before[part] ?? 0, 'SIGKILL');
      await gone(before, 'the processes of the network');
      // Who is left says what there is to say, each in its own journal.
      if (part === 0) expect(await box.journal('pastiche-broker@two', '-p', 'err')).toContain('The helper was killed');
      await waitFor(
        async () => {
          const now = await pidsOf(PARTS('two'));
          const states = await statesOf(PARTS('two'));
          return states.every((state) => state === 'active') && now.every((pid, i) => pid > 0 && pid !== before[i]);
        },
        { what: 'the network to be there again' },
      );
      await expectTraffic(inside('two'));
      expect(await inside('two').run(['ip', '-o', 'link', 'show', 'type', 'tun'])).toMatch(/^\d+: eth0:[^\n]*\n$/);
    },
  );

  it('restarted by hand, any of the three: all are others', async () => {
    await makeNamespace('three');
    await box.systemctl('start', 'pastiche@three');
    const before = await pidsOf(PARTS('three'));
    await box.systemctl('restart', 'pastiche@three');
    await expectTraffic(inside('three'));
    const after = await pidsOf(PARTS('three'));
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
  });

  it('the namespace is deleted: all end in order, and stay so', async () => {
    await makeNamespace('four');
    await box.systemctl('start', 'pastiche@four');
    const pids = await pidsOf(PARTS('four'));
    await box.run(['ip', 'netns', 'delete', 'four']);
    await gone(pids, 'the processes of a namespace that was deleted');
    await waitFor(async () => (await statesOf(PARTS('four'))).every((state) => state === 'inactive'), {
      what: 'the units to be inactive',
    });
    expect(await box.show('pastiche@four', 'Result')).toBe('success');
    expect(await box.show('pastiche@four', 'NRestarts')).toBe('0');
  });

  it.each([
    ['the helper knows to be wrong', '--netns-dir', 'pastiche', /requires an argument/],
    ['the controller knows to be wrong', '--config-net -t 70000', 'pastiche-controller', /70000/],
  ])('an option that %s: the start fails, the reason is in the journal', async (_, options, unit, reason) => {
    await makeNamespace('five', options);
    expect((await box.attempt(['systemctl', 'start', 'pastiche@five'])).status).toBe(1);
    expect(await box.journal(`${unit}@five`)).toMatch(reason);
  });

  it('a namespace that does not exist: the start fails, and says which', async () => {
    expect((await box.attempt(['systemctl', 'start', 'pastiche@none'])).status).toBe(1);
    expect(await box.journal('pastiche-broker@none')).toContain('/run/netns/none');
  });

  it('what the allowlist has not is not to be had in a unit', async () => {
    const dropIn = await box.run(['cat', '/run/systemd/system/pastiche-controller@.service.d/50-syscalls.conf']);
    const exec = 'Type=oneshot\nExecStart=/usr/bin/nice -n 1 /bin/true';
    await box.write('/run/systemd/system/probe.service', dropIn.replace('[Service]', `[Service]\n${exec}`));
    await box.systemctl('daemon-reload');
    expect((await box.attempt(['systemctl', 'start', 'probe'])).status).toBe(1);
    expect(await box.show('probe', 'Result')).toBe('signal');
    expect(await box.show('probe', 'ExecMainStatus')).toBe('31'); // SIGSYS
  });

  /** A guest's question for the router's MAC, as QEMU would pass it on; prints the answer's. */
  const ARP = `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])
me = bytes([2, 0, 0, 0, 0, 9])
ask = b'\\xff' * 6 + me + struct.pack('!HHHBBH', 0x806, 1, 0x800, 6, 4, 1) + me
ask += socket.inet_aton('${NET.host4}') + bytes(6) + socket.inet_aton('${NET.gateway4}')
s.sendall(struct.pack('!I', len(ask)) + ask)
got = b''
while True:
    got += s.recv(65536)
    while len(got) >= 4 and len(got) >= 4 + struct.unpack('!I', got[:4])[0]:
        n = struct.unpack('!I', got[:4])[0]; frame, got = got[4:4 + n], got[4 + n:]
        if frame[12:14] == b'\\x08\\x06' and frame[20:22] == b'\\x00\\x02': print(frame[22:28].hex(':')); sys.exit(0)
`;
  const arp = (side: Side, socket: string) => side.attempt(['/usr/bin/python3', '-c', ARP, socket]);

  it('passt@: a socket for the group of virtual machines, and for nobody else', async () => {
    await box.systemctl('start', 'passt@vm');
    const socket = '/run/passt/vm/socket';
    expect(await box.run(['stat', '-c', '%A %G', socket])).toBe('srwxrwx--- pastiche-vm\n');
    const stranger = await arp(box.within(AS_USER), socket);
    expect(stranger.stderr).toContain('PermissionError');
    const member = ['setpriv', `--reuid=${TEST_USER}`, '--regid=pastiche-vm', '--clear-groups', '--'];
    expect((await arp(box.within(member), socket)).stdout).toBe('9a:55:9a:55:9a:55\n');
    expect(status(await box.mainPid('passt@vm'))).toMatchObject({ CapEff: '0000000000000000', Seccomp: '2' });
    await box.systemctl('restart', 'passt@vm');
    expect((await arp(box.within(member), socket)).stdout).toBe('9a:55:9a:55:9a:55\n');
    await box.systemctl('stop', 'passt@vm');
    expect((await box.attempt(['ls', '/run/passt/vm'])).status).not.toBe(0);
  });

  it('a user of his own manager: a process of his, and a virtual machine', async () => {
    const manager = [
      ...['[Unit]', 'DefaultDependencies=no', '[Service]', 'Type=notify', `User=${TEST_USER}`, `Group=${TEST_USER}`],
      ...[`Environment=XDG_RUNTIME_DIR=${RUNTIME} HOME=${RUNTIME} SYSTEMD_UNIT_PATH=/run/systemd/user`, 'Delegate=yes'],
      ...[`RuntimeDirectory=user/${TEST_USER}`, 'ExecStart=/lib/systemd/systemd --user --unit=box.target', ''],
    ];
    await box.write('/run/sysusers.d/user.conf', `u somebody ${TEST_USER} - ${RUNTIME}\n`);
    await box.run(['systemd-sysusers', '/run/sysusers.d/user.conf']);
    await box.write('/run/systemd/system/manager.service', manager.join('\n'));
    for (const target of ['box', 'basic', 'shutdown', 'default', 'sockets', 'paths', 'timers'])
      await box.write(`/run/systemd/user/${target}.target`, '[Unit]\nDefaultDependencies=no\n');
    await box.systemctl('daemon-reload');
    await box.systemctl('start', 'manager');
    const user = box.within([...AS_USER, 'env', `XDG_RUNTIME_DIR=${RUNTIME}`, `HOME=${RUNTIME}`]);
    const ctl = (...args: readonly string[]) => user.run(['systemctl', '--user', '--no-pager', ...args]);

    const holder = user.spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo $$; exec cat'], {
      stdin: 'pipe',
    });
    const pid = await waitFor(() => holder.out().trim(), { what: 'a namespace of the user' });
    await ctl('start', `pastiche@${pid}`, 'passt@vm');
    const guest = box.within(['nsenter', '-t', pid, '-U', '-S', '0', '-G', '0', '-n', '--']);
    await expectTraffic(guest);
    expect((await arp(user, `${RUNTIME}/passt/vm/socket`)).stdout).toBe('9a:55:9a:55:9a:55\n');
    expect(await ctl('show', '--value', '-p', 'ActiveState', `pastiche@${pid}`, 'passt@vm')).toBe('active\n\nactive\n');
    holder.child.stdin?.end();
    await holder.closed;
    await waitFor(async () => (await ctl('show', '--value', '-p', 'ActiveState', `pastiche@${pid}`)) === 'inactive\n', {
      what: 'the unit of a process that has ended to be inactive',
    });
    await ctl('stop', 'passt@vm');
    // Its targets are not all there: it does not know how to end.
    await box.systemctl('kill', '-s', 'KILL', 'manager');
  });
});
