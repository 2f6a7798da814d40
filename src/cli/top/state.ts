import type { AuditEntry, Health, Reservation, SpendStatus } from '../../client/index.ts'
import type { Rates } from './metrics.ts'

/** A list on the screen, or why the daemon does not answer it just now. */
export type Section<Row> = { readonly rows: readonly Row[]; readonly problem: string | null }

/** What the daemon said at one look. */
export type TopData = {
  /** Wall clock of the look, milliseconds since 1970. */
  readonly atMs: number
  readonly version: string
  readonly uptimeSeconds: number
  readonly health: Health
  readonly connections: number
  readonly inFlight: number
  /** Null at the first look: a rate needs two. */
  readonly rates: Rates | null
  /** How many users there are; `users` may not have seen all of them yet. */
  readonly userCount: number
  /** Most used first. */
  readonly users: Section<SpendStatus>
  /** Held, oldest first, of the users that are shown first. */
  readonly reservations: Section<Reservation>
  /** Newest first. */
  readonly entries: Section<AuditEntry>
}

/** Since when and why the daemon does not answer. */
export type Away = { readonly sinceMs: number; readonly message: string; readonly hint: string }

/** All that a frame is made of, but for its size. */
export type TopState = {
  readonly nowMs: number
  /** The last that was seen; null where nothing has been yet. */
  readonly data: TopData | null
  /** Null while the daemon answers. */
  readonly away: Away | null
}

/** How far the fullest of a user's limits is used up, in percent. */
export function mostUsedPercent({ userDaily, exposure }: SpendStatus): number {
  return Math.max(userDaily.percent, exposure.percent)
}
