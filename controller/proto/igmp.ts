// SPDX-License-Identifier: Apache-2.0
/** IGMP reports of the guest, all three versions (RFC 1112, RFC 2236, RFC 3376), into the set of joined groups; a query after a leave. */
import { MAPPED_WORD } from '../flow/table.ts';
import * as io from '../io/io.ts';
import * as groups from '../link/groups.ts';
import * as out from '../link/out.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as igmp from '../wire/igmp.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { IGMP } from '../wire/protocols.ts';

/** Records of one report that are looked at: twice what the set can hold. */
const RECORDS_MAX = groups.GROUPS_MAX * 2;

const isGroup = (a: number): boolean => a >>> 28 === 14;

/** One message in [at, end) of the arena; the IP header is checked. */
export const handle = (at: number, end: number): void => {
  const v = io.view;
  if (!igmp.fits(v, at, end)) return drop(DROP['igmp-malformed']);
  if (io.native.checksum(at, end - at, 0) !== 0xffff) return drop(DROP['igmp-malformed']);
  const type = igmp.type(v, at);
  if (type === igmp.REPORT_3) return report3(at, end);
  const group = igmp.group(v, at);
  switch (type) {
    case igmp.REPORT_1:
    case igmp.REPORT_2:
      return isGroup(group) ? groups.join(0, 0, MAPPED_WORD, group) : drop(DROP['igmp-malformed']);
    case igmp.LEAVE:
      if (!isGroup(group)) return drop(DROP['igmp-malformed']);
      if (groups.leave(0, 0, MAPPED_WORD, group)) query(group);
      return;
    default:
      // Queries: the router here is us.
      return drop(DROP['group-report']);
  }
};

const report3 = (start: number, end: number): void => {
  const v = io.view;
  const count = Math.min(igmp.records(v, start), RECORDS_MAX);
  let at = start + igmp.HEADER_BYTES;
  for (let i = 0; i < count; i++) {
    const next = igmp.recordEnd(v, at, end);
    if (next < 0 || !isGroup(igmp.recordGroup(v, at))) return drop(DROP['igmp-malformed']);
    const group = igmp.recordGroup(v, at);
    if (groups.record(igmp.recordType(v, at), igmp.sources(v, at), 0, 0, MAPPED_WORD, group)) query(group);
    at = next;
  }
};

/** Header with the router alert option (RFC 2113), which every IGMP message has (RFC 3376 §4). */
const HEADER_BYTES = ipv4.HEADER_BYTES + 4;
const ROUTER_ALERT = 0x94040000 | 0;
/** "Internetwork control": RFC 3376 §4. */
const PRECEDENCE = 0xc0;

/** Asks whether somebody is in the group. Answers come within half of the time that its last member has. */
const query = (group: number): void => {
  const v = io.view;
  const bytes = HEADER_BYTES + igmp.QUERY_BYTES;
  const frame = out.reserve(eth.HEADER_BYTES + bytes);
  const ip = frame + eth.HEADER_BYTES;
  const at = ip + HEADER_BYTES;
  station.ethernet(v, frame, eth.IPV4);
  eth.setDst(v, frame, 0x0100, (0x5e << 24) | (group & 0x7fffff));
  station.ipv4Header(v, ip, bytes, IGMP, station.our4Word(), group, 1, PRECEDENCE);
  ipv4.setHeaderBytes(v, ip, HEADER_BYTES);
  v.setInt32(ip + ipv4.HEADER_BYTES, ROUTER_ALERT);
  ipv4.setChecksum(v, ip, checksum.ipv4HeaderChecksum(v, ip, HEADER_BYTES));
  igmp.writeQuery(v, at, group, groups.LAST_MEMBER_MS / 2);
  igmp.setChecksum(v, at, checksum.finish(checksum.sum(v, at, igmp.QUERY_BYTES, 0)));
  out.commit(eth.HEADER_BYTES + bytes);
};
