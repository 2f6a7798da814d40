import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** A daemon start and an Argon2id on a busy 2-core machine. */
const timeoutMs = 30_000

// Most of a test's time is waiting for a daemon, so one more of them than cores.
const maxWorkers = availableParallelism() + 1

// A shared machine of a CI stalls for seconds now and then; code that is broken fails every time.
const retry = process.env['CI'] === undefined ? 0 : 2

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
          env: { PURSER_TEST_RUNNER: 'delayed' },
        },
      },
    ],
  },
})
