// SPDX-License-Identifier: Apache-2.0
/** MLD reports of the guest, both versions (RFC 2710, RFC 3810), into the set of joined groups. */
import * as io from '../io/io.ts';
import * as groups from '../link/groups.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as checksum from '../wire/checksum.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as mld from '../wire/mld.ts';
import { ICMPV6 } from '../wire/protocols.ts';

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
      return groups.leave(v.getInt32(group), v.getInt32(group + 4), v.getInt32(group + 8), v.getInt32(group + 12));
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
    const type = mld.recordType(v, at);
    const sources = mld.sources(v, at);
    groups.record(
      type,
      sources,
      v.getInt32(group),
      v.getInt32(group + 4),
      v.getInt32(group + 8),
      v.getInt32(group + 12),
    );
    at = next;
  }
};
