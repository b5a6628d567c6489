// SPDX-License-Identifier: Apache-2.0
/** UDP between the guest and sockets of the host: what the composition root sets up. The rest is in the files beside. */
import * as descriptors from '../../flow/descriptors.ts';
import { FLOW_UDP } from '../../flow/table.ts';
import type { Network } from '../../host/network.ts';
import * as guestError from '../../link/guest-error.ts';
import * as packetOut from '../../link/packet-out.ts';
import { register } from '../../rpc/connect.ts';
import * as activity from './activity.ts';
import * as flow from './flow.ts';
import * as fromSock from './from-sock.ts';
import * as group from './group.ts';
import * as share from './share.ts';

export interface UdpSettings {
  /** MTU of the guest's interface, bytes; larger datagrams go to it as IP fragments. 0: not known. */
  readonly linkMtu: number;
  /** The tap takes UDP superframes (and so has a virtio-net header). */
  readonly uso: boolean;
  /** nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream of the host. */
  readonly singleMs: number;
  readonly streamMs: number;
  /** Those that a process may have; each flow has one. */
  readonly descriptors: number;
  readonly network: Network;
  /** --multicast */
  readonly multicast: boolean;
}

/** Called once, before the first frame. */
export const configure = (settings: UdpSettings): void => {
  share.configure(settings.descriptors);
  packetOut.configure(settings.linkMtu);
  flow.setTimeouts(settings.singleMs, settings.streamMs);
  fromSock.configure(settings.uso);
  group.configure(settings.network, settings.multicast, settings.descriptors);
  descriptors.register(descriptors.UDP, activity.giveUpDescriptor);
  register(FLOW_UDP, flow.onConnected, flow.onFailed);
  guestError.register(FLOW_UDP, flow.onGuestError);
};
