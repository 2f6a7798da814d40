import { PurserError } from '../../errors.ts'
import { type Denial, denial, held } from '../../ledger/account.ts'
import { dayEndMs } from '../../ledger/clock.ts'
import { formatUsd } from '../../money.ts'
import type { ReservationState, SpendRow, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act, Commits, Subject, WorkUnit } from '../act.ts'
import { guardOf, submitAudited, successEntry } from '../act.ts'
import { refuseUnusable, time } from '../credentials/metadata.ts'
import type { FreezeService } from '../freeze.ts'
import { grantsCredential } from '../grant.ts'
import type { Tiers } from '../users.ts'
import type { Loaded, RemainingView } from './accounts.ts'
import { changeAccount, loadAccount, remainingIn, writeAccount } from './accounts.ts'
import { afterFreeing, freeDue, freed } from './expiry.ts'
import { parseId, reservationIdOf } from './ids.ts'
import { bindRetry, firstAnswer } from './retries.ts'

export type SpendParams = { userId: string; credentialId?: number | undefined; amountUsd: bigint }
export type ReserveParams = SpendParams & {
  ttlSeconds?: number | undefined
  idempotencyKey?: string | undefined
}

export type ReserveAnswer = {
  reservationId: string
  state: ReservationState
  amountUsd: string
  expiresAt: string | null
  remaining: RemainingView
}

const ttlSecondsDefault = 60

export type SpendingParts = {
  readonly commits: Commits
  readonly tiers: Tiers
  readonly freeze: FreezeService
  /** Hears of accounts once a change of them is on disk: see watch.ts. */
  readonly changed: (before: Loaded, after: Loaded) => void
  readonly denied: (level: Denial['level']) => void
}

/** Checks and holds: what grants money. Every decision and what it writes is one transaction. */
export class Reserving {
  readonly #parts: SpendingParts

  constructor(parts: SpendingParts) {
    this.#parts = parts
  }

  /** Whether a reserve of this amount would be granted now. SpendLimitExceeded where not; changes nothing. */
  check(act: Act, params: SpendParams): Promise<{ allowed: true; remaining: RemainingView }> {
    const parts = this.#parts
    return afterFreeing(() =>
      parts.commits.submit(function* (unit) {
        const loaded = yield* grantable(parts, unit, act, params)
        if (loaded === freed) return freed
        refuseDenied(parts, loaded, params.amountUsd)
        guardGrant(act, loaded)
        return { allowed: true as const, remaining: remainingIn(loaded) }
      }, act),
    )
  }

  /** Holds an amount if every level allows it. Frozen, NotFound, CredentialRevoked, CredentialExpired, Conflict, SpendLimitExceeded. */
  reserve(act: Act, params: ReserveParams): Promise<ReserveAnswer> {
    const { userId } = params
    const subject: Subject = { action: 'spend_rejected', userId, credentialId: params.credentialId ?? null }
    return afterFreeing(() =>
      submitAudited(this.#parts.commits, act, subject, (unit) => this.#reserve(unit, act, params), 'batch'),
    )
  }

  *#reserve(unit: WorkUnit, act: Act, params: ReserveParams): Transaction<ReserveAnswer | typeof freed> {
    const parts = this.#parts
    const { userId, amountUsd, idempotencyKey } = params
    const ttlSeconds = params.ttlSeconds ?? ttlSecondsDefault
    const loaded = yield* grantable(parts, unit, act, params)
    if (loaded === freed) return freed
    const retry =
      idempotencyKey === undefined ? null : { userId, space: 'spend.reserve', key: idempotencyKey }
    const retryParams = {
      userId,
      credentialId: params.credentialId ?? null,
      amountUsd: formatUsd(amountUsd),
      ttlSeconds,
      idempotencyKey: idempotencyKey ?? null,
    }
    const first = retry === null ? null : yield* firstAnswer<ReserveAnswer>(retry, retryParams)
    if (first !== null) {
      const before = (yield* perform('reservationGet', parseId(first.reservationId)))!
      refuseUnlisted(act, before.credentialId)
      guardGrant(act, loaded)
      return { ...first, state: before.state }
    }
    refuseDenied(parts, loaded, amountUsd)
    const { credentialId } = loaded.row
    const atMs = loaded.nowMs
    const ttlMs = ttlSeconds * 1000
    const hold = { userId, credentialId, amountMicros: amountUsd, atMs, ttlMs }
    const changed = changeAccount(loaded, held(amountUsd), atMs + ttlMs)
    const { after } = changed
    const id = yield* perform('reservationInsert', hold)
    yield* writeAccount(changed)
    const answer: ReserveAnswer = {
      reservationId: reservationIdOf(id),
      state: 'held',
      amountUsd: retryParams.amountUsd,
      expiresAt: time(atMs + ttlMs),
      remaining: remainingIn(after),
    }
    if (retry !== null) yield* bindRetry(retry, retryParams, answer)
    const of = {
      action: 'spend_reserved',
      userId,
      credentialId: credentialId === null ? null : Number(credentialId),
    } as const
    unit.audit(successEntry(act, of, { reservationId: answer.reservationId, amountUsd: answer.amountUsd }))
    unit.afterCommit(() => parts.changed(loaded, after))
    guardGrant(act, loaded)
    return answer
  }
}

/** The account a grant is decided on, after every refusal that comes before the limits; or holds that are over were freed. */
export function* grantable(
  parts: SpendingParts,
  unit: WorkUnit,
  act: Act,
  { userId, credentialId }: { userId: string; credentialId?: number | undefined },
): Transaction<(Loaded & { readonly nowMs: number }) | typeof freed> {
  const nowMs = parts.freeze.refuseClock()
  const row = yield* readRow(userId, credentialId)
  if (row === undefined || lacksCredential(act, row, credentialId)) {
    yield* parts.freeze.refuseFrozenMissing(userId)
    throw new PurserError('NotFound', { resource: row === undefined ? 'user' : 'credential' })
  }
  parts.freeze.refuseFrozen(userId, row)
  if (row.credentialId !== null) refuseUnusable(row, nowMs)
  if (yield* freeDue(unit, row, nowMs)) return freed
  return { ...(yield* loadAccount(row, parts.tiers, nowMs)), nowMs }
}

export function readRow(userId: string, credentialId: number | undefined): Transaction<SpendRow | undefined> {
  return credentialId === undefined
    ? perform('spendOfPrimary', userId)
    : perform('spendOf', userId, credentialId)
}

/** Whether the credential meant is not the user's, or not one that the caller's entry lists. */
export function lacksCredential(act: Act, row: SpendRow, credentialId: number | undefined): boolean {
  return (
    (credentialId !== undefined && row.credentialId === null) ||
    !grantsCredential(act.caller, row.credentialId)
  )
}

/** NotFound for a retry whose first try, without an id, meant a primary that the caller's entry does not list. */
export function refuseUnlisted({ caller }: Act, credentialId: bigint | null): void {
  if (!grantsCredential(caller, credentialId)) throw new PurserError('NotFound', { resource: 'credential' })
}

/** What was granted must not be heard of after a freeze or a revocation was answered. */
function guardGrant(act: Act, { row }: Loaded): void {
  act.guard = guardOf(act, 'grant', {
    userId: row.userId,
    credentialId: row.credentialId === null ? null : Number(row.credentialId),
    expiresAtMs: row.expiresAtMs === null ? null : Number(row.expiresAtMs),
  })
}

function refuseDenied(parts: SpendingParts, loaded: Loaded, amountMicros: bigint): void {
  const refused = denial(loaded.account, amountMicros)
  if (refused === null) return
  parts.denied(refused.level)
  const daily = refused.level === 'credential_daily' || refused.level === 'user_daily'
  throw new PurserError('SpendLimitExceeded', {
    level: refused.level,
    limitUsd: formatUsd(refused.limitMicros),
    usedUsd: formatUsd(refused.usedMicros),
    requestedUsd: formatUsd(amountMicros),
    availableUsd: formatUsd(refused.availableMicros),
    resetsAt: daily ? time(dayEndMs(loaded.day)) : null,
  })
}
