// SPDX-License-Identifier: Apache-2.0
/**
 * The multicast groups that the guest has joined, as its IGMP and MLD reports say (RFC 3376, RFC 3810). We are the only
 * router of the link: a report is taken as it comes. There may be a bridge with several members in the guest: after a leave
 * the group is asked for again (RFC 3376 §6.6.3.1), and who hears it stays for {@link LAST_MEMBER_MS}. There are no general
 * queries: the link is no wire that loses reports, and a group that nobody leaves costs one of a bounded number of places.
 *
 * Only groups of the link or site are kept, which are those that --multicast can join on the host; without that option
 * none. Reports of others are an ordinary thing for a host to send: they are counted, and no more.
 */
import { MAPPED_WORD } from '../flow/table.ts';
import { DROP, drop } from '../obs/drops.ts';

/** Groups at a time; each costs the host's sockets memberships, of which the kernel allows a socket few and a user many. */
export const GROUPS_MAX = 32;
/** How long the last member of a group has to say that it is not the last; it is told half of it (RFC 3376 §8.8, §8.9). */
export const LAST_MEMBER_MS = 2000;
/** Types of group records, RFC 3376 §4.2.12 and RFC 3810 §5.2.12. */
const IS_INCLUDE = 1;
const IS_EXCLUDE = 2;
const TO_INCLUDE = 3;
const TO_EXCLUDE = 4;
const ALLOW_NEW = 5;

type Handler = (w0: number, w1: number, w2: number, w3: number) => void;
let onJoin: Handler | null = null;
let onLeave: Handler | null = null;

/** Four words a group; IPv4 as ::ffff:a.b.c.d. All zero: free. */
const joined = new Int32Array(GROUPS_MAX * 4);

/** Who is told of changes (of each report of a joined group, too); null: --multicast was not given. Forgets all groups. */
export const configure = (join: Handler | null, leave: Handler | null): void => {
  onJoin = join;
  onLeave = leave;
  joined.fill(0);
};

/** 224.0.0.0/24 and 239.0.0.0/8 (RFC 5771 §4, RFC 2365); scopes 2 to 5 of IPv6 (RFC 7346 §2). The helper's floor has the same. */
export const isLocal = (w0: number, w1: number, w2: number, w3: number): boolean => {
  if (w0 === 0 && w1 === 0 && w2 === MAPPED_WORD) return w3 >>> 8 === 0xe00000 || w3 >>> 24 === 239;
  const scope = (w0 >>> 16) & 15;
  return w0 >>> 24 === 0xff && scope >= 2 && scope <= 5;
};

/** All nodes, and the groups of neighbour discovery (RFC 4291 §2.7.1): everybody is in these, and nothing is relayed. */
const isOwn = (w0: number, w1: number, w2: number, w3: number): boolean => {
  if (w2 === MAPPED_WORD) return w3 >>> 0 === 0xe0000001;
  return w0 >>> 0 === 0xff020000 && w1 === 0 && (w2 === 0 ? w3 === 1 : w2 === 1 && w3 >>> 24 === 0xff);
};

const slotOf = (w0: number, w1: number, w2: number, w3: number): number => {
  for (let i = 0; i < joined.length; i += 4) {
    if (joined[i + 3] === w3 && joined[i + 2] === w2 && joined[i + 1] === w1 && joined[i] === w0) return i;
  }
  return -1;
};

export const isJoined = (w0: number, w1: number, w2: number, w3: number): boolean => slotOf(w0, w1, w2, w3) >= 0;
export const count = (): number => {
  let n = 0;
  for (let i = 0; i < joined.length; i += 4) if (joined[i + 2] !== 0 || joined[i] !== 0) n++;
  return n;
};

/** The guest is in the group. */
export const join = (w0: number, w1: number, w2: number, w3: number): void => {
  if (onJoin === null || !isLocal(w0, w1, w2, w3) || isOwn(w0, w1, w2, w3)) {
    drop(DROP['group-report']);
    return;
  }
  if (!isJoined(w0, w1, w2, w3)) {
    const free = slotOf(0, 0, 0, 0);
    if (free < 0) {
      drop(DROP['group-table-full']);
      return;
    }
    joined[free] = w0;
    joined[free + 1] = w1;
    joined[free + 2] = w2;
    joined[free + 3] = w3;
  }
  onJoin(w0, w1, w2, w3);
};

/** Somebody left the group. True when it was joined: the caller asks whether others are in it. */
export const leave = (w0: number, w1: number, w2: number, w3: number): boolean => {
  const slot = isLocal(w0, w1, w2, w3) ? slotOf(w0, w1, w2, w3) : -1;
  if (slot < 0) {
    drop(DROP['group-report']);
    return false;
  }
  joined.fill(0, slot, slot + 4);
  onLeave?.(w0, w1, w2, w3);
  return true;
};

/**
 * A record of a version 3 (IGMP) or 2 (MLD) report. Sources are not told apart: who wants some gets the group. True when it
 * was a leave, as of {@link leave}.
 */
export const record = (type: number, sources: number, w0: number, w1: number, w2: number, w3: number): boolean => {
  const some = sources > 0;
  if (type === IS_EXCLUDE || type === TO_EXCLUDE || (some && (type === IS_INCLUDE || type === ALLOW_NEW))) {
    join(w0, w1, w2, w3);
  } else if (type === TO_INCLUDE) {
    if (!some) return leave(w0, w1, w2, w3);
    join(w0, w1, w2, w3);
  } else drop(DROP['group-report']);
  return false;
};
