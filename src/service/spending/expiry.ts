import { applied, released } from '../../ledger/account.ts'
import { formatUsd } from '../../money.ts'
import type { ReservationRow, SpendRow, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Commits, WorkUnit } from '../act.ts'
import { reservationIdOf } from './ids.ts'

/** Holds freed in one transaction: about 10 ms. */
const expiriesMax = 500

/** What a transaction answers that freed holds in the place of its work: it is to be run again. */
export const freed: unique symbol = Symbol('freed')

/**
 * Runs a transaction until it has done its work. One that meets holds whose time is over frees some of them and answers
 * `freed`: so they stay free whatever becomes of the work, the work sees every one of them free however many there
 * are, and no transaction takes long.
 */
export async function afterFreeing<T>(run: () => Promise<T | typeof freed>): Promise<T> {
  for (;;) {
    const answer = await run()
    if (answer !== freed) return answer
  }
}

/** Frees holds of the user of `row` that are over, and answers whether there were any; null as `nowMs` frees none. */
export function* freeDue(unit: WorkUnit, row: SpendRow, nowMs: number | null): Transaction<boolean> {
  if (nowMs === null || row.nextExpiryMs === null || Number(row.nextExpiryMs) > nowMs) return false
  yield* expireDue(unit, row.userId, nowMs)
  return true
}

/** Frees holds of a user whose time is over at `nowMs`, each with its audit entry. */
function* expireDue(unit: WorkUnit, userId: string, nowMs: number): Transaction<void> {
  const due = yield* perform('reservationsDue', userId, nowMs, expiriesMax)
  const byCredential = new Map<bigint | null, bigint>()
  for (const hold of due) {
    yield* perform(
      'reservationUpdate',
      hold.reservationId,
      { ...hold, heldMicros: 0n, state: 'expired' },
      null,
    )
    byCredential.set(hold.credentialId, (byCredential.get(hold.credentialId) ?? 0n) + hold.heldMicros)
    unit.audit(expiryEntry(hold))
  }
  let freedMicros = 0n
  for (const [credentialId, micros] of byCredential) {
    freedMicros += micros
    if (credentialId === null) continue
    const row = (yield* perform('spendOf', userId, credentialId))!
    yield* perform('credentialHeld', credentialId, (row.credentialHeldMicros ?? 0n) - micros)
  }
  const row = (yield* perform('spendOf', userId, null))!
  const nextExpiryMs = yield* perform('reservationsNextExpiry', userId)
  const { heldMicros, openMicros } = applied(
    {
      limits: { perTradeMicros: 0n, dailyMicros: 0n, exposureMicros: 0n },
      user: { heldMicros: row.userHeldMicros, openMicros: row.userOpenMicros, spentMicros: 0n },
      credential: null,
    },
    released(freedMicros),
  ).user
  yield* perform('userTotals', userId, heldMicros, openMicros)
  yield* perform('userNextExpiry', userId, nextExpiryMs)
}

function expiryEntry(hold: ReservationRow) {
  return {
    action: 'spend_expired',
    outcome: 'ok',
    userId: hold.userId,
    credentialId: hold.credentialId === null ? null : Number(hold.credentialId),
    details: { reservationId: reservationIdOf(hold.reservationId), releasedUsd: formatUsd(hold.heldMicros) },
    peer: null,
    client: null,
  } as const
}

/** Users looked at in one go by a sweep. */
const sweepUsers = 100

/** Frees holds that are over without anybody deciding, so that lists and metrics do not wait for a decision. */
export async function sweepExpired(commits: Commits, nowMs: number): Promise<void> {
  const users = await commits.submit(() => perform('usersDue', nowMs, sweepUsers))
  for (const userId of users) await commits.submit((unit) => expireDue(unit, userId, nowMs))
}
