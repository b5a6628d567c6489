// SPDX-License-Identifier: Apache-2.0
/** Versions of the CNI specification, and what came with which. */
export const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof VERSIONS)[number];
export const NEWEST: Version = '1.1.0';
/** Of a configuration that says nothing: spec 0.1.0 had no other. */
export const UNSAID: Version = '0.1.0';

export const isVersion = (text: string): text is Version => (VERSIONS as readonly string[]).includes(text);
export const atLeast = (version: Version, since: Version): boolean =>
  VERSIONS.indexOf(version) >= VERSIONS.indexOf(since);
