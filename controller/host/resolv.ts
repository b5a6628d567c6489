// SPDX-License-Identifier: Apache-2.0
/** resolv.conf(5): resolvers and search domains. Lenient, as resolvers are: a line that is not understood is skipped. */
import { parseAddress } from './address.ts';
import type { Resolvers } from './facts.ts';

/** MAXNS of resolv.h, applied to each IP version since each protocol tells only its own. */
const SERVERS_PER_FAMILY_MAX = 3;
/** MAXDNSRCH of the original. */
const SEARCH_MAX = 6;

const isComment = (line: string): boolean => /^\s*[#;]/.test(line);

/** "domain" and "search" override each other, the last one in the file counts (resolv.conf(5)). */
const searchOf = (words: readonly string[]): readonly string[] | null => {
  const [keyword, ...names] = words;
  if (keyword !== 'search' && keyword !== 'domain') return null;
  return names
    .map((name) => name.replace(/\.$/, ''))
    .filter((name) => name !== '')
    .slice(0, keyword === 'domain' ? 1 : SEARCH_MAX);
};

/** Never throws. A zone ("fe80::1%eth0") is cut: it means nothing on the guest's link. */
export const parseResolvConf = (text: string): Resolvers => {
  const servers: string[] = [];
  const count = { 4: 0, 6: 0 };
  let search: readonly string[] = [];
  for (const line of text.split('\n')) {
    if (isComment(line)) continue;
    const words = line.trim().split(/\s+/);
    search = searchOf(words) ?? search;
    if (words[0] !== 'nameserver' || words[1] === undefined) continue;
    const parsed = parseAddress(words[1].replace(/%.*$/, ''));
    if (parsed === null || servers.includes(parsed.address)) continue;
    if (count[parsed.family]++ < SERVERS_PER_FAMILY_MAX) servers.push(parsed.address);
  }
  return { servers, search };
};
