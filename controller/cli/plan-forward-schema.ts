// SPDX-License-Identifier: Apache-2.0
/** The parts of a plan that say who may come in and under which address: rules, address translation, what `seal` freezes. */
import * as z from 'zod/mini';
import { GRANTS_MAX, LISTEN_WINDOWS_MAX } from '../../shared/rpc/methods.ts';
import { RULES_MAX, type Rule } from '../fwd/rule.ts';
import { address, address4, address6, flag, frozen, ifname } from './plan-fields.ts';

const port = z.int().check(z.gte(1), z.lte(65_535));
const anyPort = z.int().check(z.gte(0), z.lte(65_535));
const protocol = z.enum(['tcp', 'udp']);
const orNone = z.union([z.literal(''), address]);

const rule = frozen({
  protocol,
  address: orNone,
  interface: z.union([z.literal(''), ifname]),
  first: port,
  last: port,
  target: orNone,
  to: port,
  weak: flag,
  scan: flag,
}) satisfies z.ZodMiniType<Rule>;
const table = z.readonly(z.array(rule).check(z.maxLength(RULES_MAX)));

export const forward = frozen({
  tables: frozen({ host: table, splice: table }),
  /** Loopback connections are joined by splice(2); not --no-splice. */
  splice: flag,
  /** --splice-only: nothing but that; no frame is expected. */
  spliceOnly: flag,
  /** --host-lo-to-ns-lo: what asks for a loopback address of the host gets the same one of the namespace. */
  loopbackToLoopback: flag,
  freebind: flag,
});

/** null: not mapped, or no such address. The first six are what the guest sees. */
export const nat = frozen({
  /** Stands for 127.0.0.1 and ::1 of the host. */
  hostLoopback4: z.nullable(address4),
  hostLoopback6: z.nullable(address6),
  /** Stands for the host's own address, `host4` and `host6`. */
  guestAddr4: z.nullable(address4),
  guestAddr6: z.nullable(address6),
  /** Ports 53 and 853 of it (`dnsPorts`) lead to `dnsHost4` and `dnsHost6`. */
  dnsForward4: z.nullable(address4),
  dnsForward6: z.nullable(address6),
  /** Of the template interface. */
  host4: z.nullable(address4),
  host6: z.nullable(address6),
  dnsHost4: z.nullable(address4),
  dnsHost6: z.nullable(address6),
  /** Of resolv.conf, in its order. */
  resolvers: z.readonly(z.array(address)),
  /** Addresses that the guest sees and that lead nowhere but where the above says. */
  closed: z.optional(z.readonly(z.array(address))),
  /** Ports of `dnsForward4` and `dnsForward6`, if not 53 and 853. */
  dnsPorts: z.optional(z.readonly(z.array(port))),
});

/**
 * `seal.grant`: addresses of the host that the guest may reach. `prefix`: default the whole address; `port` to `last` (default
 * `port`), 0: every port; `protocol`: default all.
 */
export const grant = z.readonly(
  z
    .array(
      frozen({
        address,
        port: anyPort,
        last: z.optional(port),
        prefix: z.optional(z.int().check(z.gte(0), z.lte(128))),
        protocol: z.optional(protocol),
      }),
    )
    .check(z.maxLength(GRANTS_MAX)),
);

const windows = z.readonly(
  z.array(frozen({ protocol, first: port, last: port })).check(z.maxLength(LISTEN_WINDOWS_MAX)),
);
/** `seal.listen` of each side: ports that may be listened on once sealed. */
export const listen = frozen({ host: windows, netns: windows });
