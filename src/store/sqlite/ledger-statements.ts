import type Database from 'better-sqlite3'
import type { LedgerRow, PositionRow, ReservationRow, SpendRow } from '../operations.ts'
import type { Handlers } from './engine.ts'

type LedgerOperation =
  | 'userFreeze'
  | 'ledgerGet'
  | 'ledgerInsert'
  | 'ledgerDay'
  | 'ledgerStepBack'
  | 'ledgerFreeze'
  | 'spendOfPrimary'
  | 'spendOf'
  | 'userDaysFrom'
  | 'credentialDaysFrom'
  | 'userTotals'
  | 'userNextExpiry'
  | 'credentialHeld'
  | 'userDayPut'
  | 'credentialDayPut'
  | 'reservationInsert'
  | 'reservationGet'
  | 'reservationUpdate'
  | 'reservationsDue'
  | 'reservationsNextExpiry'
  | 'reservationsPage'
  | 'reservationsKeep'
  | 'usersDue'
  | 'positionInsert'
  | 'positionGet'
  | 'positionByTrade'
  | 'positionClose'
  | 'positionsPage'
  | 'retryGet'
  | 'retryInsert'
  | 'usagePage'
  | 'exposureOfKeys'

type Part<N extends keyof Handlers> = Pick<Handlers, N>

/** Of a user, of a credential and of the ledger: one statement each, because a join of them costs five times as much. */
const spendUserColumns = `user_id AS userId, tier, per_trade_micros AS perTradeMicros, daily_micros AS dailyMicros,
  exposure_micros AS exposureMicros, held_micros AS userHeldMicros, open_micros AS userOpenMicros,
  next_expiry_ms AS nextExpiryMs, frozen_reason AS userFrozenReason, frozen_at_ms AS userFrozenAtMs,
  (SELECT d.spent_micros FROM user_days d WHERE d.user_id = users.user_id AND d.day = (SELECT day FROM ledger)) AS userSpentMicros,
  EXISTS (SELECT 1 FROM user_days d WHERE d.user_id = users.user_id AND d.day > (SELECT day FROM ledger)) AS laterDays,
  (SELECT day FROM ledger) AS day, (SELECT stepped_back_day FROM ledger) AS steppedBackDay,
  (SELECT frozen_reason FROM ledger) AS systemFrozenReason,
  (SELECT frozen_at_ms FROM ledger) AS systemFrozenAtMs`
const spendCredentialColumns = `credential_id AS credentialId, revoked_at_ms AS revokedAtMs, expires_at_ms AS expiresAtMs,
  daily_limit_micros AS dailyLimitMicros, held_micros AS credentialHeldMicros,
  (SELECT d.spent_micros FROM credential_days d
    WHERE d.credential_id = credentials.credential_id AND d.day = (SELECT day FROM ledger)) AS credentialSpentMicros`

type SpendCredential = Pick<
  SpendRow,
  | 'credentialId'
  | 'revokedAtMs'
  | 'expiresAtMs'
  | 'dailyLimitMicros'
  | 'credentialHeldMicros'
  | 'credentialSpentMicros'
>
const noCredential: SpendCredential = {
  credentialId: null,
  revokedAtMs: null,
  expiresAtMs: null,
  dailyLimitMicros: null,
  credentialHeldMicros: null,
  credentialSpentMicros: null,
}

const reservationColumns = `reservation_id AS reservationId, user_id AS userId, credential_id AS credentialId,
  amount_micros AS amountMicros, held_micros AS heldMicros, captured_micros AS capturedMicros, state, signed, digest,
  created_at_ms AS createdAtMs, expires_at_ms AS expiresAtMs, post_headers_at_ms AS postHeadersAtMs,
  closing_method AS closingMethod, closing_params AS closingParams, closing_answer AS closingAnswer`

const positionColumns = `position_id AS positionId, user_id AS userId, credential_id AS credentialId,
  reservation_id AS reservationId, trade_id AS tradeId,
  amount_micros AS amountMicros, open_micros AS openMicros, opened_at_ms AS openedAtMs, closed_at_ms AS closedAtMs`

/** The SQL of the ledger. Every statement with money keeps the database's bigint default. */
export function ledgerStatements(db: Database.Database): Part<LedgerOperation> {
  return {
    ...decisionReads(db),
    ...totalWrites(db),
    ...reservationStatements(db),
    ...positionStatements(db),
    ...reports(db),
  }
}

function decisionReads(
  db: Database.Database,
): Part<'ledgerGet' | 'spendOfPrimary' | 'spendOf' | 'userDaysFrom' | 'credentialDaysFrom' | 'retryGet'> {
  const ledger = db
    .prepare(
      'SELECT day, stepped_back_day AS steppedBackDay, frozen_reason AS frozenReason, frozen_at_ms AS frozenAtMs FROM ledger',
    )
    .safeIntegers(false)
  const user = db.prepare(`SELECT ${spendUserColumns} FROM users WHERE user_id = ?`)
  const primary = db.prepare(
    `SELECT ${spendCredentialColumns} FROM credentials WHERE user_id = ? AND is_primary = 1`,
  )
  const named = db.prepare(
    `SELECT ${spendCredentialColumns} FROM credentials WHERE credential_id = ? AND user_id = ?`,
  )
  const spend = (userId: string, credential: unknown) => {
    const found = user.get(userId) as Omit<SpendRow, keyof SpendCredential> | undefined
    if (found === undefined) return undefined
    return Object.assign(found, (credential ?? noCredential) as SpendCredential)
  }
  const userDays = db.prepare(
    'SELECT day, spent_micros AS spentMicros FROM user_days WHERE user_id = ? AND day >= ?',
  )
  const credentialDays = db.prepare(
    'SELECT day, spent_micros AS spentMicros FROM credential_days WHERE credential_id = ? AND day >= ?',
  )
  const retry = db.prepare(
    'SELECT params, answer FROM retries WHERE user_id = @userId AND space = @space AND key = @key',
  )
  type Day = { day: bigint; spentMicros: bigint }
  return {
    ledgerGet: () => ledger.get() as LedgerRow,
    spendOfPrimary: (userId) => spend(userId, primary.get(userId)),
    spendOf: (userId, credentialId) =>
      spend(userId, credentialId === null ? null : named.get(credentialId, userId)),
    userDaysFrom: (userId, day) => userDays.all(userId, day) as Day[],
    credentialDaysFrom: (credentialId, day) => credentialDays.all(credentialId, day) as Day[],
    retryGet: (key) => retry.get(key) as { params: string; answer: string } | undefined,
  }
}

function totalWrites(
  db: Database.Database,
): Part<
  | 'userFreeze'
  | 'ledgerInsert'
  | 'ledgerDay'
  | 'ledgerStepBack'
  | 'ledgerFreeze'
  | 'userTotals'
  | 'userNextExpiry'
  | 'credentialHeld'
  | 'userDayPut'
  | 'credentialDayPut'
  | 'retryInsert'
> {
  const userFreeze = db.prepare('UPDATE users SET frozen_reason = ?, frozen_at_ms = ? WHERE user_id = ?')
  const ledgerInsert = db.prepare('INSERT INTO ledger (id, day) VALUES (1, ?)')
  const ledgerDay = db.prepare('UPDATE ledger SET day = ?')
  const ledgerStepBack = db.prepare('UPDATE ledger SET day = @day, stepped_back_day = @day')
  const ledgerFreeze = db.prepare('UPDATE ledger SET frozen_reason = ?, frozen_at_ms = ?')
  const userTotals = db.prepare('UPDATE users SET held_micros = ?, open_micros = ? WHERE user_id = ?')
  const userNextExpiry = db.prepare('UPDATE users SET next_expiry_ms = ? WHERE user_id = ?')
  const credentialHeld = db.prepare('UPDATE credentials SET held_micros = ? WHERE credential_id = ?')
  const userDay = db.prepare(`INSERT INTO user_days (user_id, day, spent_micros) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET spent_micros = excluded.spent_micros`)
  const credentialDay =
    db.prepare(`INSERT INTO credential_days (credential_id, day, spent_micros) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET spent_micros = excluded.spent_micros`)
  const retry = db.prepare('INSERT INTO retries (user_id, space, key, params, answer) VALUES (?, ?, ?, ?, ?)')
  return {
    userFreeze: (userId, reason, atMs) => void userFreeze.run(reason, atMs, userId),
    ledgerInsert: (day) => void ledgerInsert.run(day),
    ledgerDay: (day) => void ledgerDay.run(day),
    ledgerStepBack: (day) => void ledgerStepBack.run({ day }),
    ledgerFreeze: (reason, atMs) => void ledgerFreeze.run(reason, atMs),
    userTotals: (userId, held, open) => void userTotals.run(held, open, userId),
    userNextExpiry: (userId, nextExpiryMs) => void userNextExpiry.run(nextExpiryMs, userId),
    credentialHeld: (credentialId, held) => void credentialHeld.run(held, credentialId),
    userDayPut: (userId, day, spent) => void userDay.run(userId, day, spent),
    credentialDayPut: (credentialId, day, spent) => void credentialDay.run(credentialId, day, spent),
    retryInsert: ({ userId, space, key }, params, answer) =>
      void retry.run(userId, space, key, params, answer),
  }
}

function reservationStatements(
  db: Database.Database,
): Part<
  | 'reservationInsert'
  | 'reservationGet'
  | 'reservationUpdate'
  | 'reservationsDue'
  | 'reservationsNextExpiry'
  | 'reservationsPage'
  | 'reservationsKeep'
  | 'usersDue'
> {
  const insert = db.prepare(`INSERT INTO reservations
    (user_id, credential_id, amount_micros, held_micros, state, created_at_ms, ttl_ms, expires_at_ms)
    VALUES (?, ?, ?, ?, 'held', ?, ?, ?)`)
  const get = db.prepare(`SELECT ${reservationColumns} FROM reservations WHERE reservation_id = ?`)
  const update =
    db.prepare(`UPDATE reservations SET held_micros = ?, captured_micros = ?, state = ?, closing_method = ?,
    closing_params = ?, closing_answer = ? WHERE reservation_id = ?`)
  const due = db.prepare(`SELECT ${reservationColumns} FROM reservations
    WHERE user_id = ? AND state = 'held' AND expires_at_ms IS NOT NULL AND expires_at_ms <= ? ORDER BY expires_at_ms LIMIT ?`)
  const nextExpiry = db
    .prepare(`SELECT expires_at_ms FROM reservations
    WHERE user_id = ? AND state = 'held' AND expires_at_ms IS NOT NULL ORDER BY expires_at_ms LIMIT 1`)
    .pluck()
  const page = db.prepare(`SELECT ${reservationColumns} FROM reservations
    WHERE user_id = ? AND state = ? AND reservation_id > ? ORDER BY reservation_id LIMIT ?`)
  const keep = db.prepare(`UPDATE reservations SET expires_at_ms = @atMs + ttl_ms, kept = 1
    WHERE state = 'held' AND expires_at_ms IS NOT NULL AND expires_at_ms <= @atMs AND kept = 0
    AND user_id IN (SELECT user_id FROM users WHERE next_expiry_ms <= @atMs)`)
  const usersDue = db
    .prepare('SELECT user_id FROM users WHERE next_expiry_ms <= ? ORDER BY next_expiry_ms LIMIT ?')
    .pluck()
  return {
    reservationInsert: (row) => {
      const { userId, credentialId, amountMicros, atMs, ttlMs } = row
      const { lastInsertRowid } = insert.run(
        userId,
        credentialId,
        amountMicros,
        amountMicros,
        atMs,
        ttlMs,
        atMs + ttlMs,
      )
      return BigInt(lastInsertRowid)
    },
    reservationGet: (id) => get.get(id) as ReservationRow | undefined,
    reservationUpdate: (id, change, closing) =>
      void update.run(
        change.heldMicros,
        change.capturedMicros,
        change.state,
        closing?.method ?? null,
        closing?.params ?? null,
        closing?.answer ?? null,
        id,
      ),
    reservationsDue: (userId, atMs, limit) => due.all(userId, atMs, limit) as ReservationRow[],
    reservationsNextExpiry: (userId) => (nextExpiry.get(userId) as bigint | undefined) ?? null,
    reservationsPage: (userId, state, after, limit) =>
      page.all(userId, state, after, limit) as ReservationRow[],
    reservationsKeep: (atMs) => keep.run({ atMs }).changes,
    usersDue: (atMs, limit) => usersDue.all(atMs, limit) as string[],
  }
}

function positionStatements(
  db: Database.Database,
): Part<'positionInsert' | 'positionGet' | 'positionByTrade' | 'positionClose' | 'positionsPage'> {
  const insert = db.prepare(`INSERT INTO positions
    (user_id, credential_id, reservation_id, trade_id, amount_micros, open_micros, opened_at_ms)
    VALUES (@userId, @credentialId, @reservationId, @tradeId, @amountMicros, @amountMicros, @atMs)`)
  const get = db.prepare(`SELECT ${positionColumns} FROM positions WHERE position_id = ? AND user_id = ?`)
  const byTrade = db.prepare(`SELECT ${positionColumns} FROM positions WHERE user_id = ? AND trade_id = ?`)
  const close = db.prepare('UPDATE positions SET open_micros = ?, closed_at_ms = ? WHERE position_id = ?')
  const pageWhere = (condition: string) =>
    db.prepare(`SELECT ${positionColumns} FROM positions
      WHERE user_id = ? AND position_id > ? ${condition} ORDER BY position_id LIMIT ?`)
  const pages = {
    all: pageWhere(''),
    open: pageWhere('AND open_micros > 0'),
    closed: pageWhere('AND open_micros = 0'),
  }
  return {
    positionInsert: (row) => BigInt(insert.run(row).lastInsertRowid),
    positionGet: (userId, positionId) => get.get(positionId, userId) as PositionRow | undefined,
    positionByTrade: (userId, tradeId) => byTrade.get(userId, tradeId) as PositionRow | undefined,
    positionClose: (positionId, open, closedAtMs) => void close.run(open, closedAtMs, positionId),
    positionsPage: (userId, state, after, limit) =>
      pages[state ?? 'all'].all(userId, after, limit) as PositionRow[],
  }
}

function reports(db: Database.Database): Part<'usagePage' | 'exposureOfKeys'> {
  const usage = db.prepare(`SELECT c.credential_id AS credentialId, c.user_id AS userId, u.email, c.name,
    c.daily_limit_micros AS limitMicros, c.held_micros AS heldMicros,
    (SELECT d.spent_micros FROM credential_days d WHERE d.credential_id = c.credential_id AND d.day = @day) AS spentMicros,
    EXISTS (SELECT 1 FROM credential_days d WHERE d.credential_id = c.credential_id AND d.day > @day) AS laterDays
    FROM credentials c JOIN users u ON u.user_id = c.user_id
    WHERE c.revoked_at_ms IS NULL AND c.daily_limit_micros IS NOT NULL AND c.credential_id > @afterId
    ORDER BY c.credential_id LIMIT @limit`)
  const keys = db
    .prepare(`SELECT
      EXISTS (SELECT 1 FROM credentials WHERE user_id = @userId AND revoked_at_ms IS NULL AND address IS NOT NULL
        AND (private_key_policy = 'exportable' OR private_key_retrieved_at_ms IS NOT NULL)) AS retrievable,
      EXISTS (SELECT 1 FROM credentials WHERE user_id = @userId AND revoked_at_ms IS NULL AND address IS NOT NULL) AS signing`)
    .safeIntegers(false)
  return {
    usagePage: (afterId, day, limit) =>
      usage.all({ afterId, day, limit }) as ReturnType<Handlers['usagePage']>,
    exposureOfKeys: (userId) => keys.get({ userId }) as { retrievable: number; signing: number },
  }
}
