// SPDX-License-Identifier: Apache-2.0
/** A flow's socket is asked for at the address that its remote one stands for; one to the host's resolver when it is known who that is. */
import { FLOW_FREE, type Flow, generation, typeOf } from '../flow/table.ts';
import * as connect from '../rpc/connect.ts';
import * as nat from './nat.ts';
import * as resolver from './resolver.ts';

const EAGAIN = 11;
const ENETUNREACH = 101;

/** As {@link connect.request}, which may follow later; where it cannot, the flow's type is told as of any failure. */
export const request = (f: Flow, protocol: 'tcp' | 'udp', sourcePort: number, hopLimit: number): boolean => {
  const ask = (): boolean => connect.request(f, protocol, sourcePort, hopLimit, nat.destinationText(f));
  if (!nat.isForResolver(f)) return ask();
  const same = generation(f);
  const waits = resolver.look(() => {
    if (typeOf(f) === FLOW_FREE || generation(f) !== same) return;
    if (nat.leadsNowhere(f)) connect.fail(f, ENETUNREACH);
    else if (!ask()) connect.fail(f, EAGAIN);
  });
  return waits || ask();
};
