import { invalidParams, PurserError } from '../../errors.ts'
import { captured, closed, denial, recorded, released } from '../../ledger/account.ts'
import { formatUsd } from '../../money.ts'
import type { PositionRow, ReservationRow, SpendRow, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act, Subject, WorkUnit } from '../act.ts'
import { submitAudited, successEntry } from '../act.ts'
import { grantsCredential, grantsUser } from '../grant.ts'
import type { Changed, Loaded, RemainingView } from './accounts.ts'
import { changeAccount, loadAccount, remainingIn, writeAccount } from './accounts.ts'
import { afterFreeing, freeDue, freed } from './expiry.ts'
import { parseId, positionIdOf } from './ids.ts'
import type { SpendingParts, SpendParams } from './reserving.ts'
import { lacksCredential, readRow, refuseUnlisted } from './reserving.ts'
import type { RetryParams } from './retries.ts'
import { bindRetry, firstAnswer } from './retries.ts'

export type CaptureParams = {
  reservationId: string
  amountUsd?: bigint | undefined
  tradeId?: string | undefined
  final?: boolean | undefined
}
export type CaptureAnswer = {
  positionId: string
  amountUsd: string
  releasedUsd: string
  heldUsd: string
  remaining: RemainingView
}
export type RecordParams = SpendParams & { tradeId?: string | undefined; idempotencyKey?: string | undefined }
export type RecordAnswer = { positionId: string; overLimit: boolean; remaining: RemainingView }
/** One of positionId and tradeId is given. */
export type CloseParams = {
  userId: string
  positionId?: string | undefined
  tradeId?: string | undefined
  amountUsd?: bigint | undefined
  idempotencyKey?: string | undefined
}
export type CloseAnswer = { closedUsd: string; openUsd: string }

/** What became of holds and of money that has moved. None of it is refused by a freeze, a seal or a revocation. */
export class Settling {
  readonly #parts: SpendingParts
  readonly #clock: () => { nowMs: number; todayMs: number | null }

  /** `clock` answers the wall clock, and the same as `todayMs` where it is trusted, else null. */
  constructor(parts: SpendingParts, clock: () => { nowMs: number; todayMs: number | null }) {
    this.#parts = parts
    this.#clock = clock
  }

  /** Turns a hold, or part of it, into a position. NotFound, Conflict, ReservationClosed, InvalidParams above the hold. */
  capture(act: Act, params: CaptureParams): Promise<CaptureAnswer> {
    const subject: Subject = { action: 'spend_captured', userId: null, credentialId: null }
    const asked: RetryParams = {
      method: 'spend.capture',
      reservationId: params.reservationId,
      amountUsd: params.amountUsd === undefined ? null : formatUsd(params.amountUsd),
      tradeId: params.tradeId ?? null,
      final: params.final ?? true,
    }
    return this.#onReservation(act, subject, params.reservationId, (unit, hold, row) =>
      this.#capture(unit, act, params, asked, hold, row),
    )
  }

  *#capture(
    unit: WorkUnit,
    act: Act,
    params: CaptureParams,
    asked: RetryParams,
    hold: ReservationRow,
    row: SpendRow,
  ): Transaction<CaptureAnswer> {
    const { userId } = hold
    const { amountUsd: wantedMicros = hold.heldMicros, final = true } = params
    if (final && wantedMicros < hold.heldMicros) yield* refuseFreeingSigned(act, userId, hold.signed === 1n)
    const trade = params.tradeId === undefined ? null : { userId, space: 'trade', key: params.tradeId }
    const first = trade === null ? null : yield* firstAnswer<CaptureAnswer>(trade, asked)
    if (first !== null) return first
    const again = answerOfClosing<CaptureAnswer>(hold, 'spend.capture', asked)
    if (again !== null) return again
    const amountMicros = params.amountUsd ?? hold.heldMicros
    if (amountMicros > hold.heldMicros) {
      throw invalidParams('amountUsd', `is above what is still held, ${formatUsd(hold.heldMicros)}`)
    }
    const keeps = params.final === false && amountMicros < hold.heldMicros
    const releasedMicros = keeps ? 0n : hold.heldMicros - amountMicros
    const heldMicros = keeps ? hold.heldMicros - amountMicros : 0n
    const { loaded, nowMs } = yield* this.#load(row)
    const changed = changeAccount(loaded, captured(amountMicros, releasedMicros), null)
    const positionId = yield* perform('positionInsert', {
      userId,
      credentialId: hold.credentialId,
      reservationId: hold.reservationId,
      tradeId: params.tradeId ?? null,
      amountMicros,
      atMs: nowMs,
    })
    yield* this.#write(unit, changed)
    const answer: CaptureAnswer = {
      positionId: positionIdOf(positionId),
      amountUsd: formatUsd(amountMicros),
      releasedUsd: formatUsd(releasedMicros),
      heldUsd: formatUsd(heldMicros),
      remaining: remainingIn(changed.after),
    }
    const change = {
      heldMicros,
      capturedMicros: hold.capturedMicros + amountMicros,
      state: keeps ? 'held' : 'captured',
    } as const
    yield* perform(
      'reservationUpdate',
      hold.reservationId,
      change,
      keeps ? null : closingOf('spend.capture', asked, answer),
    )
    if (trade !== null) yield* bindRetry(trade, asked, answer)
    const { amountUsd, releasedUsd } = answer
    const details = {
      reservationId: params.reservationId,
      positionId: answer.positionId,
      amountUsd,
      releasedUsd,
      tradeId: params.tradeId ?? null,
    }
    unit.audit(successEntry(act, subjectOf('spend_captured', hold), details))
    return answer
  }

  /** Gives back what is held. After partial captures too. NotFound, ReservationClosed. */
  void(
    act: Act,
    params: { reservationId: string; reason?: string | undefined },
  ): Promise<{ releasedUsd: string }> {
    const subject: Subject = { action: 'spend_voided', userId: null, credentialId: null }
    const asked: RetryParams = { reservationId: params.reservationId, reason: params.reason ?? null }
    const load = this.#load.bind(this)
    const write = this.#write.bind(this)
    return this.#onReservation(act, subject, params.reservationId, function* (unit, hold, row): Transaction<{
      releasedUsd: string
    }> {
      yield* refuseFreeingSigned(act, hold.userId, hold.signed === 1n)
      const again = answerOfClosing<{ releasedUsd: string }>(hold, 'spend.void', asked)
      if (again !== null) return again
      const { loaded } = yield* load(row)
      yield* write(unit, changeAccount(loaded, released(hold.heldMicros), null))
      const answer = { releasedUsd: formatUsd(hold.heldMicros) }
      const change = { heldMicros: 0n, capturedMicros: hold.capturedMicros, state: 'voided' } as const
      yield* perform('reservationUpdate', hold.reservationId, change, closingOf('spend.void', asked, answer))
      const details = { reservationId: params.reservationId, ...answer, reason: params.reason ?? null }
      unit.audit(successEntry(act, subjectOf('spend_voided', hold), details))
      return answer
    })
  }

  /** Counts a buy that has already happened, whatever the limits say. NotFound, Conflict. */
  record(act: Act, params: RecordParams): Promise<RecordAnswer> {
    const { userId, amountUsd } = params
    const subject: Subject = { action: 'spend_recorded', userId, credentialId: params.credentialId ?? null }
    const asked: RetryParams = {
      method: 'spend.record',
      userId,
      credentialId: params.credentialId ?? null,
      amountUsd: formatUsd(amountUsd),
      tradeId: params.tradeId ?? null,
      idempotencyKey: params.idempotencyKey ?? null,
    }
    return afterFreeing(() =>
      submitAudited(
        this.#parts.commits,
        act,
        subject,
        (unit) => this.#record(unit, act, params, asked),
        'batch',
      ),
    )
  }

  *#record(
    unit: WorkUnit,
    act: Act,
    params: RecordParams,
    asked: RetryParams,
  ): Transaction<RecordAnswer | typeof freed> {
    const { userId, amountUsd } = params
    const row = yield* readRow(userId, params.credentialId)
    if (row === undefined) throw new PurserError('NotFound', { resource: 'user' })
    if (lacksCredential(act, row, params.credentialId))
      throw new PurserError('NotFound', { resource: 'credential' })
    if (yield* freeDue(unit, row, this.#clock().todayMs)) return freed
    const keys = retryKeys(userId, params)
    for (const key of keys) {
      const first = yield* firstAnswer<RecordAnswer>(key, asked)
      if (first === null) continue
      const before = (yield* perform('positionGet', userId, parseId(first.positionId)))!
      refuseUnlisted(act, before.credentialId)
      return first
    }
    const { loaded, nowMs } = yield* this.#load(row)
    const overLimit = denial(loaded.account, amountUsd) !== null
    const changed = changeAccount(loaded, recorded(amountUsd), null)
    const positionId = yield* perform('positionInsert', {
      userId,
      credentialId: row.credentialId,
      reservationId: null,
      tradeId: params.tradeId ?? null,
      amountMicros: amountUsd,
      atMs: nowMs,
    })
    yield* this.#write(unit, changed)
    const answer = { positionId: positionIdOf(positionId), overLimit, remaining: remainingIn(changed.after) }
    for (const key of keys) yield* bindRetry(key, asked, answer)
    const details = {
      positionId: answer.positionId,
      amountUsd: asked['amountUsd'],
      overLimit,
      tradeId: params.tradeId ?? null,
    }
    unit.audit(successEntry(act, subjectOf('spend_recorded', row), details))
    return answer
  }

  /** Frees exposure of a position that is no longer open. NotFound, Conflict, InvalidParams above what is open. */
  close(act: Act, params: CloseParams): Promise<CloseAnswer> {
    const { userId } = params
    const subject: Subject = { action: 'position_closed', userId, credentialId: null }
    const asked: RetryParams = {
      userId,
      positionId: params.positionId ?? null,
      tradeId: params.tradeId ?? null,
      amountUsd: params.amountUsd === undefined ? null : formatUsd(params.amountUsd),
      idempotencyKey: params.idempotencyKey ?? null,
    }
    const load = this.#load.bind(this)
    const write = this.#write.bind(this)
    return submitAudited(
      this.#parts.commits,
      act,
      subject,
      function* (unit): Transaction<CloseAnswer> {
        const position = yield* findPosition(params)
        if (!grantsCredential(act.caller, position.credentialId))
          throw new PurserError('Forbidden', { scope: null })
        yield* refuseFreeingSigned(act, userId, yield* isOfSigned(position))
        const retry =
          params.idempotencyKey === undefined
            ? null
            : { userId, space: 'positions.close', key: params.idempotencyKey }
        const first = retry === null ? null : yield* firstAnswer<CloseAnswer>(retry, asked)
        if (first !== null) return first
        const closedMicros = params.amountUsd ?? position.openMicros
        if (closedMicros > position.openMicros) {
          throw invalidParams('amountUsd', `is above what is open, ${formatUsd(position.openMicros)}`)
        }
        const openMicros = position.openMicros - closedMicros
        const { loaded, nowMs } = yield* load((yield* perform('spendOf', userId, position.credentialId))!)
        if (closedMicros > 0n) {
          const changed = changeAccount(loaded, closed(closedMicros), null)
          yield* perform('positionClose', position.positionId, openMicros, openMicros === 0n ? nowMs : null)
          yield* write(unit, changed)
        }
        const answer = { closedUsd: formatUsd(closedMicros), openUsd: formatUsd(openMicros) }
        if (retry !== null) yield* bindRetry(retry, asked, answer)
        unit.audit(
          successEntry(act, subjectOf('position_closed', position), {
            positionId: positionIdOf(position.positionId),
            ...answer,
          }),
        )
        return answer
      },
      'batch',
    )
  }

  /** Runs `work` on a reservation once holds of its user that are over were freed, which it may be one of. NotFound. */
  #onReservation<T>(
    act: Act,
    subject: Subject,
    reservationId: string,
    work: (unit: WorkUnit, hold: ReservationRow, row: SpendRow) => Transaction<T>,
  ): Promise<T> {
    const clock = this.#clock
    // Filled in once the reservation is read, so that a refusal's entry names the user too.
    const of = { ...subject }
    const run = function* (unit: WorkUnit): Transaction<T | typeof freed> {
      const id = reservationId.startsWith('r') ? parseId(reservationId) : 0
      const found = yield* perform('reservationGet', id)
      if (found === undefined || !isGranted(act, found))
        throw new PurserError('NotFound', { resource: 'reservation' })
      Object.assign(of, subjectOf(subject.action, found))
      const row = (yield* perform('spendOf', found.userId, found.credentialId))!
      if (found.state === 'held' && (yield* freeDue(unit, row, clock().todayMs))) return freed
      return yield* work(unit, found, row)
    }
    return afterFreeing(() => submitAudited(this.#parts.commits, act, of, run, 'batch'))
  }

  *#load(row: Loaded['row']): Transaction<{ loaded: Loaded; nowMs: number }> {
    const { nowMs, todayMs } = this.#clock()
    return { loaded: yield* loadAccount(row, this.#parts.tiers, todayMs), nowMs }
  }

  *#write(unit: WorkUnit, changed: Changed): Transaction<void> {
    yield* writeAccount(changed)
    unit.afterCommit(() => this.#parts.changed(changed.before, changed.after))
  }
}

/** One of a user or credential that is not granted is as if it never was. */
function isGranted({ caller }: Act, hold: ReservationRow): boolean {
  return grantsUser(caller, hold.userId) && grantsCredential(caller, hold.credentialId)
}

/**
 * Forbidden where a signed order's money would be freed without the scope `settle`: whoever holds the signature may
 * still post it, and only a cooperative user's own bot is believed that it does not.
 */
function* refuseFreeingSigned({ caller }: Act, userId: string, signed: boolean): Transaction<void> {
  if (!signed || caller.has('settle')) return
  const user = yield* perform('userGet', userId)
  if (user?.settlement !== 'cooperative') throw new PurserError('Forbidden', { scope: 'settle' })
}

function* isOfSigned({ reservationId }: PositionRow): Transaction<boolean> {
  if (reservationId === null) return false
  return (yield* perform('reservationGet', reservationId))?.signed === 1n
}

function retryKeys(userId: string, params: RecordParams) {
  const keys = []
  if (params.idempotencyKey !== undefined)
    keys.push({ userId, space: 'spend.record', key: params.idempotencyKey })
  if (params.tradeId !== undefined) keys.push({ userId, space: 'trade', key: params.tradeId })
  return keys
}

function closingOf(method: string, params: RetryParams, answer: object) {
  return { method, params: JSON.stringify(params), answer: JSON.stringify(answer) }
}

/** The answer of the very act that closed the reservation; ReservationClosed for any other, null for one that is held. */
function answerOfClosing<T>(hold: ReservationRow, method: string, params: RetryParams): T | null {
  if (hold.state === 'held') return null
  if (hold.closingMethod === method && hold.closingParams === JSON.stringify(params))
    return JSON.parse(hold.closingAnswer!) as T
  throw new PurserError('ReservationClosed', { state: hold.state })
}

function* findPosition(params: CloseParams): Transaction<PositionRow> {
  const { userId, positionId, tradeId } = params
  const found =
    tradeId !== undefined
      ? yield* perform('positionByTrade', userId, tradeId)
      : yield* perform('positionGet', userId, positionId!.startsWith('p') ? parseId(positionId!) : 0)
  if (found !== undefined) return found
  const user = yield* perform('userGet', userId)
  throw new PurserError('NotFound', { resource: user === undefined ? 'user' : 'position' })
}

function subjectOf(action: Subject['action'], row: { userId: string; credentialId: bigint | null }): Subject {
  return {
    action,
    userId: row.userId,
    credentialId: row.credentialId === null ? null : Number(row.credentialId),
  }
}
