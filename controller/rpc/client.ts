// SPDX-License-Identifier: Apache-2.0
/**
 * The controller's side of a helper channel during set-up: JSON-RPC 2.0 by json-rpc-2.0, checked against shared/rpc on both
 * edges, one datagram out and one back, blocking. Nothing else runs at that time; once frames flow, rpc/connect.ts reads the
 * host channel instead.
 *
 * The helper is trusted more than the guest, but its replies are checked all the same: a descriptor too many or a result of
 * another shape means that helper and bundle do not belong together.
 */
import { constants } from 'node:os';
import { JSONRPCClient, type JSONRPCResponse } from 'json-rpc-2.0';
import * as z from 'zod/mini';
import {
  BATCH_MAX,
  errorData,
  MESSAGE_BYTES_MAX,
  METHODS,
  type MethodName,
  type Params,
  type Result,
} from '../../shared/rpc/methods.ts';
import * as io from '../io/io.ts';

/** Code of errors that are not the helper's answer: channel closed, reply malformed. */
export const CHANNEL_ERROR = -1;

/** The helper refused or failed at a request, or is gone. `errno` is 0 when no system call failed. */
export class HelperError extends Error {
  /** JSON-RPC code (`RPC_ERRORS`), or {@link CHANNEL_ERROR}. */
  readonly code: number;
  readonly errno: number;
  constructor(message: string, code: number, errno = 0) {
    super(message);
    this.name = 'HelperError';
    this.code = code;
    this.errno = errno;
  }
}

/** One request of a batch. */
export type Call = { readonly [M in MethodName]: { readonly method: M; readonly params: Params<M> } }[MethodName];
/** Results in the order of the calls, `fd` being a descriptor number of this process. */
export type Results<C extends readonly Call[]> = { [I in keyof C]: Result<C[I]['method']> };

const response = z.union([
  z.strictObject({ jsonrpc: z.literal('2.0'), id: z.int(), result: z.record(z.string(), z.unknown()) }),
  z.strictObject({
    jsonrpc: z.literal('2.0'),
    // null: the helper could not read the request's id.
    id: z.nullable(z.int()),
    error: z.strictObject({ code: z.int(), message: z.string(), data: z.optional(errorData) }),
  }),
]);
const reply = z.union([response, z.array(response).check(z.minLength(1), z.maxLength(BATCH_MAX))]);

/** One datagram back, with its descriptors. */
interface Received {
  readonly responses: readonly JSONRPCResponse[];
  readonly fds: readonly number[];
}

const closeAll = (fds: Iterable<number>): void => {
  for (const fd of fds) io.native.close(fd);
};

const parseReply = (text: string): readonly JSONRPCResponse[] => {
  const parsed = reply.parse(JSON.parse(text));
  return (Array.isArray(parsed) ? parsed : [parsed]) as JSONRPCResponse[];
};

const asError = ({ error }: JSONRPCResponse): HelperError | null => {
  if (error === undefined || error === null) return null;
  const { code, message, data } = error;
  return new HelperError(
    message,
    code === 0 ? CHANNEL_ERROR : code,
    data === undefined ? 0 : errorData.parse(data).errno,
  );
};

/** Replaces the indices of descriptors in the results by the descriptors, each used exactly once. Throws if that does not come out even. */
const placeDescriptors = (results: readonly unknown[], fds: readonly number[]): void => {
  const unused = new Set(fds);
  for (const result of results) {
    const holder = result as { fd?: number };
    if (typeof holder.fd !== 'number') continue;
    const fd = fds[holder.fd];
    if (fd === undefined || !unused.delete(fd)) throw new Error(`descriptor ${holder.fd} of ${fds.length} is missing`);
    holder.fd = fd;
  }
  if (unused.size > 0) throw new Error(`${unused.size} descriptors more than results that name one`);
};

/** The requests of one kind of channel, `host` or `netns`, in strict turn: one is outstanding at most. */
export class HelperClient {
  readonly #channel: number;
  readonly #rpc: JSONRPCClient;
  #received: Received = { responses: [], fds: [] };

  /** `channel`: descriptor of the SOCK_SEQPACKET socket; it stays open. */
  constructor(channel: number) {
    this.#channel = channel;
    this.#rpc = new JSONRPCClient((payload) => {
      this.#exchange(
        JSON.stringify(payload),
        [payload].flat().map(({ id }) => id),
      );
      this.#rpc.receive([...this.#received.responses]);
    });
  }

  /** Throws {@link HelperError}; a request that breaks the contract is a ZodError and was not sent. */
  async call<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    const [result] = await this.callBatch([{ method, params }] as unknown as readonly [Call]);
    return result as Result<M>;
  }

  /**
   * Several requests as one message. If one of them fails, the descriptors of the others are closed and the first error is
   * thrown: set-up does not go on with half of what it asked for.
   */
  async callBatch<const C extends readonly Call[]>(calls: C): Promise<Results<C>> {
    if (calls.length === 0 || calls.length > BATCH_MAX)
      throw new RangeError(`1 to ${BATCH_MAX} calls, not ${calls.length}`);
    const requests = calls.map(({ method, params }, i) => ({
      jsonrpc: '2.0' as const,
      id: i,
      method,
      params: METHODS[method].params.parse(params) as Record<string, unknown>,
    }));
    this.#received = { responses: [], fds: [] };
    const [only] = requests;
    const responses = await (requests.length === 1 && only !== undefined
      ? this.#rpc.requestAdvanced(only).then((one) => [one])
      : this.#rpc.requestAdvanced(requests));
    return this.#settle(calls, responses) as Results<C>;
  }

  /**
   * The same request with many parameters, in as many messages as it takes, the next one being worked at while the last one's reply is
   * read. `each` is told the outcomes in order; a request that failed is a {@link HelperError}. Rejects with one only if the channel itself
   * fails.
   */
  async callEach<M extends MethodName>(
    method: M,
    params: readonly Params<M>[],
    each: (i: number, outcome: Result<M> | HelperError) => void,
  ): Promise<void> {
    try {
      for (let from = -BATCH_MAX; from < params.length; from += BATCH_MAX) {
        this.#sendSome(method, params, from + BATCH_MAX);
        if (from >= 0) this.#settleSome(method, from, Math.min(BATCH_MAX, params.length - from), each);
      }
    } catch (error) {
      throw error instanceof HelperError ? error : new HelperError((error as Error).message, CHANNEL_ERROR);
    }
  }

  #sendSome<M extends MethodName>(method: M, all: readonly Params<M>[], from: number): void {
    if (from >= all.length) return;
    const requests = all.slice(from, from + BATCH_MAX).map((one, i) => ({
      jsonrpc: '2.0' as const,
      id: from + i,
      method,
      params: METHODS[method].params.parse(one) as Record<string, unknown>,
    }));
    this.#send(JSON.stringify(requests));
  }

  #settleSome<M extends MethodName>(
    method: M,
    from: number,
    n: number,
    each: (i: number, outcome: Result<M> | HelperError) => void,
  ): void {
    this.#received = { responses: [], fds: [] };
    try {
      this.#receive(Array.from({ length: n }, (_, i) => from + i));
    } catch (error) {
      closeAll(this.#received.fds);
      throw error;
    }
    const { responses } = this.#received;
    const errors = responses.map(asError);
    const fine = responses.filter((_, i) => errors[i] === null);
    const results = this.#place(
      fine.map(() => ({ method })),
      fine,
    );
    let next = 0;
    for (const [i, error] of errors.entries()) each(from + i, error ?? (results[next++] as Result<M>));
  }

  #settle(calls: readonly Call[], responses: readonly JSONRPCResponse[]): readonly unknown[] {
    const error = responses.map(asError).find((one) => one !== null);
    if (error) {
      closeAll(this.#received.fds);
      throw error;
    }
    return this.#place(calls, responses);
  }

  /** Results of requests that did not fail, with their descriptors. */
  #place(calls: readonly { method: MethodName }[], responses: readonly JSONRPCResponse[]): readonly unknown[] {
    const { fds } = this.#received;
    try {
      const results = calls.map(({ method }, i) => METHODS[method].result.parse(responses[i]?.result));
      placeDescriptors(results, fds);
      return results;
    } catch (error) {
      closeAll(fds);
      throw new HelperError(
        `the helper's reply is not the one agreed upon: ${(error as Error).message}`,
        CHANNEL_ERROR,
      );
    }
  }

  /** Sends one datagram and waits for one. An error thrown here becomes the error of every request in it. */
  #exchange(text: string, ids: readonly unknown[]): void {
    this.#send(text);
    this.#receive(ids);
  }

  #send(text: string): void {
    const at = io.SCRATCH_AT;
    const bytes = Buffer.from(text);
    if (bytes.length > MESSAGE_BYTES_MAX)
      throw new Error(`request of ${bytes.length} bytes, at most ${MESSAGE_BYTES_MAX}`);
    io.mem.set(bytes, at);
    const sent = io.native.channelSend(this.#channel, at, bytes.length);
    if (sent === -constants.errno.EPIPE || sent === -constants.errno.ECONNRESET) throw new Error('helper is gone');
    if (sent !== bytes.length) throw new Error(`Couldn't send to the helper: errno ${-sent}`);
  }

  /** The reply to the requests with these identifiers. */
  #receive(ids: readonly unknown[]): void {
    const at = io.SCRATCH_AT;
    const length = io.native.channelRecv(this.#channel, at, MESSAGE_BYTES_MAX, true);
    if (length === 0 || length === -constants.errno.ECONNRESET) throw new Error('helper is gone');
    if (length < 0) throw new Error(`Couldn't receive from the helper: errno ${-length}`);
    const count = io.col[io.COL.FD_COUNT] as number;
    const fds = Array.from(io.col.subarray(io.COL.FD, io.COL.FD + count));
    this.#received = { responses: [], fds };
    const reply = Buffer.from(io.mem.subarray(at, at + length)).toString('utf8');
    const responses = parseReply(reply);
    // Unanswered, a request would wait for ever: nothing else arrives on this channel.
    const answered = responses.length === ids.length && responses.every(({ id }, i) => id === ids[i]);
    if (!answered) throw new Error(responses[0]?.error?.message ?? 'the reply is not for this request');
    this.#received = { responses, fds };
  }
}
