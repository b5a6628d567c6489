// SPDX-License-Identifier: Apache-2.0
/** Fields that several parts of the plan's schema have. */
import * as z from 'zod/mini';
import { parseAddress } from '../host/address.ts';

/** An object without other keys, frozen. */
export const frozen = <S extends z.core.$ZodLooseShape>(shape: S) => z.readonly(z.strictObject(shape));

export const address = z.string().check(z.refine((text) => parseAddress(text) !== null, 'not an IP address'));
export const address4 = z.string().check(z.refine((text) => parseAddress(text)?.family === 4, 'not an IPv4 address'));
export const address6 = z.string().check(z.refine((text) => parseAddress(text)?.family === 6, 'not an IPv6 address'));
export const ifname = z.string().check(z.regex(/^[!-.0-9;-~]{1,15}$/));
export const flag = z.boolean();
