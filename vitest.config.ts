// SPDX-License-Identifier: Apache-2.0
/**
 * Seven kinds of test. `unit` and `style` run in parallel; the others start processes, make namespaces and measure time, so one
 * file at a time. What runs beside what is said by scripts/test.mjs. Tests run from sources with the addon that the build put into dist/.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const env = { PASTICHE_ADDON: process.env['PASTICHE_ADDON'] ?? here('dist/pastiche.node') };
const common = { env, environment: 'node', pool: 'forks' } as const;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['test/unit/**/*.test.ts', 'controller/**/*.test.ts', 'shared/**/*.test.ts', 'seccomp/**/*.test.ts'],
          testTimeout: 20_000,
        },
      },
      { test: { ...common, name: 'style', include: ['test/style/**/*.test.ts'], testTimeout: 30_000 } },
      {
        test: {
          ...common,
          name: 'security',
          include: ['test/security/**/*.test.ts', 'test/fuzz/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          ...common,
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          fileParallelism: false,
          maxConcurrency: 32,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
      {
        test: {
          ...common,
          name: 'vm',
          include: ['test/vm/**/*.test.ts'],
          fileParallelism: false,
          maxConcurrency: 32,
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...common,
          name: 'forward',
          include: ['test/forward/**/*.test.ts'],
          fileParallelism: false,
          sequence: { concurrent: false },
          maxConcurrency: 64,
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...common,
          name: 'integration',
          include: ['test/conformance/**/*.test.ts', 'test/integration/**/*.test.ts'],
          fileParallelism: false,
          sequence: { concurrent: false },
          maxConcurrency: 64,
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
