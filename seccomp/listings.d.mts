// SPDX-License-Identifier: Apache-2.0
/** Unit file below systemd/ → the allowlists of what runs in it, and which of their calls the unit does without. */
export const DROP_INS: Readonly<
  Record<string, { readonly profiles: readonly string[]; readonly without: readonly string[] }>
>;
