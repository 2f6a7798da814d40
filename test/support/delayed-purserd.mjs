#!/usr/bin/env node
// purserd whose store answers every query by a promise after a random delay, as a networked engine will: what passes
// here assumes nothing of a synchronous store. Run by the launcher beside this file.
import { run } from '../../dist/run.js'

/** Longest wait before a query is carried out, milliseconds. */
const delayMsMax = Number(process.env.PURSER_TEST_DELAY_MS ?? 2)

const delay = () =>
  new Promise((resolve) => {
    const ms = Math.random() * delayMsMax
    if (ms < delayMsMax / 2) setImmediate(resolve)
    else setTimeout(resolve, ms)
  })

/** @param {import('../../dist/store/operations.js').Engine} engine */
function wrapEngine(engine) {
  return {
    async execute(operation) {
      await delay()
      return engine.execute(operation)
    },
    async control(statement) {
      await delay()
      return engine.control(statement)
    },
    get inTransaction() {
      return engine.inTransaction
    },
    isStorageError: (error) => engine.isStorageError(error),
  }
}

process.exitCode = await run(process.argv.slice(2), { wrapEngine })
