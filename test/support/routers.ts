// SPDX-License-Identifier: Apache-2.0
/**
 * A longer path for a lab: its remote end becomes a router, and behind it come another one and a last host.
 *
 *     host ═ 192.0.2.1 remote 203.0.113.1 ═ 203.0.113.2 middle 203.0.113.5 ═ 203.0.113.6 far
 *            2001:db8:1::1    2001:db8:12::1  2001:db8:12::2   2001:db8:23::1  2001:db8:23::2
 */
import type { Lab, Side } from './lab.mjs';

export const HOPS4 = ['192.0.2.1', '203.0.113.2', '203.0.113.6'] as const;
export const HOPS6 = ['2001:db8:1::1', '2001:db8:12::2', '2001:db8:23::2'] as const;
export const FAR4 = '203.0.113.6';
export const FAR6 = '2001:db8:23::2';

/** Errors of the routers are not limited here: a test sends many within a second. */
const SCRIPT = `
set -e
ip netns add middle
ip netns add far
at() { n=$1; shift; nsenter --net=/run/netns/$n "$@"; }
for n in remote middle far; do
  at $n sh -c 'for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$f; done
    echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
    ip link set lo up'
done
at remote ip link add right type veth peer name left netns middle
at middle ip link add right type veth peer name left netns far
at remote ip addr add 203.0.113.1/30 dev right; at remote ip addr add 2001:db8:12::1/64 dev right nodad
at middle ip addr add 203.0.113.2/30 dev left;  at middle ip addr add 2001:db8:12::2/64 dev left nodad
at middle ip addr add 203.0.113.5/30 dev right; at middle ip addr add 2001:db8:23::1/64 dev right nodad
at far ip addr add 203.0.113.6/30 dev left;     at far ip addr add 2001:db8:23::2/64 dev left nodad
at remote ip link set right up; at middle ip link set left up; at middle ip link set right up; at far ip link set left up
at remote ip route add 203.0.113.4/30 via 203.0.113.2; at remote ip -6 route add 2001:db8:23::/64 via 2001:db8:12::2
at middle ip route add default via 203.0.113.1; at middle ip -6 route add default via 2001:db8:12::1
at far ip route add default via 203.0.113.5;    at far ip -6 route add default via 2001:db8:23::1
`;

export interface Path {
  readonly middle: Side;
  readonly far: Side;
  /** Sets the MTU of the link between the middle router and the last host, at both its ends. */
  readonly setMtu: (mtu: number) => Promise<void>;
}

/** Makes the lab's path longer. */
export const lengthen = async (lab: Lab): Promise<Path> => {
  await lab.host.run(['sh', '-c', SCRIPT]);
  const into = (name: string): Side => lab.host.within(['nsenter', `--net=/run/netns/${name}`, '--']);
  const [middle, far] = [into('middle'), into('far')];
  return {
    middle,
    far,
    setMtu: async (mtu) => {
      await middle.run(['ip', 'link', 'set', 'right', 'mtu', String(mtu)]);
      await far.run(['ip', 'link', 'set', 'left', 'mtu', String(mtu)]);
    },
  };
};
