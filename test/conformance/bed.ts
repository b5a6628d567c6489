// SPDX-License-Identifier: Apache-2.0
/**
 * The two things that the same frames are put to:
 *
 *   pastiche   wire ─ tap ─ pasta ─ host ═ veth ═ remote (servers, and routers that say no)
 *   Linux      wire ═ veth ═ a namespace that is router and servers at once, with the same addresses
 *
 * So an expectation is checked against Linux before it is asked of us. The interface at the wire's end has no address and
 * no IPv6, and the frames are of a station that the kernel there does not know, so it says nothing of its own.
 */
import { join } from 'node:path';
import { compile, type Guest, type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import { isAlive } from '../support/process.mjs';
import { ipBytes, macBytes } from './packet.ts';
import { Peer } from './peer.ts';
import { Wire } from './wire.ts';

export const MTU = 1500;
export const GUEST_MAC = '02:00:5e:00:53:10';

/** Addresses by family. Beyond the far router lie a black hole, and destinations that it refuses. */
export const AT = {
  4: {
    guest: NET.host4,
    gateway: NET.gateway4,
    server: NET.server4,
    blackHole: '203.0.113.5',
    unreachable: '203.0.113.67',
    prohibited: '203.0.113.68',
    neighbour: '192.0.2.99',
    /** A link of 1280 bytes lies on the way. */
    narrow: '203.0.113.130',
  },
  6: {
    guest: NET.host6,
    gateway: NET.gateway6,
    server: NET.server6,
    blackHole: '2001:db8:3::5',
    unreachable: '2001:db8:3::67',
    prohibited: '2001:db8:3::68',
    neighbour: '2001:db8:1::99',
    narrow: '2001:db8:4::130',
  },
} as const;

/** Addresses that cases use for the guest: Linux is told where they are, because nobody answers its questions. */
const STATIONS = `${AT[4].guest} 192.0.2.77 ${AT[6].guest} 2001:db8:1::77 fe80::5eff:fe00:5310`;

/** Run where the servers are. No limits on ICMP, so that one case does not use up what the next one needs. */
const FAR_SIDE = `
set -e
for f in ipv4/icmp_ratelimit ipv6/icmp/ratelimit; do echo 0 > /proc/sys/net/$f; done
for f in icmp_msgs_per_sec icmp_msgs_burst; do echo 100000 > /proc/sys/net/ipv4/$f; done 2>/dev/null || true
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
# Nobody reads these: what is routed to them is lost, as far as it gets.
ip tuntap add dev hole0 mode tun
ip tuntap add dev narrow0 mode tun
ip link set hole0 up
ip link set narrow0 mtu 1280 up
ip route add 203.0.113.0/26 dev hole0
ip route add 203.0.113.128/25 dev narrow0
ip -6 route add 2001:db8:3::/64 dev hole0
ip -6 route add 2001:db8:4::/64 dev narrow0
ip route add unreachable ${AT[4].unreachable}/32
ip route add prohibit ${AT[4].prohibited}/32
ip -6 route add unreachable ${AT[6].unreachable}/128
ip -6 route add prohibit ${AT[6].prohibited}/128
`;

const LINUX = `
set -e
ip netns add linux
ip netns add wire
ip -n linux link add link0 mtu ${MTU} type veth peer name eth0 mtu ${MTU} netns wire
inside() { nsenter --net=/run/netns/$1 "$2" "$3" "$4"; }
inside wire sh -c 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up'
inside linux sh -ec 'for i in all default link0; do
    echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad
  done
  ip link set lo up
  ip addr add ${NET.gateway4}/24 dev link0
  ip addr add ${NET.gateway6}/64 dev link0 nodad
  ip addr add ${NET.server4}/32 dev lo
  ip addr add ${NET.server6}/128 dev lo nodad
  ip link set link0 up
  for a in ${STATIONS}; do ip neigh add $a lladdr ${GUEST_MAC} dev link0 nud permanent; done
  n=0
  until ip -o -6 addr show link0 | grep -q fe80; do sleep 0.02; n=$((n + 1)); [ $n -lt 250 ]; done'
inside linux sh -c "$FAR_SIDE"
`;

export type BedName = 'pastiche' | 'Linux';

export interface Bed {
  readonly name: BedName;
  readonly wire: Wire;
  readonly peer: Peer;
  /** What the far router's link carries; null where the servers are at the other end of the wire. */
  readonly upstream: Wire | null;
  /** The station at the other end, found by ARP. */
  readonly mac: string;
  /** Throws when one of the processes under test is gone. */
  alive(): void;
}

/** Asks for the gateway, as any host does first. */
const findMac = async (wire: Wire): Promise<string> => {
  const from = wire.frames.length;
  wire.send(
    Buffer.concat([
      macBytes('ff:ff:ff:ff:ff:ff'),
      macBytes(GUEST_MAC),
      Buffer.from('08060001080006040001', 'hex'),
      macBytes(GUEST_MAC),
      ipBytes(AT[4].guest),
      Buffer.alloc(6),
      ipBytes(AT[4].gateway),
    ]),
  );
  const at = await wire.find(from, (f) => f.arp?.operation === 2, 'an ARP reply');
  return wire.frames[at]?.srcMac ?? '';
};

export class Beds {
  readonly #lab: Lab;
  readonly #program: string;
  private constructor(lab: Lab, program: string) {
    this.#lab = lab;
    this.#program = program;
  }
  static async make(): Promise<Beds> {
    const lab = await makeLab({ mtu: MTU });
    return new Beds(lab, await compile('test/support/raw-frames.c', join(lab.dir, 'raw-frames')));
  }
  cleanup(): Promise<void> {
    return this.#lab.cleanup();
  }

  async pastiche(): Promise<Bed> {
    await this.#lab.remote.run(['sh', '-c', FAR_SIDE]);
    const guest: Guest = await this.#lab.guest(['-m', String(MTU)]);
    await guest.run(['sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up']);
    const [wire, peer, upstream] = await Promise.all([
      Wire.open(guest, this.#program, 'eth0'),
      Peer.start(this.#lab.remote),
      Wire.open(this.#lab.remote, this.#program, 'eth0'),
    ]);
    const processes = guest.toolProcesses();
    const alive = (): void => {
      const dead = processes.filter((pid) => !isAlive(pid));
      if (dead.length > 0)
        throw new Error(`${dead.length} of ${processes.length} processes are gone: ${guest.tool.err()}`);
    };
    return { name: 'pastiche', wire, peer, upstream, mac: await findMac(wire), alive };
  }

  async linux(): Promise<Bed> {
    await this.#lab.host.run(['sh', '-c', LINUX], { env: { FAR_SIDE } });
    const inside = (name: string): Side => this.#lab.host.within(['nsenter', `--net=/run/netns/${name}`, '--']);
    const [wire, peer] = await Promise.all([
      Wire.open(inside('wire'), this.#program, 'eth0'),
      Peer.start(inside('linux')),
    ]);
    return { name: 'Linux', wire, peer, upstream: null, mac: await findMac(wire), alive: () => {} };
  }
}
