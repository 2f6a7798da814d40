import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { perform } from '../dist/store/operations.js'
import { SqliteEngine } from '../dist/store/sqlite/engine.js'
import { statementsOf } from '../dist/store/sqlite/statements.js'
import { startDaemon, stop } from './processes.mjs'
import { connect, credential } from './rpc.mjs'

const reads = 200_000
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

function* lookByGenerator() {
  return (yield* perform('credentialPrimaryState', 'user0')).revision
}

function drive(engine, transaction) {
  let step = transaction.next()
  while (!step.done) step = transaction.next(engine.execute(step.value))
  return step.value
}

async function lookByPromise(engine) {
  const execute = async (name, ...params) => engine.execute({ name, params })
  return (await execute('credentialPrimaryState', 'user0')).revision
}

/** One indexed read: straight, as a generator of operations, and as an async function, the seam not chosen. */
export async function measureSeam(directory, rounds) {
  const daemon = await startDaemon(directory)
  const client = connect(daemon.socket)
  await client.call('credentials.store', { userId: 'user0', ...credential(0) })
  client.close()
  await stop(daemon.child)
  const copy = join(directory, 'seam.db')
  copyFileSync(join(directory, 'purser.db'), copy)
  const db = new Database(copy)
  db.defaultSafeIntegers(true)
  const engine = new SqliteEngine(db)
  const statements = statementsOf(db)
  const straight = []
  const generator = []
  const promise = []
  for (let round = 0; round < 2 * rounds + 1; round++) {
    straight.push(time(() => statements.credentialPrimaryState('user0').revision))
    generator.push(time(() => drive(engine, lookByGenerator())))
    const from = performance.now()
    for (let index = 0; index < reads; index++) await lookByPromise(engine)
    promise.push((1000 * (performance.now() - from)) / reads)
  }
  db.close()
  const samples = reads * (2 * rounds + 1)
  const row = (what, timings) => ({
    what,
    'purser us': Number(median(timings).toFixed(3)),
    'floor us': Number(median(straight).toFixed(3)),
    ratio: Number((median(timings) / median(straight)).toFixed(3)),
    samples,
  })
  return [
    row('seam: a read as a generator / straight', generator),
    row('seam not chosen: a read awaited / straight', promise),
  ]
}

function time(read) {
  const from = performance.now()
  for (let index = 0; index < reads; index++) read()
  return (1000 * (performance.now() - from)) / reads
}
