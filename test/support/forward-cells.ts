// SPDX-License-Identifier: Apache-2.0
/**
 * Who reaches which server through forwarded ports, and whom the server sees: what the matrix test tries with TCP and UDP over
 * IPv4 and IPv6, and the tables of docs/FORWARDING.md, in one.
 */
import { NET } from './lab.mjs';

/** What becomes of a client: whom the server sees, or how it fails. UDP knows no difference between the last two: silence. */
export const OUTCOMES = {
  itself: "the client's own",
  gateway: "the gateway's",
  guest: "the guest's",
  host: "the host's",
  loopback: 'loopback',
  reset: 'reset',
  refused: 'refused',
} as const;
export type Outcome = keyof typeof OUTCOMES;
export type Bound = 'any' | 'loopback' | 'address';
export type Family = 4 | 6;

export const OWN = { 4: '192.0.2.100', 6: '2001:db8:1::100' } as const;
export const HOST = { 4: NET.host4, 6: NET.host6 } as const;
export const GATEWAY = { 4: NET.gateway4, 6: NET.gateway6 } as const;
export const LOOPBACK = { 4: '127.0.0.1', 6: '::1' } as const;
export const LAN = { 4: NET.server4, 6: NET.server6 } as const;

/** Ports of the servers in the namespace, and of those on the host. */
export const INSIDE_PORTS: Record<Bound, number> = { any: 8001, loopback: 8002, address: 8003 };
export const HOST_PORTS: Record<Bound, number> = { any: 8101, loopback: 8102, address: 8103 };
const BOUND: readonly Bound[] = ['any', 'loopback', 'address'];

const ADDRESS = ['-a', `${OWN[4]}/24`, '-a', `${OWN[6]}/64`];
const letters = (inside: string, host: string): string[] => ['-t', inside, '-u', inside, '-T', host, '-U', host];
const PORTS = letters('8001-8003', '8101-8103');
const AUTO = letters('auto', 'auto');

export interface Situation {
  readonly title: string;
  readonly args: readonly string[];
  /** The guest has an address of its own, not a copy of the host's. */
  readonly own: boolean;
}
/** Columns of the tables. */
export const SITUATIONS = {
  ports: { title: 'ports, `-a`', args: [...PORTS, ...ADDRESS], own: true },
  portsCopy: { title: 'ports', args: PORTS, own: false },
  auto: { title: '`auto`, `-a`', args: [...AUTO, ...ADDRESS], own: true },
  autoCopy: { title: '`auto`', args: AUTO, own: false },
  loopback: {
    title: 'ports, `-a`, `--host-lo-to-ns-lo`',
    args: [...PORTS, ...ADDRESS, '--host-lo-to-ns-lo'],
    own: true,
  },
  tap: { title: 'ports, `-a`, `--no-splice`', args: [...PORTS, ...ADDRESS, '--no-splice'], own: true },
  closed: {
    title: '`none`, `-a`, `--no-map-gw`',
    args: [...letters('none', 'none'), ...ADDRESS, '--no-map-gw'],
    own: true,
  },
} as const satisfies Record<string, Situation>;
export type SituationName = keyof typeof SITUATIONS;

export type Place = 'host' | 'remote' | 'inside';
interface Client {
  readonly title: string;
  readonly place: Place;
  readonly to: (family: Family, own: boolean) => string;
  /** The address that it asks from, where it could be one of several. */
  readonly from?: (family: Family) => string;
}
const guestAddress = (family: Family, own: boolean): string => (own ? OWN : HOST)[family];
const CLIENTS = {
  hostLoopback: { title: 'host, to its loopback', place: 'host', to: (f) => LOOPBACK[f] },
  hostAddress: { title: 'host, to its address', place: 'host', to: (f) => HOST[f] },
  lan: { title: "LAN, to the host's address", place: 'remote', to: (f) => HOST[f], from: (f) => LAN[f] },
  insideHost: { title: "guest, to the host's address", place: 'inside', to: (f) => HOST[f] },
  insideGateway: { title: 'guest, to the gateway', place: 'inside', to: (f) => GATEWAY[f] },
  insideLoopback: { title: 'guest, to its loopback', place: 'inside', to: (f) => LOOPBACK[f] },
  insideOwn: { title: 'guest, to its address', place: 'inside', to: guestAddress },
} as const satisfies Record<string, Client>;
type ClientName = keyof typeof CLIENTS;

/** Outcomes of one row in the order of the table's columns. */
type Row = readonly [ClientName, Bound, ...Outcome[]];
interface Table {
  readonly title: string;
  readonly columns: readonly SituationName[];
  readonly ports: Record<Bound, number>;
  readonly rows: readonly Row[];
}

const INTO_COLUMNS: readonly SituationName[] = ['ports', 'portsCopy', 'auto', 'autoCopy', 'loopback', 'tap', 'closed'];
const INTO_ROWS: readonly Row[] = [
  ['hostLoopback', 'any', 'guest', 'guest', 'guest', 'guest', 'loopback', 'gateway', 'refused'],
  ['hostLoopback', 'loopback', 'reset', 'reset', 'refused', 'refused', 'loopback', 'reset', 'refused'],
  ['hostLoopback', 'address', 'guest', 'guest', 'guest', 'guest', 'reset', 'gateway', 'refused'],
  ['hostAddress', 'any', 'itself', 'gateway', 'itself', 'gateway', 'itself', 'itself', 'refused'],
  ['hostAddress', 'loopback', 'reset', 'reset', 'refused', 'refused', 'reset', 'reset', 'refused'],
  ['hostAddress', 'address', 'itself', 'gateway', 'itself', 'gateway', 'itself', 'itself', 'refused'],
  ['lan', 'any', 'itself', 'itself', 'itself', 'itself', 'itself', 'itself', 'refused'],
  ['lan', 'loopback', 'reset', 'reset', 'refused', 'refused', 'reset', 'reset', 'refused'],
  ['lan', 'address', 'itself', 'itself', 'itself', 'itself', 'itself', 'itself', 'refused'],
  ['insideHost', 'any', 'host', 'itself', 'host', 'itself', 'host', 'host', 'refused'],
  ['insideHost', 'loopback', 'reset', 'refused', 'refused', 'refused', 'reset', 'reset', 'refused'],
  ['insideHost', 'address', 'host', 'itself', 'host', 'itself', 'host', 'host', 'refused'],
  ['insideGateway', 'any', 'guest', 'guest', 'guest', 'guest', 'loopback', 'gateway', 'refused'],
  ['insideGateway', 'loopback', 'reset', 'reset', 'refused', 'refused', 'loopback', 'reset', 'refused'],
  ['insideGateway', 'address', 'guest', 'guest', 'guest', 'guest', 'reset', 'gateway', 'refused'],
];
const OUT_COLUMNS: readonly SituationName[] = ['ports', 'portsCopy', 'auto', 'autoCopy', 'tap', 'closed'];
const OUT_ROWS: readonly Row[] = [
  ['insideLoopback', 'any', 'loopback', 'loopback', 'loopback', 'loopback', 'loopback', 'refused'],
  ['insideLoopback', 'loopback', 'loopback', 'loopback', 'loopback', 'loopback', 'loopback', 'refused'],
  ['insideLoopback', 'address', 'reset', 'reset', 'refused', 'refused', 'reset', 'refused'],
  ['insideOwn', 'any', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['insideOwn', 'loopback', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['insideOwn', 'address', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['insideHost', 'any', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['insideHost', 'loopback', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['insideHost', 'address', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['insideGateway', 'any', 'loopback', 'loopback', 'loopback', 'loopback', 'loopback', 'refused'],
  ['insideGateway', 'loopback', 'loopback', 'loopback', 'loopback', 'loopback', 'loopback', 'refused'],
  ['insideGateway', 'address', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
  ['lan', 'loopback', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused'],
];
const TABLES: readonly Table[] = [
  { title: 'A server in the namespace (`-t`, `-u`)', columns: INTO_COLUMNS, ports: INSIDE_PORTS, rows: INTO_ROWS },
  {
    title: 'A server on the host (`-T`, `-U`, and the gateway)',
    columns: OUT_COLUMNS,
    ports: HOST_PORTS,
    rows: OUT_ROWS,
  },
];

/** One thing to try, with one protocol and IP version. */
export interface Cell {
  readonly name: string;
  readonly place: Place;
  readonly protocol: 'tcp' | 'udp';
  readonly family: Family;
  readonly address: string;
  readonly port: number;
  readonly from?: string;
  readonly outcome: Outcome;
}

/** All that is tried in a situation. */
export const cellsOf = (situation: SituationName): Cell[] =>
  TABLES.flatMap(({ columns, ports, rows }) =>
    rows.flatMap(([client, bound, ...outcomes]) => {
      const outcome = outcomes[columns.indexOf(situation)];
      if (outcome === undefined) return [];
      const { title, place, to, from }: Client = CLIENTS[client];
      return (['tcp', 'udp'] as const).flatMap((protocol) =>
        ([4, 6] as const).map((family) => ({
          name: `${title}, port ${ports[bound]}, ${protocol} over IPv${family}`,
          place,
          protocol,
          family,
          address: to(family, SITUATIONS[situation].own),
          port: ports[bound],
          ...(from === undefined ? {} : { from: from(family) }),
          outcome,
        })),
      );
    }),
  );

/** Sockets of the servers with the given ports. @param address of the side they are on */
export const socketsOf = (ports: Record<Bound, number>, address: (family: Family) => string) =>
  (['tcp', 'udp'] as const).flatMap((protocol) =>
    ([4, 6] as const).flatMap((family) =>
      BOUND.map((bound) => ({
        protocol,
        address: { any: family === 4 ? '0.0.0.0' : '::', loopback: LOOPBACK[family], address: address(family) }[bound],
        port: ports[bound],
      })),
    ),
  );

const BOUND_TEXT: Record<Bound, string> = { any: 'any', loopback: 'loopback', address: 'address' };
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

/** The tables of docs/FORWARDING.md. */
export const forwardingTables = (): string =>
  TABLES.map(({ title, columns, rows }) => {
    const head = ['client', 'bound to', ...columns.map((each) => SITUATIONS[each].title)];
    const body = rows.map(([client, bound, ...outcomes], i) =>
      line([
        rows[i - 1]?.[0] === client ? '' : CLIENTS[client].title,
        BOUND_TEXT[bound],
        ...outcomes.map((outcome) => OUTCOMES[outcome]),
      ]),
    );
    return [`### ${title}\n`, line(head), line(head.map(() => '---')), ...body].join('\n');
  }).join('\n\n');
