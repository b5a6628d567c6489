// SPDX-License-Identifier: Apache-2.0
/** One request over the JSON-RPC socket of a running instance (--control). */
import { createJSONRPCRequest, isJSONRPCResponse, type JSONRPCErrorResponse } from 'json-rpc-2.0';
import { ClientError } from './arguments.ts';
import type { Connection } from './talk.ts';

/** Every rule of both tables, with its words. */
const ANSWER_BYTES_MAX = 1024 * 1024;

export type Answer = { readonly result: unknown } | { readonly error: JSONRPCErrorResponse['error'] };

/** Throws {@link ClientError}. */
export const ask = async (
  connection: Connection,
  method: string,
  params: unknown,
  patienceMs?: number,
): Promise<Answer> => {
  connection.send(Buffer.from(`${JSON.stringify(createJSONRPCRequest(1, method, params))}\n`));
  let bytes = Buffer.alloc(0);
  const whole = await connection.read(
    (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      return bytes.includes(10);
    },
    ANSWER_BYTES_MAX,
    patienceMs,
  );
  if (!whole) throw new ClientError('The server has closed the connection');
  try {
    const response: unknown = JSON.parse(bytes.toString('utf8'));
    if (isJSONRPCResponse(response) && response.id === 1)
      return response.error === undefined ? { result: response.result } : { error: response.error };
  } catch {
    // Said below.
  }
  throw new ClientError('The server sent something that is not an answer');
};
