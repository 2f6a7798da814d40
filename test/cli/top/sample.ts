import type { TopData } from '../../../src/cli/top/state.ts'
import type { AuditEntry, DailyUsage, Reservation, SpendStatus } from '../../../src/client/index.ts'

/** 24 November 2026, 21:03:09 UTC. */
export const nowMs = Date.UTC(2026, 10, 24, 21, 3, 9)

const resetsAt = '2026-11-25T00:00:00.000Z'

function daily(limit: number, spent: number, reserved: number): DailyUsage {
  return {
    limitUsd: limit.toFixed(2),
    spentUsd: spent.toFixed(2),
    reservedUsd: reserved.toFixed(2),
    remainingUsd: Math.max(0, limit - spent - reserved).toFixed(2),
    percent: Math.floor(((spent + reserved) / limit) * 10_000) / 100,
    resetsAt,
  }
}

export function user(userId: string, tier: string, limit: number, spent: number, reserved = 0): SpendStatus {
  const { spentUsd: openUsd, ...rest } = daily(limit * 2, spent, reserved)
  return {
    userId,
    tier,
    frozen: null,
    perTrade: { limitUsd: '500.00' },
    credentialDaily: null,
    userDaily: daily(limit, spent, reserved),
    exposure: { ...rest, openUsd },
    worstCaseUsd: limit.toFixed(2),
    unbounded: [],
  }
}

function hold(
  id: number,
  userId: string,
  amountUsd: string,
  ageMs: number,
  leftMs: number | null,
): Reservation {
  return {
    reservationId: `r${id}`,
    userId,
    credentialId: id % 2 === 0 ? null : id,
    amountUsd,
    capturedUsd: '0.00',
    state: 'held',
    signed: leftMs === null,
    digest: null,
    createdAt: new Date(nowMs - ageMs).toISOString(),
    expiresAt: leftMs === null ? null : new Date(nowMs + leftMs).toISOString(),
    postHeadersAt: null,
  }
}

function entry(
  seq: number,
  action: string,
  userId: string | null,
  outcome: AuditEntry['outcome'],
): AuditEntry {
  return {
    seq,
    at: new Date(nowMs - (5000 - seq) * 250).toISOString(),
    action,
    userId,
    credentialId: userId === null ? null : 7,
    outcome,
    details:
      outcome === 'denied' ? { error: 'SpendLimitExceeded', level: 'user_daily' } : { amountUsd: '25.00' },
    peer: { uid: 1001, gid: 1001, pid: 4242, comm: 'node', unit: 'bot.service' },
    client: seq % 3 === 0 ? null : 'market-maker/1.4',
    hash: 'ab'.repeat(32),
  }
}

const actions = ['spend_reserved', 'spend_captured', 'api_key_retrieved', 'spend_rejected'] as const

/** What a daemon with some life in it says. */
export const busy: TopData = {
  atMs: nowMs,
  version: '1.2.3',
  uptimeSeconds: 3 * 86_400 + 4 * 3600 + 12 * 60,
  health: { status: 'ok', checks: { store: 'ok', disk: 'ok', masterKey: 'ok', freeze: 'ok' } },
  connections: 64,
  inFlight: 12,
  rates: {
    requests: 1234.4,
    refused: 3.25,
    commits: 210,
    methods: [
      { method: 'spend.reserve', perSecond: 800.2 },
      { method: 'spend.capture', perSecond: 400 },
      { method: 'credentials.retrieve', perSecond: 34.2 },
    ],
  },
  userCount: 12,
  users: {
    rows: [
      user('maker-eu', 'premium', 50_000, 48_000.5, 1999.25),
      { ...user('taker-us', 'pro', 10_000, 8200), frozen: { reason: 'odd orders', since: resetsAt } },
      ...Array.from({ length: 10 }, (_user, index) =>
        user(`bot-${index}@host.example`, 'basic', 2500, 1200 - index * 120, index === 3 ? 25 : 0),
      ),
    ],
    problem: null,
  },
  reservations: {
    rows: [
      hold(11, 'maker-eu', '1999.25', 86_400_000 * 2, null),
      hold(12, 'bot-3@host.example', '12.500001', 95_000, 25_000),
      hold(13, 'bot-3@host.example', '12.499999', 30_000, 30_000),
    ],
    problem: null,
  },
  entries: {
    rows: Array.from({ length: 40 }, (_entry, index) =>
      entry(
        5000 - index,
        actions[index % 4] ?? 'spend_reserved',
        index % 11 === 10 ? null : `bot-${index % 5}@host.example`,
        index % 4 === 3 ? 'denied' : 'ok',
      ),
    ),
    problem: null,
  },
}
