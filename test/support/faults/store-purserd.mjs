#!/usr/bin/env node
// purserd on a store that a test sets up in its own way, by variables. Run by the launcher beside this file.
import Database from 'better-sqlite3'
import { run } from '../../../dist/run.js'

/** Statements carried out when the store is open: a store that does not sync, or writes in mid-transaction. */
const pragmas = process.env.STORE_PRAGMAS ?? ''
/** "<operation> <text>": every such operation whose params hold the text fails alone, as for a page that is damaged. */
const [faultyName, faultyText] = (process.env.STORE_FAULT ?? '').split(' ')
/** 1: every step is answered by a promise, in a later turn of the event loop. */
const awaited = process.env.STORE_AWAITED === '1'

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

function isFaulty({ name, params }) {
  return name === faultyName && params.some((param) => Object.values(param).includes(faultyText))
}

/** @param {import('../../../dist/store/sqlite/engine.js').SqliteEngine} engine */
function wrapEngine(engine) {
  engine.database.exec(pragmas)
  const execute = (operation) => {
    if (isFaulty(operation))
      throw new Database.SqliteError('database disk image is malformed', 'SQLITE_CORRUPT')
    return engine.execute(operation)
  }
  const control = (statement) => engine.control(statement)
  return {
    execute: awaited ? (operation) => nextTurn().then(() => execute(operation)) : execute,
    control: awaited ? (statement) => nextTurn().then(() => control(statement)) : control,
    get inTransaction() {
      return engine.inTransaction
    },
    isStorageError: (error) => engine.isStorageError(error),
  }
}

process.exitCode = await run(process.argv.slice(2), { wrapEngine })
