// SPDX-License-Identifier: Apache-2.0
/** What comes over the control sockets: one client of pesto's, one of our own, one of slirp4netns'; each step `data` is what one read gave. */
import { isDeepStrictEqual } from 'node:util';
import { Changes } from '../../../controller/control/changes.ts';
import { refusal } from '../../../controller/control/check-rules.ts';
import { JsonRpcSession } from '../../../controller/control/json-rpc.ts';
import { encodeTables, TablesReader } from '../../../controller/control/pesto-protocol.ts';
import { type Peer, PestoSession } from '../../../controller/control/pesto-server.ts';
import { SlirpApiSession, SlirpForwards } from '../../../controller/control/slirp-api.ts';
import { sameRule, type Tables } from '../../../controller/fwd/rule.ts';
import { FakeForwarding } from '../../support/fake-forwarding.ts';
import { SERVER_TABLES } from '../../support/pesto-exchange.ts';
import type { Input } from '../steps.ts';
import type { Target } from '../target.ts';

const CAPS = 0x3f;
const DIRECTIONS = ['host', 'splice'] as const;

const insist = (yes: boolean, what: string): void => {
  if (!yes) throw new Error(what);
};

class Recorder implements Peer {
  sent = Buffer.alloc(0);
  ends = 0;
  send(bytes: Buffer): void {
    insist(this.ends === 0, 'bytes after the end');
    this.sent = Buffer.concat([this.sent, bytes]);
  }
  end(): void {
    this.ends++;
  }
  resume(): void {}
}

/** A change ends between two steps, with two ports that nobody gets. */
const played = (
  input: Input,
  session: { onBytes(bytes: Uint8Array): void; onEnd(): void },
  forwarding: FakeForwarding,
): void => {
  const settle = (): void => {
    for (let i = 0; forwarding.changing; i++) {
      insist(i < 100, 'changes without end');
      const before = forwarding.tables();
      const mode = forwarding.begun.at(-1);
      forwarding.settle();
      const after = forwarding.tables();
      insist(refusal(after, CAPS, { host: [], splice: [] }, []) === null, 'tables that cannot be are in force');
      const listening = new Set(before.host);
      if (mode === 'all-or-nothing' && after !== before)
        for (const rule of after.host)
          insist(
            listening.has(rule) || rule.weak || rule.first > 80 || rule.last < 80 || kept(before, rule),
            'half a change',
          );
    }
  };
  for (const { bytes } of input) {
    session.onBytes(bytes);
    settle();
  }
  session.onEnd();
  settle();
};
const kept = (before: Tables, rule: Tables['host'][0]): boolean => before.host.some((other) => sameRule(other, rule));

const options = (forwarding: FakeForwarding) => ({
  changes: new Changes(forwarding),
  now: () => 0,
  caps: CAPS,
  directions: DIRECTIONS,
  shut: [],
});
const taking = (): FakeForwarding => {
  const forwarding = new FakeForwarding(SERVER_TABLES);
  forwarding.taken.add(80).add(18_081);
  return forwarding;
};

export const pesto: Target = {
  name: 'pesto',
  run: (input) => {
    const forwarding = taking();
    const peer = new Recorder();
    let overs = 0;
    const session = new PestoSession(options(forwarding), 1, peer, () => overs++);
    session.begin();
    played(input, session, forwarding);
    insist(peer.ends === 1 && overs === 1, `ended ${peer.ends} and ${overs} times`);
    insist(forwarding.begun.length <= 1, 'two updates on one connection');
    const told = DIRECTIONS.map((direction) => ({ direction, caps: CAPS, rules: SERVER_TABLES[direction] }));
    const hello = encodeTables(told).length;
    const report = peer.sent.subarray(hello).toString('utf8');
    const asked = Buffer.concat(input.map(({ bytes }) => bytes)).includes('report\n');
    insist(report === '' || asked, 'a report that nobody asked for');
    if (report !== '') JSON.parse(report);
    // What is in force can be told to the next client, and read.
    const next = DIRECTIONS.map((direction) => ({ direction, caps: CAPS, rules: forwarding.tables()[direction] }));
    const reader = new TablesReader();
    insist(reader.feed(encodeTables(next)), 'tables that cannot be read');
    insist(isDeepStrictEqual(reader.tables, next), 'tables that are read as others');
  },
  words: [
    '0100000001',
    '0300000001',
    '0000000000000000000000000000000000000000000000000000000000000000',
    '00000000000000000000ffff7f000001',
    '00000000000000000000000000000001',
    '6c6f0000000000000000000000000000',
    '005000500050060000',
    '1f901f9000500601',
    '7265706f72740a',
  ].map((hex) => Buffer.from(hex, 'hex')),
};

export const control: Target = {
  name: 'control',
  run: (input) => {
    const forwarding = taking();
    const peer = new Recorder();
    const session = new JsonRpcSession(options(forwarding), peer);
    played(input, session, forwarding);
    insist(peer.ends === 1, `ended ${peer.ends} times`);
    for (const line of peer.sent.toString('utf8').split('\n').slice(0, -1))
      for (const answer of [JSON.parse(line)].flat()) {
        insist(answer.jsonrpc === '2.0', 'an answer of another version');
        insist('result' in answer !== 'error' in answer, 'an answer that is neither or both');
      }
  },
  words: [
    '{"jsonrpc":"2.0","id":1,"method":"ports.list"}\n',
    '{"jsonrpc":"2.0","method":"ports.add","params":{"rules":[{"direction":"host","protocol":"tcp","first":81}]}}\n',
    '"id":',
    '"method":"ports.remove"',
    '"rules":[',
    '{"direction":"splice","protocol":"udp","first":1,"last":65535,"weak":true,"scan":true}',
    '"address":"::1"',
    '"target":"192.0.2.1"',
    '"interface":"lo"',
    '"to":8080',
    '"__proto__":',
    '[',
    ']',
    '{',
    '}',
    ',',
    '\n',
    'null',
    '1e9',
  ].map((text) => Buffer.from(text)),
};

export const slirp: Target = {
  name: 'slirp',
  run: (input) => {
    const forwarding = taking();
    const forwards = new SlirpForwards({ changes: new Changes(forwarding), now: () => 0, guest: '10.0.2.100' });
    // Each step is what one client sends, in two reads; the last one lists what they have made of it.
    for (const { bytes } of [...input, { bytes: Buffer.from('{"execute":"list_hostfwd"}') }]) {
      const peer = new Recorder();
      const half = bytes.length >> 1;
      played(
        [bytes.subarray(0, half), bytes.subarray(half)].map((part) => ({ kind: 'data', at: 0, bytes: part }) as never),
        new SlirpApiSession(forwards, peer),
        forwarding,
      );
      insist(peer.ends === 1, `ended ${peer.ends} times`);
      const answer = JSON.parse(peer.sent.toString('utf8'));
      insist('return' in answer !== 'error' in answer, 'an answer that is neither or both');
    }
    insist(forwarding.begun.length <= input.length, 'more changes than requests');
  },
  words: [
    '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"0.0.0.0","host_port":90,"guest_addr":"10.0.2.100","guest_port":80}}',
    '{"execute":"list_hostfwd"}',
    '{"execute":"remove_hostfwd","arguments":{"id":1}}',
    '"proto":"udp"',
    '"host_addr":"127.0.0.1"',
    '"host_port":80',
    '"guest_port":1e9',
    '"id":2',
    '"arguments":',
    '"execute":',
    '\\"',
    '[',
    ']',
    '{',
    '}',
    ' ',
    'null',
    '-1.5',
  ].map((text) => Buffer.from(text)),
};
