import type { Level } from '../ledger/account.ts'
import { dayMs, dayOf } from '../ledger/clock.ts'
import type { Logger } from '../log.ts'
import { percentOf } from '../money.ts'
import type { CredentialRow } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { Commits } from './act.ts'
import type { LimitsUsed, Metrics } from './metrics.ts'
import type { Loaded } from './spending/accounts.ts'

/** Shares of a limit that are told of when they are reached, in percent. */
const thresholds = [80, 95, 100] as const
/** The levels that fill up. */
const dailyAndExposure = ['credential_daily', 'user_daily', 'exposure'] as const
/** Days before its expiry that a credential is told of. */
const expiryDays = [30, 7, 1] as const
/** An envelope sealed longer ago than this should be rotated. */
const envelopeDaysMax = 90
/** Accounts remembered, so that each threshold is told once; the oldest are forgotten beyond. */
const rememberedMax = 50_000
/** How often every credential is looked at. */
export const watchMs = 3_600_000
/** Credentials looked at in one transaction. */
const sliceRows = 1000

type CredentialNotice = {
  /** The smallest of `expiryDays` within which it expires; infinite where it does not, or has. */
  readonly expiryDays: number
  readonly old: boolean
}

type LimitOf = {
  readonly userId: string
  readonly credentialId: number | null
  readonly level: Level
  /** The day it is used in; 0 where it is not a day's. */
  readonly day: number
  readonly limitMicros: bigint
}

/** Tells the operator, once each, of limits that fill up, credentials that expire and envelopes that grow old. */
export class Watch {
  readonly #commits: Commits
  readonly #log: Logger
  readonly #metrics: Metrics
  readonly #now: () => number
  /** The highest threshold told of, and the one reached now, by account and level; daily ones are of that day. */
  readonly #told = new Map<string, { level: Level; day: number; percent: number; reached: number }>()
  readonly #toldOfCredentials = new Map<number, CredentialNotice & { readonly revision: bigint }>()
  readonly #earlierUntilMs: number

  /** `lastStoredMs` is when the run before this one last wrote, null where there was none. */
  constructor(parts: {
    commits: Commits
    log: Logger
    metrics: Metrics
    now: () => number
    lastStoredMs: number | null
  }) {
    this.#commits = parts.commits
    this.#log = parts.log
    this.#metrics = parts.metrics
    this.#now = parts.now
    const lastStoredMs = parts.lastStoredMs ?? Number.NEGATIVE_INFINITY
    // A clock that stood ahead says nothing of what was told.
    this.#earlierUntilMs = Math.min(lastStoredMs, this.#now()) - watchMs
    this.#metrics.limitsUsed(() => this.#limitsUsed())
  }

  /**
   * Looks at an account that a commit has just changed. Told of are the thresholds that this change reached: what was
   * reached before, in this run or an earlier one, was told of then, and a limit that was lowered says it by itself.
   */
  account(before: Loaded, { account, row, day }: Loaded): void {
    const { userId } = row
    const { limits } = account
    const was = before.account.user
    const is = account.user
    const user = { userId, credentialId: null }
    this.#level(
      { ...user, level: 'user_daily', day, limitMicros: limits.dailyMicros },
      was.spentMicros + was.heldMicros,
      is.spentMicros + is.heldMicros,
    )
    this.#level(
      { ...user, level: 'exposure', day: 0, limitMicros: limits.exposureMicros },
      was.openMicros + was.heldMicros,
      is.openMicros + is.heldMicros,
    )
    const credential = account.credential
    if (credential === null || credential.dailyLimitMicros === null) return
    const credentialWas = before.account.credential!
    this.#level(
      {
        userId,
        credentialId: Number(row.credentialId),
        level: 'credential_daily',
        day,
        limitMicros: credential.dailyLimitMicros,
      },
      credentialWas.spentMicros + credentialWas.heldMicros,
      credential.spentMicros + credential.heldMicros,
    )
  }

  #level(of: LimitOf, usedBefore: bigint, used: bigint): void {
    // The first comparison is all that most decisions cost.
    const belowAll = used * 100n < of.limitMicros * BigInt(thresholds[0])
    if (belowAll && this.#told.size === 0) return
    const { userId, credentialId, level, day } = of
    const key = `${level} ${credentialId ?? userId}`
    const known = this.#told.get(key)
    if (belowAll) {
      if (known === undefined) return
      // Exposure that has fallen below is told of again when it rises; a day's use only falls with the next day.
      if (level === 'exposure' || known.day !== day) this.#told.delete(key)
      else known.reached = 0
      return
    }
    const told = known?.day === day ? known.percent : reachedBy(usedBefore, of.limitMicros)
    const reached = reachedBy(used, of.limitMicros)
    this.#told.delete(key)
    this.#told.set(key, { level, day, percent: Math.max(told, reached), reached })
    if (this.#told.size > rememberedMax) this.#told.delete(this.#told.keys().next().value!)
    if (reached <= told) return
    this.#metrics.threshold(level, reached)
    this.#log.warn(
      { userId, credentialId, level, percent: percentOf(used, of.limitMicros), threshold: reached },
      'a limit is used up to a threshold',
    )
  }

  /** How many accounts have used a limit up to each threshold, as of their last change; of days, those not over. */
  #limitsUsed(): LimitsUsed[] {
    const today = dayOf(this.#now())
    const counts = dailyAndExposure.flatMap((level) =>
      thresholds.map((percent) => ({ level, percent, accounts: 0 })),
    )
    for (const { level, day, reached } of this.#told.values()) {
      if (level !== 'exposure' && day < today) continue
      for (const count of counts) if (count.level === level && reached >= count.percent) count.accounts++
    }
    return counts
  }

  /** Looks at every credential, in slices. */
  async credentials(): Promise<void> {
    const expiring = new Map<number, number>(expiryDays.map((days) => [days, 0]))
    let oldEnvelopes = 0
    for (let after = 0; ; ) {
      const from = after
      const rows = await this.#commits.submit(() => perform('credentialsAll', from, sliceRows))
      for (const row of rows) {
        if (row.revokedAtMs !== null) {
          this.#toldOfCredentials.delete(Number(row.credentialId))
          continue
        }
        const found = this.#credential(row)
        for (const days of found.withinDays) expiring.set(days, expiring.get(days)! + 1)
        if (found.old) oldEnvelopes++
      }
      if (rows.length < sliceRows) break
      after = Number(rows.at(-1)!.credentialId)
    }
    this.#metrics.credentials(expiring, oldEnvelopes)
  }

  #credential(row: CredentialRow): { withinDays: number[]; old: boolean } {
    const id = Number(row.credentialId)
    const { userId, revision } = row
    const found = noticeOf(row, this.#now())
    const told = this.#toldOfCredentials.get(id) ?? this.#toldEarlier(row)
    if (found.expiryDays < (told?.expiryDays ?? Number.POSITIVE_INFINITY)) {
      this.#log.warn({ userId, credentialId: id, withinDays: found.expiryDays }, 'a credential expires soon')
    }
    if (found.old && !(told?.old === true && told.revision === revision)) {
      this.#log.warn({ userId, credentialId: id, days: envelopeDaysMax }, 'an envelope is old: rotate it')
    }
    const any = found.old || found.expiryDays !== Number.POSITIVE_INFINITY
    if (any) this.#toldOfCredentials.set(id, { ...found, revision })
    else this.#toldOfCredentials.delete(id)
    return { withinDays: expiryDays.filter((days) => found.expiryDays <= days), old: found.old }
  }

  /** What the run before this one told of a credential, as it looked at it in the last hour before it ended. */
  #toldEarlier(row: CredentialRow): (CredentialNotice & { readonly revision: bigint }) | undefined {
    if (Number(row.updatedAtMs) > this.#earlierUntilMs) return undefined
    return { ...noticeOf(row, this.#earlierUntilMs), revision: row.revision }
  }
}

/** What there is to tell of a credential at `nowMs`. */
function noticeOf(row: CredentialRow, nowMs: number): CredentialNotice {
  const leftMs = row.expiresAtMs === null ? null : Number(row.expiresAtMs) - nowMs
  const withinDays =
    leftMs === null || leftMs <= 0 ? undefined : expiryDays.findLast((days) => leftMs <= days * dayMs)
  return {
    expiryDays: withinDays ?? Number.POSITIVE_INFINITY,
    old: nowMs - Number(row.encryptedAtMs) > envelopeDaysMax * dayMs,
  }
}

/** The highest threshold that this much of a limit has reached, 0 where none. */
function reachedBy(usedMicros: bigint, limitMicros: bigint): number {
  const percent = percentOf(usedMicros, limitMicros)
  return thresholds.findLast((threshold) => percent >= threshold) ?? 0
}
