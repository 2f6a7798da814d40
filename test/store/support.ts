import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type Database from 'better-sqlite3'
import type { AuditEntry } from '../../src/audit/entry.ts'
import { startVerification, verifyRow } from '../../src/audit/verify.ts'
import { AuditWriter } from '../../src/audit/writer.ts'
import { defaultUser } from '../../src/service/users.ts'
import { GroupCommit, type Unit } from '../../src/store/group-commit.ts'
import type { Engine, Operation, Transaction } from '../../src/store/operations.ts'
import { perform } from '../../src/store/operations.ts'
import { SqliteEngine } from '../../src/store/sqlite/engine.ts'
import { openStore } from '../../src/store/sqlite/open.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'
import { createKeyMaterial } from '../../src/vault/keyring.ts'

/** A directory under the system's temporary one, removed at the end of the block that holds it. */
export class Scratch implements Disposable {
  readonly path: string

  constructor() {
    this.path = mkdtempSync(join(tmpdir(), 'purser-store-'))
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

/** Opens the store in `directory`, made with random keys where there is none. */
export function openIn(directory: string): Database.Database {
  return openStore(directory, firstRows).database
}

export function firstRows(database: Database.Database): void {
  const { storeId, rows } = createKeyMaterial(Buffer.alloc(32, 7))
  const statements = statementsOf(database)
  statements.storeInsert(storeId, 1)
  statements.masterKeyInsert(rows[0], 1)
}

export type EngineKind = 'direct' | 'awaited'

/** What the group commit did to its engine, and a place to make it fail. */
export class WatchedEngine implements Engine {
  readonly log: string[] = []
  readonly #engine: SqliteEngine
  readonly #kind: EngineKind
  /** Runs before a step, which it may replace by throwing. */
  before: (step: string, operation?: Operation) => void = () => undefined

  constructor(engine: SqliteEngine, kind: EngineKind) {
    this.#engine = engine
    this.#kind = kind
  }

  execute(operation: Operation): unknown {
    return this.#step(operation.name, () => this.#engine.execute(operation), operation)
  }

  control(statement: Parameters<Engine['control']>[0]): unknown {
    return this.#step(statement, () => this.#engine.control(statement))
  }

  get inTransaction(): boolean {
    return this.#engine.inTransaction
  }

  isStorageError(error: unknown): boolean {
    return this.#engine.isStorageError(error)
  }

  #step(name: string, run: () => unknown, operation?: Operation): unknown {
    const carryOut = () => {
      this.log.push(name)
      this.before(name, operation)
      return run()
    }
    return this.#kind === 'direct'
      ? carryOut()
      : new Promise((resolve) => setImmediate(resolve)).then(carryOut)
  }
}

/** A store with everything between a service and its file. */
export class TestStore implements Disposable {
  readonly scratch = new Scratch()
  readonly database: Database.Database
  readonly engine: WatchedEngine
  readonly commits: GroupCommit<AuditEntry>
  readonly failures: unknown[] = []

  constructor(kind: EngineKind = 'direct') {
    this.database = openIn(this.scratch.path)
    this.engine = new WatchedEngine(new SqliteEngine(this.database), kind)
    const writer = new AuditWriter(() => Buffer.alloc(32, 1), Date.now)
    this.commits = new GroupCommit(this.engine, writer, (error) => this.failures.push(error))
  }

  /** Ids of the users there are. */
  get users(): string[] {
    return this.database.prepare('SELECT user_id FROM users ORDER BY user_id').pluck().all() as string[]
  }

  /** The users that entries name, in the order of the chain, which must hold with a MAC at the end of each commit. */
  get told(): (string | null)[] {
    const rows = statementsOf(this.database).auditRange(0, 1_000_000)
    const state = startVerification(null)
    for (const row of rows) verifyRow(state, row, () => Buffer.alloc(32, 1))
    if (!state.ok || state.unmacked > 0) throw new Error(`the chain does not hold at ${state.firstBadSeq}`)
    return rows.map(({ userId }) => userId)
  }

  [Symbol.dispose](): void {
    this.database.close()
    this.scratch[Symbol.dispose]()
  }
}

export const entryOf = (userId: string, outcome: AuditEntry['outcome'] = 'ok'): AuditEntry => ({
  action: 'user_put',
  outcome,
  userId,
  credentialId: null,
  details: {},
  peer: null,
  client: null,
})

/** A job that makes a user and its entry. */
export function makeUser(userId: string, more: (userId: string) => Transaction<void> = nothing) {
  return function* (unit: Pick<Unit<AuditEntry>, 'audit'>): Transaction<string> {
    yield* perform('userInsert', defaultUser(userId), 1)
    yield* more(userId)
    unit.audit(entryOf(userId))
    return userId
  }
}

function* nothing(): Transaction<void> {}
