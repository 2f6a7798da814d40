import { defineConfig } from 'vitest/config'

/** A daemon start and an Argon2id on a busy 2-core machine. */
const timeoutMs = 30_000

const common = { testTimeout: timeoutMs, hookTimeout: timeoutMs }

export default defineConfig({
  test: {
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
