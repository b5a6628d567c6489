// SPDX-License-Identifier: Apache-2.0
/** DHCPv6. As with DHCP there is no server in Linux to compare with. */
import { AT } from '../bed.ts';
import type { Decoded } from '../decode.ts';
import { bytes, canonical, ETHERTYPE, ipBytes, ipText, ipv6, PROTOCOL, u8, u16, u32, udp } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth } from '../talk.ts';

const where = 'controller/proto/dhcpv6.ts';
const base = { where, families: [6], notLinux: 'it has no DHCPv6 server' } as const;
const [SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, RECONFIGURE, INFORMATION] = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
] as const;
const SUCCESS = 0;
const NOT_ON_LINK = 4;
const LINK_LOCAL = 'fe80::5eff:fe00:5310';
const ALL_SERVERS = 'ff02::1:2';
const OURS = AT[6].guest;

const option = (code: number, data: Uint8Array): Buffer => bytes(u16(code, data.length), data);
const CLIENT = option(1, bytes(u16(3, 1), u8(2, 0, 0x5e, 0, 0x53, 0x10)));
const association = (address?: string): Buffer =>
  option(
    3,
    bytes(u32(0x1234, 0, 0), address === undefined ? Buffer.alloc(0) : option(5, bytes(ipBytes(address), u32(0, 0)))),
  );
const OTHER_SERVER = option(2, bytes(u16(3, 1), u8(2, 9, 9, 9, 9, 9)));

interface Ends {
  src?: string;
  dst?: string;
  checksum?: number;
}
let lastXid = 0x10_0000;
const message = (t: Talk, type: number, options: Uint8Array, ends: Ends = {}): Buffer => {
  const ip = { src: ends.src ?? LINK_LOCAL, dst: ends.dst ?? ALL_SERVERS };
  const header = u32(((type << 24) | lastXid) >>> 0);
  const ports = { srcPort: 546, dstPort: 547, ...(ends.checksum !== undefined && { checksum: ends.checksum }) };
  const mac = ip.dst === ALL_SERVERS ? '33:33:00:01:00:02' : t.bed.mac;
  return t.ethernet(
    ETHERTYPE.ipv6,
    ipv6({ ...ip, protocol: PROTOCOL.udp }, udp(ip, ports, bytes(header, options))),
    mac,
  );
};

interface Reply {
  frame: Decoded;
  type: number;
  options: Map<number, Buffer>;
}
const readOptions = (body: Buffer): Map<number, Buffer> => {
  const found = new Map<number, Buffer>();
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt16BE(at + 2);
    truth(at + 4 + length <= body.length, 'an option beyond the message');
    found.set(body.readUInt16BE(at), body.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return found;
};
const asked = async (t: Talk, type: number, options: Uint8Array): Promise<Reply> => {
  lastXid++;
  t.send(message(t, type, options));
  const frame = await t.expect((f) => f.udp?.srcPort === 547, 'a reply');
  const body = frame.udp?.payload ?? Buffer.alloc(4);
  equal(body.readUInt32BE(0) & 0xff_ffff, lastXid, 'transaction');
  equal(frame.udp?.dstPort, 546, 'port');
  equal(frame.ip?.dst, canonical(LINK_LOCAL), 'destination');
  return { frame, type: body[0] ?? 0, options: readOptions(body.subarray(4)) };
};
const silent = async (t: Talk, ...frames: readonly Buffer[]): Promise<void> => {
  for (const frame of frames) t.send(frame);
  await t.silence((f) => f.udp?.srcPort === 547, 'reply');
};
/** The server's identifier as an option, from an answer of its. */
const server = async (t: Talk): Promise<Buffer> =>
  option(2, (await asked(t, SOLICIT, bytes(CLIENT, association()))).options.get(2) ?? Buffer.alloc(0));
/** The address in the IA_NA of a reply, and its lifetimes. */
const given = (r: Reply): { address: string; preferred: number; valid: number } => {
  const ia = r.options.get(3) ?? Buffer.alloc(12);
  equal(ia.readUInt32BE(0), 0x1234, 'IAID');
  const address = readOptions(ia.subarray(12)).get(5) ?? Buffer.alloc(24);
  return {
    address: ipText(address.subarray(0, 16)),
    preferred: address.readUInt32BE(16),
    valid: address.readUInt32BE(20),
  };
};
const statusOf = (bytesOf: Buffer | undefined): number => bytesOf?.readUInt16BE(0) ?? SUCCESS;

export const DHCPV6_ROWS: readonly Row[] = [
  {
    ...base,
    id: 'dhcp6-solicit',
    rfc: 'RFC 8415 §18.3.1, §18.3.9',
    level: 'must',
    what: "SOLICIT gets an ADVERTISE with both identifiers, the client's as it was sent, and the address in its association.",
    run: async (t) => {
      const r = await asked(t, SOLICIT, bytes(CLIENT, association()));
      equal(r.type, ADVERTISE, 'type');
      equal(r.options.get(1)?.toString('hex'), CLIENT.subarray(4).toString('hex'), 'client identifier');
      truth((r.options.get(2)?.length ?? 0) >= 3, 'server identifier');
      const { address, preferred, valid } = given(r);
      equal(address, canonical(OURS), 'address');
      truth(valid >= preferred && preferred > 0, `lifetimes ${preferred} and ${valid}`);
    },
  },
  {
    ...base,
    id: 'dhcp6-rapid-commit',
    rfc: 'RFC 8415 §18.3.1, §21.14',
    level: 'must',
    what: 'SOLICIT with Rapid Commit gets a REPLY with that option.',
    run: async (t) => {
      const r = await asked(t, SOLICIT, bytes(CLIENT, association(), option(14, Buffer.alloc(0))));
      equal(r.type, REPLY, 'type');
      equal(r.options.has(14), true, 'Rapid Commit');
    },
  },
  {
    ...base,
    id: 'dhcp6-request',
    rfc: 'RFC 8415 §18.3.2',
    level: 'must',
    what: 'REQUEST gets a REPLY with the address; for an address of another link it gets NotOnLink.',
    run: async (t) => {
      const own = await server(t);
      const r = await asked(t, REQUEST, bytes(CLIENT, own, association(OURS)));
      equal(r.type, REPLY, 'type');
      equal(given(r).address, canonical(OURS), 'address');
      const other = await asked(t, REQUEST, bytes(CLIENT, own, association('2001:db8:99::1')));
      equal(
        statusOf(readOptions((other.options.get(3) ?? Buffer.alloc(12)).subarray(12)).get(13)),
        NOT_ON_LINK,
        'status',
      );
    },
  },
  {
    ...base,
    id: 'dhcp6-renew',
    rfc: 'RFC 8415 §18.3.4, §18.3.5',
    level: 'must',
    what: 'RENEW and REBIND get the address again; one that is not ours comes back with lifetimes of 0.',
    run: async (t) => {
      const own = await server(t);
      equal(given(await asked(t, RENEW, bytes(CLIENT, own, association(OURS)))).address, canonical(OURS), 'address');
      equal(given(await asked(t, REBIND, bytes(CLIENT, association(OURS)))).address, canonical(OURS), 'address');
      const r = await asked(t, RENEW, bytes(CLIENT, own, association('2001:db8:99::1')));
      // The last address of the association is the one that was asked about.
      const { address, valid } = given(r);
      equal(address, canonical('2001:db8:99::1'), 'address');
      equal(valid, 0, 'lifetime');
    },
  },
  {
    ...base,
    id: 'dhcp6-confirm',
    rfc: 'RFC 8415 §18.3.3',
    level: 'must',
    what: 'CONFIRM says whether the addresses are of this link; without an address it is discarded.',
    run: async (t) => {
      equal(statusOf((await asked(t, CONFIRM, bytes(CLIENT, association(OURS)))).options.get(13)), SUCCESS, 'status');
      const r = await asked(t, CONFIRM, bytes(CLIENT, association('2001:db8:99::1')));
      equal(statusOf(r.options.get(13)), NOT_ON_LINK, 'status');
      await silent(t, message(t, CONFIRM, bytes(CLIENT, association())));
    },
  },
  {
    ...base,
    id: 'dhcp6-release',
    rfc: 'RFC 8415 §18.3.7, §18.3.8',
    level: 'must',
    what: 'RELEASE and DECLINE get a REPLY that says success.',
    run: async (t) => {
      const own = await server(t);
      for (const type of [RELEASE, DECLINE]) {
        const r = await asked(t, type, bytes(CLIENT, own, association(OURS)));
        equal(r.type, REPLY, 'type');
        equal(statusOf(r.options.get(13)), SUCCESS, 'status');
      }
    },
  },
  {
    ...base,
    id: 'dhcp6-information',
    rfc: 'RFC 8415 §18.3.6',
    level: 'must',
    what: 'INFORMATION-REQUEST gets a REPLY without addresses, also from a client that does not say who it is.',
    run: async (t) => {
      const r = await asked(t, INFORMATION, option(6, u16(23, 24)));
      equal(r.type, REPLY, 'type');
      equal(r.options.has(3), false, 'an association');
      truth(r.options.has(2), 'server identifier');
      equal(
        (await asked(t, INFORMATION, CLIENT)).options.get(1)?.toString('hex'),
        CLIENT.subarray(4).toString('hex'),
        'client identifier',
      );
    },
  },
  {
    ...base,
    id: 'dhcp6-validation',
    rfc: 'RFC 8415 §16.2, §16.4 to §16.9, §16.12',
    level: 'must',
    what: 'Messages with an identifier too few, or one too many, or of another server, are discarded.',
    run: async (t) => {
      const own = await server(t);
      await silent(
        t,
        message(t, SOLICIT, association()),
        message(t, SOLICIT, bytes(CLIENT, own, association())),
        message(t, REBIND, bytes(CLIENT, own, association(OURS))),
        message(t, CONFIRM, bytes(CLIENT, own, association(OURS))),
        ...[REQUEST, RENEW, RELEASE, DECLINE].flatMap((type) => [
          message(t, type, bytes(CLIENT, association(OURS))),
          message(t, type, bytes(own, association(OURS))),
          message(t, type, bytes(CLIENT, OTHER_SERVER, association(OURS))),
        ]),
        message(t, INFORMATION, bytes(CLIENT, association())),
        message(t, INFORMATION, bytes(CLIENT, OTHER_SERVER)),
      );
    },
  },
  {
    ...base,
    id: 'dhcp6-not-for-servers',
    rfc: 'RFC 8415 §16.3, §16.10, §16.11, §16.13, §16.14',
    level: 'must',
    what: 'ADVERTISE, REPLY, RECONFIGURE, relay messages, and types that there are not (0, 14, 255) are discarded.',
    run: async (t) => {
      const own = await server(t);
      const body = bytes(CLIENT, own, association(OURS));
      await silent(t, ...[ADVERTISE, REPLY, RECONFIGURE, 12, 13, 0, 14, 255].map((type) => message(t, type, body)));
    },
  },
  {
    ...base,
    id: 'dhcp6-unicast',
    rfc: 'RFC 8415 §16, §18.4',
    level: 'must',
    what: 'SOLICIT, CONFIRM, REBIND and INFORMATION-REQUEST to an address of one machine are discarded.',
    run: (t) =>
      silent(
        t,
        ...[SOLICIT, CONFIRM, REBIND, INFORMATION].map((type) =>
          message(t, type, bytes(CLIENT, type === INFORMATION ? Buffer.alloc(0) : association(OURS)), {
            src: t.guest,
            dst: t.at.gateway,
          }),
        ),
      ),
  },
  {
    ...base,
    id: 'dhcp6-options-malformed',
    rfc: 'RFC 8415 §16, §21.1',
    level: 'must',
    what: 'Options that are cut, reach beyond the message or their association, or hold too little stop nothing.',
    run: async (t) => {
      for (const bad of [
        u16(3),
        u16(3, 40),
        option(3, u32(1)),
        option(3, bytes(u32(1, 0, 0), u16(5, 200))),
        option(25, Buffer.alloc(3)),
        option(1, Buffer.alloc(0)),
        option(1, Buffer.alloc(131)),
        Buffer.alloc(200, 0xff),
      ]) {
        t.send(message(t, SOLICIT, bytes(CLIENT, bad)));
        t.send(message(t, REQUEST, bytes(bad, CLIENT)));
      }
      for (let n = 0; n < 4; n++) t.send(message(t, SOLICIT, Buffer.alloc(0)).subarray(0, 14 + 40 + 8 + n));
      await t.sentinel();
      await t.expect(() => true, 'the sentinel');
      t.cursor = t.bed.wire.frames.length;
      equal((await asked(t, SOLICIT, bytes(CLIENT, association()))).type, ADVERTISE, 'type');
    },
  },
  {
    ...base,
    id: 'dhcp6-checksum',
    rfc: 'RFC 8200 §8.1',
    level: 'must',
    what: 'A message with a wrong UDP checksum, or none, is discarded.',
    run: (t) =>
      silent(t, ...[0, 0x1357].map((checksum) => message(t, SOLICIT, bytes(CLIENT, association()), { checksum }))),
  },
];
