// SPDX-License-Identifier: Apache-2.0
/** MLD reports of the guest, both versions (RFC 2710, RFC 3810), into the set of joined groups; a query after a leave. */
import * as io from '../io/io.ts';
import * as groups from '../link/groups.ts';
import * as out from '../link/out.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as mld from '../wire/mld.ts';
import { HOP_BY_HOP, ICMPV6 } from '../wire/protocols.ts';

/** Records of one report that are looked at: twice what the set can hold. */
const RECORDS_MAX = groups.GROUPS_MAX * 2;
const HOP_LIMIT = 1;

/** From a link-local address or none, one hop (RFC 3810 §5.2.13, §7.4): anything else came from elsewhere. */
const fromLink = (ipAt: number): boolean => {
  const v = io.view;
  const w0 = ipv6.srcWord(v, ipAt, 0);
  const unspecified = ipv6.isUnspecified(
    w0,
    ipv6.srcWord(v, ipAt, 1),
    ipv6.srcWord(v, ipAt, 2),
    ipv6.srcWord(v, ipAt, 3),
  );
  return ipv6.hopLimit(v, ipAt) === HOP_LIMIT && (unspecified || ipv6.isLinkLocal(w0));
};

/** One MLD message in [at, end) of the arena, at least 8 bytes, whose IP header lies at `ipAt` and is checked. */
export const handle = (ipAt: number, at: number, end: number): void => {
  const v = io.view;
  const pseudo = checksum.pseudo6(v, ipAt + ipv6.SRC, ICMPV6, end - at);
  if (io.native.checksum(at, end - at, pseudo) !== 0xffff) return drop(DROP['icmp-checksum']);
  if (!fromLink(ipAt)) return drop(DROP['mld-malformed']);
  const type = icmpv6.type(v, at);
  if (type === mld.REPORT_2) return report2(at, end);
  if (!mld.fits(v, at, end)) return drop(DROP['mld-malformed']);
  const group = mld.groupAt(at);
  if (!ipv6.isMulticast(v.getInt32(group))) return drop(DROP['mld-malformed']);
  switch (type) {
    case mld.REPORT:
      return groups.join(v.getInt32(group), v.getInt32(group + 4), v.getInt32(group + 8), v.getInt32(group + 12));
    case mld.DONE:
      if (groups.leave(v.getInt32(group), v.getInt32(group + 4), v.getInt32(group + 8), v.getInt32(group + 12)))
        query(v.getInt32(group), v.getInt32(group + 4), v.getInt32(group + 8), v.getInt32(group + 12));
      return;
    default:
      // Queries: the router here is us.
      return drop(DROP['group-report']);
  }
};

const report2 = (start: number, end: number): void => {
  const v = io.view;
  const count = Math.min(mld.records(v, start), RECORDS_MAX);
  let at = mld.recordsAt(start);
  for (let i = 0; i < count; i++) {
    const next = mld.recordEnd(v, at, end);
    const group = mld.recordGroupAt(at);
    if (next < 0 || !ipv6.isMulticast(v.getInt32(group))) return drop(DROP['mld-malformed']);
    const w0 = v.getInt32(group);
    const w1 = v.getInt32(group + 4);
    const w2 = v.getInt32(group + 8);
    const w3 = v.getInt32(group + 12);
    if (groups.record(mld.recordType(v, at), mld.sources(v, at), w0, w1, w2, w3)) query(w0, w1, w2, w3);
    at = next;
  }
};

/** Hop-by-hop header with the router alert of MLD (RFC 2711), padded. */
const ALERT_BYTES = 8;
const ALERT = 0x05020000;
const PAD_2 = 0x01_00;

/** Asks whether somebody is in the group. Answers come within half of the time that its last member has. */
const query = (w0: number, w1: number, w2: number, w3: number): void => {
  const v = io.view;
  const payload = ALERT_BYTES + mld.QUERY_BYTES;
  const frame = out.reserve(eth.HEADER_BYTES + ipv6.HEADER_BYTES + payload);
  const ip = frame + eth.HEADER_BYTES;
  const alert = ip + ipv6.HEADER_BYTES;
  const at = alert + ALERT_BYTES;
  station.ethernet(v, frame, eth.IPV6);
  eth.setDst(v, frame, 0x3333, w3);
  const s0 = station.ourLinkLocal6Word(0);
  const s1 = station.ourLinkLocal6Word(1);
  const s2 = station.ourLinkLocal6Word(2);
  const s3 = station.ourLinkLocal6Word(3);
  station.ipv6Header(v, ip, payload, HOP_BY_HOP, s0, s1, s2, s3, w0, w1, w2, w3, HOP_LIMIT, 0, 0);
  v.setUint16(alert, ICMPV6 << 8);
  v.setInt32(alert + 2, ALERT);
  v.setUint16(alert + 6, PAD_2);
  mld.writeQuery(v, at, w0, w1, w2, w3, groups.LAST_MEMBER_MS / 2);
  const pseudo = checksum.pseudo6(v, ip + ipv6.SRC, ICMPV6, mld.QUERY_BYTES);
  icmpv6.setChecksum(v, at, checksum.finish(checksum.sum(v, at, mld.QUERY_BYTES, pseudo)));
  out.commit(eth.HEADER_BYTES + ipv6.HEADER_BYTES + payload);
};
