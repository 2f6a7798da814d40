import type Database from 'better-sqlite3'
import type { Engine, Operation } from '../operations.ts'
import { SqliteEngine } from './engine.ts'
import type { OpenedStore } from './open.ts'
import { openNoStore } from './open.ts'

/**
 * The store of a daemon, which may have been started without one (`--sealed`). Until one is made, an empty one in memory
 * stands in its place: reads find nothing there, and nobody is to write to it.
 */
export class StoreSlot implements Engine {
  #engine: SqliteEngine
  #isMade: boolean

  /** `opened` is null where there is no store yet; `day` is the ledger's, days since 1970. */
  constructor(opened: OpenedStore | null, day: number) {
    this.#engine = new SqliteEngine(opened?.database ?? openNoStore())
    this.#isMade = opened !== null
    if (opened === null) this.#engine.execute({ name: 'ledgerInsert', params: [day] })
  }

  /** Whether there is a store. */
  get isMade(): boolean {
    return this.#isMade
  }

  get database(): Database.Database {
    return this.#engine.database
  }

  /** Puts the store that was made in its place. Call it while no transaction runs. */
  adopt({ database }: OpenedStore): void {
    if (this.#isMade || this.inTransaction) throw new Error('the store cannot be exchanged now')
    const before = this.#engine
    this.#engine = new SqliteEngine(database)
    this.#isMade = true
    before.database.close()
  }

  close(): void {
    this.database.close()
  }

  get inTransaction(): boolean {
    return this.#engine.inTransaction
  }

  isStorageError(error: unknown): boolean {
    return this.#engine.isStorageError(error)
  }

  execute(operation: Operation): unknown {
    return this.#engine.execute(operation)
  }

  control(statement: Parameters<Engine['control']>[0]): void {
    this.#engine.control(statement)
  }
}
