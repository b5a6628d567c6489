// SPDX-License-Identifier: Apache-2.0
/**
 * The tables of docs/FORWARDING.md, tried: {TCP, UDP} × {IPv4, IPv6} × where the client is × what the server is bound to ×
 * how ports are forwarded. The payload is hashed at both ends, and the server says whom it saw.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type Cell,
  cellsOf,
  GATEWAY,
  HOST,
  HOST_PORTS,
  INSIDE_PORTS,
  LOOPBACK,
  type Outcome,
  OWN,
  type Place,
  SITUATIONS,
  type SituationName,
  socketsOf,
} from '../support/forward-cells.ts';
import { type Answer, ask, PATIENCE_MS, type Question, SILENCE_MS, serve } from '../support/forward-programs.ts';
import { type Guest, type Lab, makeLab, type Side } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';

const CAPTURE = '/run/scratch/matrix.pcap';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
  await serve(
    lab.host,
    socketsOf(HOST_PORTS, (family) => HOST[family]),
  );
});
afterAll(() => lab.cleanup());

const succeeds = (outcome: Outcome): boolean => outcome !== 'reset' && outcome !== 'refused';
const question = ({ protocol, address, port, from, outcome }: Cell): Question => ({
  protocol,
  address,
  port,
  ...(from === undefined ? {} : { from }),
  patienceMs: succeeds(outcome) ? PATIENCE_MS : SILENCE_MS,
});

/** Whom an answer is from, in the words of the tables. */
const judge = (cell: Cell, answer: Answer, own: boolean): string => {
  if ('error' in answer) {
    // A datagram that nobody takes is met by silence or an error, as the path has it.
    if (cell.protocol === 'udp' || answer.error === cell.outcome)
      return succeeds(cell.outcome) ? answer.error : cell.outcome;
    // A reset can be there before the client has looked whether it is connected.
    if (answer.error === 'ECONNRESET') return 'reset';
    return /^E(CONNREFUSED|HOSTUNREACH|ACCES)$/.test(answer.error) ? 'refused' : answer.error;
  }
  const { address, port } = answer;
  const { family, outcome } = cell;
  const is = (expected: string): string => (address === expected ? outcome : `seen as ${address}`);
  if (outcome === 'itself') return port === answer.own.port ? is(answer.own.address) : `seen at port ${port}`;
  if (outcome === 'gateway') return is(GATEWAY[family]);
  if (outcome === 'guest') return is((own ? OWN : HOST)[family]);
  if (outcome === 'host') return is(HOST[family]);
  if (outcome === 'loopback') return is(LOOPBACK[family]);
  return `reached, seen as ${address}`;
};

/** Everything that `auto` finds is open: sockets of ours on the host, and in the namespace. */
const discovered = async (guest: Guest): Promise<void> => {
  const open = (side: Side, protocol: 't' | 'u', port: number) =>
    side.run(['ss', `-Hln${protocol}`, 'sport', '=', `:${port}`]);
  const all = [
    ...[INSIDE_PORTS.any, INSIDE_PORTS.address].map((port) => [lab.host, port] as const),
    ...[HOST_PORTS.any, HOST_PORTS.loopback].map((port) => [guest, port] as const),
  ];
  for (const [side, port] of all)
    for (const protocol of ['t', 'u'] as const)
      await waitFor(() => open(side, protocol, port), {
        what: `port ${port} to be found`,
        timeoutMs: 5000,
        everyMs: 100,
      });
};

it.each(Object.keys(SITUATIONS) as SituationName[])('%s', async (situation) => {
  const { args, own } = SITUATIONS[situation];
  let mac = '';
  const guest = await lab.guest(['--config-net', '--pcap', CAPTURE, ...args], undefined, { forwards: true });
  try {
    await serve(
      guest,
      socketsOf(INSIDE_PORTS, (family) => (own ? OWN : HOST)[family]),
    );
    if (args.includes('auto')) await discovered(guest);
    const cells = cellsOf(situation);
    expect(cells.length).toBeGreaterThan(50);
    const places: Record<Place, Side> = { host: lab.host, remote: lab.remote, inside: guest };
    const wrong = await Promise.all(
      Object.entries(places).map(async ([place, side]) => {
        const here = cells.filter((cell) => cell.place === place);
        const answers = await ask(side, here.map(question));
        return here.flatMap((cell, i) => {
          const got = judge(cell, answers[i] as Answer, own);
          return got === cell.outcome ? [] : [`${cell.name}: ${got}, not ${cell.outcome}`];
        });
      }),
    );
    expect(wrong.flat()).toEqual([]);
    mac = /ether (\S+)/.exec(await guest.run(['ip', 'link', 'show', 'eth0']))?.[1] ?? '';
  } finally {
    await guest.close();
  }
  // No frame to the guest is from a loopback address, nor from its own: the bypass is none of the tap's business.
  const from = [...Object.values(LOOPBACK), ...Object.values(own ? OWN : HOST)].map((address) => `src host ${address}`);
  const filter = `ether dst ${mac} and (src net 127.0.0.0/8 or ${from.join(' or ')})`;
  expect(await lab.host.run(['tcpdump', '-nr', CAPTURE, filter])).toBe('');
  expect(await lab.host.run(['tcpdump', '-nr', CAPTURE, '-c', '1', `ether dst ${mac}`])).not.toBe('');
});
