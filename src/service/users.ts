import { invalidParams, PurserError } from '../errors.ts'
import { formatUsd } from '../money.ts'
import type { Transaction, UserRow, UserSettings } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { Act, Commits, Subject } from './act.ts'
import { submitAudited, successEntry } from './act.ts'
import { time } from './credentials/metadata.ts'
import type { DecryptionWindow } from './decryption-window.ts'
import type { FreezeService } from './freeze.ts'

/** Limits of a tier in micro-dollars. */
export type TierLimits = {
  readonly perTradeMicros: bigint
  readonly dailyMicros: bigint
  readonly exposureMicros: bigint
}
/** By name; no prototype, so that a name nobody configured is undefined. */
export type Tiers = Readonly<Record<string, TierLimits>>

export type UserView = {
  userId: string
  tier: string
  email: string | null
  limits: { perTradeUsd: string; dailyUsd: string; exposureUsd: string }
  settlement: 'operator' | 'cooperative'
  frozen: { reason: string; since: string } | null
  createdAt: string
}

export type UserParams = {
  userId: string
  tier?: string | undefined
  email?: string | null | undefined
  limits?:
    | {
        perTradeUsd?: bigint | null | undefined
        dailyUsd?: bigint | null | undefined
        exposureUsd?: bigint | null | undefined
      }
    | undefined
  settlement?: 'operator' | 'cooperative' | undefined
  maxSignaturesPerMinute?: number | null | undefined
}

/** What a tier that the configuration no longer names allows. */
const noLimits: TierLimits = { perTradeMicros: 0n, dailyMicros: 0n, exposureMicros: 0n }

/** A user nobody has said anything about yet. */
export function defaultUser(userId: string): UserSettings {
  return {
    userId,
    tier: 'free',
    email: null,
    perTradeMicros: null,
    dailyMicros: null,
    exposureMicros: null,
    settlement: 'operator',
    maxSignaturesPerMinute: null,
  }
}

/** The limits that hold for a user: its own where set, else its tier's. */
export function effectiveLimits(
  user: Pick<UserSettings, 'tier' | 'perTradeMicros' | 'dailyMicros' | 'exposureMicros'>,
  tiers: Tiers,
): TierLimits {
  const tier = tiers[user.tier] ?? noLimits
  return {
    perTradeMicros: user.perTradeMicros ?? tier.perTradeMicros,
    dailyMicros: user.dailyMicros ?? tier.dailyMicros,
    exposureMicros: user.exposureMicros ?? tier.exposureMicros,
  }
}

/** Users, their tiers and limits. */
export class UserService {
  readonly #commits: Commits
  readonly #tiers: Tiers
  readonly #window: DecryptionWindow
  readonly #freeze: Pick<FreezeService, 'userFreeze'>
  readonly #now: () => number

  constructor(parts: {
    commits: Commits
    tiers: Tiers
    window: DecryptionWindow
    freeze: Pick<FreezeService, 'userFreeze'>
    now: () => number
  }) {
    this.#commits = parts.commits
    this.#tiers = parts.tiers
    this.#window = parts.window
    this.#freeze = parts.freeze
    this.#now = parts.now
  }

  /** Makes or changes a user; what is absent stays. InvalidParams for a tier that is not configured. */
  put(act: Act, params: UserParams): Promise<UserView> {
    const { userId } = params
    if (params.tier !== undefined && this.#tiers[params.tier] === undefined) {
      throw invalidParams('tier', `no such tier; configured are ${Object.keys(this.#tiers).join(', ')}`)
    }
    const now = this.#now
    const view = (row: UserRow) => this.#view(row)
    return submitAudited(
      this.#commits,
      act,
      { action: 'user_put', userId, credentialId: null },
      function* (unit): Transaction<UserView> {
        const stored = yield* perform('userGet', userId)
        const before = stored ?? defaultUser(userId)
        const after = changed(before, params)
        yield* perform(stored === undefined ? 'userInsert' : 'userUpdate', after, now())
        const answer = view((yield* perform('userGet', userId))!)
        const subject: Subject = {
          action: limitsDiffer(before, after) ? 'limits_updated' : 'user_put',
          userId,
          credentialId: null,
        }
        const { tier, limits, settlement } = answer
        unit.audit(successEntry(act, subject, { created: stored === undefined, tier, limits, settlement }))
        return answer
      },
    )
  }

  get(userId: string, act: Act): Promise<UserView> {
    const view = (row: UserRow) => this.#view(row)
    return this.#commits.submit(function* (): Transaction<UserView> {
      return view(yield* findUser(userId))
    }, act)
  }

  /** Users in the order of their ids, from behind `after`. */
  async list(act: Act, after: string, limit: number): Promise<UserView[]> {
    const rows = await this.#commits.submit(() => perform('usersPage', after, limit), act)
    return rows.map((row) => this.#view(row))
  }

  /** Empties the user's decryption window; answers how many decryptions counted in it. */
  resetDecryptions(act: Act, userId: string): Promise<{ cleared: number }> {
    const subject: Subject = { action: 'decryptions_reset', userId, credentialId: null }
    const window = this.#window
    return submitAudited(this.#commits, act, subject, function* (unit): Transaction<{ cleared: number }> {
      yield* findUser(userId)
      const cleared = window.reset(userId)
      unit.audit(successEntry(act, subject, { cleared }))
      return { cleared }
    })
  }

  #view(row: UserRow): UserView {
    const limits = effectiveLimits(row, this.#tiers)
    return {
      userId: row.userId,
      tier: row.tier,
      email: row.email,
      limits: {
        perTradeUsd: formatUsd(limits.perTradeMicros),
        dailyUsd: formatUsd(limits.dailyMicros),
        exposureUsd: formatUsd(limits.exposureMicros),
      },
      settlement: row.settlement,
      frozen: this.#freeze.userFreeze(row.userId, {
        userFrozenReason: row.frozenReason,
        userFrozenAtMs: row.frozenAtMs,
      }),
      createdAt: time(row.createdAtMs),
    }
  }
}

export function* findUser(userId: string): Transaction<UserRow> {
  const user = yield* perform('userGet', userId)
  if (user === undefined) throw new PurserError('NotFound', { resource: 'user' })
  return user
}

function changed(before: UserSettings, params: UserParams): UserSettings {
  const { limits = {} } = params
  const signatures = params.maxSignaturesPerMinute
  return {
    userId: before.userId,
    tier: params.tier ?? before.tier,
    email: params.email === undefined ? before.email : params.email,
    perTradeMicros: limits.perTradeUsd === undefined ? before.perTradeMicros : limits.perTradeUsd,
    dailyMicros: limits.dailyUsd === undefined ? before.dailyMicros : limits.dailyUsd,
    exposureMicros: limits.exposureUsd === undefined ? before.exposureMicros : limits.exposureUsd,
    settlement: params.settlement ?? before.settlement,
    maxSignaturesPerMinute:
      signatures === undefined
        ? before.maxSignaturesPerMinute
        : signatures === null
          ? null
          : BigInt(signatures),
  }
}

function limitsDiffer(a: UserSettings, b: UserSettings): boolean {
  return (
    a.tier !== b.tier ||
    a.perTradeMicros !== b.perTradeMicros ||
    a.dailyMicros !== b.dailyMicros ||
    a.exposureMicros !== b.exposureMicros
  )
}
