// SPDX-License-Identifier: Apache-2.0
/** A sentence about input that a schema does not take: where it is, what is there, and what is valid. */
import * as z from 'zod/mini';

/** Of what is there, as much as helps to find it. */
const SHOWN_MAX = 100;

const KINDS: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};
const validFor = (issue: z.core.$ZodRawIssue): string => {
  switch (issue.code) {
    case 'invalid_type':
      return KINDS[issue.expected] ?? issue.expected;
    case 'unrecognized_keys':
      return `without ${issue.keys.join(', ')}`;
    default:
      return 'otherwise';
  }
};

/** For schemas: their own `error` is what is valid, `a whole number from 1280 to 65520`. */
export const whole = (least: number, most: number) => {
  const error = `a whole number from ${least} to ${most}`;
  return z.int({ error }).check(z.gte(least, { error }), z.lte(most, { error }));
};

/** JSON, cut to what fits a message. */
export const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}…`;
};

const valueAt = (given: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], given);

export interface Refusal {
  /** Keys, with dots between them; '' for the whole. */
  readonly where: string;
  readonly sentence: string;
}
/** What the schema makes of it, or the first thing that it does not take. */
export const parse = <T extends z.ZodMiniType>(
  schema: T,
  given: unknown,
): { readonly data: z.output<T> } | { readonly refusal: Refusal } => {
  const parsed = z.safeParse(schema, given, { error: validFor });
  if (parsed.success) return { data: parsed.data };
  const [{ path, message } = { path: [], message: 'otherwise' }] = parsed.error.issues;
  const where = path.map(String).join('.');
  const value = valueAt(given, path);
  const is = value === undefined ? 'missing' : shown(value);
  return { refusal: { where, sentence: `${where === '' ? 'It' : where} is ${is}: it has to be ${message}` } };
};
