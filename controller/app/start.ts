// SPDX-License-Identifier: Apache-2.0
/** From the command line to a sealed, running pair of processes. The order is the security property: see docs/ARCHITECTURE.md. */
import { readFileSync, writeSync } from 'node:fs';
import { core } from 'zod/mini';
import {
  HOST_CHANNEL_FD,
  NETNS_CHANNEL_FD,
  PROTOCOL_VERSION,
  type READABLE_FILES,
  type Result,
} from '../../shared/rpc/methods.ts';
import { UsageError } from '../cli/errors.ts';
import type { Program } from '../cli/options/row.ts';
import { parseCommandLine } from '../cli/parse.ts';
import { makePlan } from '../cli/plan.ts';
import { PlanError } from '../cli/plan-error.ts';
import type { Plan } from '../cli/plan-schema.ts';
import type { Settings } from '../cli/settings.ts';
import { makeSlirpPlan } from '../cli/slirp/plan.ts';
import { parseSlirp } from '../cli/slirp/settings.ts';
import { slirpSummary } from '../cli/slirp/summary.ts';
import { guestSummary, planSummary } from '../cli/summary.ts';
import { capsOf } from '../control/check-rules.ts';
import * as flowDescriptors from '../flow/descriptors.ts';
import * as siphash from '../flow/siphash.ts';
import { type Clients, ListenError } from '../fwd/listen-start.ts';
import * as listeners from '../fwd/listeners.ts';
import * as nat from '../fwd/nat.ts';
import * as resolver from '../fwd/resolver.ts';
import * as sockets from '../fwd/sockets.ts';
import { startForwarding } from '../fwd/start.ts';
import { DiscoverError, discover } from '../host/discover.ts';
import type { HostFacts } from '../host/facts.ts';
import * as io from '../io/io.ts';
import * as icmpError from '../link/icmp-error.ts';
import type { GuestLink, Link } from '../link/link.ts';
import * as out from '../link/out.ts';
import { packetLink } from '../link/packet-link.ts';
import * as received from '../link/received.ts';
import * as station from '../link/station.ts';
import { streamLink } from '../link/stream-link.ts';
import { tapLink } from '../link/tap-link.ts';
import { vhostLink } from '../link/vhost/vhost-link.ts';
import * as log from '../obs/log.ts';
import * as pcap from '../obs/pcap.ts';
import * as trace from '../obs/trace.ts';
import * as arp from '../proto/arp.ts';
import * as dhcpv4 from '../proto/dhcpv4.ts';
import * as dhcpv6 from '../proto/dhcpv6.ts';
import * as icmp from '../proto/icmp.ts';
import * as ndp from '../proto/ndp.ts';
import * as spliceCaps from '../proto/splice/caps.ts';
import * as spliceUdp from '../proto/splice/udp.ts';
import * as tcp from '../proto/tcp/tcp.ts';
import * as udp from '../proto/udp/udp.ts';
import { HelperClient, HelperError } from '../rpc/client.ts';
import * as connect from '../rpc/connect.ts';
import * as controlSockets from './control-sockets.ts';
import * as demux from './demux.ts';
import * as guest from './guest.ts';
import * as inbound from './inbound.ts';
import * as inboundUdp from './inbound-udp.ts';
import { configureNamespace } from './namespace.ts';
import * as turn from './turn.ts';

type Hello = Result<'session.hello'>;

/** The MTU of a link we say nothing about: what the namespace's interface may be set to at most. */
const MTU_UNTOLD = 65_520;
/** Where RLIMIT_NOFILE is "unlimited". */
const DESCRIPTORS_UNLIMITED = 1 << 20;
const STDOUT = 1;
const STDERR = 2;
/** A number that nothing else has at that time, and below 64: a larger descriptor table costs an RCU grace period, 13 ms. */
const SPARE_FD = 60;
const ENOANO = 55;
const ENOENT = 2;

/** Where the tools we are built with begin; the same floor as in package.json. */
const NODE_MIN = [20, 19] as const;

class StartError extends Error {}

const checkNode = (): void => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
    throw new StartError(`Node ${process.versions.node} is too old: ${NODE_MIN.join('.')} or later is needed`);
  }
};

/** One sentence for the caller. Defects of ours keep their stack: it is what a bug report needs. */
export const describeFailure = (error: unknown): string => {
  if (error instanceof UsageError || error instanceof PlanError || error instanceof DiscoverError) return error.message;
  if (error instanceof HelperError || error instanceof StartError || error instanceof ListenError) return error.message;
  if (error instanceof core.$ZodError) return `internal error: ${error.message}`;
  return error instanceof Error ? `internal error: ${error.stack ?? error.message}` : `internal error: ${error}`;
};

/** What the command line says, as far as the start depends on it, and the plan that it makes. */
interface Asked {
  readonly level: Settings['level'];
  /** Where the guest is: in a namespace that the broker is in, behind a socket, or behind a tap that we were started with. */
  readonly place: 'netns' | 'socket' | 'given-tap';
  /** There is a tap to open. */
  readonly tap: boolean;
  readonly plan: (hello: Hello, facts: HostFacts, tapMac: string | null) => Plan;
  /** What goes to stdout when all works. */
  readonly told: (plan: Plan) => readonly string[];
}

const readCommandLine = (program: Program, args: readonly string[]): Asked => {
  if (program === 'slirp4netns') {
    const settings = parseSlirp(args);
    const { target } = settings;
    return {
      level: 'quiet',
      place: target === 'bess' ? 'socket' : target === 'tapfd' ? 'given-tap' : 'netns',
      tap: target !== 'bess',
      plan: (hello, facts, tapMac) => makeSlirpPlan(settings, hello, facts, tapMac),
      told: (plan) => slirpSummary(settings, plan),
    };
  }
  const settings = parseCommandLine(program, args);
  return {
    level: settings.level,
    place: program === 'passt' ? 'socket' : 'netns',
    tap: program !== 'passt' && !settings.spliceOnly,
    plan: (hello, facts, tapMac) => makePlan(settings, hello, facts, tapMac),
    told: () => [],
  };
};

/** Nobody may be there to read it, which is no reason not to start. */
const say = (lines: readonly string[]): void => {
  try {
    if (lines.length > 0) writeSync(STDOUT, `${lines.join('\n')}\n`);
  } catch {
    // A full pipe, or a closed one.
  }
};

const LINKS: Readonly<Record<NonNullable<Plan['guest']>['kind'], (onGone: (why: string) => void) => GuestLink>> = {
  stream: streamLink,
  'vhost-user': vhostLink,
  packets: packetLink,
};

/** Resolves when the guest's first frame may be read. */
export const start = async (program: Program, args: readonly string[]): Promise<void> => {
  checkNode();
  const asked = readCommandLine(program, args);
  log.setLevel(asked.level ?? 'info');
  const host = new HelperClient(HOST_CHANNEL_FD);
  const hello = await host.call('session.hello', { protocol: PROTOCOL_VERSION });
  // A virtual machine's network is behind its socket: there is no namespace, and nobody at the other channel.
  const netns = asked.place === 'netns' ? new HelperClient(NETNS_CHANNEL_FD) : null;
  await netns?.call('session.hello', { protocol: PROTOCOL_VERSION });
  const tap = asked.tap ? await (netns ?? host).call('tap.open', { name: hello.tap }) : null;
  const plan = asked.plan(hello, await hostFacts(host), tap?.mac ?? null);

  await openSinks(host, plan, program, hello);
  if (netns !== null && tap !== null) await configureNamespace(netns, plan);
  await listen({ host, netns }, plan);
  const socket = plan.guest === null ? null : await host.call('guest.open', {});
  const guestLink = plan.guest === null ? null : LINKS[plan.guest.kind](guest.onGone);
  const link = tap === null ? guestLink : tapLink(tap.fd, tap.vnetHeaderBytes, tap.tso, tap.uso);
  configureProtocols(plan, link, netns !== null);
  const follows = plan.personality === 'slirp4netns' && plan.nat.dnsForward4 !== null;
  resolver.configure(follows ? (await host.call('resolver.open', {})).fd : -1);
  configureForwarding(plan);
  await openControl(host, plan);
  if (log.infoEnabled) for (const line of planSummary(plan)) log.info(line);
  if (log.infoEnabled && socket !== null) for (const line of guestSummary(plan, socket.path)) log.info(line);
  for (const warning of plan.warnings) log.warn(warning);
  say(asked.told(plan));

  const { fd: nothing } = await host.call('file.open', { name: 'null' });
  const filter = readFileSync(new URL('./controller.bpf', import.meta.url));
  const frozen = {
    deny: [],
    grant: [...plan.grant],
    outbound: plan.outbound,
    multicast: plan.multicast,
    freebind: plan.forward.freebind,
  };
  await netns?.call('seal', { ...frozen, listen: [...plan.listen.netns] });
  await host.call('seal', { ...frozen, listen: [...plan.listen.host] });
  sealOurselves(filter, nothing, plan);
  if (plan.spawn) await netns?.call('command.start', {});
  if (guestLink !== null && socket !== null) {
    guest.configure({ ...socket, link: guestLink, oneOff: plan.guest?.oneOff ?? false, ask: connect.ask });
  }
  // slirp4netns is ready when its one guest is there.
  if (plan.guest?.kind === 'packets') guest.whenFirst(() => connect.ask('host', 'ready', {}, () => {}));
  else await host.call('ready', {});
};

/** -c, --control and slirp4netns' --api-socket: where rules are changed while we run. */
const openControl = async (
  host: HelperClient,
  { personality, conf, control, api, network, listen }: Plan,
): Promise<void> => {
  const listenAt = async (kind: 'conf' | 'control' | 'api', path: string): Promise<number> =>
    (await host.call('unix.listen', { kind, path })).fd;
  if (conf === null && control === null && api === null) return;
  controlSockets.configure({
    conf: conf === null ? null : await listenAt('conf', conf),
    control: control === null ? null : await listenAt('control', control),
    api: api === null ? null : { fd: await listenAt('api', api.path), guest: api.guest },
    forwarding: listeners,
    ask: connect.ask,
    caps: capsOf({
      v4: network.v4 !== null,
      v6: network.v6 !== null,
      tcp: network.enable.tcp,
      udp: network.enable.udp,
      scan: personality === 'pasta',
    }),
    directions: personality === 'pasta' ? ['host', 'splice'] : ['host'],
    shut: (['tcp', 'udp'] as const).filter((one) => listen.netns.every(({ protocol }) => protocol !== one)),
  });
};

/** What the host looks like. Files that a host need not have are looked for and done without. */
const hostFacts = async (host: HelperClient): Promise<HostFacts> => {
  const { fd: netlink } = await host.call('netlink.open', { protocol: 'route' });
  const [resolvConf, ipv6, ephemeral] = await openIfThere(host, ['resolv.conf', 'net/tcp6', 'ip_local_port_range']);
  const facts = discover({ netlink, resolvConf, ipv6: ipv6 !== null, ephemeral });
  for (const fd of [netlink, resolvConf, ipv6, ephemeral]) if (fd !== null) io.native.close(fd);
  return facts;
};

type FileName = (typeof READABLE_FILES)[number];
/** Each file's descriptor, or null where the host has no such file. One message: a start waits for every one of them. */
const openIfThere = async <const N extends readonly FileName[]>(
  host: HelperClient,
  names: N,
): Promise<{ [I in keyof N]: number | null }> => {
  const opened: (number | null)[] = [];
  let failed: HelperError | null = null;
  const params = names.map((name) => ({ name }));
  await host.callEach('file.open', params, (_, outcome) => {
    if (outcome instanceof HelperError && outcome.errno !== ENOENT) failed ??= outcome;
    opened.push(outcome instanceof HelperError ? null : outcome.fd);
  });
  if (failed !== null) throw failed;
  return opened as { [I in keyof N]: number | null };
};

/** Numbers from files of /proc/sys; null where the host has no such file. */
const sysctls = async <const N extends readonly FileName[]>(
  host: HelperClient,
  names: N,
): Promise<{ [I in keyof N]: number | null }> => {
  const fds: readonly (number | null)[] = await openIfThere(host, names);
  return fds.map((fd) => {
    if (fd === null) return null;
    const n = io.native.read(fd, io.SCRATCH_AT, 32);
    io.native.close(fd);
    const value =
      n > 0 ? Number(Buffer.from(io.mem.subarray(io.SCRATCH_AT, io.SCRATCH_AT + n)).toString('ascii')) : Number.NaN;
    return Number.isFinite(value) ? value : null;
  }) as { [I in keyof N]: number | null };
};

/** Log and capture files, and the system log where there is one. */
const openSinks = async (host: HelperClient, plan: Plan, program: string, hello: Hello): Promise<void> => {
  log.setLevel(plan.log.level);
  let syslogFd = -1;
  if (plan.log.toSyslog) {
    try {
      syslogFd = (await host.call('syslog.open', {})).fd;
    } catch (error) {
      // A host without a log daemon: stderr has the start, and a log file was not asked for.
      if (!(error instanceof HelperError) || error.errno === 0) throw error;
    }
  }
  const file =
    plan.log.file === null
      ? null
      : { fd: (await host.call('file.create', { kind: 'log', path: plan.log.file })).fd, size: plan.log.size };
  // Our parent is the side of the helper that lives as long as we do.
  log.openLog({ program, version: hello.version, pid: process.ppid, syslogFd, file });
  if (plan.pcap !== null) {
    const { fd } = await host.call('file.create', { kind: 'pcap', path: plan.pcap });
    pcap.open(fd, io.native.arena, io.nowMs(), (reason) => log.warn(`Capturing has ended: ${reason}`));
  }
  // The clock and the timeouts that the host uses itself.
  const [single, stream, synRetries, rtoMaxMs] = await sysctls(host, [
    'nf_conntrack_udp_timeout',
    'nf_conntrack_udp_timeout_stream',
    'tcp_syn_retries',
    'tcp_rto_max_ms',
  ]);
  udpTimeouts = { singleMs: (single ?? 30) * 1000, streamMs: (stream ?? 120) * 1000 };
  tcpRetries = { synRetries: synRetries ?? 6, rtoMaxMs: rtoMaxMs ?? 120_000 };
};
let udpTimeouts = { singleMs: 30_000, streamMs: 120_000 };
let tcpRetries = { synRetries: 6, rtoMaxMs: 120_000 };

/** RLIMIT_NOFILE, soft: the helper has raised it to what it may be. */
const descriptorLimit = (): number => {
  const line = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'ascii'));
  return Number(line?.[1] ?? Number.NaN) || DESCRIPTORS_UNLIMITED;
};

/** The sockets that -t, -u, -T and -U ask for. A copy of stderr, see {@link sealOurselves}, has its number before them. */
const listen = async (clients: Clients, { network, forward, conf, control, personality }: Plan): Promise<void> => {
  // Which servers `auto` counts depends on where the guest is.
  station.configure(network);
  io.native.dup2(STDERR, SPARE_FD);
  // Only pasta has rules that ask for who listens.
  const mayLook = personality === 'pasta' && (conf !== null || control !== null);
  await startForwarding(clients, forward, descriptorLimit(), mayLook);
};

/** Who takes what comes to them. */
const configureForwarding = ({ forward }: Plan): void => {
  inbound.configure(forward);
  inboundUdp.configure({ splice: forward.splice, tap: !forward.spliceOnly });
  spliceUdp.configure({ descriptors: descriptorLimit(), sameAddress: forward.loopbackToLoopback, ...udpTimeouts });
};

/** The protocols as the plan wants them, ready for the first frame; without a link there is none. */
export const configureProtocols = (plan: Plan, link: Link | null, hasBroker: boolean): void => {
  const { network } = plan;
  const linkMtu = network.mtu === 0 ? MTU_UNTOLD : network.mtu;
  siphash.seed();
  station.configure(network);
  if (link !== null) {
    out.attach(link);
    received.configure(link.receivedHeaderBytes);
  }
  arp.configure(network);
  ndp.configure(network);
  dhcpv4.configure(network);
  dhcpv6.configure(network);
  const descriptors = descriptorLimit() - sockets.count();
  icmp.configure({ linkMtu, descriptors });
  udp.configure({
    linkMtu,
    uso: link?.uso ?? false,
    descriptors,
    network,
    multicast: plan.multicast,
    ...udpTimeouts,
  });
  flowDescriptors.configure(descriptorLimit());
  spliceCaps.configure(descriptors);
  tcp.configure({
    tso: link?.tso ?? false,
    hypervisor: plan.guest !== null,
    linkMtu,
    descriptors,
    ...tcpRetries,
  });
  demux.configure(network);
  nat.configure(plan.nat);
  icmpError.setTranslator(nat.offender);
  const observe = observer(plan);
  out.setObserver(observe === null ? null : (at, len) => observe('to tap', at, len));
  turn.configure({
    link,
    hostChannel: HOST_CHANNEL_FD,
    netnsChannel: hasBroker ? NETNS_CHANNEL_FD : null,
    observe: observe === null ? null : (at, len) => observe('from tap', at, len),
    endTurn: plan.pcap === null ? null : pcap.flush,
  });
};

/** --pcap and --trace see every frame; without them there is no call at all. */
const observer = (plan: Plan): ((direction: trace.Direction, at: number, len: number) => void) | null => {
  if (plan.pcap === null && !log.traceEnabled) return null;
  return (direction, at, len) => {
    pcap.frame(at, len, io.nowMs());
    if (log.traceEnabled) log.trace(trace.describeFrame(direction, io.view, at, at + len));
  };
};

/**
 * Lets go of the caller's descriptors, installs the filter on all threads and proves that it holds. `nothing` is /dev/null.
 * The filter has no dup: a copy of stderr is kept for the case that there is no filter, and closed when there is.
 */
const sealOurselves = (filter: Uint8Array, nothing: number, plan: Plan): void => {
  for (const fd of plan.log.toStderr ? [0, 1] : [0, 1, STDERR]) io.native.dup2(nothing, fd);
  const r = io.native.installFilter(filter);
  if (r < 0 || io.native.probeFilter() !== -ENOANO) {
    io.native.dup2(SPARE_FD, STDERR);
    throw new StartError(
      r < 0 ? `Couldn't install the system-call filter: errno ${-r}` : 'The system-call filter is not in force',
    );
  }
  if (!plan.log.toStderr) log.leaveStderr();
  io.native.close(SPARE_FD);
  io.native.close(nothing);
};
