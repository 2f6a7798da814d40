import { invalidParams } from '../../errors.ts'
import type { Account, Change, Remaining } from '../../ledger/account.ts'
import { applied, remainingOf } from '../../ledger/account.ts'
import { dayOf } from '../../ledger/clock.ts'
import { formatUsd } from '../../money.ts'
import type { SpendRow, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Tiers } from '../users.ts'
import { effectiveLimits } from '../users.ts'

/** Largest total the store holds (SQLite's INTEGER): over nine trillion dollars. */
const totalMicrosMax = 2n ** 63n - 1n

/** An account as it stands in the store, with what is needed to write it back. */
export type Loaded = {
  readonly row: SpendRow
  readonly account: Account
  /** The day that counts now, and what was spent on exactly that day: `account` also counts later days. */
  readonly day: number
  readonly userSpentThatDayMicros: bigint
  readonly credentialSpentThatDayMicros: bigint
}

/** `remaining` as an answer has it. */
export type RemainingView = {
  perTradeUsd: string
  credentialDailyUsd: string | null
  userDailyUsd: string
  exposureUsd: string
}

function remainingView(remaining: Remaining): RemainingView {
  return {
    perTradeUsd: formatUsd(remaining.perTradeMicros),
    credentialDailyUsd:
      remaining.credentialDailyMicros === null ? null : formatUsd(remaining.credentialDailyMicros),
    userDailyUsd: formatUsd(remaining.userDailyMicros),
    exposureUsd: formatUsd(remaining.exposureMicros),
  }
}

/** What is left of a loaded account. */
export function remainingIn(loaded: Loaded): RemainingView {
  return remainingView(remainingOf(loaded.account))
}

/**
 * The account of a row. `todayMs` is a wall clock that is trusted, or null: then no day opens. The day that counts is
 * the ledger's or, once it has begun, today; a clock that steps back reopens none. What was spent on later days, when
 * the clock stood ahead, counts in the day it was set back to.
 */
export function* loadAccount(row: SpendRow, tiers: Tiers, todayMs: number | null): Transaction<Loaded> {
  const ledgerDay = Number(row.day)
  const day = todayMs === null ? ledgerDay : Math.max(ledgerDay, dayOf(todayMs))
  let userSpentThatDayMicros = row.userSpentMicros ?? 0n
  let credentialSpentThatDayMicros = row.credentialSpentMicros ?? 0n
  let userSpentMicros = userSpentThatDayMicros
  let credentialSpentMicros = credentialSpentThatDayMicros
  if (day !== ledgerDay) {
    userSpentMicros = credentialSpentMicros = userSpentThatDayMicros = credentialSpentThatDayMicros = 0n
  }
  if (row.laterDays === 1n) {
    const userDays = yield* perform('userDaysFrom', row.userId, day)
    const credentialDays =
      row.credentialId === null ? [] : yield* perform('credentialDaysFrom', row.credentialId, day)
    userSpentThatDayMicros = sum(userDays.filter((spent) => Number(spent.day) === day))
    credentialSpentThatDayMicros = sum(credentialDays.filter((spent) => Number(spent.day) === day))
    const laterCount = row.steppedBackDay !== null && Number(row.steppedBackDay) === day
    userSpentMicros = laterCount ? sum(userDays) : userSpentThatDayMicros
    credentialSpentMicros = laterCount ? sum(credentialDays) : credentialSpentThatDayMicros
  }
  const account: Account = {
    limits: effectiveLimits(row, tiers),
    user: { heldMicros: row.userHeldMicros, openMicros: row.userOpenMicros, spentMicros: userSpentMicros },
    credential:
      row.credentialId === null
        ? null
        : {
            dailyLimitMicros: row.dailyLimitMicros,
            heldMicros: row.credentialHeldMicros ?? 0n,
            spentMicros: credentialSpentMicros,
          },
  }
  return { row, account, day, userSpentThatDayMicros, credentialSpentThatDayMicros }
}

/** A change of an account that is decided and not written yet. */
export type Changed = { readonly before: Loaded; readonly after: Loaded; readonly change: Change }

/**
 * Decides `change`; `expiresAtMs` is the expiry of a new hold, null for none. InvalidParams where a total would pass
 * what can be stored. Nothing behind it refuses any more, so it comes before the first write.
 */
export function changeAccount(before: Loaded, change: Change, expiresAtMs: number | null): Changed {
  const { row, day } = before
  const account = applied(before.account, change)
  const userSpentThatDayMicros = before.userSpentThatDayMicros + change.spentMicros
  const credentialSpentThatDayMicros = before.credentialSpentThatDayMicros + change.spentMicros
  for (const total of [account.user.heldMicros, account.user.openMicros, userSpentThatDayMicros]) {
    if (total > totalMicrosMax) {
      throw invalidParams(
        'amountUsd',
        `the total would pass ${formatUsd(totalMicrosMax)}, the most that can be counted`,
      )
    }
  }
  const nextExpiryMs = earlier(row.nextExpiryMs, expiresAtMs)
  const after = {
    row: { ...row, nextExpiryMs },
    account,
    day,
    userSpentThatDayMicros,
    credentialSpentThatDayMicros,
  }
  return { before, after, change }
}

/** Writes a change, and opens today in the ledger if it is not the day in use already. */
export function* writeAccount({ before, after, change }: Changed): Transaction<void> {
  const { row, account, day } = after
  if (day !== Number(before.row.day)) yield* perform('ledgerDay', day)
  yield* perform('userTotals', row.userId, account.user.heldMicros, account.user.openMicros)
  if (row.nextExpiryMs !== before.row.nextExpiryMs)
    yield* perform('userNextExpiry', row.userId, row.nextExpiryMs)
  if (row.credentialId !== null && change.heldMicros !== 0n) {
    yield* perform('credentialHeld', row.credentialId, account.credential!.heldMicros)
  }
  if (change.spentMicros !== 0n) {
    yield* perform('userDayPut', row.userId, day, after.userSpentThatDayMicros)
    if (row.credentialId !== null)
      yield* perform('credentialDayPut', row.credentialId, day, after.credentialSpentThatDayMicros)
  }
}

function earlier(known: bigint | null, expiresAtMs: number | null): bigint | null {
  if (expiresAtMs === null) return known
  return known === null || Number(known) > expiresAtMs ? BigInt(expiresAtMs) : known
}

function sum(days: readonly { spentMicros: bigint }[]): bigint {
  return days.reduce((total, { spentMicros }) => total + spentMicros, 0n)
}
