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
/** Credentials looked at in one transaction. */
const sliceRows = 1000

/** Tells the operator, once each, of limits that fill up, credentials that expire and envelopes that grow old. */
export class Watch {
  readonly #commits: Commits
  readonly #log: Logger
  readonly #metrics: Metrics
  readonly #now: () => number
  /** The highest threshold told of, and the one reached now, by account and level; daily ones are of that day. */
  readonly #told = new Map<string, { level: Level; day: number; percent: number; reached: number }>()
  readonly #toldOfCredentials = new Map<number, { expiryDays: number; old: boolean; revision: number }>()

  constructor(parts: { commits: Commits; log: Logger; metrics: Metrics; now: () => number }) {
    this.#commits = parts.commits
    this.#log = parts.log
    this.#metrics = parts.metrics
    this.#now = parts.now
    this.#metrics.limitsUsed(() => this.#limitsUsed())
  }

  /** Looks at an account that has just changed. */
  account({ account, row, day }: Loaded): void {
    const { user, credential, limits } = account
    this.#level(row.userId, null, 'user_daily', day, user.spentMicros + user.heldMicros, limits.dailyMicros)
    this.#level(row.userId, null, 'exposure', 0, user.openMicros + user.heldMicros, limits.exposureMicros)
    if (credential !== null && credential.dailyLimitMicros !== null) {
      const used = credential.spentMicros + credential.heldMicros
      this.#level(
        row.userId,
        Number(row.credentialId),
        'credential_daily',
        day,
        used,
        credential.dailyLimitMicros,
      )
    }
  }

  #level(
    userId: string,
    credentialId: number | null,
    level: Level,
    day: number,
    used: bigint,
    limit: bigint,
  ): void {
    // The first comparison is all that most decisions cost.
    const belowAll = used * 100n < limit * BigInt(thresholds[0])
    if (belowAll && this.#told.size === 0) return
    const key = `${level} ${credentialId ?? userId}`
    const told = this.#told.get(key)
    if (belowAll) {
      if (told === undefined) return
      // Exposure that has fallen below is told of again when it rises; a day's use only falls with the next day.
      if (level === 'exposure' || told.day !== day) this.#told.delete(key)
      else told.reached = 0
      return
    }
    const percent = percentOf(used, limit)
    const reached = thresholds.findLast((threshold) => percent >= threshold) ?? 0
    if (told !== undefined && told.day === day && told.percent >= reached) {
      told.reached = reached
      return
    }
    this.#told.delete(key)
    this.#told.set(key, { level, day, percent: reached, reached })
    if (this.#told.size > rememberedMax) this.#told.delete(this.#told.keys().next().value!)
    this.#metrics.threshold(level, reached)
    this.#log.warn(
      { userId, credentialId, level, percent, threshold: reached },
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
    const revision = Number(row.revision)
    const leftMs = row.expiresAtMs === null ? null : Number(row.expiresAtMs) - this.#now()
    const withinDays =
      leftMs === null || leftMs <= 0 ? [] : expiryDays.filter((days) => leftMs <= days * dayMs)
    const old = this.#now() - Number(row.encryptedAtMs) > envelopeDaysMax * dayMs
    const soonest = withinDays.at(-1) ?? Number.POSITIVE_INFINITY
    const told = this.#toldOfCredentials.get(id)
    if (soonest < (told?.expiryDays ?? Number.POSITIVE_INFINITY)) {
      this.#log.warn(
        { userId: row.userId, credentialId: id, withinDays: soonest },
        'a credential expires soon',
      )
    }
    if (old && !(told?.old === true && told.revision === revision)) {
      this.#log.warn(
        { userId: row.userId, credentialId: id, days: envelopeDaysMax },
        'an envelope is old: rotate it',
      )
    }
    if (withinDays.length > 0 || old) this.#toldOfCredentials.set(id, { expiryDays: soonest, old, revision })
    else this.#toldOfCredentials.delete(id)
    return { withinDays, old }
  }
}
