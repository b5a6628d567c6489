// SPDX-License-Identifier: Apache-2.0
/** The network configuration on standard input: CNI spec 1.1.0, sections 1 and 2, its conventions for `capabilities` and `args`, and our own keys. */
import * as z from 'zod/mini';
import { lazy } from '../../control/rule-schema.ts';
import { CODE, PluginError } from '../attach/plugin-error.ts';
import { parse, whole } from '../attach/schema-error.ts';
import { isName } from './environment.ts';
import { isVersion, UNSAID, VERSIONS, type Version } from './versions.ts';

const port = () => whole(1, 65_535);
const strings = () => z.array(z.string());

const runtimeSchema = lazy(() =>
  z.strictObject({
    portMappings: z.optional(
      z.nullable(
        z.array(
          z.object({
            hostPort: port(),
            containerPort: port(),
            protocol: z._default(z.string(), 'tcp'),
            hostIP: z._default(z.string(), ''),
          }),
        ),
      ),
    ),
    ips: z.optional(z.nullable(strings())),
    mac: z.optional(z.string()),
    dns: z.optional(
      z.nullable(
        z.object({
          servers: z.optional(z.nullable(strings())),
          searches: z.optional(z.nullable(strings())),
          options: z.optional(z.nullable(strings())),
        }),
      ),
    ),
  }),
);
const configSchema = lazy(() =>
  z.strictObject({
    cniVersion: z.optional(z.string()),
    name: z.string().check(z.refine(isName, 'letters, digits, dots, underscores and hyphens, a letter or digit first')),
    type: z.string(),
    /** What the runtime is to pass; libcni leaves it in. */
    capabilities: z.optional(z.unknown()),
    runtimeConfig: z._default(runtimeSchema(), {}),
    args: z._default(
      z.object({ cni: z._default(z.object({ ips: z.optional(strings()), mac: z.optional(z.string()) }), {}) }),
      { cni: {} },
    ),
    prevResult: z.optional(z.unknown()),
    dns: z._default(
      z.strictObject({
        nameservers: z.optional(strings()),
        domain: z.optional(z.string()),
        search: z.optional(strings()),
        options: z.optional(strings()),
      }),
      {},
    ),

    // Our own.
    ipv4: z._default(z.boolean(), true),
    /** Default: where the kernel has it. */
    ipv6: z.optional(z.boolean()),
    subnet: z.optional(z.string()),
    subnet6: z.optional(z.string()),
    mtu: z._default(whole(1280, 65_520), 65_520),
    dnsForward: z._default(z.boolean(), true),
    hostLoopback: z._default(z.boolean(), false),
    hostAddress: z.optional(z.union([z.string(), strings()], 'an address or a list of them')),
    outboundInterface: z.optional(z.string()),

    // Of GC.
    'cni.dev/valid-attachments': z.optional(
      z.nullable(z.array(z.object({ containerID: z.string(), ifname: z.string() }))),
    ),
  }),
);
export type Config = z.output<ReturnType<typeof configSchema>>;

/** An empty list is often written as null. */
const VALID = 'cni.dev/valid-attachments';

const text = (value: unknown): string => JSON.stringify(value) ?? String(value);
/** The first key that is not in the schema, with what it says. */
const refuseUnknown = (given: Readonly<Record<string, unknown>>, known: object, where: string): void => {
  // Names that the specification keeps for itself.
  for (const [key, value] of Object.entries(given))
    if (!Object.hasOwn(known, key) && !key.startsWith('cni.dev/'))
      throw new PluginError(CODE.UNSUPPORTED_FIELD, `${where}${key} is not supported: ${text(value)}`, key);
};
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export interface Input {
  readonly version: Version;
  /** As it came, to be read by {@link readConfig}. */
  readonly given: Record<string, unknown>;
}
/** Throws {@link PluginError}. */
export const readInput = (stdin: string): Input => {
  let given: unknown;
  try {
    given = JSON.parse(stdin);
  } catch (error) {
    throw new PluginError(CODE.UNDECODABLE, 'The network configuration is not JSON', (error as Error).message);
  }
  try {
    JSON.stringify(given);
  } catch {
    // The parser has no limit, but all that looks at or prints what it made has.
    throw new PluginError(CODE.UNDECODABLE, 'The network configuration is nested too deeply');
  }
  if (!isObject(given))
    throw new PluginError(CODE.UNDECODABLE, 'The network configuration is not an object', text(given));
  const version = given['cniVersion'] ?? UNSAID;
  if (typeof version !== 'string' || !isVersion(version === '' ? UNSAID : version))
    throw new PluginError(
      CODE.INCOMPATIBLE_VERSION,
      `cniVersion ${text(version)} is not supported`,
      `supported are ${VERSIONS.join(', ')}`,
    );
  return { version: version === '' ? UNSAID : (version as Version), given };
};

/** Throws {@link PluginError}. */
export const readConfig = (given: Record<string, unknown>): Config => {
  const { ipam, ...rest } = given;
  if (isObject(ipam) && Object.keys(ipam).length > 0)
    throw new PluginError(
      CODE.UNSUPPORTED_FIELD,
      `ipam is not supported, subnet and the capability ips are: ${text(ipam)}`,
      'ipam',
    );
  refuseUnknown(rest, configSchema().shape, '');
  if (isObject(rest['runtimeConfig'])) refuseUnknown(rest['runtimeConfig'], runtimeSchema().shape, 'runtimeConfig.');
  if (isObject(rest['dns'])) refuseUnknown(rest['dns'], { nameservers: 0, domain: 0, search: 0, options: 0 }, 'dns.');
  const own = Object.fromEntries(
    Object.entries(rest).filter(
      ([key, value]) => (value !== null || key === VALID) && Object.hasOwn(configSchema().shape, key),
    ),
  );
  const parsed = parse(configSchema(), own);
  if ('data' in parsed) return parsed.data;
  throw new PluginError(CODE.INVALID_CONFIG, parsed.refusal.sentence, parsed.refusal.where);
};
