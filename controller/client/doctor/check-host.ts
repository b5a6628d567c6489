// SPDX-License-Identifier: Apache-2.0
/** Checks: what the host gives its users: ping, low ports, buffers, descriptors, routes, resolvers, subordinate IDs. */
import { addressKind } from '../../host/address.ts';
import { parseResolvConf } from '../../host/resolv.ts';
import { type Look, ok, sysctl, warning } from './finding.ts';
import type { World } from './world.ts';

/** A descriptor a flow: below, a busy guest is refused connections. */
const FILES_FEW = 4096;
/** Defaults of Linux, in bytes: net.core.{r,w}mem_max, and the third of tcp_wmem. */
const CORE_BUFFER_DEFAULT = 212_992;
const TCP_BUFFER_DEFAULT = 4_194_304;
/** What long or fast paths want, in bytes. */
const BUFFER_WANTED = 4_194_304;
/** The first port that needs no privilege, unless the host says otherwise: ip(7). */
const UNPRIVILEGED_DEFAULT = 1024;

const ALL_GROUPS = 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"';

/** In a user namespace groups have other numbers, and those that it has none for are all the same one: user_namespaces(7). */
const seesHostGroups = (map: string | null): boolean => /^(\s*0\s+0\s+4294967295\s*)?$/.test(map ?? '');

const ping: Look = ({ native: { ping4, ping6 }, read }) => {
  const range = read('/proc/sys/net/ipv4/ping_group_range')?.trim().split(/\s+/).join(' ') ?? 'unknown';
  const isHost = seesHostGroups(read('/proc/self/gid_map'));
  const found = `net.ipv4.ping_group_range is ${range}${isHost ? '' : ', in the numbers of this user namespace'}`;
  if (ping4 === null) return ok(`ping sockets can be opened; ${found}${ping6 === null ? '' : `; IPv6: ${ping6}`}`);
  return warning(
    `${ping4}; ${found}`,
    'what the guest pings seems to be away: echo requests need a group of ours in that range',
    isHost ? ALL_GROUPS : `outside of this user namespace: ${ALL_GROUPS}`,
  );
};

const guestPing: Look = ({ native: { namespaces, guestPing: fault } }) => {
  if (namespaces !== null) return null;
  if (fault === null) return ok('programs in a namespace may ping');
  return warning(
    fault,
    'in a namespace, only programs with CAP_NET_RAW there can ping',
    'use a kernel with CONFIG_IP_PING',
  );
};

const lowPorts: Look = (world) => {
  const start = sysctl(world, 'net.ipv4.ip_unprivileged_port_start') ?? UNPRIVILEGED_DEFAULT;
  if (world.native.lowPorts) return ok('every port can be listened on (CAP_NET_BIND_SERVICE)');
  if (start === 0) return ok('every port can be listened on (net.ipv4.ip_unprivileged_port_start is 0)');
  return ok(
    `ports from ${start} on can be listened on; -t and -u of lower ones are refused`,
    `sudo setcap cap_net_bind_service=p ${world.native.executable}, or for everybody: sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80`,
  );
};

const thirdOf = (text: string | null): number | null => {
  const value = Number(text?.trim().split(/\s+/)[2] ?? Number.NaN);
  return Number.isFinite(value) ? value : null;
};

const socketBuffers: Look = (world) => {
  const values = {
    'net.core.wmem_max': [sysctl(world, 'net.core.wmem_max'), CORE_BUFFER_DEFAULT],
    'net.core.rmem_max': [sysctl(world, 'net.core.rmem_max'), CORE_BUFFER_DEFAULT],
    'the third of net.ipv4.tcp_wmem': [thirdOf(world.read('/proc/sys/net/ipv4/tcp_wmem')), TCP_BUFFER_DEFAULT],
  } as const;
  const known = Object.entries(values).filter(([, [value]]) => value !== null);
  // A network namespace other than the host's has no net.core of its own to show before Linux 6.x.
  if (known.length === 0) return null;
  const found = known.map(([name, [value]]) => `${name} is ${value}`).join(', ');
  const remedy = `sudo sysctl -w net.core.wmem_max=${BUFFER_WANTED} net.core.rmem_max=${BUFFER_WANTED} net.ipv4.tcp_wmem="4096 16384 ${BUFFER_WANTED}"`;
  if (known.some(([, [value, usual]]) => (value ?? usual) < usual))
    return warning(
      found,
      "less than Linux's defaults: transfers over long paths are slow, bursts of UDP are lost",
      remedy,
    );
  const roomy = known.every(([, [value]]) => (value ?? 0) >= BUFFER_WANTED);
  return ok(found, roomy ? '' : `for bursts of UDP and for virtual machines, ${remedy}`);
};

const openFiles: Look = ({ native: { nofile } }) => {
  if (nofile.hard < 0) return ok('no limit');
  const found = `${nofile.hard} (hard limit; the soft one is ${nofile.soft < 0 ? 'none' : nofile.soft} and is raised to it)`;
  const remedy = 'raise it: ulimit -Hn as root, LimitNOFILE= of the service, or nofile in /etc/security/limits.conf';
  // That nothing starts below 128 is said by helper/src/doctor.c: Node could not.
  if (nofile.hard < FILES_FEW)
    return warning(found, 'each connection of the guest is an open file: a busy one is refused connections', remedy);
  return ok(found);
};

const ipv6: Look = (world) => {
  if (world.native.socket6 !== null)
    return warning(
      world.native.socket6,
      'the guest has IPv4 only',
      'boot without ipv6.disable=1, or load the module: sudo modprobe ipv6',
    );
  if (sysctl(world, 'net.ipv6.conf.all.disable_ipv6') === 1)
    return warning(
      'net.ipv6.conf.all.disable_ipv6 is 1',
      'the guest has IPv4 only',
      'sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0',
    );
  return ok(world.native.template6 === null ? 'on; no default route of IPv6' : 'on');
};

const defaultRoute: Look = ({ native: { template4, template6 } }) => {
  if (template4 === null && template6 === null)
    return warning(
      'no default route, of neither IP version',
      'there is no interface to copy addresses and routes from: the guest has link-local ones, and reaches what the host reaches',
      'connect the host, or name an interface: pasta -i NAME',
    );
  const named = [template4 === null ? [] : [`IPv4: ${template4}`], template6 === null ? [] : [`IPv6: ${template6}`]];
  return ok(`${named.flat().join(', ')} (the interface whose addresses the guest gets)`);
};

const resolvers: Look = ({ read }) => {
  const text = read('/etc/resolv.conf');
  const remedy = 'write "nameserver ADDRESS" to /etc/resolv.conf, or name one: pasta -D ADDRESS';
  if (text === null)
    return warning('/etc/resolv.conf cannot be read', 'the guest is told no resolver: names do not resolve', remedy);
  const { servers } = parseResolvConf(text);
  if (servers.length === 0)
    return warning('no nameserver in /etc/resolv.conf', 'the guest is told no resolver: names do not resolve', remedy);
  const found = servers.join(', ');
  if (servers.every((server) => addressKind(server) === 'loopback'))
    return ok(
      `${found}: on the host's loopback only, which the guest reaches by the gateway's address`,
      'with --no-map-gw, give the resolver an address of its own: --dns-forward 169.254.1.1',
    );
  return ok(found);
};

/** Ranges of subuid(5), by login name or number. */
const hasRange = (text: string | null, owners: readonly string[]): boolean =>
  text?.split('\n').some((line) => owners.includes(line.split(':')[0] ?? '') && /:\d+:\d+$/.test(line.trim())) ?? false;

const loginOf = ({ read, native }: World): string | null =>
  read('/etc/passwd')
    ?.split('\n')
    .map((line) => line.split(':'))
    .find(([, , uid]) => uid === String(native.caller))?.[0] ?? null;

const subordinateIds: Look = (world) => {
  if (world.native.caller === 0) return null;
  const login = loginOf(world);
  const owners = [String(world.native.caller), ...(login === null ? [] : [login])];
  const missing = ['/etc/subuid', '/etc/subgid'].filter((path) => !hasRange(world.read(path), owners));
  const meaning = 'rootless Podman, Docker and RootlessKit do not start; pasta and passt by themselves do not need it';
  if (missing.length > 0)
    return warning(
      `no range for ${owners.at(-1)} in ${missing.join(' and ')}`,
      meaning,
      `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${owners.at(-1)}`,
    );
  const tools = ['newuidmap', 'newgidmap'].filter((name) => !world.hasProgram(name));
  if (tools.length > 0)
    return warning(`${tools.join(' and ')} not on PATH`, meaning, 'sudo apt-get install uidmap (Fedora: shadow-utils)');
  return ok(`/etc/subuid and /etc/subgid have ranges for ${owners.at(-1)}`);
};

const apparmor: Look = (world) => {
  const confined = world.read('/proc/self/attr/apparmor/current')?.trim() ?? '';
  const restricts = sysctl(world, 'kernel.apparmor_restrict_unprivileged_userns') === 1;
  if (confined === '' && !restricts) return null;
  return ok(
    `${confined === '' ? 'no profile' : confined}${restricts ? '; user namespaces are for programs with a profile' : ''}`,
  );
};

export const HOST = {
  ping,
  'guest-ping': guestPing,
  'low-ports': lowPorts,
  'socket-buffers': socketBuffers,
  'open-files': openFiles,
  ipv6,
  'default-route': defaultRoute,
  resolvers,
  'subordinate-ids': subordinateIds,
  apparmor,
} as const satisfies Record<string, Look>;
