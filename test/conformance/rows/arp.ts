// SPDX-License-Identifier: Apache-2.0
/** Address resolution for IPv4. */
import { GUEST_MAC } from '../bed.ts';
import { type Arp, arp, bytes, ETHERTYPE } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk } from '../talk.ts';

const EVERYBODY = 'ff:ff:ff:ff:ff:ff';
const where = 'controller/proto/arp.ts';
const families = [4] as const;
const PROXY = 'Linux answers for its own addresses only';

const ask = (t: Talk, fields: Partial<Arp> = {}): Buffer =>
  t.ethernet(
    ETHERTYPE.arp,
    arp({ operation: 1, senderMac: GUEST_MAC, senderIp: t.guest, targetIp: t.at.gateway, ...fields }),
    EVERYBODY,
  );
const silent = async (t: Talk, ...frames: readonly Buffer[]): Promise<void> => {
  for (const frame of frames) t.send(frame);
  await t.silence((f) => f.arp !== undefined, 'ARP');
};

export const ARP_ROWS: readonly Row[] = [
  {
    id: 'arp-request',
    rfc: 'RFC 826 packet reception',
    level: 'must',
    what: 'A request for the gateway is answered to the asker alone, with sender and target exchanged.',
    where,
    families,
    run: async (t) => {
      t.send(ask(t));
      const { arp: reply, dstMac, srcMac } = await t.expect((f) => f.arp?.operation === 2, 'a reply');
      equal(dstMac, GUEST_MAC, 'destination');
      equal(srcMac, t.bed.mac, 'source');
      equal(reply?.senderIp, t.at.gateway, 'sender address');
      equal(reply?.senderMac, t.bed.mac, 'sender');
      equal(reply?.targetIp, t.guest, 'target address');
      equal(reply?.targetMac, GUEST_MAC, 'target');
    },
  },
  {
    id: 'arp-padded',
    rfc: 'RFC 826, RFC 894',
    level: 'must',
    what: 'Link padding behind a request is not part of it.',
    where,
    families,
    run: async (t) => {
      t.send(bytes(ask(t), Buffer.alloc(18, 0xaa)));
      await t.expect((f) => f.arp?.operation === 2, 'a reply');
    },
  },
  {
    id: 'arp-proxy',
    rfc: 'RFC 1027 §2, RFC 1812 §3.3.2',
    level: 'should',
    what: 'Every other address of the subnet is at the gateway, because it is reached through it.',
    where,
    families,
    notLinux: PROXY,
    run: async (t) => {
      t.send(ask(t, { targetIp: t.at.neighbour }));
      const { arp: reply } = await t.expect((f) => f.arp?.senderIp === t.at.neighbour, 'a reply');
      equal(reply?.senderMac, t.bed.mac, 'sender');
    },
  },
  {
    id: 'arp-own',
    rfc: 'RFC 5227 §2.1.1',
    level: 'must',
    what: "The guest's own address is nobody else's: neither a probe nor a request for it is answered.",
    where,
    families,
    run: (t) => silent(t, ask(t, { senderIp: '0.0.0.0', targetIp: t.guest }), ask(t, { targetIp: t.guest })),
  },
  {
    id: 'arp-probe',
    rfc: 'RFC 5227 §2.4',
    level: 'must',
    what: "A probe (sender 0.0.0.0) for the gateway's address is answered: it is taken.",
    where,
    families,
    run: async (t) => {
      t.send(ask(t, { senderIp: '0.0.0.0' }));
      const { arp: reply } = await t.expect((f) => f.arp?.operation === 2, 'a reply');
      equal(reply?.targetIp, '0.0.0.0', 'target address');
    },
  },
  {
    id: 'arp-announcement',
    rfc: 'RFC 5227 §3',
    level: 'must',
    what: 'Announcements, as requests and as replies, are not answered.',
    where,
    families,
    run: (t) =>
      silent(t, ask(t, { targetIp: t.guest }), ask(t, { operation: 2, targetIp: t.guest, targetMac: GUEST_MAC })),
  },
  {
    id: 'arp-operation',
    rfc: 'RFC 826 packet reception',
    level: 'must',
    what: 'Only requests are answered: not replies, not operations 0, 3 (RARP) and 65535.',
    where,
    families,
    run: (t) => silent(t, ...[0, 2, 3, 65_535].map((operation) => ask(t, { operation }))),
  },
  {
    id: 'arp-hardware',
    rfc: 'RFC 826 packet reception',
    level: 'must',
    what: 'Another hardware type (6 and 65535) or address length (0, 5, 7, 255) than Ethernet is not answered.',
    where,
    families,
    run: (t) =>
      silent(
        t,
        ...[15, 65_535].map((hardware) => ask(t, { hardware })),
        ...[0, 5, 7, 255].map((hardwareBytes) => ask(t, { hardwareBytes })),
      ),
  },
  {
    id: 'arp-protocol',
    rfc: 'RFC 826 packet reception',
    level: 'must',
    what: 'Another protocol (0x86dd) or address length (0, 16, 255) than that of IPv4 is not answered.',
    where,
    families,
    run: (t) =>
      silent(t, ask(t, { protocol: 0x86dd }), ...[0, 16, 255].map((protocolBytes) => ask(t, { protocolBytes }))),
  },
  {
    id: 'arp-short',
    rfc: 'RFC 826',
    level: 'must',
    what: 'A request cut at each of its 28 bytes is not answered.',
    where,
    families,
    run: (t) => silent(t, ...Array.from({ length: 28 }, (_, n) => ask(t).subarray(0, 14 + n))),
  },
  {
    id: 'arp-group-sender',
    rfc: 'RFC 1812 §3.3.2',
    level: 'must',
    what: 'A sender at the broadcast or a group address is not believed: frames go on to the guest alone.',
    where: 'controller/link/station.ts',
    families,
    run: async (t) => {
      const claim = ask(t, { senderMac: EVERYBODY });
      for (const mac of [EVERYBODY, '01:00:5e:00:00:01']) {
        const frame = Buffer.from(claim);
        frame.write(mac.replaceAll(':', ''), 6, 'hex');
        t.send(frame);
      }
      // From here on the guest's frames come from their true source again, and that is where the answers go.
      t.send(t.ping(7, 1, Buffer.from('x'), { dst: t.at.gateway }));
      const { dstMac } = await t.expect((f) => f.icmp?.rest === 0x00070001, 'the echo');
      equal(dstMac, GUEST_MAC, 'destination');
    },
  },
];
