import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { AuditEntry } from '../../src/audit/entry.ts'
import { finishVerification, startVerification, verifyRow } from '../../src/audit/verify.ts'
import { AuditWriter } from '../../src/audit/writer.ts'
import { GroupCommit, type Unit } from '../../src/store/group-commit.ts'
import type { Engine, Operation, Transaction } from '../../src/store/operations.ts'
import { perform } from '../../src/store/operations.ts'
import { SqliteEngine } from '../../src/store/sqlite/engine.ts'
import { openStore } from '../../src/store/sqlite/open.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'

/** Jobs of one turn, and the one of them that something happens to. */
const turn = 64
const unlucky = 32
const mac = (hash: Buffer) => Buffer.from(hash)

type Control = Parameters<Engine['control']>[0]

let directory: string
let database: Database.Database
let engine: Faulty
let commits: GroupCommit<AuditEntry>
let failures: unknown[]

/** The real engine; a test may have something happen before a step. */
class Faulty implements Engine {
  readonly #engine: SqliteEngine
  readonly #awaited: boolean
  before: (step: Operation | Control) => void = () => undefined

  constructor(engine: SqliteEngine, awaited: boolean) {
    this.#engine = engine
    this.#awaited = awaited
  }

  get inTransaction(): boolean {
    return this.#engine.inTransaction
  }

  isStorageError(error: unknown): boolean {
    return this.#engine.isStorageError(error)
  }

  execute(operation: Operation): unknown {
    return this.#run(operation, () => this.#engine.execute(operation))
  }

  control(statement: Control): unknown {
    return this.#run(statement, () => this.#engine.control(statement))
  }

  #run(step: Operation | Control, carryOut: () => unknown): unknown {
    const run = () => {
      this.before(step)
      return carryOut()
    }
    return this.#awaited ? new Promise((resolve) => setImmediate(resolve)).then(run) : run()
  }
}

describe.each([
  { name: 'answers at once', awaited: false },
  { name: 'answers by promises', awaited: true },
])('a turn on an engine that $name', ({ awaited }) => {
  beforeEach(() => {
    // A commit is closed early when it takes long, which on a busy machine would cut the turn in two.
    vi.spyOn(performance, 'now').mockReturnValue(0)
    directory = mkdtempSync(join(tmpdir(), 'purser-turn-'))
    ;({ database } = openStore(directory, (made) => {
      statementsOf(made).storeInsert(Buffer.alloc(16), 0)
      statementsOf(made).ledgerInsert(0)
    }))
    engine = new Faulty(new SqliteEngine(database), awaited)
    failures = []
    commits = new GroupCommit(engine, new AuditWriter(mac, () => 1), (error) => failures.push(error))
  })
  afterEach(() => {
    vi.restoreAllMocks()
    database.close()
    rmSync(directory, { recursive: true })
  })

  test('is lost whole where SQLite rolls everything back by itself in the middle of it', async () => {
    poison('users', `new.user_id = 'u${unlucky}'`, 'ROLLBACK')
    expect(await runTurn()).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(failures).toHaveLength(1)
    expect(users()).toEqual([])
    await expectRecovered()
  })

  test('is lost whole where the job it happens to catches the error and goes on', async () => {
    poison('users', "new.user_id = 'careless'", 'ROLLBACK')
    const outcomes = await runTurn(function* (unit, userId) {
      try {
        yield* addUser('careless')
      } catch {
        // As if it did not matter.
      }
      yield* addUser(userId)
      unit.audit(entry(userId))
    })
    expect(outcomes).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(users()).toEqual([])
    await expectRecovered()
  })

  test('is lost whole where a read fails in a job that has written nothing yet', async () => {
    engine.before = (step) => {
      if (nameOf(step) !== 'userGet') return
      // What SQLite does at an I/O error: no savepoint is left either, so the next one would commit by itself.
      database.exec('ROLLBACK')
      throw new Database.SqliteError('disk I/O error', 'SQLITE_IOERR_READ')
    }
    const outcomes = await runTurn(function* (unit, userId) {
      if (userId === `u${unlucky}`) yield* perform('userGet', userId)
      yield* addAudited(unit, userId)
    })
    expect(outcomes).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(failures).toMatchObject([{ code: 'SQLITE_IOERR_READ' }])
    expect(users()).toEqual([])
    await expectRecovered()
  })

  test('is lost whole where the audit log takes no more', async () => {
    poison('audit', `new.user_id = 'u${unlucky}'`, 'ROLLBACK')
    expect(await runTurn()).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(users()).toEqual([])
    await expectRecovered()
  })

  test('loses one job alone where only its statement failed', async () => {
    poison('users', `new.user_id = 'u${unlucky}'`, 'ABORT')
    const outcomes = await runTurn()
    expect(outcomes[unlucky]).toBe('SqliteError')
    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(turn - 1)
    expect(users()).toHaveLength(turn - 1)
    await expectRecovered(turn - 1)
  })

  test('loses one job alone where its statement found the store full and left the transaction', async () => {
    // A statement that fires a trigger has a journal of its own, so that SQLite can undo it alone.
    const pages = Number(database.pragma('page_count', { simple: true }))
    engine.before = (step) => {
      const name = nameOf(step)
      if (name !== 'userInsert') return
      const [row] = (step as Operation).params as [{ userId: string }]
      database.pragma(`max_page_count = ${row.userId === `u${unlucky}` ? pages : 1_000_000}`)
    }
    const outcomes = await runTurn(function* (unit, userId) {
      yield* addUser(userId, userId === `u${unlucky}` ? 'x'.repeat(100_000) : null)
      unit.audit(entry(userId))
    })
    expect(outcomes[unlucky]).toBe('StorageUnavailable')
    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(turn - 1)
    expect(failures).toMatchObject([{ code: 'SQLITE_FULL' }])
    await expectRecovered(turn - 1)
  })

  test('is lost whole where a statement without a journal of its own found the store full', async () => {
    const pages = Number(database.pragma('page_count', { simple: true }))
    engine.before = (step) => {
      if (nameOf(step) !== 'auditInsert') return
      const [row] = (step as Operation).params as [{ userId: string }]
      database.pragma(`max_page_count = ${row.userId === `u${unlucky}` ? pages : 1_000_000}`)
    }
    const outcomes = await runTurn(function* (unit, userId) {
      yield* addUser(userId)
      unit.audit({ ...entry(userId), details: { text: userId === `u${unlucky}` ? 'x'.repeat(100_000) : '' } })
    })
    expect(outcomes).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(failures).toMatchObject([{ cause: { code: 'SQLITE_FULL' } }])
    await expectRecovered()
  })

  test('is lost whole where COMMIT fails and leaves the transaction open', async () => {
    engine.before = (step) => {
      if (step !== 'commit') return
      database.exec("PRAGMA defer_foreign_keys = ON; INSERT INTO user_days VALUES ('nobody', 1, 1)")
    }
    expect(await runTurn()).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(database.inTransaction).toBe(false)
    expect(users()).toEqual([])
    await expectRecovered()
  })

  test('takes the next one with it where ROLLBACK fails too, and no more', async () => {
    poison('users', `new.user_id = 'u${unlucky}'`, 'ABORT')
    let refused = 0
    engine.before = (step) => {
      if (step === 'commit' && refused === 0) throw new Database.SqliteError('no', 'SQLITE_IOERR')
      if (step === 'rollback' && refused++ === 0) throw new Database.SqliteError('no', 'SQLITE_IOERR')
    }
    expect(await runTurn()).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(database.inTransaction).toBe(true)
    expect(await runTurn()).toEqual(Array(turn).fill('StorageUnavailable'))
    expect(database.inTransaction).toBe(false)
    expect(users()).toEqual([])
    await expectRecovered()
  })

  test('keeps its chain where a job fails between two of its entries', async () => {
    const outcomes = await runTurn(function* (unit, userId) {
      yield* addUser(userId)
      unit.audit(entry(userId))
      // No JSON has a bigint: chaining the second entry throws when the first one is in.
      unit.audit({ ...entry(userId), details: userId === `u${unlucky}` ? { amount: 1n } : {} })
    })
    // An act whose entry cannot be written did not happen, whatever kept the entry from being written.
    expect(outcomes[unlucky]).toBe('StorageUnavailable')
    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(turn - 1)
    await expectRecovered(2 * (turn - 1))
  })

  test('keeps its chain where the end of a savepoint fails', async () => {
    let releases = 0
    engine.before = (step) => {
      if (step === 'release' && ++releases === unlucky) throw new Database.SqliteError('no', 'SQLITE_NOLFS')
    }
    const outcomes = await runTurn()
    expect(outcomes.filter((outcome) => outcome === 'StorageUnavailable')).toHaveLength(1)
    await expectRecovered(turn - 1)
  })
})

function nameOf(step: Operation | Control): string {
  return typeof step === 'string' ? step : step.name
}

/** Makes SQLite fail at a row as if the disk had: ROLLBACK takes the whole transaction along, ABORT the statement. */
function poison(table: string, when: string, how: 'ROLLBACK' | 'ABORT'): void {
  database.exec(
    `CREATE TEMP TRIGGER poison_${table} BEFORE INSERT ON ${table} WHEN ${when} BEGIN SELECT RAISE(${how}, 'poison'); END`,
  )
}

type Work = (unit: Unit<AuditEntry>, userId: string) => Transaction<void>

/** What became of each of 64 jobs submitted in one turn. */
async function runTurn(work: Work = addAudited): Promise<string[]> {
  const before = commits.figures.commits + commits.figures.failures
  const settled = Array.from({ length: turn }, (_, index) =>
    commits
      .submit((unit) => work(unit, `u${index}`))
      .then(
        () => 'done',
        (error) => (error as { type?: string }).type ?? (error as Error).constructor.name,
      ),
  )
  const outcomes = await Promise.all(settled)
  expect(commits.figures.commits + commits.figures.failures).toBe(before + 1)
  return outcomes
}

function* addAudited(unit: Unit<AuditEntry>, userId: string): Transaction<void> {
  yield* addUser(userId)
  unit.audit(entry(userId))
}

function addUser(userId: string, email: string | null = null): Transaction<void> {
  return perform(
    'userInsert',
    {
      userId,
      tier: 'free',
      email,
      perTradeMicros: null,
      dailyMicros: null,
      exposureMicros: null,
      settlement: 'operator',
      maxSignaturesPerMinute: null,
    },
    1,
  )
}

function entry(userId: string): AuditEntry {
  return {
    action: 'user_put',
    outcome: 'ok',
    userId,
    credentialId: null,
    details: {},
    peer: null,
    client: null,
  }
}

function users(): string[] {
  return database.prepare('SELECT user_id FROM users').pluck().all() as string[]
}

/** Without a restart, a whole turn is carried out; every entry that is there, `entries` before it, is in the chain. */
async function expectRecovered(entries = 0): Promise<void> {
  engine.before = () => undefined
  database.exec(
    'DROP TRIGGER IF EXISTS poison_users; DROP TRIGGER IF EXISTS poison_audit; PRAGMA max_page_count = 1000000',
  )
  expect(database.inTransaction).toBe(false)
  const outcomes = await runTurn(function* (unit, userId) {
    yield* addUser(`later ${userId}`)
    unit.audit(entry(userId))
  })
  expect(outcomes).toEqual(Array(turn).fill('done'))
  const state = startVerification(null)
  for (const row of statementsOf(database).auditRange(1, 10_000)) verifyRow(state, row, mac)
  expect(finishVerification(state, true)).toMatchObject({
    ok: true,
    entries: entries + turn,
    macChecked: true,
  })
  expect(users().filter((userId) => userId.startsWith('later '))).toHaveLength(turn)
  expect(database.pragma('integrity_check', { simple: true })).toBe('ok')
}
