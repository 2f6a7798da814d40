import { PurserError } from '../errors.ts'
import type { LedgerClock } from '../ledger/clock.ts'
import { dayOf } from '../ledger/clock.ts'
import type { Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { Act, Binding, Commits, Subject, WorkUnit } from './act.ts'
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

/** A freeze that stands in memory only, and who asked for it. */
type Unwritten = {
  readonly userId: string | null
  readonly freeze: Freeze
  readonly sinceMs: number
  readonly by: Pick<Act, 'peer' | 'client'>
}

/** A freeze that could not be written is tried again after this long, then after twice as long each time. */
const retryMs = 1000
/** Longest wait between two tries; each is one commit that fails. */
const retryMsMax = 10_000
/** Freezes written by one try. */
const retriedMax = 500

/**
 * Freezes a user or everything. A freeze stands in the store; one that could not be written stands in memory until it
 * is lifted or `writeUnwritten` has written it, because a full disk must not keep anyone from stopping a bot.
 */
export class FreezeService {
  readonly #commits: Commits
  readonly #clock: LedgerClock
  readonly #now: () => number
  /** By user, null for everything. */
  readonly #unwritten = new Map<string | null, Unwritten>()
  /** Freezes and unfreezes under way. */
  #acting = 0
  #retryAt = Number.NEGATIVE_INFINITY
  #retryAfterMs = retryMs
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
    return this.#systemFrozen || this.#unwritten.has(null) || this.#clock.look().doubt !== null
  }

  /** Frozen where the user or everything is frozen. Call it first in whatever a freeze refuses. */
  refuseFrozen(userId: string, row: FrozenColumns): void {
    if (row.systemFrozenAtMs !== null) throw frozen(row.systemFrozenReason, row.systemFrozenAtMs)
    const everything = this.#unwritten.get(null)
    if (everything !== undefined) throw new PurserError('Frozen', everything.freeze)
    if (row.userFrozenAtMs !== null) throw frozen(row.userFrozenReason, row.userFrozenAtMs)
    const unwritten = this.#unwritten.get(userId)
    if (unwritten !== undefined) throw new PurserError('Frozen', unwritten.freeze)
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
    const unwritten = this.#unwritten.get(null)
    if (unwritten !== undefined) return unwritten.freeze
    const { doubt } = this.#clock.look()
    return doubt === null ? null : { reason: 'clock', since: time(doubt.sinceMs) }
  }

  /** What freezes the user of a row, null where nothing does. */
  userFreeze(userId: string, row: Pick<FrozenColumns, 'userFrozenReason' | 'userFrozenAtMs'>): Freeze | null {
    if (row.userFrozenAtMs !== null)
      return { reason: row.userFrozenReason ?? '', since: time(row.userFrozenAtMs) }
    return this.#unwritten.get(userId)?.freeze ?? null
  }

  /** How many freezes stand in memory only. */
  get unwritten(): number {
    return this.#unwritten.size
  }

  async freezeSystem(act: Act, reason: string): Promise<{ frozen: Freeze }> {
    const freeze = await this.#freeze(act, null, reason, (sinceMs, bind) => {
      bind()
      return perform('ledgerFreeze', reason, sinceMs)
    })
    this.#systemFrozen = true
    return { frozen: freeze }
  }

  /** Lifts the freeze of everything, and takes the wall clock as it is for right, also as the ledger's day. */
  async unfreezeSystem(act: Act): Promise<{ frozen: null }> {
    const subject: Subject = { action: 'system_unfrozen', userId: null, credentialId: null }
    const now = this.#now
    await this.#unfreeze(act, subject, function* (unit): Transaction<void> {
      const before = yield* perform('ledgerGet')
      yield* perform('ledgerFreeze', null, null)
      const day = dayOf(now())
      if (before.day !== day) yield* perform(before.day > day ? 'ledgerStepBack' : 'ledgerDay', day)
      unit.audit(successEntry(act, subject, { day, dayBefore: before.day }))
    })
    this.#systemFrozen = false
    this.#clock.trust()
    return { frozen: null }
  }

  async freezeUser(act: Act, userId: string, reason: string): Promise<void> {
    await this.#freeze(act, userId, reason, function* (sinceMs, bind): Transaction<void> {
      yield* findUser(userId)
      bind()
      yield* perform('userFreeze', userId, reason, sinceMs)
    })
  }

  async unfreezeUser(act: Act, userId: string): Promise<void> {
    const subject: Subject = { action: 'user_unfrozen', userId, credentialId: null }
    await this.#unfreeze(act, subject, function* (unit): Transaction<void> {
      yield* findUser(userId)
      yield* perform('userFreeze', userId, null, null)
      unit.audit(successEntry(act, subject))
    })
  }

  /** `write` calls `bind` once nothing is left that may refuse the freeze. */
  async #freeze(
    act: Act,
    userId: string | null,
    reason: string,
    write: (sinceMs: number, bind: () => void) => Transaction<void>,
  ): Promise<Freeze> {
    const subject = subjectOf(userId)
    const sinceMs = this.#now()
    const freeze = { reason, since: time(sinceMs) }
    const by = { peer: act.peer, client: act.client }
    // From its place in the turn on, not from the answer on: if this cannot be written, others of the turn may be.
    const bind = () => void this.#unwritten.set(userId, { userId, freeze, sinceMs, by })
    const on = userId === null ? 'everything' : { userId }
    this.#acting++
    try {
      await submitAudited(this.#commits, act, subject, function* (unit): Transaction<void> {
        yield* write(sinceMs, bind)
        unit.audit(successEntry(act, subject, { reason }))
      })
      this.#unwritten.delete(userId)
    } catch (error) {
      if (!isUnwritten(error)) throw error
      bind()
      act.bindings.push(freezing(on, freeze))
      throw error
    } finally {
      this.#acting--
    }
    act.bindings.push(freezing(on, freeze))
    return freeze
  }

  async #unfreeze(act: Act, subject: Subject, work: (unit: WorkUnit) => Transaction<void>): Promise<void> {
    this.#acting++
    try {
      await submitAudited(this.#commits, act, subject, work)
      this.#unwritten.delete(subject.userId)
    } finally {
      this.#acting--
    }
  }

  /**
   * Tries once more to write the freezes that stand in memory only, where it is time for that. Each gets the entry that
   * it had none of, with the caller who asked for it. StorageUnavailable where they still cannot be written.
   */
  async writeUnwritten(atMs: number = performance.now()): Promise<void> {
    if (this.#unwritten.size === 0 || atMs < this.#retryAt) return
    this.#retryAt = atMs + this.#retryAfterMs
    this.#retryAfterMs = Math.min(this.#retryAfterMs * 2, retryMsMax)
    const freezes = [...this.#unwritten.values()].slice(0, retriedMax)
    await Promise.all(freezes.map((unwritten) => this.#write(unwritten)))
    this.#retryAfterMs = retryMs
  }

  async #write(unwritten: Unwritten): Promise<void> {
    const { userId, freeze, sinceMs, by } = unwritten
    // A freeze or unfreeze under way comes first: one that was answered must not be undone by this.
    const isDue = () => this.#acting === 0 && this.#unwritten.get(userId) === unwritten
    const written = await this.#commits.submit(function* (unit): Transaction<boolean> {
      if (!isDue()) return false
      if (userId === null) yield* perform('ledgerFreeze', freeze.reason, sinceMs)
      else yield* perform('userFreeze', userId, freeze.reason, sinceMs)
      unit.audit({
        ...subjectOf(userId),
        outcome: 'ok',
        details: { ...freeze, late: true },
        peer: by.peer,
        client: by.client,
      })
      return true
    })
    if (!written || this.#unwritten.get(userId) !== unwritten) return
    this.#unwritten.delete(userId)
    if (userId === null) this.#systemFrozen = true
  }
}

function subjectOf(userId: string | null): Subject {
  return { action: userId === null ? 'system_frozen' : 'user_frozen', userId, credentialId: null }
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
