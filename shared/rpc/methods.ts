// SPDX-License-Identifier: Apache-2.0
/**
 * Every method the helper offers, in one table: where it may be called (host side, netns broker), in which stages,
 * what it takes and gives, and how many descriptors travel with the reply. The C reader refuses exactly what these
 * schemas refuse; `test/security/rpc-parity.test.ts` feeds both with the same messages.
 *
 * Framing: JSON-RPC 2.0, one request or one batch array a SOCK_SEQPACKET datagram, at most {@link MESSAGE_BYTES_MAX};
 * one reply datagram per request datagram, replies in the order of the requests. `fd` in a result is the index of its
 * descriptor among the SCM_RIGHTS of that reply. Malformed JSON, an unknown method, surplus descriptors, or a call
 * outside its stage's method list ends the helper; a system call that failed is an ordinary JSON-RPC error.
 */
import * as z from 'zod/mini';
import en from 'zod/v4/locales/en.js';

// Most schemas are used once or twice a process: compiling each to a function (new Function) costs more than it saves, and
// a sealed process should not generate code.
z.config({ jitless: true, ...en() });

export const PROTOCOL_VERSION = 1;
export const MESSAGE_BYTES_MAX = 65_536;
export const BATCH_MAX = 128;
/** SCM_MAX_FD of the kernel. */
export const FDS_PER_MESSAGE_MAX = 253;
/** Listening sockets of one side: what `socket.answer` and `socket.unlisten` can name. */
export const LISTENERS_MAX = 65_536;
/** Entries of `seal.grant` and `seal.listen`: with all of them a message still fits. */
export const GRANTS_MAX = 256;
export const LISTEN_WINDOWS_MAX = 256;
/** Descriptor numbers on which the controller finds its channels. */
export const HOST_CHANNEL_FD = 3;
export const NETNS_CHANNEL_FD = 4;

/** IFNAMSIZ - 1 */
const ifname = z.string().check(z.minLength(1), z.maxLength(15), z.regex(/^[!-.0-~]+$/));
const mac = z.string().check(z.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/));
/** What C can hold and UTF-8 can carry: no NUL, no half of a surrogate pair. */
const TEXT = /^[^\0\p{Surrogate}]*$/u;
/** Canonical text of an IPv4 or IPv6 address; never an IPv4-mapped one. The helper parses with inet_pton. */
const address = z.string().check(z.minLength(2), z.maxLength(45), z.regex(TEXT));
const prefix4or6 = z.int().check(z.gte(0), z.lte(128));
const port = z.int().check(z.gte(0), z.lte(65_535));
const path = z.string().check(z.minLength(1), z.maxLength(4095), z.regex(TEXT));
const fdIndex = z.int().check(z.gte(0), z.lte(FDS_PER_MESSAGE_MAX - 1));
const empty = z.strictObject({});
const justFd = z.strictObject({ fd: fdIndex });

/** Files of which the helper hands out a read-only descriptor, by name, never by path. */
export const READABLE_FILES = [
  'net/tcp',
  'net/tcp6',
  'net/udp',
  'net/udp6',
  'ip_local_port_range',
  'nf_conntrack_udp_timeout',
  'nf_conntrack_udp_timeout_stream',
  'tcp_syn_retries',
  'tcp_rto_max_ms',
  'resolv.conf',
  'null',
] as const;

export const METHODS = {
  /** First call on each channel. What the helper read from the command line, for the plan to confirm. */
  'session.hello': {
    sides: ['host', 'netns'],
    stages: ['setup'],
    fds: 0,
    params: z.strictObject({ protocol: z.literal(PROTOCOL_VERSION) }),
    result: z.strictObject({
      version: z.string(),
      side: z.enum(['host', 'netns']),
      /** The command is run by us in new namespaces, or we joined given ones. */
      spawn: z.boolean(),
      foreground: z.boolean(),
      /** Name of the tap that exists already. */
      tap: z.string(),
      /** Template interface the helper chose (it names the tap after it), or ''. */
      template: z.string(),
      startedAsRoot: z.boolean(),
    }),
  },
  /** A NETLINK_ROUTE or NETLINK_SOCK_DIAG socket that keeps showing the side's namespace; the controller has no capability, so it can only read. */
  'netlink.open': {
    sides: ['host', 'netns'],
    stages: ['setup'],
    fds: 1,
    params: z.strictObject({ protocol: z.enum(['route', 'sock_diag']) }),
    result: justFd,
  },
  'file.open': {
    sides: ['host', 'netns'],
    stages: ['setup'],
    fds: 1,
    params: z.strictObject({ name: z.enum(READABLE_FILES) }),
    result: justFd,
  },
  /**
   * A log or pcap file: O_CREAT|O_TRUNC|O_NOFOLLOW|O_CLOEXEC, 0600, never O_APPEND; pcap O_WRONLY, log O_RDWR (when full, its
   * younger part is moved to the front). The PID file is the helper's own.
   */
  'file.create': {
    sides: ['host'],
    stages: ['setup'],
    fds: 1,
    params: z.strictObject({ kind: z.enum(['log', 'pcap']), path }),
    result: justFd,
  },
  /** A datagram socket connected to /dev/log. */
  'syslog.open': { sides: ['host'], stages: ['setup'], fds: 1, params: empty, result: justFd },
  /** slirp4netns: a SOCK_SEQPACKET socket to the reader of resolv.conf: each byte is answered by what the file says then. ENOENT: there is none. */
  'resolver.open': { sides: ['host'], stages: ['setup'], fds: 1, params: empty, result: justFd },
  /** The tap made at start. The host side has it for slirp4netns --netns-type=tapfd alone: the inherited one, `index` 0, as it may be anywhere. */
  'tap.open': {
    sides: ['netns', 'host'],
    stages: ['setup'],
    fds: 1,
    params: z.strictObject({ name: ifname }),
    result: z.strictObject({
      fd: fdIndex,
      index: z.int(),
      mac,
      /** virtio-net header of this many bytes before each frame; 0: none (then no offloads). */
      vnetHeaderBytes: z.union([z.literal(0), z.literal(12)]),
      /** The kernel took TUN_F_CSUM|TSO4|TSO6, and USO4|USO6. */
      tso: z.boolean(),
      uso: z.boolean(),
    }),
  },
  /** Interface settings in the namespace; only the tap and `lo`. All fields but `name` are optional. */
  'link.set': {
    sides: ['netns'],
    stages: ['setup'],
    fds: 0,
    params: z.strictObject({
      name: ifname,
      up: z.optional(z.boolean()),
      mac: z.optional(mac),
      mtu: z.optional(z.int().check(z.gte(68), z.lte(65_535))),
      arp: z.optional(z.boolean()),
    }),
    result: empty,
  },
  'address.add': {
    sides: ['netns'],
    stages: ['setup'],
    fds: 0,
    params: z.strictObject({ name: ifname, address, prefix: prefix4or6 }),
    result: empty,
  },
  /** destination '0.0.0.0' or '::' with prefix 0 is the default route; gateway null: on link. */
  'route.add': {
    sides: ['netns'],
    stages: ['setup'],
    fds: 0,
    params: z.strictObject({
      name: ifname,
      destination: address,
      prefix: prefix4or6,
      gateway: z.nullable(address),
      metric: z.int().check(z.gte(0), z.lte(0x7fffffff)),
    }),
    result: empty,
  },
  /**
   * A connected socket: TCP (connecting, non-blocking), UDP, or an ICMP echo ("ping") socket whose source port is the
   * identifier. `sourcePort` 0: the kernel chooses; otherwise it is tried first and given up if taken. Checked against
   * the deny floor; by the netns broker: only addresses that are the namespace's own (loopback included), no ICMP. Every
   * socket is non-blocking and close-on-exec.
   */
  'socket.connect': {
    sides: ['host', 'netns'],
    stages: ['sealed'],
    fds: 1,
    params: z.strictObject({
      protocol: z.enum(['tcp', 'udp', 'icmp']),
      address,
      port,
      sourcePort: port,
      /** TTL or hop limit of all that the socket sends, the SYN included; without it, the host's default. */
      hopLimit: z.optional(z.int().check(z.gte(1), z.lte(255))),
    }),
    result: z.strictObject({ fd: fdIndex }),
  },
  /**
   * A socket for a group of the link or site, or broadcast, on the outbound interface; refused unless `seal` had
   * `multicast`. `send`: connected to address and port. `answers`: bound to `sourcePort`, not connected, receives only.
   * `group`: bound to address and port, joined. A source port that is taken or privileged is replaced by the kernel's choice.
   */
  'socket.multicast': {
    sides: ['host'],
    stages: ['sealed'],
    fds: 1,
    params: z.strictObject({ role: z.enum(['send', 'answers', 'group']), address, port, sourcePort: port }),
    result: z.strictObject({ fd: fdIndex }),
  },
  /**
   * A socket bound to one port: TCP listening, UDP with the destination of each datagram reported. `address` '': every
   * address of both IP versions by one socket; '::' is IPv6 only. `interface` '': any; the broker takes 'lo' alone. In the sealed
   * stage, only ports within `seal.listen`. `listener`: its number in the two methods below, which says nothing else.
   */
  'socket.listen': {
    sides: ['host', 'netns'],
    stages: ['setup', 'sealed'],
    fds: 1,
    params: z.strictObject({
      protocol: z.enum(['tcp', 'udp']),
      address: z.union([z.literal(''), address]),
      port: z.int().check(z.gte(1), z.lte(65_535)),
      interface: z.union([z.literal(''), ifname]),
      /** IP_FREEBIND, IPV6_FREEBIND. */
      freebind: z.boolean(),
    }),
    result: z.strictObject({ fd: fdIndex, listener: z.int().check(z.gte(0)) }),
  },
  /**
   * A UDP socket from the address and port of listener `listener` to whoever sent the datagram that is first in its queue: the
   * helper looks at its addresses, never at a byte of it. So an answer can go where a question came from, and nowhere else. What
   * was sent to the same address and port before the socket was connected may be in its queue, and is not the peer's: the source
   * of each tells. The error's errno is EAGAIN when nothing waits, EADDRINUSE when the peer has such a socket already.
   */
  'socket.answer': {
    sides: ['host', 'netns'],
    stages: ['sealed'],
    fds: 1,
    params: z.strictObject({ listener: z.int().check(z.gte(0), z.lte(LISTENERS_MAX - 1)) }),
    result: z.strictObject({
      fd: fdIndex,
      /** Who sent it, and to which address of ours. */
      address,
      port,
      local: address,
    }),
  },
  /** The helper forgets a listener, which ends when the controller closes its descriptor. */
  'socket.unlisten': {
    sides: ['host', 'netns'],
    stages: ['setup', 'sealed'],
    fds: 0,
    params: z.strictObject({ listener: z.int().check(z.gte(0), z.lte(LISTENERS_MAX - 1)) }),
    result: empty,
  },
  /**
   * A UNIX stream socket that listens at a path of the command line, mode 0600; one that nobody serves any more is replaced. The
   * descriptor tells when somebody connects; who is let in is decided by `unix.accept`.
   */
  'unix.listen': {
    sides: ['host'],
    stages: ['setup'],
    fds: 1,
    params: z.strictObject({
      kind: z.enum(['conf', 'control', 'api']),
      path: z.string().check(z.minLength(1), z.maxLength(107), z.regex(TEXT)),
    }),
    result: justFd,
  },
  /** The next client, whose credentials (SO_PEERCRED) are our user's or root's; others are hung up on: errno EACCES. EAGAIN: nobody waits. */
  'unix.accept': {
    sides: ['host'],
    stages: ['sealed'],
    fds: 1,
    params: z.strictObject({ kind: z.enum(['conf', 'control', 'api']) }),
    result: z.strictObject({ fd: fdIndex, pid: z.int() }),
  },
  /**
   * passt: the UNIX stream socket that the guest's hypervisor connects to, or, with --fd, the connection itself (`listening`
   * false). The helper made it at start, from its command line; it is given once. EALREADY: it was; ENOTSOCK: this is not passt.
   */
  'guest.open': {
    sides: ['host'],
    stages: ['setup'],
    fds: 1,
    params: empty,
    result: z.strictObject({
      fd: fdIndex,
      listening: z.boolean(),
      /** For messages: what is not printable ASCII, or would need an escape, is '?'. '' with --fd. */
      path: z.string(),
    }),
  },
  /** passt: the next connection and the process that made it (SO_PEERCRED), 0 if the kernel does not say. EAGAIN: nobody waits; EBADF: nothing listens. */
  'guest.accept': {
    sides: ['host'],
    stages: ['sealed'],
    fds: 1,
    params: empty,
    result: z.strictObject({ fd: fdIndex, pid: z.int() }),
  },
  /** Let the spawned command run (after everything is configured and sealed). */
  'command.start': { sides: ['netns'], stages: ['sealed'], fds: 0, params: empty, result: empty },
  /** Ends `setup`. The floor and limits are frozen here. */
  seal: {
    sides: ['host', 'netns'],
    stages: ['setup'],
    fds: 0,
    params: z.strictObject({
      /** Destinations no socket may be connected to, beside the built-in ones (see docs/SECURITY.md). */
      deny: z.array(z.strictObject({ address, prefix: prefix4or6 })).check(z.maxLength(64)),
      /**
       * Addresses of the host, its loopback included, that may be connected to all the same. `prefix`: default the whole address;
       * ports `port` to `last` (default `port`), 0: every port; `protocol`: default all. The broker ignores it.
       */
      grant: z
        .array(
          z.strictObject({
            address,
            port,
            last: z.optional(port),
            prefix: z.optional(prefix4or6),
            protocol: z.optional(z.enum(['tcp', 'udp'])),
          }),
        )
        .check(z.maxLength(GRANTS_MAX)),
      /** Ports that `socket.listen` may take from now on; default none. A side without any keeps no capability. */
      listen: z.optional(
        z
          .array(
            z.strictObject({
              protocol: z.enum(['tcp', 'udp']),
              first: z.int().check(z.gte(1), z.lte(65_535)),
              last: z.int().check(z.gte(1), z.lte(65_535)),
            }),
          )
          .check(z.maxLength(LISTEN_WINDOWS_MAX)),
      ),
      /** Where sockets leave: source address and interface per family, '' for the kernel's choice. */
      outbound: z.strictObject({
        address4: z.union([z.literal(''), address]),
        address6: z.union([z.literal(''), address]),
        interface4: z.union([z.literal(''), ifname]),
        interface6: z.union([z.literal(''), ifname]),
      }),
      /** --multicast: `socket.multicast` may be called. */
      multicast: z.optional(z.boolean()),
      /** --freebind: `socket.listen` may still be asked for it. */
      freebind: z.optional(z.boolean()),
    }),
    result: empty,
  },
  /** Everything works: write the PID file, let the foreground process exit 0, let go of the caller's stdin, stdout, stderr. */
  ready: { sides: ['host'], stages: ['sealed'], fds: 0, params: empty, result: empty },
} as const satisfies Record<string, MethodInfo>;

export type Side = 'host' | 'netns';
export type Stage = 'setup' | 'sealed';
interface MethodInfo {
  readonly sides: readonly Side[];
  readonly stages: readonly Stage[];
  readonly fds: 0 | 1;
  readonly params: z.ZodMiniType;
  readonly result: z.ZodMiniType;
}
export type MethodName = keyof typeof METHODS;
export type Params<M extends MethodName> = z.input<(typeof METHODS)[M]['params']>;
export type Result<M extends MethodName> = z.output<(typeof METHODS)[M]['result']>;

/** JSON-RPC error codes of the helper. */
export const RPC_ERRORS = {
  /** A system call failed; `data.errno` has the number, the message says what and why. */
  SYSTEM: -32_000,
  /** Refused by the deny floor or a frozen limit. */
  REFUSED: -32_001,
} as const;
export const errorData = z.strictObject({ errno: z.int() });
