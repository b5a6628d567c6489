// SPDX-License-Identifier: Apache-2.0
/**
 * The shape of a plan: everything the controller asks the helper for and shows the guest, decided before the first frame.
 * Parsing checks it, so that a wrong decision ends the start and not a packet later, and freezes it.
 */
import * as z from 'zod/mini';
import type { Network } from '../host/network.ts';
import { address, address4, address6, flag, frozen, ifname } from './plan-fields.ts';
import { forward, grant, listen, nat } from './plan-forward-schema.ts';

const mac = z.string().check(z.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/));
const interface4 = frozen({ address: address4, prefix: z.int().check(z.gte(1), z.lte(32)) });
const interface6 = frozen({ address: address6, prefix: z.int().check(z.gte(1), z.lte(128)) });

const seconds = z.int().check(z.gte(1), z.lte(0xffff_ffff));
const neighbours4 = z.optional(z.readonly(z.array(frozen({ address: address4, mac }))));
const neighbours6 = z.optional(z.readonly(z.array(frozen({ address: address6, mac }))));

const network4 = frozen({
  addresses: z.readonly(z.tuple([interface4], interface4)),
  gateway: address4,
  dns: z.readonly(z.array(address4).check(z.maxLength(3))),
  pinned: flag,
  neighbours: neighbours4,
  pool: z.optional(frozen({ first: address4, count: z.int().check(z.gte(1), z.lte(16)), leaseS: seconds })),
});
const network6 = frozen({
  addresses: z.readonly(z.array(interface6)),
  gateway: address6,
  ourLinkLocal: address6.check(z.regex(/^fe[89ab]/)),
  dns: z.readonly(z.array(address6).check(z.maxLength(3))),
  pinned: flag,
  neighbours: neighbours6,
  advertised: z.optional(
    frozen({
      prefix: address6,
      validS: seconds,
      preferredS: seconds,
      routerS: z.int().check(z.gte(0), z.lte(65_535)),
    }),
  ),
});
const network = frozen({
  v4: z.nullable(network4),
  v6: z.nullable(network6),
  ourMac: mac,
  guestMac: mac,
  mtu: z.int().check(z.gte(0), z.lte(65_521)),
  search: z.readonly(z.array(z.string())),
  hostname: z.nullable(z.string()),
  fqdn: z.nullable(z.string()),
  tellDns: flag,
  tellSearch: flag,
  enable: frozen({ tcp: flag, udp: flag, icmp: flag, dhcp: flag, dhcpv6: flag, ndp: flag, ra: flag }),
}) satisfies z.ZodMiniType<Network>;

const route = frozen({
  destination: address,
  prefix: z.int().check(z.gte(0), z.lte(128)),
  gateway: z.nullable(address),
  metric: z.int().check(z.gte(0), z.lte(0x7fff_ffff)),
});
const outboundAddress = z.union([z.literal(''), address]);
const outboundInterface = z.union([z.literal(''), ifname]);

export const planSchema = frozen({
  network,
  personality: z.enum(['pasta', 'passt', 'slirp4netns']),
  /** A virtual machine behind a socket; null: a namespace, with or without a tap. */
  guest: z.nullable(frozen({ kind: z.enum(['stream', 'vhost-user', 'packets']), oneOff: flag })),
  /** The tap's name in the namespace; '': there is none (--splice-only, passt). */
  ifname: z.union([z.literal(''), ifname]),
  /** What to configure inside the namespace, in this order; null: the guest does it itself. */
  configNet: z.nullable(
    frozen({
      addresses: z.readonly(z.array(z.union([interface4, interface6]))),
      routes: z.readonly(z.array(route)),
      /** null: leave the kernel's. */
      mtu: z.nullable(z.int().check(z.gte(68), z.lte(65_521))),
    }),
  ),
  /** To be set on the tap, or null to keep its own. */
  nsMac: z.nullable(mac),
  log: frozen({
    level: z.enum(['quiet', 'info', 'debug', 'trace']),
    file: z.nullable(z.string()),
    /** Bytes. */
    size: z.int().check(z.positive()),
    /** Log to stderr for as long as we run, not only until ready. */
    toStderr: flag,
    toSyslog: flag,
  }),
  pcap: z.nullable(z.string()),
  outbound: frozen({
    address4: outboundAddress,
    address6: outboundAddress,
    interface4: outboundInterface,
    interface6: outboundInterface,
  }),
  grant,
  listen,
  forward,
  nat,
  /** Path of the socket that speaks pesto's protocol, and of our own JSON-RPC socket; null: none. */
  conf: z.nullable(z.string()),
  control: z.nullable(z.string()),
  /** The socket of slirp4netns' API, and the address that ports lead to where a request names none; null: none. */
  api: z.nullable(frozen({ path: z.string(), guest: address4 })),
  /** Multicast and broadcast of the guest leave, and groups that it joined come back. */
  multicast: flag,
  /** The command is ours: `command.start` is to be called. */
  spawn: flag,
  foreground: flag,
  /** Templates per IP version, or null in local mode; for the summary. */
  templates: frozen({ v4: z.nullable(z.string()), v6: z.nullable(z.string()) }),
  /** Sentences to log at warning level once there is a log. */
  warnings: z.readonly(z.array(z.string())),
});

export type Plan = z.output<typeof planSchema>;
