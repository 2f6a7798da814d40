import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** A daemon start and an Argon2id on a busy 2-core machine. */
const timeoutMs = 30_000

// Much of a test's time is waiting for a daemon, so more of them than cores.
const maxWorkers = availableParallelism() + 2

// A shared machine of a CI stalls for seconds now and then; code that is broken fails every time.
const retry = process.env['CI'] === undefined ? 0 : 2

// What an awaiting store cannot change (how envelopes, callers and the clock are looked at), or what has to hit a slow
// step in the midst, which with one has moved.
const notDelayed = [
  'audit-verify',
  'backup',
  'binding-slow-steps',
  'boundary',
  'cache',
  'client-binding-slow',
  'client-shares',
  'damaged',
  'master-key-file',
  'other-uids',
  'rate-limit',
  'seal-audit',
  'supplementary-groups',
].map((name) => `test/flows/${name}.test.ts`)

const common = { testTimeout: timeoutMs, hookTimeout: timeoutMs, retry }

export default defineConfig({
  test: {
    maxWorkers,
    coverage: { provider: 'v8', include: ['src/**'], reporter: ['text-summary', 'html'] },
    projects: [
      { test: { ...common, name: 'all', include: ['test/**/*.test.ts'] } },
      // The flows once more, with a store whose every query is awaited: nothing may assume that it answers at once.
      {
        test: {
          ...common,
          name: 'delayed',
          include: ['test/flows/**/*.test.ts'],
          exclude: notDelayed,
          env: { PURSER_TEST_RUNNER: 'delayed' },
        },
      },
    ],
  },
})
