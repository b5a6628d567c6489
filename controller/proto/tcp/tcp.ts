// SPDX-License-Identifier: Apache-2.0
/**
 * TCP between the guest and sockets: theory of operation.
 *
 * Goals: the guest talks to the host's own TCP as if it were the peer's; nothing is copied that need not be; as long as
 * nothing is lost between the guest and us, no second stack: no copy in a send or receive queue of ours. Each guest connection is one socket, made
 * and connected by the helper.
 *
 * From tap: segments of one batch that are in order are gathered and written by one writev; what the socket took (or
 * the stash, see stash.ts) is acknowledged once at the end of the batch. Segments that leave a gap are kept (out-of-order.ts)
 * and answered by a duplicate ACK at once, with what is there (RFC 2018, RFC 5681 §4.2).
 * To tap: see to-tap.ts; what was lost is found and sent again by recovery.ts, within what congestion.ts allows. What the
 * guest acknowledged leaves the socket's queue.
 *
 * Life of a flow (bits of conn.ts; every bit is set once and in this order per line):
 *   guest's SYN → row, request to the helper → SOCK_CONNECTED (SYN|ACK sent) → ESTABLISHED (its ACK came)
 *   accepted socket → row, SYN (SOCK_CONNECTED, SYN_SENT) → ESTABLISHED (the guest's SYN|ACK came); see inbound.ts
 *   guest's FIN → TAP_FIN_RCVD → SOCK_FIN_SENT (stash empty, shutdown)
 *   end of file → SOCK_FIN_RCVD → TAP_FIN_SENT → TAP_FIN_ACKED
 *   both lines done → socket closed, row released, or kept in TIME-WAIT (time-wait.ts). RST or a socket error ends it at
 *   any point, on both sides.
 *
 * Timers: one per flow, armed lazily (an expiry looks at progressMs and re-arms for what is left): SYN|ACK and data
 * retransmission with back-off (RFC 6298), and window probes. Idle flows have none: see keepalive.ts.
 *
 * Path MTU: the guest needs to know nothing of the path beyond the host. Its segments end here, so that the MSS we announce
 * is the link's; the host's TCP makes its own segments and does its own discovery (RFC 1191, RFC 8201, RFC 4821).
 *
 * A turn: fromTap for each segment of a batch and flushWrites after it, onEvent for each socket event, then endBatch,
 * which does per touched flow what is worth doing once: send, acknowledge, close.
 */
import * as flows from '../../flow/table.ts';
import * as guestError from '../../link/guest-error.ts';
import * as connect from '../../rpc/connect.ts';
import * as caps from './caps.ts';
import { onGuestError } from './guest-mtu.ts';
import * as keepalive from './keepalive.ts';
import * as lateAck from './late-ack.ts';
import * as open from './open.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';

export interface TcpOptions {
  /** The tap takes TSO superframes. */
  readonly tso: boolean;
  /** The guest is a hypervisor's, which takes frames one by one. */
  readonly hypervisor: boolean;
  /** MTU of the namespace's interface, for the MSS we announce. */
  readonly linkMtu: number;
  /** How many descriptors the process may have (RLIMIT_NOFILE). */
  readonly descriptors: number;
  /** tcp_syn_retries and tcp_rto_max_ms of the host. */
  readonly synRetries: number;
  readonly rtoMaxMs: number;
}

/** Once, before the first frame. */
export const configure = (options: TcpOptions): void => {
  toTap.configure(options.tso, options.linkMtu);
  caps.configure(options.descriptors);
  lateAck.configure(options.hypervisor);
  timeout.configure(options.synRetries, options.rtoMaxMs);
  keepalive.start();
  connect.register(flows.FLOW_TCP, open.onConnected, open.onFailed);
  guestError.register(flows.FLOW_TCP, onGuestError);
};
