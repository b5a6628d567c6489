// SPDX-License-Identifier: Apache-2.0
/**
 * A row of the flow table is used again: nothing of the flow before may be seen by the next. Every column (a typed array as
 * long as the table) is found when its module makes it; flows of each kind begin on rows full of rubbish of two sorts,
 * and a column that tells which it was has not been reset.
 */
import { afterAll, expect, test, vi } from 'vitest';

vi.mock('../../controller/io/io.ts', () => import('../support/fake-io.ts'));

type Column = Int32Array | Uint8Array | Uint16Array | Float32Array;
interface Found {
  readonly file: string;
  /** Its place among the columns of the file. */
  readonly nth: number;
  readonly column: Column;
}
/** As in flow/table.ts; importing it first would make its columns unseen. */
const FLOW_MAX = 1 << 17;
const found: Found[] = [];
for (const name of ['Int32Array', 'Uint8Array', 'Uint16Array', 'Float32Array'] as const) {
  const watched = new Proxy(globalThis[name], {
    construct: (target, args, newTarget): Column => {
      const column = Reflect.construct(target, args, newTarget) as Column;
      const file = args[0] === FLOW_MAX ? /controller\/(\S+\.ts):\d/.exec(new Error().stack ?? '')?.[1] : undefined;
      if (file !== undefined) found.push({ file, nth: found.filter((each) => each.file === file).length, column });
      return column;
    },
  });
  vi.stubGlobal(name, watched);
}
const fake = await import('../support/fake-io.ts');
const bench = await import('../support/flow-bench.ts');
const udp = await import('../support/udp-bench.ts');
const tcp = await import('../support/tcp-bench.ts');
const flows = await import('../../controller/flow/table.ts');
const { end } = await import('../../controller/flow/end.ts');
const activity = await import('../../controller/proto/udp/activity.ts');
const listeners = await import('../support/listener-bench.ts');
const nat = await import('../../controller/fwd/nat.ts');
const udpListener = await import('../../controller/fwd/udp-listener.ts');
const inbound = await import('../../controller/proto/udp/inbound.ts');
const groups = await import('../../controller/link/groups.ts');
const group = await import('../../controller/proto/udp/group.ts');
const icmp = await import('../../controller/proto/icmp.ts');
vi.unstubAllGlobals();
type Flow = import('../../controller/flow/table.ts').Flow;

/** What is set at the end of a flow and not at the beginning of the next: places in lists and pools, which must be given back. */
const GIVEN_BACK = [
  'proto/tcp/ranges.ts',
  'proto/tcp/out-of-order.ts',
  'proto/tcp/stash.ts',
  'proto/tcp/close.ts',
  'proto/tcp/recovery.ts',
  'proto/tcp/pace.ts',
  'proto/tcp/late-ack.ts',
  'proto/tcp/sock-room.ts',
  'proto/udp/share.ts',
];
/** Few are in use at once. */
const ROWS = 16;
const DATAGRAM = ['flow/fragmentation.ts', 'flow/sock-error.ts'];
const NO_NAT = {
  hostLoopback4: null,
  hostLoopback6: null,
  guestAddr4: null,
  guestAddr6: null,
  dnsForward4: null,
  dnsForward6: null,
  host4: null,
  host6: null,
  dnsHost4: null,
  dnsHost6: null,
  resolvers: [],
};
const MDNS: [number, number, number, number] = [0, 0, 0xffff, 0xe00000fb | 0];

const rowOf = (type: number): Flow => {
  for (let f = 0; f < flows.highWater(); f++) if (flows.typeOf(f as Flow) === type) return f as Flow;
  throw new Error('no flow');
};
interface Kind {
  readonly name: string;
  readonly columns: (file: string) => boolean;
  /** Opens one flow in a fresh world and returns its row; and ends it. */
  readonly open: () => Flow;
  readonly close: (f: Flow) => void;
}
const isUdp = (file: string): boolean => DATAGRAM.includes(file) || file.startsWith('proto/udp/');
const KINDS: readonly Kind[] = [
  {
    name: 'TCP',
    columns: (file) => file.startsWith('proto/tcp/'),
    open: () => {
      tcp.begin(tcp.WORLDS[0] as import('../support/tcp-bench.ts').World).established();
      return rowOf(flows.FLOW_TCP);
    },
    close: () => tcp.finish(),
  },
  {
    name: 'UDP',
    columns: (file) => isUdp(file) && file !== 'proto/udp/group.ts',
    open: () => {
      udp.begin();
      udp.opened();
      return udp.theFlow();
    },
    close: (f) => activity.close(f),
  },
  {
    name: 'UDP that a peer began',
    columns: (file) => isUdp(file) && file !== 'proto/udp/group.ts',
    open: () => {
      udp.begin();
      listeners.begin();
      udpListener.configure(() => inbound.taker);
      nat.configure(NO_NAT);
      const l = listeners.listener();
      listeners.arrives(l, bench.REMOTE4, 7, '192.0.2.2');
      udpListener.onReadable(l);
      listeners.answer('host', { fd: 50, address: bench.REMOTE4, port: 7, local: '192.0.2.2' });
      bench.arrived();
      return udp.theFlow();
    },
    close: (f) => activity.close(f),
  },
  {
    name: 'the answers to a group',
    columns: isUdp,
    open: () => {
      udp.begin();
      udp.configure({ multicast: true });
      udp.batch(() => udp.datagram('x', { dst: '239.1.1.1', dstPort: 5000, checksum: 0 }));
      return rowOf(flows.FLOW_GROUP);
    },
    close: () => udp.closeAll(),
  },
  {
    name: 'a listener of a group',
    columns: isUdp,
    open: () => {
      udp.begin();
      udp.configure({ multicast: true });
      groups.join(...MDNS);
      return rowOf(flows.FLOW_GROUP);
    },
    close: (f) => {
      groups.leave(...MDNS);
      group.onTimer(f);
    },
  },
  {
    name: 'ping',
    columns: (file) => DATAGRAM.includes(file) || file === 'proto/icmp.ts',
    open: () => {
      bench.begin(1000, icmp.onTimer);
      bench.resetAnswers();
      bench.newBatch();
      icmp.configure({ linkMtu: 1500, descriptors: 20_000 });
      const request = bench.withChecksum(true, 1, [8, 0, 0, 0, 1, 2, 0, 1], 2, false);
      bench.deliver(icmp.fromTap, { v4: true, protocol: 1, l4: request });
      return rowOf(flows.FLOW_PING);
    },
    close: (f) => end(f),
  },
];

afterAll(() => fake.reset());

test.each(KINDS)('$name', ({ columns, open, close }) => {
  const concerned = found.filter(({ file }) => columns(file) && !GIVEN_BACK.includes(file));
  expect(concerned.length).toBeGreaterThan(5);
  const begun = (rubbish: number): number[] => {
    for (const { column } of concerned) column.fill(rubbish, 0, ROWS);
    const f = open();
    expect(f).toBeLessThan(ROWS);
    const values = concerned.map(({ column }) => column[f] as number);
    close(f);
    flows.endTurn();
    return values;
  };
  const one = begun(0x55);
  const other = begun(0x2a);
  const stale = concerned.filter((_, i) => one[i] !== other[i] && (one[i] === 0x55 || other[i] === 0x2a));
  expect(stale.map(({ file, nth }) => `${file}: column ${nth}`)).toEqual([]);
});
