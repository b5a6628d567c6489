// SPDX-License-Identifier: Apache-2.0
/**
 * The controller's start: `node controller.cjs PERSONALITY ARGUMENTS…` with its channels on descriptors 3 and 4, made and run
 * by the helper only. Every failure up to `ready` is one sentence on stderr and status 1.
 */
import { HOST_CHANNEL_FD } from '../../shared/rpc/methods.ts';
import * as sockets from '../fwd/sockets.ts';
import * as io from '../io/io.ts';
import * as log from '../obs/log.ts';
import * as guest from './guest.ts';
import { describeFailure, start } from './start.ts';
import * as turn from './turn.ts';

const main = async (): Promise<void> => {
  try {
    const name = process.argv[2];
    await start(name === 'passt' || name === 'slirp4netns' ? name : 'pasta', process.argv.slice(3));
  } catch (error) {
    log.error(describeFailure(error));
    process.exit(1);
  }
  const reason = await turn.run();
  // An end of the guest has been told, at a level that more people read.
  if (reason !== guest.ended()) log.debug(`${reason}: exiting`);
  // Orderly ends are the helper's business; it is gone, or tears everything down when we are.
  sockets.closeAll();
  // First, so that the helper need not wait for the kernel to dismantle Node; and half of it, by which it knows an end in order.
  io.native.shutdownWrite(HOST_CHANNEL_FD);
  process.exit(0);
};

void main();
