// SPDX-License-Identifier: Apache-2.0
/** UDP between the guest and sockets of the host: what the composition root sets up. The rest is in the files beside. */
import * as lru from '../../flow/lru.ts';
import { FLOW_UDP } from '../../flow/table.ts';
import * as packetOut from '../../link/packet-out.ts';
import { register } from '../../rpc/connect.ts';
import * as flow from './flow.ts';
import * as fromSock from './from-sock.ts';

export interface UdpSettings {
  /** MTU of the guest's interface, bytes; larger datagrams go to it as IP fragments. 0: not known. */
  readonly linkMtu: number;
  /** The tap takes UDP superframes (and so has a virtio-net header). */
  readonly uso: boolean;
  /** nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream of the host. */
  readonly singleMs: number;
  readonly streamMs: number;
  /** Flows at a time, a quarter of them to port 53: each has a descriptor, so half of those that a process may have. */
  readonly flowsMax?: number;
}
const FLOWS_MAX = 16_384;

/** Called once, before the first frame. */
export const configure = (settings: UdpSettings): void => {
  const flowsMax = settings.flowsMax ?? FLOWS_MAX;
  const dns = Math.max(flowsMax >> 2, 1);
  lru.setCap(lru.LRU_DNS, dns);
  lru.setCap(lru.LRU_UDP, Math.max(flowsMax - dns, 1));
  packetOut.configure(settings.linkMtu);
  flow.setTimeouts(settings.singleMs, settings.streamMs);
  fromSock.configure(settings.uso);
  register(FLOW_UDP, flow.onConnected, flow.onFailed);
};
