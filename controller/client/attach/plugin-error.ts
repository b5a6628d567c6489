// SPDX-License-Identifier: Apache-2.0
/** What a plugin tells its runtime instead of a result. Codes: CNI spec 1.1.0, section 5 "Error"; from 100 on they are ours. */
export const CODE = {
  INCOMPATIBLE_VERSION: 1,
  UNSUPPORTED_FIELD: 2,
  UNKNOWN_CONTAINER: 3,
  INVALID_ENVIRONMENT: 4,
  IO: 5,
  UNDECODABLE: 6,
  INVALID_CONFIG: 7,
  /** Of the reference implementation: the namespace is the plugin's own. */
  OWN_NAMESPACE: 8,
  TRY_AGAIN: 11,
  NOT_AVAILABLE: 50,
  LIMITED: 51,
  /** The instance did not start; the reason is its own. */
  NOT_STARTED: 100,
  INTERFACE_EXISTS: 101,
  /** CHECK: it is not as it was made. */
  NOT_AS_MADE: 102,
  /** A fault of the plugin. */
  INTERNAL: 999,
} as const;

export class PluginError extends Error {
  readonly code: number;
  /** More about it, or ''. */
  readonly details: string;
  constructor(code: number, message: string, details = '') {
    super(message);
    this.code = code;
    this.details = details;
  }
}
