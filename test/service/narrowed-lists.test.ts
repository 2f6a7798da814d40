import { expect, test } from 'vitest'
import type { Act, Commits } from '../../src/service/act.ts'
import { AuditTrail } from '../../src/service/audit-trail.ts'
import { CredentialQueries } from '../../src/service/credentials/queries.ts'
import { SpendReports } from '../../src/service/spending/reports.ts'
import type { SpendingParts } from '../../src/service/spending/reserving.ts'

// A list is read slice by slice. What the caller loses between two of them is not in its answer, which comes after.

type Caller = { users: '*' | Set<string>; credentials: Set<number> | null }

/** Answers every operation by `answers`; the caller is narrowed to alice's credential 1 after `after` transactions. */
function fixture(after: number, answers: Record<string, (...params: never[]) => unknown>) {
  const caller: Caller & Record<string, unknown> = { users: new Set(['alice', 'bob']), credentials: null }
  let count = 0
  const commits = {
    submit: async (
      work: (unit: object) => Generator<{ name: string; params: never[] }, unknown, unknown>,
    ) => {
      const steps = work({ audit: () => undefined })
      let step = steps.next()
      while (!step.done) step = steps.next(answers[step.value.name]!(...step.value.params))
      if (++count === after) Object.assign(caller, { users: new Set(['alice']), credentials: new Set([1]) })
      return step.value
    },
  } as unknown as Commits
  return { commits, act: { caller } as unknown as Act }
}

const credential = (id: number, userId: string) => ({
  credentialId: BigInt(id),
  userId,
  isPrimary: 0n,
  fingerprint: Buffer.alloc(1),
  address: null,
  dailyLimitMicros: null,
  createdAtMs: 0n,
  updatedAtMs: 0n,
  encryptedAtMs: 0n,
  expiresAtMs: BigInt(Date.now() + 1000 + id),
  revokedAtMs: null,
  lastUsedAtMs: null,
  apiSecretRetrievedAtMs: null,
  privateKeyRetrievedAtMs: null,
})
const many = [
  credential(1, 'alice'),
  credential(2, 'alice'),
  ...Array.from({ length: 2500 }, (_, n) => credential(n + 3, n < 5 ? 'bob' : 'zoe')),
].map((row) => ({ ...row, revokedAtMs: row.userId === 'zoe' ? null : 1n }))
const shown = [1]

test('credentials.list', async () => {
  const { commits, act } = fixture(2, {
    credentialsOfUser: (userId: string, after: number, limit: number) =>
      many.filter((row) => row.userId === userId && row.credentialId > after).slice(0, limit),
    credentialsAll: (after: number, limit: number) =>
      many.filter((row) => row.credentialId > after).slice(0, limit),
  })
  Object.assign(act.caller, { users: '*' })
  const { credentials } = await new CredentialQueries({ commits, now: Date.now }).list(act, {
    status: 'revoked',
    limit: 1000,
  })
  expect(credentials.map(({ credentialId }) => credentialId)).toEqual(shown)
})

test('credentials.expiring', async () => {
  const { commits, act } = fixture(2, {
    credentialsExpiring: (afterMs: number, _id: number, _until: number, limit: number) =>
      many.filter((row) => Number(row.expiresAtMs) > afterMs).slice(0, limit),
  })
  const { credentials } = await new CredentialQueries({ commits, now: () => 0 }).expiring(act, {
    withinDays: 1,
    limit: 100,
  })
  expect(credentials.map(({ credentialId }) => credentialId)).toEqual(shown)
})

test('audit.query', async () => {
  const entry = (seq: number, userId: string | null, credentialId: number | null) => ({
    seq,
    atMs: 0,
    userId,
    credentialId,
    details: '{}',
    peerUid: null,
    hash: Buffer.alloc(1),
  })
  const log = [
    entry(9999, 'bob', 3),
    entry(9998, 'alice', 2),
    entry(9997, 'alice', 1),
    entry(9996, 'alice', null),
  ]
  const { commits, act } = fixture(2, {
    auditHead: () => ({ seq: 10_000 }),
    auditPage: ({ beforeSeq, span }: { beforeSeq: number; span: number }) =>
      log.filter(({ seq }) => seq < beforeSeq && seq >= beforeSeq - span),
  })
  const trail = new AuditTrail({ commits, mac: () => null, now: Date.now })
  const { entries, nextCursor } = await trail.query(act, { limit: 100 })
  expect(entries.map(({ credentialId }) => credentialId)).toEqual(shown)
  expect(nextCursor).toBeNull()
})

test('audit.failures', async () => {
  const failed: [number, string][] = [
    [1, 'alice'],
    [2, 'alice'],
    [3, 'bob'],
  ]
  const { commits, act } = fixture(1, {
    auditFailures: (_action: string, _since: number, last: { seq: number }, credentials: string | null) => {
      const ids = credentials === null ? null : (JSON.parse(credentials) as number[])
      // More than a slice, so that it goes on.
      const rows = failed.filter(([id]) => ids === null || ids.includes(id))
      return last.seq > 0
        ? []
        : Array.from({ length: 5000 }, (_, n) => ({ seq: n + 1, atMs: 1, userId: rows[n % rows.length]![1] }))
    },
  })
  const trail = new AuditTrail({ commits, mac: () => null, now: Date.now })
  const { users } = await trail.failures(act, { hours: 1, over: 0 })
  expect(users.map(({ userId }) => userId)).toEqual(['alice'])
})

const moneyRow = (id: number, credentialId: number) => ({
  reservationId: BigInt(id),
  positionId: BigInt(id),
  userId: 'alice',
  credentialId: BigInt(credentialId),
  amountMicros: 1n,
  capturedMicros: 0n,
  openMicros: 1n,
  signed: 1n,
  digest: null,
  tradeId: null,
  createdAtMs: 0n,
  openedAtMs: 0n,
  closedAtMs: null,
  expiresAtMs: null,
  postHeadersAtMs: null,
})

test.each(['reservations', 'positions'] as const)('%s.list', async (what) => {
  const rows = [moneyRow(1, 2), moneyRow(2, 1), { ...moneyRow(3, 3), credentialId: null }, moneyRow(4, 4)]
  // So that one page is not enough: the last rows of it are none of the caller's at the beginning, either.
  const pages = (after: number, limit: number) => rows.filter((row) => row.positionId > after).slice(0, limit)
  const { commits, act } = fixture(2, {
    spendOf: () => ({ nextExpiryMs: null }),
    userGet: () => ({}),
    reservationsPage: (_user: string, _state: string, after: number, limit: number) => pages(after, limit),
    positionsPage: (_user: string, _state: null, after: number, limit: number) => pages(after, limit),
  })
  Object.assign(act.caller, { credentials: new Set([1, 2]) })
  const parts = { commits, tiers: {} } as unknown as SpendingParts
  const reports = new SpendReports(parts, () => ({ nowMs: 0, todayMs: 0 }))
  const page =
    what === 'positions'
      ? (await reports.positions(act, { userId: 'alice', limit: 2 })).positions
      : (await reports.reservations(act, { userId: 'alice', state: 'held', limit: 2 })).reservations
  expect(page.map((row) => (row as { credentialId: number }).credentialId)).toEqual(shown)
})
