#!/usr/bin/env node
// purserd that ends by SIGKILL, or stands still for as long as a file is there, at one step of a rotation. Steps are the
// calls that put a key into its file, and the commits of the store: `before rename`, `after link`, `after commit of
// masterKeyPlaced`. Run by the launchers beside this file.
import { existsSync, promises, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const killAt = process.env.PURSER_TEST_KILL_AT
const stopAt = process.env.PURSER_TEST_STOP_AT

/** @param {string} step @param {string} [path] */
async function reach(step, path) {
  if (step === killAt) process.kill(process.pid, 'SIGKILL')
  if (step !== stopAt || path === undefined) return
  const marker = `${path}.stopped`
  writeFileSync(marker, '')
  while (existsSync(marker)) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** The key file that a path beside it belongs to. */
const keyFileOf = (path) => String(path).replace(/\.(new|epoch-\d+)$/, '')

for (const name of ['link', 'rename']) {
  const call = promises[name]
  promises[name] = async (from, to) => {
    // The first start makes a key by a link of its own.
    if (name === 'link' && !/\.epoch-\d+$/.test(String(to))) return call(from, to)
    await reach(`before ${name}`, keyFileOf(to))
    await call(from, to)
    await reach(`after ${name}`, keyFileOf(to))
  }
}
const open = promises.open
promises.open = async (path, ...rest) => {
  const handle = await open(path, ...rest)
  if (!String(path).endsWith('.new') || rest[0] !== 'wx') return handle
  await reach('new key made', keyFileOf(path))
  const sync = handle.sync.bind(handle)
  handle.sync = async () => {
    await sync()
    await reach('new key synced', keyFileOf(path))
  }
  return handle
}
syncBuiltinESMExports()

/** @param {import('../../dist/store/operations.js').Engine} engine */
function wrapEngine(engine) {
  let names = new Set()
  return {
    execute(operation) {
      names.add(operation.name)
      return engine.execute(operation)
    },
    control(statement) {
      if (statement === 'begin') names = new Set()
      const steps = statement === 'commit' ? [...names] : []
      for (const name of steps) void reach(`before commit of ${name}`)
      const result = engine.control(statement)
      for (const name of steps) void reach(`after commit of ${name}`)
      return result
    },
    get inTransaction() {
      return engine.inTransaction
    },
    isStorageError: (error) => engine.isStorageError(error),
  }
}

const { run } = await import('../../dist/run.js')
process.exitCode = await run(process.argv.slice(2), { wrapEngine })
