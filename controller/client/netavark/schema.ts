// SPDX-License-Identifier: Apache-2.0
/** What netavark sends its plugins (netavark 1.4 and later, plugin API 1.0.0), as far as it matters here. */
import * as z from 'zod/mini';
import { lazy } from '../../control/rule-schema.ts';
import { whole } from '../attach/schema-error.ts';

const nullable = <T extends z.ZodMiniType>(type: T) => z.optional(z.nullable(type));
const options = () => nullable(z.record(z.string(), z.string()));

export const networkSchema = lazy(() =>
  z.looseObject({
    name: z.string(),
    id: z.string(),
    driver: z.string(),
    ipv6_enabled: z._default(z.boolean(), false),
    internal: z._default(z.boolean(), false),
    dns_enabled: z._default(z.boolean(), false),
    network_interface: nullable(z.string()),
    options: options(),
    ipam_options: options(),
    subnets: nullable(z.array(z.looseObject({ subnet: z.string(), gateway: nullable(z.string()) }))),
    network_dns_servers: nullable(z.array(z.string())),
    routes: nullable(z.array(z.unknown())),
  }),
);
export type Network = z.output<ReturnType<typeof networkSchema>>;

export const setupSchema = lazy(() =>
  z.looseObject({
    container_id: z.string(),
    container_name: z._default(z.string(), ''),
    port_mappings: nullable(
      z.array(
        z.object({
          container_port: whole(1, 65_535),
          host_port: whole(0, 65_535),
          host_ip: z._default(z.string(), ''),
          protocol: z._default(z.string(), 'tcp'),
          range: z._default(whole(0, 65_535), 1),
        }),
      ),
    ),
    network: networkSchema(),
    network_options: z.looseObject({
      interface_name: z.string(),
      static_ips: nullable(z.array(z.string())),
      static_mac: nullable(z.string()),
      aliases: nullable(z.array(z.string())),
      options: options(),
    }),
  }),
);
export type Setup = z.output<ReturnType<typeof setupSchema>>;
