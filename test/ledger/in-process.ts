import { createHmac } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type Database from 'better-sqlite3'
import type { AuditEntry } from '../../src/audit/entry.ts'
import { AuditWriter } from '../../src/audit/writer.ts'
import type { Level } from '../../src/ledger/account.ts'
import { dayMs, dayOf, LedgerClock } from '../../src/ledger/clock.ts'
import type { Act } from '../../src/service/act.ts'
import { DecryptionWindow } from '../../src/service/decryption-window.ts'
import { FreezeService } from '../../src/service/freeze.ts'
import type { Loaded } from '../../src/service/spending/accounts.ts'
import { sweepExpired } from '../../src/service/spending/expiry.ts'
import { SpendReports } from '../../src/service/spending/reports.ts'
import { Reserving } from '../../src/service/spending/reserving.ts'
import { Settling } from '../../src/service/spending/settling.ts'
import type { Tiers } from '../../src/service/users.ts'
import { UserService } from '../../src/service/users.ts'
import { GroupCommit } from '../../src/store/group-commit.ts'
import type { AuditRow, Engine, Transaction } from '../../src/store/operations.ts'
import { perform } from '../../src/store/operations.ts'
import { SqliteEngine } from '../../src/store/sqlite/engine.ts'
import { openStore } from '../../src/store/sqlite/open.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'
import { actOf } from '../support/acts.ts'
import { Host } from './host.ts'

const usd = (dollars: number) => BigInt(dollars) * 1_000_000n

export const tiers: Tiers = {
  free: { perTradeMicros: usd(100), dailyMicros: usd(500), exposureMicros: usd(500) },
}

export type LedgerOptions = {
  readonly wallMs: number
  /** Whether the engine answers by promises, as a networked one will. */
  readonly promises?: boolean
  /** Whether commits are synced; the rules do not depend on it and tests of them are ten times faster without. */
  readonly synced?: boolean
}

/** The ledger's services composed as the daemon composes them, on a real store, with clocks the test owns. */
export class InProcessLedger {
  readonly directory = mkdtempSync(join(tmpdir(), 'purser-ledger-'))
  readonly host: Host
  readonly options: LedgerOptions
  database!: Database.Database
  #statements!: ReturnType<typeof statementsOf>
  #engine!: SqliteEngine
  commits!: GroupCommit<AuditEntry>
  clock!: LedgerClock
  freeze!: FreezeService
  reserving!: Reserving
  settling!: Settling
  reports!: SpendReports
  users!: UserService
  /** Accounts that were told of around a change, and levels that refused, since the last look. */
  readonly changed: { before: Loaded; after: Loaded }[] = []
  readonly denied: Level[] = []
  /** While set, no commit reaches the disk. */
  storeFails = false

  constructor(options: LedgerOptions) {
    this.options = options
    this.host = new Host(options.wallMs)
    this.#open()
    this.#compose()
  }

  static async open(options: LedgerOptions): Promise<InProcessLedger> {
    const ledger = new InProcessLedger(options)
    await ledger.#started()
    return ledger
  }

  /** An act of an admin. */
  act(): Act {
    return actOf()
  }

  /** Starts anew on what is stored, with nothing left of what was in memory; `reopen` opens the file again too (15 ms). */
  async restart(reopen = true): Promise<void> {
    await this.commits.idle()
    if (reopen) {
      this.database.close()
      this.#open()
    }
    this.#compose()
    await this.#started()
  }

  async close(): Promise<void> {
    await this.commits.idle()
    this.database.close()
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** A credential whose envelope nobody opens. */
  async credential(userId: string, dailyLimitMicros: bigint | null, isPrimary: boolean): Promise<number> {
    const atMs = this.host.wall
    return await this.commits.submit(function* (): Transaction<number> {
      const credentialId = yield* perform('credentialAllocateId')
      if (isPrimary) yield* perform('credentialDemotePrimary', userId, atMs)
      yield* perform('credentialInsert', {
        credentialId,
        userId,
        name: null,
        fingerprint: Buffer.from(`fingerprint of ${credentialId}`),
        address: null,
        privateKeyPolicy: 'exportable',
        isPrimary: isPrimary ? 1 : 0,
        dailyLimitMicros,
        atMs,
        expiresAtMs: null,
        epoch: 1,
        envelope: Buffer.alloc(1),
      })
      return credentialId
    })
  }

  /** What the daemon's timer does every second. */
  async sweep(): Promise<void> {
    const { nowMs, doubt } = this.clock.look()
    if (doubt === null) await sweepExpired(this.commits, nowMs)
  }

  /** Audit entries behind `seq`, oldest first. */
  entriesAfter(seq: number): AuditRow[] {
    return this.#statements.auditRange(seq + 1, 1_000_000)
  }

  get lastSeq(): number {
    return this.#statements.auditHead()?.seq ?? 0
  }

  #open(): void {
    const { database } = openStore(this.directory, (made) => {
      const statements = statementsOf(made)
      statements.storeInsert(Buffer.alloc(16, 7), this.host.wall)
      statements.ledgerInsert(dayOf(this.host.wall))
    })
    if (this.options.synced !== true) database.pragma('synchronous = OFF')
    this.database = database
    this.#statements = statementsOf(database)
    this.#engine = new SqliteEngine(database)
  }

  #compose(): void {
    const now = () => this.host.wall
    const mac = (hash: Buffer) => createHmac('sha256', 'audit key').update(hash).digest()
    const commits = new GroupCommit<AuditEntry>(
      this.#failing(this.options.promises === true ? byPromises(this.#engine) : this.#engine),
      new AuditWriter(mac, now),
      () => undefined,
    )
    const clock = new LedgerClock(this.host.clocks, this.#lastStoredMs())
    const freeze = new FreezeService({ commits, clock, now })
    const parts = {
      commits,
      tiers,
      freeze,
      changed: (before: Loaded, after: Loaded) => void this.changed.push({ before, after }),
      denied: (level: Level) => void this.denied.push(level),
    }
    const ledgerNow = () => {
      const { nowMs, doubt } = clock.look()
      return { nowMs, todayMs: doubt === null ? nowMs : null }
    }
    Object.assign(this, {
      commits,
      clock,
      freeze,
      reserving: new Reserving(parts),
      settling: new Settling(parts, ledgerNow),
      reports: new SpendReports(parts, ledgerNow),
      users: new UserService({ commits, tiers, window: new DecryptionWindow(1, 1), freeze, now }),
    })
  }

  #failing(engine: Engine): Engine {
    const full = new Error('the disk is full')
    return {
      execute: (operation) => engine.execute(operation),
      control: (statement) => {
        if (this.storeFails && statement === 'commit') throw full
        return engine.control(statement)
      },
      get inTransaction() {
        return engine.inTransaction
      },
      isStorageError: (error) => error === full || engine.isStorageError(error),
    }
  }

  #lastStoredMs(): number | null {
    const head = this.#statements.auditHead()
    if (head === undefined) return null
    return Math.max(
      this.#statements.auditRange(head.seq, 1)[0]!.atMs,
      this.#statements.ledgerGet().day * dayMs,
    )
  }

  /** The daemon's first transaction. */
  #started(): Promise<void> {
    const nowMs = this.host.wall
    return this.commits.submit(function* (unit): Transaction<void> {
      const holdsKept = yield* perform('reservationsKeep', nowMs)
      unit.audit({
        action: 'daemon_started',
        outcome: 'ok',
        userId: null,
        credentialId: null,
        details: { holdsKept },
        peer: null,
        client: null,
      })
    })
  }
}

/** Every answer a promise; every so often one that takes a turn of the event loop. */
function byPromises(engine: SqliteEngine): Engine {
  let count = 0
  const later = async <T>(answer: () => T): Promise<T> => {
    if (++count % 7 === 0) await new Promise(setImmediate)
    else await null
    return answer()
  }
  return {
    execute: (operation) => later(() => engine.execute(operation)),
    control: (statement) => later(() => engine.control(statement)),
    get inTransaction() {
      return engine.inTransaction
    },
    isStorageError: (error) => engine.isStorageError(error),
  }
}
