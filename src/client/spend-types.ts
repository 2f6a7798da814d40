/** What the ledger's methods answer. */
import type { Frozen, Time, Usd } from './types.ts'

/** What is left after an act (for a check: now, its amount not deducted). */
export type Remaining = {
  /** The limit of a single trade, which nothing uses up. */
  perTradeUsd: Usd
  /** Null where the credential has no daily limit of its own. */
  credentialDailyUsd: Usd | null
  userDailyUsd: Usd
  exposureUsd: Usd
}

/** A daily limit and what is used of it on the ledger's UTC day. */
export type DailyUsage = {
  limitUsd: Usd
  /** Captured and recorded. */
  spentUsd: Usd
  /** Held by open reservations. */
  reservedUsd: Usd
  remainingUsd: Usd
  /** Spent and reserved, of the limit; rounded down to 2 places, 100 where the limit is 0, above 100 past it. */
  percent: number
  resetsAt: Time
}

/** The limit on all that is open at once, and what is used of it. */
export type ExposureUsage = {
  limitUsd: Usd
  /** Captured and not closed. */
  openUsd: Usd
  reservedUsd: Usd
  remainingUsd: Usd
  /** Open and reserved, of the limit; as in DailyUsage. */
  percent: number
}

/** Why the worst case may not hold: see "Worst case" of the protocol. */
export type UnboundedReason = 'private_key_retrievable' | 'sell_without_floor'

/** Limits of a user, what is used of them and the worst that can happen. */
export type SpendStatus = {
  userId: string
  tier: string
  frozen: Frozen
  perTrade: { limitUsd: Usd }
  /** Null without a credential, or where it has no daily limit of its own. */
  credentialDaily: DailyUsage | null
  userDaily: DailyUsage
  exposure: ExposureUsage
  /** The most that can be open if every hold is captured and all that is left today is spent. */
  worstCaseUsd: Usd
  unbounded: readonly UnboundedReason[]
}

/** How far a credential's own daily limit is used up. */
export type CredentialUsage = {
  userId: string
  email: string | null
  credentialId: number
  name: string | null
  spentUsd: Usd
  limitUsd: Usd
  /** Spent and reserved, of the limit; as in DailyUsage. */
  percent: number
}

export type ReservationState = 'held' | 'captured' | 'voided' | 'expired'

/** A hold on limits, or what became of it. */
export type Reservation = {
  reservationId: string
  userId: string
  credentialId: number | null
  amountUsd: Usd
  capturedUsd: Usd
  state: ReservationState
  /** Made by `sign.*`: no timeout frees it. */
  signed: boolean
  /** What was signed, 0x and 64 hex digits. */
  digest: string | null
  createdAt: Time
  /** Null for a signed one. */
  expiresAt: Time | null
  /** When headers for a POST of it were handed out. */
  postHeadersAt: Time | null
}

export type PositionState = 'open' | 'closed'

/** What a captured or recorded amount bought. */
export type Position = {
  positionId: string
  userId: string
  credentialId: number | null
  tradeId: string | null
  amountUsd: Usd
  /** What is not closed yet. */
  openUsd: Usd
  state: PositionState
  openedAt: Time
  closedAt: Time | null
}
