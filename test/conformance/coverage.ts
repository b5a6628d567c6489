// SPDX-License-Identifier: Apache-2.0
/** The tables of docs/RFC-COVERAGE.md: from the rows of the conformance test, and what other tests hold. */
import { familiesOf, type Level, type Row } from './row.ts';
import { CHAPTERS } from './rows/index.ts';

/** What no frame can show in the time that a test has, or what is looked at more closely elsewhere. */
export interface Elsewhere {
  readonly rfc: string;
  readonly level: Level;
  readonly what: string;
  readonly where: string;
  readonly file: string;
  /** As it stands in the file. */
  readonly test: string;
}
const row = (rfc: string, level: Level, what: string, where: string, file: string, test: string): Elsewhere => ({
  rfc,
  level,
  what,
  where: `controller/${where}`,
  file: file.startsWith('test/') ? file : `controller/${file}`,
  test,
});

export const ELSEWHERE: readonly Elsewhere[] = [
  row(
    'RFC 791 §3.2, RFC 1122 §3.3.2, RFC 8200 §4.5',
    'must',
    'Fragments that stay incomplete are given up after a time, and the sender of a first one is told (time exceeded, code 1).',
    'link/reassembly.ts',
    'link/reassembly.test.ts',
    'when the time is over, the sender of a first fragment is told with what it sent',
  ),
  row(
    'RFC 3168 §5.3',
    'must',
    'Congestion that one fragment met is the whole datagram’s.',
    'link/reassembly.ts',
    'link/reassembly.test.ts',
    'congestion that one part met is the whole’s',
  ),
  row(
    'RFC 792, RFC 4443 §2.4(d), RFC 5927',
    'must',
    'Errors from the guest are believed only when what they quote is of a flow of its, whole and sound.',
    'link/guest-error.ts',
    'link/guest-error.test.ts',
    'a quote cut anywhere is dropped and counted',
  ),
  row(
    'RFC 1191 §5, RFC 8201 §4',
    'must',
    'A smaller path MTU that the guest tells of is kept to, and only made smaller.',
    'link/guest-error.ts',
    'link/guest-error.test.ts',
    'a smaller MTU holds for that flow, and only downwards',
  ),
  row(
    'RFC 8899 §3, RFC 4821',
    'should',
    'Probes of the path MTU by the guest’s own datagrams, up to the MTU of the host’s link, find it.',
    'proto/udp/send.ts',
    'test/integration/path-mtu.test.ts',
    'probes find the true MTU of the path: none gets through in fragments',
  ),
  row(
    'RFC 1122 §3.2.1.7, RFC 1812 §5.3.1',
    'must',
    'traceroute shows the routers that the host sees, over UDP, ICMP and TCP.',
    'link/icmp-error.ts',
    'test/integration/traceroute.test.ts',
    'shows the guest the same as the host',
  ),
  row(
    'RFC 1122 §4.2.3.5, RFC 9293 §3.8.3',
    'must',
    'A SYN|ACK is sent 1 + 5 times, then the guest is given up.',
    'proto/tcp/timeout.ts',
    'proto/tcp/open.test.ts',
    'then the guest is given up',
  ),
  row(
    'RFC 6298 §5.5, RFC 9293 §3.8.3',
    'must',
    'Data is sent again with back-off until the guest is given up.',
    'proto/tcp/timeout.ts',
    'proto/tcp/timeout.test.ts',
    'and gives up in the end',
  ),
  row(
    'RFC 6298 §5.1, §5.3',
    'must',
    'The timer is counted from the sending, and begins anew with each acknowledgement of something new.',
    'proto/tcp/timeout.ts',
    'proto/tcp/timeout.test.ts',
    'begins anew with each acknowledgement of something new',
  ),
  row(
    'RFC 9293 §3.8.6.1 (MUST-36, MUST-37)',
    'must',
    'A window that stays closed for an hour, and is answered for, keeps the connection; silence ends it.',
    'proto/tcp/timeout.ts',
    'proto/tcp/to-tap.test.ts',
    'closed for an hour and answering is life',
  ),
  row(
    'RFC 9293 §3.8.6.2.1 (MUST-38)',
    'must',
    'No silly windows as a sender: small pieces wait while more is in flight.',
    'proto/tcp/to-tap.ts',
    'proto/tcp/to-tap.test.ts',
    'is not filled by small pieces while more is in flight',
  ),
  row(
    'RFC 6582 §3.2',
    'should',
    'What an acknowledgement of a part still misses is lost, too (without SACK).',
    'proto/tcp/recovery.ts',
    'proto/tcp/to-tap.test.ts',
    'what an acknowledgement of a part still misses is lost, too',
  ),
  row(
    'RFC 9293 §3.6.1, §3.10.7.4 (TIME-WAIT)',
    'must',
    'TIME-WAIT lasts for two segment lifetimes.',
    'proto/tcp/time-wait.ts',
    'proto/tcp/time-wait.test.ts',
    'it ends after two maximum segment lifetimes',
  ),
  row(
    'RFC 1337 §3, RFC 9293 §3.10.7.4',
    'should',
    'A reset does not end it.',
    'proto/tcp/time-wait.ts',
    'proto/tcp/time-wait.test.ts',
    'a reset does not end it (RFC 1337)',
  ),
  row(
    'RFC 5961 §7',
    'should',
    'Challenges are limited: ten in five seconds a connection.',
    'proto/tcp/challenge.ts',
    'proto/tcp/time-wait.test.ts',
    'old data is answered with where we are, ten times in five seconds at most',
  ),
  row(
    'RFC 5382 REQ-5',
    'must',
    'An established connection is kept for 2 hours 4 minutes at least while the guest is silent.',
    'proto/tcp/keepalive.ts',
    'proto/tcp/keepalive.test.ts',
    'are kept while the whole guest is silent (paused), for 2 h 4 min (RFC 5382 REQ-5)',
  ),
  row(
    'RFC 1122 §4.2.3.9 (MUST-55)',
    'must',
    'Soft errors of the network do not end a connection that stands.',
    'proto/tcp/from-sock.ts',
    'proto/tcp/close.test.ts',
    'that is only a hint of the network does not end it (RFC 1122 §4.2.3.9)',
  ),
  row(
    'RFC 4787 §4.3 REQ-5',
    'must',
    'A flow of datagrams is kept as long as the host’s own conntrack would keep it.',
    'proto/udp/flow.ts',
    'proto/udp/flow.test.ts',
    'a stream lives for the long one, counted from its last datagram',
  ),
  row(
    'RFC 3376 §6, RFC 3810 §7',
    'must',
    'Reports of all versions of IGMP and MLD are taken, in bounds.',
    'proto/igmp.ts',
    'proto/membership.test.ts',
    'at most so many groups at a time; a place that is left is free again',
  ),
  row(
    'RFC 4861 §6.2.1, §6.2.4',
    'must',
    'Advertisements come unasked, too, every 200 to 600 seconds.',
    'proto/ndp.ts',
    'proto/ndp.test.ts',
    'comes unasked at start and every 200 to 600 s',
  ),
  row(
    'RFC 2132 §9.3, RFC 3396',
    'must',
    'Options in the file and sname fields count.',
    'proto/dhcpv4.ts',
    'proto/dhcpv4.test.ts',
    'options in the file and sname fields count (RFC 2132 §9.3)',
  ),
];

const table = (lines: readonly (readonly string[])[]): string =>
  lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
const source = (path: string): string => `\`${path.replace('controller/', '')}\``;

const linux = (each: Row): string => {
  if (each.notLinux !== undefined) return `not put to it: ${each.notLinux}`;
  return each.differs ?? 'the same';
};
const chapter = (title: string, rows: readonly Row[]): string =>
  `## ${title}\n\n${table([
    ['clause', '', 'what is sent, and what is expected', 'where', 'case', 'IP', 'Linux'],
    ['---', '---', '---', '---', '---', '---', '---'],
    ...rows.map((each) => [
      each.rfc,
      each.level,
      each.what,
      source(each.where),
      `\`${each.id}\``,
      familiesOf(each).join(', '),
      linux(each),
    ]),
  ])}\n`;
const elsewhere = (): string =>
  `## Held by other tests\n\n${table([
    ['clause', '', 'what', 'where', 'test'],
    ['---', '---', '---', '---', '---'],
    ...ELSEWHERE.map((each) => [each.rfc, each.level, each.what, source(each.where), `\`${each.file}\`: ${each.test}`]),
  ])}\n`;

/** Everything between the two markers of the document. */
export const coverage = (): string => {
  const rows = CHAPTERS.flatMap(([, each]) => each);
  const frames = rows.reduce((sum, each) => sum + familiesOf(each).length, 0);
  const linuxToo = rows
    .filter((each) => each.notLinux === undefined)
    .reduce((sum, each) => sum + familiesOf(each).length, 0);
  const must = rows.filter((each) => each.level === 'must').length;
  return [
    `${rows.length} cases (${must} of them of a MUST), ${frames} with both families counted; ${linuxToo} of these are put to Linux, too.\n`,
    ...CHAPTERS.map(([title, each]) => chapter(title, each)),
    elsewhere(),
  ].join('\n');
};
