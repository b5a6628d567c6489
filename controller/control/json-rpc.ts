// SPDX-License-Identifier: Apache-2.0
/**
 * One client of our own control socket: JSON-RPC 2.0, a message a line, batches included. A machine that is fed like
 * {@link PestoSession}; requests of one client are served one after the other, and while one is under way no more is read
 * from it. Nothing a client does or leaves undone holds up another.
 */
import {
  createJSONRPCErrorResponse,
  createJSONRPCSuccessResponse,
  isJSONRPCRequest,
  JSONRPCErrorCode,
  type JSONRPCRequest,
  type JSONRPCResponse,
} from 'json-rpc-2.0';
import * as z from 'zod/mini';
import * as log from '../obs/log.ts';
import type { Peer } from './pesto-server.ts';
import { add, list, type Outcome, type PortsOptions, remove } from './ports.ts';
import { rulesParams } from './rule-schema.ts';

/** A request with every rule of both tables fits. */
export const LINE_BYTES_MAX = 131_072;
const BATCH_MAX = 64;
const NEWLINE = 10;
const TOO_LONG = log.site('Over-long lines on the control socket');

interface Method {
  readonly params: () => z.ZodMiniType;
  readonly run: (o: PortsOptions, params: never, done: (outcome: Outcome) => void) => void;
}
let noParams: z.ZodMiniType | undefined;
const nothing = (): z.ZodMiniType => {
  noParams ??= z.optional(z.strictObject({}));
  return noParams;
};
const METHODS: Readonly<Record<string, Method>> = {
  'ports.list': { params: nothing, run: (o, _params, done) => list(o, done) },
  'ports.add': { params: rulesParams, run: add },
  'ports.remove': { params: rulesParams, run: remove },
};

type Respond = (response: JSONRPCResponse | null) => void;

export class JsonRpcSession {
  readonly #o: PortsOptions;
  readonly #peer: Peer;
  #bytes = Buffer.alloc(0);
  /** How much of it is known to hold no newline. */
  #searched = 0;
  #busy = false;
  #ended = false;
  #over = false;

  constructor(options: PortsOptions, peer: Peer) {
    this.#o = options;
    this.#peer = peer;
  }

  get wantsBytes(): boolean {
    return !this.#busy && !this.#ended && !this.#over;
  }
  /** Nothing of it is under way: it may be hung up on. */
  get idle(): boolean {
    return !this.#busy;
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#over) return;
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    this.#pump();
  }

  /** The client sends no more; what it asked is answered first. */
  onEnd(): void {
    this.#ended = true;
    this.#pump();
  }

  #pump(): void {
    while (!this.#busy && !this.#over) {
      const end = this.#bytes.indexOf(NEWLINE, this.#searched);
      if (end < 0) {
        this.#searched = this.#bytes.length;
        if (this.#ended) this.#close();
        else if (this.#bytes.length > LINE_BYTES_MAX) this.#tooLong();
        return;
      }
      const line = this.#bytes.toString('utf8', 0, end);
      this.#bytes = this.#bytes.subarray(end + 1);
      this.#searched = 0;
      if (end > LINE_BYTES_MAX) return this.#tooLong();
      if (line.trim() !== '') this.#line(line);
    }
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#bytes = Buffer.alloc(0);
    this.#peer.end();
  }

  #tooLong(): void {
    log.warnAt(TOO_LONG, this.#o.now(), 'Control socket: a line is too long, its client is hung up on');
    this.#answer(fault(null, JSONRPCErrorCode.InvalidRequest, `a line has ${LINE_BYTES_MAX} bytes at most`));
    this.#close();
  }

  #answer(payload: JSONRPCResponse | readonly JSONRPCResponse[]): void {
    this.#peer.send(Buffer.from(`${JSON.stringify(payload)}\n`));
  }

  #line(line: string): void {
    let payload: unknown;
    try {
      payload = JSON.parse(line);
    } catch {
      return this.#answer(fault(null, JSONRPCErrorCode.ParseError, 'not JSON'));
    }
    this.#busy = true;
    const ready = (answer: JSONRPCResponse | readonly JSONRPCResponse[] | null): void => {
      this.#busy = false;
      if (answer !== null && !this.#over) this.#answer(answer);
    };
    // An answer that came at once is followed by #pump's own loop; a later one has to start it again.
    let later = false;
    const readyLater: typeof ready = (answer) => {
      ready(answer);
      if (!later) return;
      this.#pump();
      this.#peer.resume();
    };
    if (Array.isArray(payload)) this.#batch(payload, readyLater);
    else this.#one(payload, readyLater);
    later = true;
  }

  #batch(
    requests: readonly unknown[],
    ready: (answers: readonly JSONRPCResponse[] | JSONRPCResponse | null) => void,
  ): void {
    if (requests.length === 0 || requests.length > BATCH_MAX)
      return ready(fault(null, JSONRPCErrorCode.InvalidRequest, `a batch has 1 to ${BATCH_MAX} requests`));
    const answers: JSONRPCResponse[] = [];
    const next = (i: number): void => {
      if (i === requests.length) return ready(answers.length === 0 ? null : answers);
      this.#one(requests[i], (response) => {
        if (response !== null) answers.push(response);
        next(i + 1);
      });
    };
    next(0);
  }

  #one(payload: unknown, respond: Respond): void {
    if (!isRequest(payload)) return respond(fault(null, JSONRPCErrorCode.InvalidRequest, 'not a JSON-RPC 2.0 request'));
    const id = payload.id ?? null;
    // JSON-RPC 2.0 §4.1: without an identifier nobody waits for an answer.
    const answer: Respond = payload.id === undefined ? () => respond(null) : respond;
    const method = Object.hasOwn(METHODS, payload.method) ? METHODS[payload.method] : undefined;
    if (method === undefined)
      return answer(fault(id, JSONRPCErrorCode.MethodNotFound, `there is no method ${payload.method.slice(0, 64)}`));
    const params = method.params().safeParse(payload.params);
    if (!params.success) return answer(fault(id, JSONRPCErrorCode.InvalidParams, firstIssue(params.error)));
    method.run(this.#o, params.data as never, (outcome) =>
      answer(
        'error' in outcome
          ? createJSONRPCErrorResponse(id, outcome.error.code, outcome.error.message, outcome.error.data)
          : createJSONRPCSuccessResponse(id, outcome.result),
      ),
    );
  }
}

const fault = (id: JSONRPCResponse['id'], code: number, message: string): JSONRPCResponse =>
  createJSONRPCErrorResponse(id, code, message);

const isRequest = (payload: unknown): payload is JSONRPCRequest =>
  typeof payload === 'object' &&
  payload !== null &&
  isJSONRPCRequest(payload) &&
  typeof payload.method === 'string' &&
  validId(payload.id);
const validId = (id: unknown): boolean =>
  id === undefined || id === null || typeof id === 'string' || typeof id === 'number';

const firstIssue = (error: z.core.$ZodError): string => {
  const [issue] = error.issues;
  return issue === undefined ? 'not understood' : `${issue.path.join('.') || 'params'}: ${issue.message}`;
};
