// SPDX-License-Identifier: Apache-2.0
/**
 * The shape of a plan: everything the controller asks the helper for and shows the guest, decided before the first frame.
 * Parsing checks it, so that a wrong decision ends the start and not a packet later, and freezes it.
 */
import { z } from 'zod';
import { parseAddress } from '../host/address.ts';
import type { Network } from '../host/network.ts';

const address = z.string().refine((text) => parseAddress(text) !== null, 'not an IP address');
const address4 = z.string().refine((text) => parseAddress(text)?.family === 4, 'not an IPv4 address');
const address6 = z.string().refine((text) => parseAddress(text)?.family === 6, 'not an IPv6 address');
const mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
const ifname = z.string().regex(/^[!-.0-9;-~]{1,15}$/);
const interface4 = z.strictObject({ address: address4, prefix: z.int().min(1).max(32) }).readonly();
const interface6 = z.strictObject({ address: address6, prefix: z.int().min(1).max(128) }).readonly();
const flag = z.boolean();

const network4 = z
  .strictObject({
    addresses: z.tuple([interface4], interface4).readonly(),
    gateway: address4,
    dns: z.array(address4).max(3).readonly(),
  })
  .readonly();
const network6 = z
  .strictObject({
    addresses: z.array(interface6).readonly(),
    gateway: address6,
    ourLinkLocal: address6.regex(/^fe[89ab]/),
    dns: z.array(address6).max(3).readonly(),
  })
  .readonly();
const network = z
  .strictObject({
    v4: network4.nullable(),
    v6: network6.nullable(),
    ourMac: mac,
    guestMac: mac,
    mtu: z.int().min(0).max(65_521),
    search: z.array(z.string()).readonly(),
    hostname: z.string().nullable(),
    fqdn: z.string().nullable(),
    tellDns: flag,
    tellSearch: flag,
    enable: z
      .strictObject({ tcp: flag, udp: flag, icmp: flag, dhcp: flag, dhcpv6: flag, ndp: flag, ra: flag })
      .readonly(),
  })
  .readonly() satisfies z.ZodType<Network>;

const route = z
  .strictObject({
    destination: address,
    prefix: z.int().min(0).max(128),
    gateway: address.nullable(),
    metric: z.int().min(0).max(0x7fff_ffff),
  })
  .readonly();
const outboundAddress = z.union([z.literal(''), address]);
const outboundInterface = z.union([z.literal(''), ifname]);

export const planSchema = z
  .strictObject({
    network,
    /** The tap's name in the namespace. */
    ifname,
    /** What to configure inside the namespace, in this order; null: the guest does it itself. */
    configNet: z
      .strictObject({
        addresses: z.array(z.union([interface4, interface6])).readonly(),
        routes: z.array(route).readonly(),
        /** null: leave the kernel's. */
        mtu: z.int().min(68).max(65_521).nullable(),
      })
      .readonly()
      .nullable(),
    /** To be set on the tap, or null to keep its own. */
    nsMac: mac.nullable(),
    log: z
      .strictObject({
        level: z.enum(['quiet', 'info', 'debug', 'trace']),
        file: z.string().nullable(),
        /** Bytes. */
        size: z.int().positive(),
        /** Log to stderr for as long as we run, not only until ready. */
        toStderr: flag,
        toSyslog: flag,
      })
      .readonly(),
    pcap: z.string().nullable(),
    outbound: z
      .strictObject({
        address4: outboundAddress,
        address6: outboundAddress,
        interface4: outboundInterface,
        interface6: outboundInterface,
      })
      .readonly(),
    /** The command is ours: `command.start` is to be called. */
    spawn: flag,
    foreground: flag,
    /** Templates per IP version, or null in local mode; for the summary. */
    templates: z.strictObject({ v4: z.string().nullable(), v6: z.string().nullable() }).readonly(),
    /** Sentences to log at warning level once there is a log. */
    warnings: z.array(z.string()).readonly(),
  })
  .readonly();

export type Plan = z.output<typeof planSchema>;
