import { invalidParams, PurserError } from '../../errors.ts'
import { headroom, worstCaseMicros } from '../../ledger/account.ts'
import { dayEndMs, dayOf } from '../../ledger/clock.ts'
import { formatUsd, percentOf } from '../../money.ts'
import type { PositionRow, ReservationRow, ReservationState, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act, WorkUnit } from '../act.ts'
import { time } from '../credentials/metadata.ts'
import type { Freeze } from '../freeze.ts'
import { grantsCredential } from '../grant.ts'
import { findUser } from '../users.ts'
import { loadAccount } from './accounts.ts'
import { afterFreeing, freeDue, freed } from './expiry.ts'
import { positionIdOf, reservationIdOf } from './ids.ts'
import type { SpendingParts } from './reserving.ts'
import { lacksCredential, readRow } from './reserving.ts'

/** Credentials looked at in one transaction of the usage report: about 5 ms. */
const usageSlice = 1000

type DailyView = {
  limitUsd: string
  spentUsd: string
  reservedUsd: string
  remainingUsd: string
  percent: number
  resetsAt: string
}

export type StatusView = {
  userId: string
  tier: string
  frozen: Freeze | null
  perTrade: { limitUsd: string }
  credentialDaily: DailyView | null
  userDaily: DailyView
  exposure: { limitUsd: string; openUsd: string; reservedUsd: string; remainingUsd: string; percent: number }
  worstCaseUsd: string
  unbounded: ('private_key_retrievable' | 'sell_without_floor')[]
}

export type UsageRow = {
  userId: string
  email: string | null
  credentialId: number
  name: string | null
  spentUsd: string
  limitUsd: string
  percent: number
}

/** What the ledger says, without changing anything but holds whose time is over. */
export class SpendReports {
  readonly #parts: SpendingParts
  readonly #clock: () => { nowMs: number; todayMs: number | null }

  constructor(parts: SpendingParts, clock: () => { nowMs: number; todayMs: number | null }) {
    this.#parts = parts
    this.#clock = clock
  }

  /** Limits, what is used of them and the worst that can happen. NotFound. */
  status(act: Act, params: { userId: string; credentialId?: number | undefined }): Promise<StatusView> {
    return afterFreeing(() => this.#parts.commits.submit((unit) => this.#status(unit, act, params), act))
  }

  *#status(
    unit: WorkUnit,
    act: Act,
    { userId, credentialId }: { userId: string; credentialId?: number | undefined },
  ): Transaction<StatusView | typeof freed> {
    const { tiers, freeze } = this.#parts
    const { todayMs } = this.#clock()
    const row = yield* readRow(userId, credentialId)
    if (row === undefined) throw new PurserError('NotFound', { resource: 'user' })
    if (lacksCredential(act, row, credentialId)) throw new PurserError('NotFound', { resource: 'credential' })
    if (yield* freeDue(unit, row, todayMs)) return freed
    const { account, day } = yield* loadAccount(row, tiers, todayMs)
    const keys = yield* perform('exposureOfKeys', userId)
    const frozen = (yield* freeze.systemFreeze()) ?? freeze.userFreeze(userId, row)
    const { limits, credential } = account
    const { heldMicros, openMicros, spentMicros } = account.user
    const resetsAt = time(dayEndMs(day))
    return {
      userId: row.userId,
      tier: row.tier,
      frozen,
      perTrade: { limitUsd: formatUsd(limits.perTradeMicros) },
      credentialDaily:
        credential === null || credential.dailyLimitMicros === null
          ? null
          : dailyView(credential.dailyLimitMicros, credential.spentMicros, credential.heldMicros, resetsAt),
      userDaily: dailyView(limits.dailyMicros, spentMicros, heldMicros, resetsAt),
      exposure: {
        limitUsd: formatUsd(limits.exposureMicros),
        openUsd: formatUsd(openMicros),
        reservedUsd: formatUsd(heldMicros),
        remainingUsd: formatUsd(headroom(limits.exposureMicros, openMicros + heldMicros)),
        percent: percentOf(openMicros + heldMicros, limits.exposureMicros),
      },
      worstCaseUsd: formatUsd(worstCaseMicros(account, frozen !== null)),
      unbounded: [
        ...(keys.retrievable === 1 ? (['private_key_retrievable'] as const) : []),
        // Without a signing policy, which comes with signing, no SELL has a floor.
        ...(keys.signing === 1 ? (['sell_without_floor'] as const) : []),
      ],
    }
  }

  /** Unrevoked credentials with a daily limit, most used first. */
  async usage(
    act: Act,
    params: { cursor?: string | undefined; limit: number },
  ): Promise<{ usage: UsageRow[]; nextCursor: string | null }> {
    const after = params.cursor === undefined ? null : parseUsageCursor(params.cursor)
    const rows = await this.#usageRows(act)
    rows.sort((a, b) => b.percent - a.percent || a.credentialId - b.credentialId)
    const start = after === null ? 0 : rows.findIndex((row) => isBehind(row, after))
    const page = start === -1 ? [] : rows.slice(start, start + params.limit)
    const last = page.at(-1)
    const more = start !== -1 && rows.length > start + params.limit
    return {
      usage: page,
      nextCursor: more && last !== undefined ? `${last.percent}/${last.credentialId}` : null,
    }
  }

  async #usageRows(act: Act): Promise<UsageRow[]> {
    const { commits } = this.#parts
    const ledger = await commits.submit(() => perform('ledgerGet'), act)
    const { todayMs } = this.#clock()
    const day = todayMs === null ? ledger.day : Math.max(ledger.day, dayOf(todayMs))
    const rows: UsageRow[] = []
    for (let after = 0; ; ) {
      const from = after
      const slice = await commits.submit(function* () {
        const found = yield* perform('usagePage', from, day, usageSlice)
        for (const row of found) {
          if (row.laterDays === 0n || ledger.steppedBackDay !== day) continue
          const days = yield* perform('credentialDaysFrom', row.credentialId, day)
          row.spentMicros = days.reduce((total, { spentMicros }) => total + spentMicros, 0n)
        }
        return found
      }, act)
      for (const row of slice) {
        const spentMicros = row.spentMicros ?? 0n
        rows.push({
          userId: row.userId,
          email: row.email,
          credentialId: Number(row.credentialId),
          name: row.name,
          spentUsd: formatUsd(spentMicros),
          limitUsd: formatUsd(row.limitMicros),
          percent: percentOf(spentMicros + row.heldMicros, row.limitMicros),
        })
      }
      if (slice.length < usageSlice) return rows
      after = Number(slice.at(-1)!.credentialId)
    }
  }

  /** Reservations of a user in one state, oldest first. NotFound. */
  async reservations(
    act: Act,
    params: {
      userId: string
      state: ReservationState
      signed?: boolean | undefined
      cursor?: string | undefined
      limit: number
    },
  ): Promise<{ reservations: object[]; nextCursor: string | null }> {
    const { userId, state, signed, limit } = params
    const clock = this.#clock
    const found: ReservationRow[] = []
    let after = parseCursor(params.cursor)
    for (;;) {
      const from = after
      const read = function* (unit: WorkUnit): Transaction<ReservationRow[] | typeof freed> {
        const row = yield* perform('spendOf', userId, null)
        if (row === undefined) throw new PurserError('NotFound', { resource: 'user' })
        if (yield* freeDue(unit, row, clock().todayMs)) return freed
        return yield* perform('reservationsPage', userId, state, from, limit + 1)
      }
      const rows = await afterFreeing(() => this.#parts.commits.submit(read, act))
      const shown = rows.filter((row) => grantsCredential(act.caller, row.credentialId))
      found.push(...shown.filter((row) => signed === undefined || (row.signed === 1n) === signed))
      if (rows.length <= limit || found.length > limit) break
      after = Number(rows.at(-1)!.reservationId)
    }
    const page = found.slice(0, limit)
    return {
      reservations: stillGranted(act, page).map(reservationView),
      nextCursor: found.length > limit ? String(page.at(-1)!.reservationId) : null,
    }
  }

  /** Positions of a user, oldest first. NotFound. */
  async positions(
    act: Act,
    params: {
      userId: string
      state?: 'open' | 'closed' | undefined
      cursor?: string | undefined
      limit: number
    },
  ): Promise<{ positions: object[]; nextCursor: string | null }> {
    const { userId, state, limit } = params
    const found: PositionRow[] = []
    let after = parseCursor(params.cursor)
    for (;;) {
      const from = after
      const rows = await this.#parts.commits.submit(function* (): Transaction<PositionRow[]> {
        yield* findUser(userId)
        return yield* perform('positionsPage', userId, state ?? null, from, limit + 1)
      }, act)
      found.push(...rows.filter((row) => grantsCredential(act.caller, row.credentialId)))
      if (rows.length <= limit || found.length > limit) break
      after = Number(rows.at(-1)!.positionId)
    }
    const page = found.slice(0, limit)
    return {
      positions: stillGranted(act, page).map(positionView),
      nextCursor: found.length > limit ? String(page.at(-1)!.positionId) : null,
    }
  }
}

/** Without what the caller has lost while the others were read: the answer comes after that. */
function stillGranted<Row extends { readonly credentialId: bigint | null }>(
  { caller }: Act,
  rows: readonly Row[],
): Row[] {
  return rows.filter((row) => grantsCredential(caller, row.credentialId))
}

function dailyView(
  limitMicros: bigint,
  spentMicros: bigint,
  heldMicros: bigint,
  resetsAt: string,
): DailyView {
  return {
    limitUsd: formatUsd(limitMicros),
    spentUsd: formatUsd(spentMicros),
    reservedUsd: formatUsd(heldMicros),
    remainingUsd: formatUsd(headroom(limitMicros, spentMicros + heldMicros)),
    percent: percentOf(spentMicros + heldMicros, limitMicros),
    resetsAt,
  }
}

function reservationView(row: ReservationRow) {
  return {
    reservationId: reservationIdOf(row.reservationId),
    userId: row.userId,
    credentialId: row.credentialId === null ? null : Number(row.credentialId),
    amountUsd: formatUsd(row.amountMicros),
    capturedUsd: formatUsd(row.capturedMicros),
    state: row.state,
    signed: row.signed === 1n,
    digest: row.digest === null ? null : `0x${row.digest.toString('hex')}`,
    createdAt: time(row.createdAtMs),
    expiresAt: time(row.expiresAtMs),
    postHeadersAt: time(row.postHeadersAtMs),
  }
}

function positionView(row: PositionRow) {
  return {
    positionId: positionIdOf(row.positionId),
    userId: row.userId,
    credentialId: row.credentialId === null ? null : Number(row.credentialId),
    tradeId: row.tradeId,
    amountUsd: formatUsd(row.amountMicros),
    openUsd: formatUsd(row.openMicros),
    state: row.openMicros > 0n ? 'open' : 'closed',
    openedAt: time(row.openedAtMs),
    closedAt: time(row.closedAtMs),
  }
}

function parseCursor(cursor: string | undefined): number {
  if (cursor === undefined) return 0
  if (!/^\d{1,15}$/.test(cursor))
    throw invalidParams('cursor', 'use the nextCursor of an earlier answer as it is')
  return Number(cursor)
}

type UsageKey = { percent: number; credentialId: number }

function parseUsageCursor(cursor: string): UsageKey {
  const parts = /^(\d{1,21}(?:\.\d{1,2})?)\/(\d{1,15})$/.exec(cursor)
  if (parts === null) throw invalidParams('cursor', 'use the nextCursor of an earlier answer as it is')
  return { percent: Number(parts[1]), credentialId: Number(parts[2]) }
}

function isBehind(row: UsageKey, after: UsageKey): boolean {
  return (
    row.percent < after.percent || (row.percent === after.percent && row.credentialId > after.credentialId)
  )
}
