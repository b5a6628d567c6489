// SPDX-License-Identifier: Apache-2.0
/** A virtual machine at passt's UNIX socket (`-netdev stream`): what it is told, and what it reaches and is reached by. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CROWD_PORT, crowdServer } from '../support/crowd.mjs';
import { descendants, type Lab, makeLab, NET } from '../support/lab.mjs';
import { pssKib, type Started, waitFor } from '../support/process.mjs';
import { ask, burst, FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';
import { LEASE_LOG, startPasst, startVm, streamTo, type Vm, whyNoVm } from '../support/vm.mjs';

const SOCKET = '/run/scratch/stream.socket';
const CONTROL = '/run/scratch/stream.control';
const [PORT, OTHER_PORT] = [7800, 7801];
const MTU = 65_520;
const HOST_NAME = 'virtual';
const FQDN = `${HOST_NAME}.${NET.search}`;
const MIB = 1024 * 1024;
const TRANSFER = 16 * MIB;
const BURST = 1400;
/** What a guest that does not read may cost us: the queue of its link, and what waits in its connections' sockets does not count. */
const STOPPED_KIB_MAX = 32 * 1024;

/** A server that says whom it sees. */
const WITNESS = `pidof witness || { witness ${PORT} >/tmp/witness & }`;

const why = whyNoVm();
describe.skipIf(why !== null)('a virtual machine at a UNIX socket', () => {
  let lab: Lab;
  let passt: Started;
  let vm: Vm;

  const options = [
    '-t',
    `${PORT},${OTHER_PORT}:${PORT}`,
    '-u',
    `${PORT}`,
    '-c',
    CONTROL,
    '-H',
    HOST_NAME,
    '--fqdn',
    FQDN,
  ];
  beforeAll(async () => {
    lab = await makeLab();
    await Promise.all([streamServer(lab), crowdServer(lab)]);
    passt = await startPasst(lab, SOCKET, options);
    vm = await startVm(lab, { netdev: streamTo(SOCKET) });
  });
  afterAll(() => lab?.cleanup());

  /** What a DHCP client noted since the last call, by name. */
  const lease = async (): Promise<Record<string, string>> => {
    const text = await vm.must(`cat ${LEASE_LOG}; rm ${LEASE_LOG}`);
    return Object.fromEntries(text.split('\n').map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]));
  };
  const addresses = async (family: '-4' | '-6'): Promise<string[]> =>
    [...(await vm.must(`ip -o ${family} addr show dev eth0 scope global`)).matchAll(/inet6? (\S+)/g)].map(
      ([, address]) => address as string,
    );

  describe('is told', () => {
    const dhclient = (version: 4 | 6): string =>
      `rm -f ${LEASE_LOG}; dhclient -${version} -1 -cf /etc/dhclient.conf -lf /tmp/leases${version} -pf /tmp/pid${version} -e LOG=${LEASE_LOG} -sf /etc/dhcp-hook.sh eth0`;

    it('an IPv6 address by router advertisement (SLAAC), and the MTU', async () => {
      // The kernel believes no advertised MTU that is above the interface's.
      await vm.must('ip link set eth0 mtu 65535 up');
      await vm.until('ip -6 route | grep -q "^default via fe80"');
      const [address] = await addresses('-6');
      expect(address).toMatch(/^2001:db8:1:0:5054:ff:fe12:3456\/64$/);
      expect((await vm.must('cat /proc/sys/net/ipv6/conf/eth0/mtu')).trim()).toBe(`${MTU}`);
    });

    it('its IPv4 address, resolvers, search domains, names and MTU by DHCP (udhcpc)', async () => {
      await vm.must(
        `ip link set eth0 mtu 1500; LOG=${LEASE_LOG} udhcpc -i eth0 -n -q -O search -O mtu -O hostname -s /etc/dhcp-hook.sh`,
      );
      expect(await lease()).toMatchObject({
        ip: NET.host4,
        mask: '24',
        router: NET.gateway4,
        dns: NET.server4,
        search: NET.search,
        hostname: HOST_NAME,
        mtu: `${MTU}`,
      });
      expect(await addresses('-4')).toEqual([`${NET.host4}/24`]);
      expect((await vm.must('cat /sys/class/net/eth0/mtu')).trim()).toBe(`${MTU}`);
      await vm.must('ip -4 addr flush dev eth0');
    });

    it('the same by DHCP (dhclient)', async () => {
      await vm.must(dhclient(4));
      expect(await lease()).toMatchObject({
        new_ip_address: NET.host4,
        new_subnet_mask: '255.255.255.0',
        new_routers: NET.gateway4,
        new_domain_name_servers: NET.server4,
        new_domain_search: `${NET.search}.`,
        new_host_name: HOST_NAME,
        new_interface_mtu: `${MTU}`,
      });
      expect(await vm.must('ip -4 route show default')).toContain(`via ${NET.gateway4}`);
    });

    it('its IPv6 address, resolvers, search domains by DHCPv6 (dhclient)', async () => {
      await vm.must(dhclient(6));
      expect(await lease()).toMatchObject({
        new_ip6_address: NET.host6,
        new_dhcp6_name_servers: NET.server6,
        new_dhcp6_domain_search: `${NET.search}.`,
      });
      expect(await addresses('-6')).toContain(`${NET.host6}/128`);
    });
  });

  describe.each(FAMILIES)('by $family', ({ family, server, flag }) => {
    const [client, host] = family === 'IPv4' ? [NET.server4, NET.host4] : [NET.server6, NET.host6];

    it('pings', async () => {
      expect(await vm.must(`ping ${flag} -c 3 -i 0.2 -W 5 ${server}`)).toContain(' 3 received');
      expect(await vm.must(`ping ${flag} -c 2 -i 0.2 -s 20000 -W 5 ${server}`)).toContain(' 2 received');
    });
    it('resolves names', async () => {
      expect(await vm.must(`nslookup ${NET.name} ${server}`)).toContain(NET.server6);
    });
    it.each(['down', 'up', 'half'])('transfers 16 MiB over TCP, every byte right: %s', async (direction) => {
      await vm.must(`stream ${direction} ${server} ${STREAM_PORT} ${TRANSFER} 7`, { timeoutMs: 60_000 });
    });
    it('opens and closes many connections, and exchanges datagrams', async () => {
      const crowd = async (protocol: 'tcp' | 'udp'): Promise<unknown> =>
        JSON.parse((await vm.must(`crowd ${protocol} ${server} ${CROWD_PORT} 100`)).split('\n')[0] as string);
      expect(await crowd('tcp')).toMatchObject({ ok: 100, errors: {} });
      expect(await crowd('udp')).toMatchObject({ ok: 100, errors: {} });
    });

    it('is reached by forwarded ports, and sees who asks', async () => {
      await vm.must(WITNESS);
      const questions = (['tcp', 'udp'] as const).flatMap((protocol) =>
        (protocol === 'tcp' ? [PORT, OTHER_PORT] : [PORT]).map((port) => ({
          protocol,
          address: host,
          port,
          from: client,
        })),
      );
      const answers = await ask(lab.remote, questions);
      for (const { error, address, port, own } of answers) {
        expect(error).toBeUndefined();
        expect({ address, port }).toEqual({ address: client, port: own.port });
      }
      expect(answers).toHaveLength(questions.length);
    });

    it(`sends ${BURST} small frames in one burst; pings are answered meanwhile`, async () => {
      const sink = lab.remote.spawn(['iperf3', '-s', '-1', '-B', server]);
      await waitFor(async () => (await lab.remote.attempt(['ss', '-Hltn', 'sport', '=', '5201'])).stdout !== '', {
        what: 'iperf3 to listen',
      });
      const pings = vm.must(`ping ${flag} -c 10 -i 0.05 -W 5 ${server}`);
      const report = JSON.parse(await vm.must(`iperf3 -J -u -b 0 -l 16 -k ${BURST} -c ${server}`));
      await sink.closed;
      // A burst may be more than the receiver's socket takes: what counts is that most of it arrives.
      const { packets, lost_packets: lost } = report.end.sum;
      expect(packets).toBeGreaterThanOrEqual(BURST);
      expect(lost).toBeLessThan(packets / 2);
      expect(await pings).toContain(' 10 received');
    });

    it(`takes ${BURST} small frames in one burst; pings are answered meanwhile`, async () => {
      await vm.must(WITNESS);
      const pings = vm.must(`ping ${flag} -c 10 -i 0.05 -W 5 ${server}`);
      const answers = await burst(lab.remote, host, PORT, client, BURST, 16);
      expect(answers).toBeGreaterThan(100); // what waits in an emulated machine's sockets, at the least
      expect(await pings).toContain(' 10 received');
    });
  });

  it('that stops reading under load costs bounded memory, blocks no control, and goes on', async () => {
    const memory = (): number => [passt.pid(), ...descendants(passt.pid())].reduce((sum, pid) => sum + pssKib(pid), 0);
    await vm.must(WITNESS);
    const before = memory();
    const transfers = Promise.all(
      FAMILIES.map(({ server }, n) =>
        vm.must(`stream down ${server} ${STREAM_PORT} ${2 * TRANSFER} ${n + 11}`, { timeoutMs: 100_000 }),
      ),
    );
    transfers.catch(() => {}); // told below
    await waitFor(async () => (await vm.must('ss -Htn state established')).includes(`:${STREAM_PORT}`), {
      what: 'the transfers to begin',
    });
    vm.pause();
    try {
      await burst(lab.remote, NET.host4, PORT, NET.server4, 20_000, 1400);
      const pesto = join(lab.binary, '../pesto');
      expect(await lab.user.run([pesto, '--show', CONTROL], { timeoutMs: 5000 })).toContain(`${PORT}`);
      expect(memory() - before).toBeLessThan(STOPPED_KIB_MAX);
    } finally {
      vm.resume();
    }
    await transfers;
    expect(await vm.must(`ping -c 1 -W 5 ${NET.server4}`)).toContain(' 1 received');
  });

  it('ends in order, and passt stays for the next one', async () => {
    expect((await vm.powerOff()).status).toBe(0);
    expect(passt.child.exitCode).toBeNull();
  });
});
