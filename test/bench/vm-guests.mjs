// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Virtual machines of QEMU before tools with passt's command line, with the load program in them. */
import { basename } from 'node:path';
import { NET, Side } from '../support/lab.mjs';
import { startVm, streamTo } from '../support/vm.mjs';
import { NOTHING_ELSE, serveGuests } from './vm-peers.mjs';

/** @typedef {import('../support/vm.mjs').Vm} Vm */
/** @typedef {import('./peers.mjs').Peer} Peer */

const quoted = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The inside of a virtual machine: programs are found by name, wherever the host has them. */
class VmSide extends Side {
  #vm;
  /** @param {Vm} vm */
  constructor(vm) {
    super(['false'], 0);
    this.#vm = vm;
  }
  /** @override @param {readonly string[]} argv @param {import('../support/lab.mjs').RunOptions} [options] */
  async run([program = '', ...args], { timeoutMs = 8000 } = {}) {
    return this.#vm.must([basename(program), ...args].map(quoted).join(' '), { timeoutMs });
  }
}

/** Where the guest's hypervisor connects. @type {Record<'stream' | 'vhost-user', (path: string) => import('../support/vm.mjs').VmOptions>} */
const NETWORK = {
  stream: (path) => ({ netdev: streamTo(path) }),
  'vhost-user': (path) => ({
    netdev: 'vhost-user,chardev=net',
    args: ['-chardev', `socket,id=net,path=${path}`],
    sharedMemory: true,
    // QEMU 7.2 without KVM ends with a segmentation fault over vhost-user's MSI-X vectors.
    device: 'vectors=0',
  }),
};

/** @param {number} mtu */
const configuration = (mtu) => `set -e
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra
ip link set eth0 mtu ${mtu} up
ip addr add ${NET.host4}/24 dev eth0
ip addr add ${NET.host6}/64 dev eth0 nodad
ip route add default via ${NET.gateway4}
ip -6 route add default via ${NET.gateway6}`;

/**
 * @param {string} name
 * @param {keyof typeof NETWORK} link
 * @param {string} [binary] default: the lab's
 * @returns {Peer}
 */
export const vmPeer = (name, link, binary) => ({
  ...NOTHING_ELSE,
  name,
  start: async (lab, mtu) => {
    const passt = await serveGuests(lab, binary, mtu, link === 'stream' ? [] : ['--vhost-user']);
    const vm = await startVm(lab, NETWORK[link](passt.path));
    const congestion = (await lab.host.run(['cat', '/proc/sys/net/ipv4/tcp_congestion_control'])).trim();
    await vm.must(`echo ${congestion} > /proc/sys/net/ipv4/tcp_congestion_control`);
    await vm.must(configuration(mtu));
    await vm.until(`ping -c 1 -W 1 ${NET.server4} && ping -c 1 -W 1 ${NET.server6}`);
    return {
      side: new VmSide(vm),
      processes: passt.processes,
      close: async () => {
        await vm.kill();
        passt.close();
      },
    };
  },
});
