// SPDX-License-Identifier: Apache-2.0
/** Results, ours and those of plugins before us: CNI spec 1.1.0, section 5 "Success"; the forms of 0.2.0 and 0.4.0 for callers that speak those. */
import * as z from 'zod/mini';
import { lazy } from '../../control/rule-schema.ts';
import { familyOf } from '../../host/address.ts';
import { CODE, PluginError } from '../attach/plugin-error.ts';
import { parse } from '../attach/schema-error.ts';
import { atLeast, type Version } from './versions.ts';

/** Fields that we do not know are passed on as they are. */
const interfaceSchema = lazy(() =>
  z.looseObject({
    name: z.string(),
    mac: z.optional(z.string()),
    sandbox: z.optional(z.string()),
  }),
);
const ipSchema = lazy(() =>
  z.looseObject({
    address: z.string(),
    gateway: z.optional(z.string()),
    interface: z.optional(z.int()),
  }),
);
const routeSchema = lazy(() => z.looseObject({ dst: z.string(), gw: z.optional(z.string()) }));
const dnsSchema = lazy(() =>
  z.looseObject({
    nameservers: z.optional(z.array(z.string())),
    domain: z.optional(z.string()),
    search: z.optional(z.array(z.string())),
    options: z.optional(z.array(z.string())),
  }),
);
const list = <T extends z.ZodMiniType>(item: T) => z._default(z.nullable(z.array(item)), null);
const resultSchema = lazy(() =>
  z.looseObject({
    cniVersion: z.optional(z.string()),
    interfaces: list(interfaceSchema()),
    ips: list(ipSchema()),
    routes: list(routeSchema()),
    dns: z._default(dnsSchema(), {}),
  }),
);
/** Versions 0.1.0 and 0.2.0: one address of each IP version, and nothing about interfaces. */
const oldIpSchema = lazy(() =>
  z.optional(z.object({ ip: z.string(), gateway: z.optional(z.string()), routes: list(routeSchema()) })),
);
const oldResultSchema = lazy(() =>
  z.object({ ip4: oldIpSchema(), ip6: oldIpSchema(), dns: z._default(dnsSchema(), {}) }),
);

export type Dns = z.output<ReturnType<typeof dnsSchema>>;
export interface Result {
  readonly interfaces: readonly z.output<ReturnType<typeof interfaceSchema>>[];
  readonly ips: readonly z.output<ReturnType<typeof ipSchema>>[];
  readonly routes: readonly z.output<ReturnType<typeof routeSchema>>[];
  readonly dns: Dns;
}

const read = <T extends z.ZodMiniType>(schema: T, given: unknown): z.output<T> => {
  const parsed = parse(schema, given);
  if ('data' in parsed) return parsed.data;
  throw new PluginError(CODE.UNDECODABLE, 'prevResult is not a result', parsed.refusal.sentence);
};
const readOld = (given: unknown): Result => {
  const { ip4, ip6, dns } = read(oldResultSchema(), given);
  const both = [ip4, ip6].flatMap((one) => (one === undefined ? [] : [one]));
  return {
    interfaces: [],
    ips: both.map(({ ip, gateway }) => ({ address: ip, ...(gateway === undefined ? {} : { gateway }) })),
    routes: both.flatMap(({ routes }) => routes ?? []),
    dns,
  };
};
/** A `prevResult`. Throws {@link PluginError}. */
export const readResult = (given: unknown, version: Version): Result => {
  if (!atLeast(version, '0.3.0')) return readOld(given);
  const { interfaces, ips, routes, dns } = read(resultSchema(), given);
  return { interfaces: interfaces ?? [], ips: ips ?? [], routes: routes ?? [], dns };
};

/** What was there before, and ours behind it. */
export const extend = (before: Result, ours: Result): Result => {
  const shift = before.interfaces.length;
  return {
    interfaces: [...before.interfaces, ...ours.interfaces],
    ips: [...before.ips, ...ours.ips.map((ip) => ({ ...ip, interface: (ip.interface ?? 0) + shift }))],
    routes: [...before.routes, ...ours.routes],
    dns: { ...before.dns, ...ours.dns },
  };
};

const omit = (from: Readonly<Record<string, unknown>>, ...names: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(Object.entries(from).filter(([name]) => !names.includes(name)));
/** Fields that came with 1.1.0. */
const INTERFACE_1_1 = ['mtu', 'socketPath', 'pciID'] as const;
const ROUTE_1_1 = ['mtu', 'advmss', 'priority', 'table', 'scope'] as const;

const writeOld = ({ ips, routes, dns }: Result, cniVersion: Version): Record<string, unknown> => {
  const one = (family: 4 | 6): Record<string, unknown> | undefined => {
    const ip = ips.find(({ address }) => familyOf(address) === family);
    if (ip === undefined) return undefined;
    return { ip: ip.address, gateway: ip.gateway, routes: routes.filter(({ dst }) => familyOf(dst) === family) };
  };
  return { cniVersion, ip4: one(4), ip6: one(6), dns };
};
/** As the caller's version has it. */
export const writeResult = (result: Result, cniVersion: Version): Record<string, unknown> => {
  if (!atLeast(cniVersion, '0.3.0')) return writeOld(result, cniVersion);
  const newest = atLeast(cniVersion, '1.1.0');
  const ipVersion = (address: string) => (atLeast(cniVersion, '1.0.0') ? {} : { version: String(familyOf(address)) });
  return {
    cniVersion,
    interfaces: newest ? result.interfaces : result.interfaces.map((one) => omit(one, ...INTERFACE_1_1)),
    ips: result.ips.map((ip) => ({ ...omit(ip, 'version'), ...ipVersion(ip.address) })),
    routes: newest ? result.routes : result.routes.map((route) => omit(route, ...ROUTE_1_1)),
    dns: result.dns,
  };
};
