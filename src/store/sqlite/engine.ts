import Database from 'better-sqlite3'
import type { Engine, Operation, OperationName, Operations } from '../operations.ts'
import { statementsOf } from './statements.ts'

/** What an engine does for each operation name. */
export type Handlers = {
  [N in OperationName]: (...params: Operations[N]['params']) => Operations[N]['result']
}

/** SQLite result codes that mean a bug or bad data from us rather than a store that cannot be used. */
const notStorage = new Set([
  'SQLITE_CONSTRAINT',
  'SQLITE_MISUSE',
  'SQLITE_RANGE',
  'SQLITE_MISMATCH',
  'SQLITE_ERROR',
])

/** Whether `error` is SQLite saying that the file cannot be read or written (full, I/O, read-only, corrupt, ...). */
export function isSqliteStorageError(error: unknown): boolean {
  if (!(error instanceof Database.SqliteError)) return false
  return ![...notStorage].some((code) => error.code === code || error.code.startsWith(`${code}_`))
}

/** Operations on an open SQLite store, each answered at once. */
export class SqliteEngine implements Engine {
  readonly database: Database.Database
  readonly #handlers: Handlers
  readonly #controls: Readonly<Record<Parameters<Engine['control']>[0], Database.Statement>>

  /** `database` comes from openStore: FULL, WAL, exclusive, safe integers on. */
  constructor(database: Database.Database) {
    this.database = database
    this.#handlers = statementsOf(database)
    this.#controls = {
      begin: database.prepare('BEGIN IMMEDIATE'),
      commit: database.prepare('COMMIT'),
      rollback: database.prepare('ROLLBACK'),
      savepoint: database.prepare('SAVEPOINT request'),
      release: database.prepare('RELEASE request'),
      rollbackToSavepoint: database.prepare('ROLLBACK TO request'),
    }
  }

  get inTransaction(): boolean {
    return this.database.inTransaction
  }

  isStorageError(error: unknown): boolean {
    return isSqliteStorageError(error)
  }

  execute(operation: Operation): unknown {
    const handler = this.#handlers[operation.name] as (...params: readonly unknown[]) => unknown
    return handler(...operation.params)
  }

  control(statement: Parameters<Engine['control']>[0]): void {
    this.#controls[statement].run()
  }
}
