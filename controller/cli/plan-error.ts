// SPDX-License-Identifier: Apache-2.0

/** The command line is well-formed, but this host cannot do it: one clear sentence for stderr, exit status 1. */
export class PlanError extends Error {
  readonly code: 'no-such-interface' | 'address-clash' | 'no-ip-version' | 'forwarding' | 'inconsistent';
  constructor(code: PlanError['code'], message: string) {
    super(message);
    this.name = 'PlanError';
    this.code = code;
  }
}
