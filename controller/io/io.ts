// SPDX-License-Identifier: Apache-2.0
/** The typed face of the addon; the only module that loads it. All views are over memory the addon owns and pins. */
import { createRequire } from 'node:module';
import { ARENA_BYTES, ARENA_HOT_BYTES, COL, COLUMN_INTS, FRAMES_MAX, OUT_MAX } from '../../shared/abi.ts';
import type { Native } from './native.ts';

const require = createRequire(import.meta.url);
/** The addon lies beside the bundle; tests run from sources and find it in dist/. */
const load = (): Native => {
  const override = process.env['PASTICHE_ADDON'];
  // Copied, for V8 keeps an object that native code filled as a dictionary, and its look-ups cost 7 ns a call.
  return { ...(require(override ?? './pastiche.node') as Native) };
};

export const native: Native = load();
export const mem = new Uint8Array(native.arena);
/** Big-endian access, as on the wire. */
export const view = new DataView(native.arena);
export const col = new Int32Array(native.columns);
const clock = new Float64Array(native.clock);
/** Monotonic milliseconds, read once a turn. */
export const nowMs = (): number => clock[0] as number;
/** When the last wait began, on the same clock. */
export const waitBeganMs = (): number => clock[1] as number;

export { COL, FRAMES_MAX, OUT_MAX };

/** Arena regions, in bytes. */
/** Room before the first frame: translators may use the 12 bytes before each (virtio-net header) even where the tap has none. */
export const RX_AT = 64;
export const RX_END = 6 * 1024 * 1024;
export const OUT_AT = RX_END;
export const OUT_END = 14 * 1024 * 1024;
/** Datagrams and errors from sockets. */
export const SOCK_AT = OUT_END;
export const SOCK_END = SOCK_AT + 1024 * 1024;
/** RPC messages, netlink, log lines. */
export const SCRATCH_AT = SOCK_END;
export const SCRATCH_END = SCRATCH_AT + 512 * 1024;
/** Datagrams of flows whose socket is still being opened (flow/pending). */
export const PENDING_AT = SCRATCH_END;
export const PENDING_END = ARENA_HOT_BYTES;
/** Stream data that a socket would not take yet (proto/tcp/stash). */
export const STASH_AT = ARENA_HOT_BYTES;
export const STASH_END = 48 * 1024 * 1024;
/** Datagrams that the guest sent in fragments (link/reassembly). */
export const REASSEMBLY_AT = STASH_END;
export const REASSEMBLY_END = 52 * 1024 * 1024;
/** Stream data that came before what belongs in front of it (proto/tcp/out-of-order). */
export const OUT_OF_ORDER_AT = REASSEMBLY_END;
export const OUT_OF_ORDER_END = ARENA_BYTES;

export const EPOLLIN = 1;
export const EPOLLPRI = 2;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
export const EPOLLHUP = 16;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000 | 0;

if (col.length < COLUMN_INTS) throw new Error('the addon is older than the bundle: build again');
