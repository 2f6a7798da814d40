import { PurserError } from '../errors.ts'
import type { LedgerClock } from '../ledger/clock.ts'
import { dayOf } from '../ledger/clock.ts'
import type { Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { Act, Binding, Commits, Subject } from './act.ts'
import { submitAudited, successEntry } from './act.ts'
import { time } from './credentials/metadata.ts'
import { findUser } from './users.ts'

export type Freeze = { readonly reason: string; readonly since: string }

/** The freezes a row of the store tells of. */
export type FrozenColumns = {
  readonly systemFrozenReason: string | null
  readonly systemFrozenAtMs: number | bigint | null
  readonly userFrozenReason: string | null
  readonly userFrozenAtMs: number | bigint | null
}

/**
 * Freezes a user or everything. A freeze stands in the store; one that could not be written stands in memory until it
 * is lifted or the daemon ends, because a full disk must not keep anyone from stopping a bot.
 */
export class FreezeService {
  readonly #commits: Commits
  readonly #clock: LedgerClock
  readonly #now: () => number
  #systemUnwritten: Freeze | null = null
  readonly #usersUnwritten = new Map<string, Freeze>()
  #systemFrozen = false

  constructor(parts: { commits: Commits; clock: LedgerClock; now: () => number }) {
    this.#commits = parts.commits
    this.#clock = parts.clock
    this.#now = parts.now
  }

  /** Reads what freezes everything now, null where nothing does; `anything` knows it from then on. */
  current(act: Act): Promise<Freeze | null> {
    return this.#commits.submit(() => this.systemFreeze(), act)
  }

  /** Whether everything is frozen, as far as last read or written; for metrics. */
  get anything(): boolean {
    return this.#systemFrozen || this.#systemUnwritten !== null || this.#clock.look().doubt !== null
  }

  /** Frozen where the user or everything is frozen. Call it first in whatever a freeze refuses. */
  refuseFrozen(userId: string, row: FrozenColumns): void {
    if (row.systemFrozenAtMs !== null) throw frozen(row.systemFrozenReason, row.systemFrozenAtMs)
    if (this.#systemUnwritten !== null) throw new PurserError('Frozen', this.#systemUnwritten)
    if (row.userFrozenAtMs !== null) throw frozen(row.userFrozenReason, row.userFrozenAtMs)
    const unwritten = this.#usersUnwritten.get(userId)
    if (unwritten !== undefined) throw new PurserError('Frozen', unwritten)
  }

  /** Refuses for a user or credential there is no row of: the freeze comes before NotFound. */
  *refuseFrozenMissing(userId: string): Transaction<void> {
    const ledger = yield* perform('ledgerGet')
    const user = yield* perform('userGet', userId)
    this.refuseFrozen(userId, {
      systemFrozenReason: ledger.frozenReason,
      systemFrozenAtMs: ledger.frozenAtMs,
      userFrozenReason: user?.frozenReason ?? null,
      userFrozenAtMs: user?.frozenAtMs ?? null,
    })
  }

  /** Frozen, reason `clock`, while the wall clock is in doubt; else what time it is. */
  refuseClock(): number {
    const { nowMs, doubt } = this.#clock.look()
    if (doubt !== null) throw new PurserError('Frozen', { reason: 'clock', since: time(doubt.sinceMs) })
    return nowMs
  }

  /** What freezes everything now, null where nothing does. */
  *systemFreeze(): Transaction<Freeze | null> {
    const ledger = yield* perform('ledgerGet')
    this.#systemFrozen = ledger.frozenAtMs !== null
    if (ledger.frozenAtMs !== null)
      return { reason: ledger.frozenReason ?? '', since: time(ledger.frozenAtMs) }
    const { doubt } = this.#clock.look()
    return this.#systemUnwritten ?? (doubt === null ? null : { reason: 'clock', since: time(doubt.sinceMs) })
  }

  /** What freezes the user of a row, null where nothing does. */
  userFreeze(userId: string, row: Pick<FrozenColumns, 'userFrozenReason' | 'userFrozenAtMs'>): Freeze | null {
    if (row.userFrozenAtMs !== null)
      return { reason: row.userFrozenReason ?? '', since: time(row.userFrozenAtMs) }
    return this.#usersUnwritten.get(userId) ?? null
  }

  async freezeSystem(act: Act, reason: string): Promise<{ frozen: Freeze }> {
    const subject: Subject = { action: 'system_frozen', userId: null, credentialId: null }
    const sinceMs = this.#now()
    const freeze = { reason, since: time(sinceMs) }
    const bind = () => {
      this.#systemUnwritten = freeze
    }
    try {
      await submitAudited(this.#commits, act, subject, function* (unit): Transaction<void> {
        // From here on, not from the answer on: if this cannot be written, others of the same turn may be.
        bind()
        yield* perform('ledgerFreeze', reason, sinceMs)
        unit.audit(successEntry(act, subject, { reason }))
      })
      this.#systemUnwritten = null
      this.#systemFrozen = true
    } catch (error) {
      if (!isUnwritten(error)) throw error
      bind()
      act.bindings.push(freezing('everything', freeze))
      throw error
    }
    act.bindings.push(freezing('everything', freeze))
    return { frozen: freeze }
  }

  /** Lifts the freeze of everything, and takes the wall clock as it is for right, also as the ledger's day. */
  async unfreezeSystem(act: Act): Promise<{ frozen: null }> {
    const subject: Subject = { action: 'system_unfrozen', userId: null, credentialId: null }
    const now = this.#now
    await submitAudited(this.#commits, act, subject, function* (unit): Transaction<void> {
      const before = yield* perform('ledgerGet')
      yield* perform('ledgerFreeze', null, null)
      const day = dayOf(now())
      if (before.day !== day) yield* perform(before.day > day ? 'ledgerStepBack' : 'ledgerDay', day)
      unit.audit(successEntry(act, subject, { day, dayBefore: before.day }))
    })
    this.#systemUnwritten = null
    this.#systemFrozen = false
    this.#clock.trust()
    return { frozen: null }
  }

  async freezeUser(act: Act, userId: string, reason: string): Promise<void> {
    const subject: Subject = { action: 'user_frozen', userId, credentialId: null }
    const sinceMs = this.#now()
    const freeze = { reason, since: time(sinceMs) }
    const unwritten = this.#usersUnwritten
    try {
      await submitAudited(this.#commits, act, subject, function* (unit): Transaction<void> {
        yield* findUser(userId)
        // From here on, not from the answer on: if this cannot be written, others of the same turn may be.
        unwritten.set(userId, freeze)
        yield* perform('userFreeze', userId, reason, sinceMs)
        unit.audit(successEntry(act, subject, { reason }))
      })
      unwritten.delete(userId)
    } catch (error) {
      if (!isUnwritten(error)) throw error
      unwritten.set(userId, freeze)
      act.bindings.push(freezing({ userId }, freeze))
      throw error
    }
    act.bindings.push(freezing({ userId }, freeze))
  }

  async unfreezeUser(act: Act, userId: string): Promise<void> {
    const subject: Subject = { action: 'user_unfrozen', userId, credentialId: null }
    await submitAudited(this.#commits, act, subject, function* (unit): Transaction<void> {
      yield* findUser(userId)
      yield* perform('userFreeze', userId, null, null)
      unit.audit(successEntry(act, subject))
    })
    this.#usersUnwritten.delete(userId)
  }
}

function frozen(reason: string | null, sinceMs: number | bigint): PurserError {
  return new PurserError('Frozen', { reason: reason ?? '', since: time(sinceMs) })
}

function freezing(on: Binding['on'], freeze: Freeze): Binding {
  return { on, grants: true, error: new PurserError('Frozen', freeze) }
}

function isUnwritten(error: unknown): boolean {
  return error instanceof PurserError && error.type === 'StorageUnavailable'
}
