// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * A bad link on the guest's side: a network namespace within the guest's (or, for comparison, within the host's), joined
 * to it by the shim. The namespace between routes.
 *
 *     nested 10.99.0.2, fd99::2 ═ shim ═ 10.99.0.1, fd99::1 guest ─ tool under test ─ host ═ remote
 *     nested 10.99.0.2, fd99::2 ═ shim ═ 10.99.0.1, fd99::1 host ═ remote                     (direct)
 */
import { join } from 'node:path';
import { compile, NET, shimArguments } from './lab.mjs';
import { finish, waitFor } from './process.mjs';

/** @typedef {import('./lab.mjs').Lab} Lab */
/** @typedef {import('./lab.mjs').Side} Side */
/** @typedef {import('./lab.mjs').ShimOptions} ShimOptions */

export const NESTED = Object.freeze({ inner4: '10.99.0.2', outer4: '10.99.0.1', inner6: 'fd99::2', outer6: 'fd99::1' });

/** @param {string} shim */
const script = (shim) => `
set -e
unshare --net sleep infinity </dev/null >/dev/null &
nested=$!
trap 'kill $nested $shim 2>/dev/null' EXIT
until [ "$(readlink /proc/$nested/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
${shim} /proc/self/ns/net /proc/$nested/ns/net bad0 $SHIM </dev/null >&2 &
shim=$!
inside() { nsenter --net=/proc/$nested/ns/net "$@"; }
n=0
until ip link show bad0 && inside ip link show bad0; do sleep 0.02; n=$((n + 1)); [ $n -lt 250 ]; done >/dev/null 2>&1
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
inside ip link set lo up
ip addr add ${NESTED.outer4}/24 dev bad0
ip addr add ${NESTED.outer6}/64 dev bad0 nodad
inside ip addr add ${NESTED.inner4}/24 dev bad0
inside ip addr add ${NESTED.inner6}/64 dev bad0 nodad
ip link set bad0 up
inside ip link set bad0 up
inside ip route add default via ${NESTED.outer4}
inside ip -6 route add default via ${NESTED.outer6}
echo nested $nested
cat
`;

/**
 * Makes the namespace within `side`. Its addresses must be routed back to `side` (see routeBack for the host).
 * @param {Lab} lab @param {Side} side @param {ShimOptions} shim
 * @returns {Promise<{ side: Side, close: () => Promise<unknown> }>}
 */
export const nestedLink = async (lab, side, shim) => {
  const program = await compile('test/support/shim.c', join(lab.dir, 'guest-shim'));
  const text = script(program).replace('$SHIM', shimArguments(shim));
  const holder = side.spawn(['sh', '-c', text], { stdin: 'pipe' });
  await waitFor(() => holder.out().includes('nested') || holder.child.exitCode !== null, {
    what: 'the nested namespace',
  });
  const pid = /nested (\d+)/.exec(holder.out())?.[1];
  if (pid === undefined) throw new Error(`no nested namespace: ${holder.err()}`);
  return {
    side: side.within(['nsenter', `--net=/proc/${pid}/ns/net`, '--']),
    close: () => {
      holder.child.stdin?.end();
      return finish(holder, { timeoutMs: 5000 });
    },
  };
};

/** The remote learns where the namespace within the host's lies. @param {Lab} lab */
export const routeBack = async (lab) => {
  await lab.remote.run(['ip', 'route', 'replace', '10.99.0.0/24', 'via', NET.host4]);
  await lab.remote.run(['ip', '-6', 'route', 'replace', 'fd99::/64', 'via', NET.host6]);
};
