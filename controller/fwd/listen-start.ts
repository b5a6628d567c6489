// SPDX-License-Identifier: Apache-2.0
/**
 * The listening sockets that the command line asks for, opened in set-up: they are there before anybody is told that we are
 * ready, and at any port that the caller's privileges allow. What was asked for by name and cannot be had ends the start.
 */
import { getSystemErrorMap } from 'node:util';
import type { Side } from '../../shared/rpc/methods.ts';
import * as log from '../obs/log.ts';
import { type HelperClient, HelperError } from '../rpc/client.ts';
import { affordable, begin, noteLeft } from './listeners.ts';
import { params, withoutIpv6 } from './opening.ts';
import { type Rule, socketsOf, type Tables } from './rule.ts';
import { DESCRIPTORS_KEPT } from './share.ts';
import { adopt, count } from './sockets.ts';
import { type Wish, wishes } from './wanted.ts';

/** What was asked for by name cannot be listened to: one sentence. */
export class ListenError extends Error {}

/** `netns` null: there is no namespace. */
export type Clients = Readonly<Record<Side, HelperClient | null>>;

const ENFILE = 23;

/** What an errno means, in words. */
const reason = (errno: number): string => getSystemErrorMap().get(-errno)?.[1] ?? `errno ${errno}`;
const range = ({ first, last }: Rule): string => (first === last ? `port ${first}` : `ports ${first}-${last}`);
const where = ({ address, interface: device }: Rule): string =>
  `${address === '' ? '' : ` of ${address}`}${device === '' ? '' : ` on ${device}`}`;
const name = ({ group, port, rule }: Wish): string =>
  `${rule.protocol.toUpperCase()} port ${port}${where(rule)}${group.direction === 'host' ? '' : ' in the namespace'}`;

interface Outcome {
  opened: number;
  /** The first that failed, and why. */
  failed: { readonly wish: Wish; readonly errno: number } | null;
  failures: number;
}

/**
 * Opens what the tables want. Throws {@link ListenError}; what was opened by then is the process's, which ends. Best effort is
 * a warning for each rule, unless none of its ports works.
 */
export const openListeners = async (clients: Clients, tables: Tables): Promise<void> => {
  const shared = affordable(tables);
  if (shared === null) {
    const sockets = socketsOf([...tables.host, ...tables.splice].filter(({ scan }) => !scan));
    throw new ListenError(
      `Couldn't listen on requested ports: ${sockets} sockets are more than the limit of open files (RLIMIT_NOFILE) allows; it takes ulimit -n ${sockets + DESCRIPTORS_KEPT}`,
    );
  }
  const outcomes = new Map<Rule, Outcome>();
  for (const side of ['host', 'netns'] as const) {
    const client = clients[side];
    if (client === null) continue;
    await open(
      client,
      wishes(shared.want).filter(({ group }) => group.side === side),
      outcomes,
    );
  }
  for (const [rule, outcome] of outcomes) judge(rule, outcome);
  noteLeft(shared);
  begin(tables);
  if (log.debugEnabled) log.debug(`${count()} sockets listen`);
};

const open = async (client: HelperClient, list: readonly Wish[], outcomes: Map<Rule, Outcome>): Promise<void> => {
  if (list.length === 0) return;
  const asked = list.map(params);
  const again: Wish[] = [];
  await client.callEach('socket.listen', asked, (i, result) => {
    const wish = list[i] as Wish;
    const outcome = outcomes.get(wish.rule) ?? { opened: 0, failed: null, failures: 0 };
    outcomes.set(wish.rule, outcome);
    const errno = result instanceof HelperError ? result.errno : 0;
    if (!(result instanceof HelperError) && adopt(wish.group, wish.port, wish.rule, result) !== null) {
      outcome.opened++;
    } else if (withoutIpv6(asked[i] as (typeof asked)[number], errno)) {
      again.push(wish);
    } else {
      outcome.failures++;
      outcome.failed ??= { wish, errno: errno || ENFILE };
      wish.group.missing.set(wish.port, errno || ENFILE);
    }
  });
  await open(client, again, outcomes);
};

const judge = (rule: Rule, { opened, failed, failures }: Outcome): void => {
  if (failed === null) return;
  const { wish, errno } = failed;
  if (rule.scan) {
    if (log.debugEnabled) log.debug(`Couldn't listen on ${name(wish)}, which auto found: ${reason(errno)}`);
  } else if (!rule.weak) {
    throw new ListenError(`Couldn't listen on requested ports: ${name(wish)}: ${reason(errno)}`);
  } else if (opened === 0) {
    throw new ListenError(
      `Couldn't listen on requested ports: none of ${rule.protocol.toUpperCase()} ${range(rule)}${where(rule)}: ${reason(errno)}`,
    );
  } else {
    log.warn(
      `Couldn't listen on ${failures} of ${rule.protocol.toUpperCase()} ${range(rule)}${where(rule)}, the first being port ${wish.port}: ${reason(errno)}`,
    );
  }
};
