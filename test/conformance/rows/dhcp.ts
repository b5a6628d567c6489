// SPDX-License-Identifier: Apache-2.0
/** DHCP for IPv4. There is no server in the Linux that the other rows are put to; `dhclient` and `udhcpc` are, in test/integration. */
import { AT, GUEST_MAC, MTU } from '../bed.ts';
import type { Decoded } from '../decode.ts';
import { bytes, ETHERTYPE, ipBytes, ipText, ipv4, macBytes, PROTOCOL, pattern, u8, u16, u32, udp } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth } from '../talk.ts';

const where = 'controller/proto/dhcpv4.ts';
const families = [4] as const;
const notLinux = 'it has no DHCP server';
const base = { where, families, notLinux } as const;
const [DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM] = [1, 2, 3, 4, 5, 6, 7, 8] as const;
const EVERYBODY = 'ff:ff:ff:ff:ff:ff';
const SERVER = AT[4].gateway;
const OURS = AT[4].guest;

interface Message {
  op?: number;
  xid?: number;
  flags?: number;
  ciaddr?: string;
  giaddr?: string;
  cookie?: number;
  options?: Uint8Array;
  type?: number;
  src?: string;
  dst?: string;
  checksum?: number;
}
let lastXid = 0x7000_0000;

const payload = (m: Message): Buffer =>
  bytes(
    u8(m.op ?? 1, 1, 6, 0),
    u32(m.xid ?? lastXid),
    u16(0, m.flags ?? 0),
    ipBytes(m.ciaddr ?? '0.0.0.0'),
    Buffer.alloc(8),
    ipBytes(m.giaddr ?? '0.0.0.0'),
    macBytes(GUEST_MAC),
    Buffer.alloc(10 + 192),
    u32(m.cookie ?? 0x6382_5363),
    m.type === undefined ? Buffer.alloc(0) : u8(53, 1, m.type),
    m.options ?? Buffer.alloc(0),
    u8(255),
  );
const request = (t: Talk, m: Message, cut?: number): Buffer => {
  const ip = { src: m.src ?? '0.0.0.0', dst: m.dst ?? '255.255.255.255' };
  const datagram = udp(
    ip,
    { srcPort: 68, dstPort: 67, ...(m.checksum !== undefined && { checksum: m.checksum }) },
    payload(m).subarray(0, cut),
  );
  return t.ethernet(ETHERTYPE.ipv4, ipv4({ ...ip, protocol: PROTOCOL.udp }, datagram), EVERYBODY);
};

interface Reply {
  frame: Decoded;
  body: Buffer;
  options: Map<number, Buffer>;
  type: number;
  yiaddr: string;
}
const isReply = (f: Decoded): boolean => f.udp?.srcPort === 67 && f.udp.payload.readUInt32BE(4) === lastXid;
const asked = async (t: Talk, m: Message): Promise<Reply> => {
  lastXid++;
  t.send(request(t, m));
  const frame = await t.expect(isReply, 'a reply');
  const body = frame.udp?.payload ?? Buffer.alloc(0);
  const options = new Map<number, Buffer>();
  equal(body[0], 2, 'op');
  equal(body.readUInt32BE(236), 0x6382_5363, 'magic cookie');
  equal(body.subarray(28, 34).toString('hex'), GUEST_MAC.replaceAll(':', ''), 'hardware address');
  for (let at = 240; body[at] !== 255; ) {
    truth(at < body.length, 'there is no end option');
    if (body[at] === 0) {
      at++;
      continue;
    }
    const length = body[at + 1] ?? 0;
    options.set(body[at] ?? 0, body.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return { frame, body, options, type: options.get(53)?.[0] ?? 0, yiaddr: ipText(body.subarray(16, 20)) };
};
const silent = async (t: Talk, ...messages: readonly Buffer[]): Promise<void> => {
  for (const message of messages) t.send(message);
  await t.silence((f) => f.udp?.srcPort === 67 || f.icmp?.type === 3, 'reply');
};
const option = (code: number, data: Uint8Array): Buffer => bytes(u8(code, data.length), data);
const wanting = (address: string, server?: string): Buffer =>
  bytes(option(50, ipBytes(address)), server === undefined ? Buffer.alloc(0) : option(54, ipBytes(server)));

export const DHCP_ROWS: readonly Row[] = [
  {
    ...base,
    id: 'dhcp-discover',
    rfc: 'RFC 2131 §4.3.1, table 3, RFC 2132',
    level: 'must',
    what: 'DISCOVER gets an OFFER: the address, the server, a lease time, mask, router, the MTU; identifier and hardware address are the request’s.',
    run: async (t) => {
      const r = await asked(t, { type: DISCOVER, options: option(55, u8(1, 3, 6, 26)) });
      equal(r.type, OFFER, 'type');
      equal(r.yiaddr, OURS, 'address');
      equal(ipText(r.options.get(54) ?? Buffer.alloc(4)), SERVER, 'server');
      truth((r.options.get(51)?.readUInt32BE(0) ?? 0) > 0, 'lease time');
      equal(ipText(r.options.get(1) ?? Buffer.alloc(4)), '255.255.255.0', 'mask');
      equal(ipText(r.options.get(3) ?? Buffer.alloc(4)), SERVER, 'router');
      equal(r.options.get(26)?.readUInt16BE(0), MTU, 'MTU');
      equal(ipText(r.body.subarray(12, 16)), '0.0.0.0', 'ciaddr');
    },
  },
  {
    ...base,
    id: 'dhcp-order',
    rfc: 'RFC 2132 §9.8, §3.3',
    level: 'must',
    what: 'What the client asked for comes in its order, the mask before the routers even so; the rest comes behind it.',
    run: async (t) => {
      const { options } = await asked(t, { type: DISCOVER, options: option(55, u8(26, 3, 1)) });
      const codes = [...options.keys()].filter((code) => [1, 3, 26].includes(code));
      equal(codes.join(), '26,1,3', 'order');
    },
  },
  {
    ...base,
    id: 'dhcp-boot-rom',
    rfc: 'RFC 4578 §2.3, RFC 2131 §2',
    level: 'may',
    what: 'A boot ROM gets an offer like everybody, with its own machine identifier and without a boot server.',
    run: async (t) => {
      const machine = Buffer.alloc(17, 0x5a);
      const rom = bytes(option(60, Buffer.from('PXEClient:Arch:00000:UNDI:002001')), option(97, machine));
      const { type, yiaddr, options, body } = await asked(t, { type: DISCOVER, options: rom });
      equal(type, OFFER, 'type');
      equal(yiaddr, OURS, 'address');
      equal(options.get(97)?.toString('hex'), machine.toString('hex'), 'machine identifier');
      equal(ipText(body.subarray(20, 24)), '0.0.0.0', 'siaddr');
      truth(!options.has(60) && !options.has(66) && !options.has(67), 'a boot server is named');
    },
  },
  {
    ...base,
    id: 'dhcp-broadcast',
    rfc: 'RFC 2131 §4.1',
    level: 'must',
    what: 'With the broadcast bit the answer goes to everybody; without it to the hardware address and the offered address.',
    run: async (t) => {
      const all = await asked(t, { type: DISCOVER, flags: 0x8000 });
      equal(all.frame.dstMac, EVERYBODY, 'destination on the link');
      equal(all.frame.ip?.dst, '255.255.255.255', 'destination');
      equal(all.body.readUInt16BE(10), 0x8000, 'flags');
      const one = await asked(t, { type: DISCOVER });
      equal(one.frame.dstMac, GUEST_MAC, 'destination on the link');
      equal(one.frame.ip?.dst, OURS, 'destination');
      equal(one.frame.udp?.dstPort, 68, 'port');
    },
  },
  {
    ...base,
    id: 'dhcp-request',
    rfc: 'RFC 2131 §4.3.2',
    level: 'must',
    what: 'REQUEST for the address is acknowledged in each of its states: selecting, after a restart, renewing and rebinding.',
    run: async (t) => {
      for (const m of [
        { options: wanting(OURS, SERVER) },
        { options: wanting(OURS) },
        { ciaddr: OURS, src: OURS, dst: SERVER },
        { ciaddr: OURS, src: OURS },
      ]) {
        const r = await asked(t, { type: REQUEST, ...m });
        equal(r.type, ACK, 'type');
        equal(r.yiaddr, OURS, 'address');
      }
    },
  },
  {
    ...base,
    id: 'dhcp-nak',
    rfc: 'RFC 2131 §4.3.2, §4.1, table 3',
    level: 'must',
    what: 'REQUEST for another address is refused, to everybody, without an address, lease or other configuration.',
    run: async (t) => {
      const r = await asked(t, { type: REQUEST, options: wanting('192.0.2.200') });
      equal(r.type, NAK, 'type');
      equal(r.yiaddr, '0.0.0.0', 'address');
      equal(r.frame.ip?.dst, '255.255.255.255', 'destination');
      equal(r.options.has(51) || r.options.has(1) || r.options.has(3), false, 'configuration in a refusal');
      equal(ipText(r.options.get(54) ?? Buffer.alloc(4)), SERVER, 'server');
    },
  },
  {
    ...base,
    id: 'dhcp-other-server',
    rfc: 'RFC 2131 §3.1, §4.3.2',
    level: 'must',
    what: 'REQUEST that chose another server is not answered.',
    run: (t) => silent(t, request(t, { type: REQUEST, options: wanting(OURS, '192.0.2.250') })),
  },
  {
    ...base,
    id: 'dhcp-inform',
    rfc: 'RFC 2131 §4.3.5',
    level: 'must',
    what: "INFORM is acknowledged to the client's address, without an address and a lease time.",
    run: async (t) => {
      const r = await asked(t, { type: INFORM, ciaddr: OURS, src: OURS });
      equal(r.type, ACK, 'type');
      equal(r.yiaddr, '0.0.0.0', 'address');
      equal(r.options.has(51), false, 'lease time');
      equal(r.frame.ip?.dst, OURS, 'destination');
    },
  },
  {
    ...base,
    id: 'dhcp-release',
    rfc: 'RFC 2131 §4.3.3, §4.3.4',
    level: 'must',
    what: 'RELEASE and DECLINE, and types that no client sends (2, 5, 6, 0, 9, 255), are not answered.',
    run: (t) =>
      silent(
        t,
        ...[RELEASE, DECLINE, OFFER, ACK, NAK, 0, 9, 255].map((type) =>
          request(t, { type, options: wanting(OURS, SERVER) }),
        ),
      ),
  },
  {
    ...base,
    id: 'dhcp-reply-ignored',
    rfc: 'RFC 2131 §2',
    level: 'must',
    what: 'A message that is a reply (op 2), or neither (0, 255), is not answered.',
    run: (t) => silent(t, ...[2, 0, 255].map((op) => request(t, { op, type: DISCOVER }))),
  },
  {
    ...base,
    id: 'dhcp-client-id',
    rfc: 'RFC 6842 §3',
    level: 'must',
    what: "The client's identifier comes back as it was sent.",
    run: async (t) => {
      const id = bytes(u8(255), pattern(18));
      const r = await asked(t, { type: DISCOVER, options: option(61, id) });
      equal(r.options.get(61)?.toString('hex'), id.toString('hex'), 'client identifier');
    },
  },
  {
    ...base,
    id: 'dhcp-rapid-commit',
    rfc: 'RFC 4039 §3.1',
    level: 'may',
    what: 'DISCOVER with Rapid Commit is acknowledged at once, with that option; without it never.',
    run: async (t) => {
      const r = await asked(t, { type: DISCOVER, options: option(80, Buffer.alloc(0)) });
      equal(r.type, ACK, 'type');
      equal(r.options.has(80), true, 'Rapid Commit');
      equal((await asked(t, { type: DISCOVER })).options.has(80), false, 'Rapid Commit');
    },
  },
  {
    ...base,
    id: 'dhcp-relay',
    rfc: 'RFC 2131 §4.1',
    level: 'must',
    what: 'What a relay agent passed on is answered to it, at port 67.',
    run: async (t) => {
      const r = await asked(t, { type: DISCOVER, giaddr: '192.0.2.77', src: '192.0.2.77' });
      equal(r.frame.ip?.dst, '192.0.2.77', 'destination');
      equal(r.frame.udp?.dstPort, 67, 'port');
      equal(ipText(r.body.subarray(24, 28)), '192.0.2.77', 'giaddr');
    },
  },
  {
    ...base,
    id: 'dhcp-size',
    rfc: 'RFC 2131 §2, RFC 1542 §2.1',
    level: 'must',
    what: 'An answer fits 576 bytes, and is no shorter than the 300 that old clients want.',
    run: async (t) => {
      const r = await asked(t, { type: DISCOVER, options: option(55, pattern(60)) });
      truth((r.frame.ip?.length ?? 999) <= 576, `${r.frame.ip?.length} bytes`);
      truth(r.body.length >= 300, `${r.body.length} bytes`);
    },
  },
  {
    ...base,
    id: 'dhcp-cookie',
    rfc: 'RFC 2131 §3',
    level: 'must',
    what: 'A message without the magic cookie, or cut before it, is no DHCP: there is no answer with a lease.',
    run: (t) =>
      silent(
        t,
        request(t, { type: DISCOVER, cookie: 0 }),
        ...[0, 1, 28, 235, 236, 239].map((cut) => request(t, { type: DISCOVER }, cut)),
      ),
  },
  {
    ...base,
    id: 'dhcp-options-malformed',
    rfc: 'RFC 2132 §2',
    level: 'must',
    what: 'Options that are cut, reach beyond the message, or have a wrong length for their kind stop nothing.',
    run: async (t) => {
      for (const bad of [
        u8(50, 255, 1),
        u8(61),
        u8(55, 0),
        option(50, u8(1)),
        option(54, Buffer.alloc(0)),
        option(52, u8(3)),
        Buffer.alloc(300),
        Buffer.alloc(200, 61),
      ])
        t.send(request(t, { type: REQUEST, options: bad }));
      t.send(request(t, { options: u8(53, 0) }));
      t.send(request(t, { options: u8(53, 200, 1) }));
      await t.sentinel();
      equal((await asked(t, { type: DISCOVER })).type, OFFER, 'type');
    },
  },
  {
    ...base,
    id: 'dhcp-checksum',
    rfc: 'RFC 768, RFC 1122 §4.1.3.4',
    level: 'must',
    what: 'A wrong UDP checksum is discarded; none at all is taken.',
    run: async (t) => {
      await silent(t, request(t, { type: DISCOVER, checksum: 0x1357 }));
      equal((await asked(t, { type: DISCOVER, checksum: 0 })).type, OFFER, 'type');
    },
  },
  {
    ...base,
    id: 'dhcp-checksum-zero-sent',
    rfc: 'RFC 768, RFC 1122 §4.1.3.4',
    level: 'must',
    what: 'An answer whose UDP checksum computes to 0 says all ones: 0 would say that there is none.',
    where: 'controller/wire/checksum.ts',
    run: async (t) => {
      // The transaction identifier comes back, so its lower half can make up what is missing in the sum.
      const first = await asked(t, { type: DISCOVER });
      const sum = (lastXid & 0xffff) + (first.frame.udp?.checksum ?? 0);
      lastXid = ((lastXid & 0xffff_0000) | ((sum & 0xffff) + (sum >>> 16))) - 1;
      const { frame } = await asked(t, { type: DISCOVER });
      equal(frame.udp?.checksum, 0xffff, 'checksum');
    },
  },
];
