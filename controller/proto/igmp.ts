// SPDX-License-Identifier: Apache-2.0
/** IGMP reports of the guest, all three versions (RFC 1112, RFC 2236, RFC 3376), into the set of joined groups. */
import { MAPPED_WORD } from '../flow/table.ts';
import * as io from '../io/io.ts';
import * as groups from '../link/groups.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as igmp from '../wire/igmp.ts';

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
      return isGroup(group) ? groups.leave(0, 0, MAPPED_WORD, group) : drop(DROP['igmp-malformed']);
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
    groups.record(igmp.recordType(v, at), igmp.sources(v, at), 0, 0, MAPPED_WORD, igmp.recordGroup(v, at));
    at = next;
  }
};
