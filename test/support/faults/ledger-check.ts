import Database from 'better-sqlite3'
import { finishVerification, startVerification, verifyRow } from '../../../src/audit/verify.ts'
import { parseMasterKey } from '../../../src/keysource/parse-key.ts'
import { statementsOf } from '../../../src/store/sqlite/statements.ts'
import { openKeyring } from '../../../src/vault/keyring.ts'
import type { Act } from './ledger-load.ts'
import { sameAnswer } from './ledger-load.ts'
import { replay } from './ledger-replay.ts'

/** An act and the answer that accepted it, null where none is known. */
export type Claim = { readonly act: Act; readonly accepted: object | null }

/**
 * Everything that is wrong with the store at `path`, in words; none is as it must be. The file is opened as a crash
 * left it and closed: give it a copy. `claims` are what was asked for; acts that nobody asked for must not be there.
 */
export function problemsOf(path: string, masterKey: string, claims: readonly Claim[]): string[] {
  let db: Database.Database | null = null
  try {
    db = new Database(path)
    db.pragma('locking_mode = EXCLUSIVE')
    db.defaultSafeIntegers(true)
    const damage = db.pragma('integrity_check(3)') as { integrity_check: string }[]
    if (damage[0]?.integrity_check !== 'ok') return damage.map((row) => `damaged: ${row.integrity_check}`)
    const broken = db.pragma('foreign_key_check') as object[]
    return [
      ...broken.map(() => 'a foreign key leads nowhere'),
      ...chainProblems(db, masterKey),
      ...totalProblems(db),
      ...replay(db),
      ...claimProblems(db, claims),
    ]
  } catch (error) {
    return [`cannot be read: ${String(error)}`]
  } finally {
    db?.close()
  }
}

function chainProblems(db: Database.Database, masterKey: string): string[] {
  const statements = statementsOf(db)
  const store = statements.storeGet()!
  const keyring = openKeyring(parseMasterKey(Buffer.from(masterKey))!, {
    rows: statements.masterKeys(),
    storeId: store.storeId,
  })
  try {
    const mac = (hash: Buffer) => keyring.auditMac(hash)
    let state = startVerification(null)
    for (;;) {
      const rows = statements.auditRange(state.headSeq + 1, 1000)
      for (const row of rows) verifyRow(state, row, mac)
      if (rows.length < 1000 || !state.ok) break
    }
    state = finishVerification(state, true)
    if (!state.ok) return [`the audit chain is broken at ${state.firstBadSeq}`]
    return state.macChecked || state.entries === 0 ? [] : ['no MAC was checked']
  } finally {
    keyring.close()
  }
}

type Sum = { owner: bigint | string; day: bigint; stored: bigint; counted: bigint }

/** Every total is the sum of the rows it is the total of. */
function totalProblems(db: Database.Database): string[] {
  const sums: readonly [string, string][] = [
    [
      'held_micros of user',
      `SELECT user_id AS owner, 0 AS day, held_micros AS stored, coalesce((SELECT sum(held_micros) FROM reservations r
       WHERE r.user_id = u.user_id AND state = 'held'), 0) AS counted FROM users u`,
    ],
    [
      'open_micros of user',
      `SELECT user_id AS owner, 0 AS day, open_micros AS stored, coalesce((SELECT sum(open_micros) FROM positions p
       WHERE p.user_id = u.user_id), 0) AS counted FROM users u`,
    ],
    [
      'held_micros of credential',
      `SELECT credential_id AS owner, 0 AS day, held_micros AS stored, coalesce((SELECT sum(held_micros) FROM
       reservations r WHERE r.credential_id = c.credential_id), 0) AS counted FROM credentials c`,
    ],
    ['spent_micros of user', daysSql('user_days', 'user_id')],
    ['spent_micros of credential', daysSql('credential_days', 'credential_id')],
  ]
  const problems: string[] = []
  for (const [what, sql] of sums) {
    for (const { owner, day, stored, counted } of db.prepare(sql).all() as Sum[]) {
      if (stored !== counted)
        problems.push(`${what} ${owner} (day ${day}) is ${stored}, its rows make ${counted}`)
    }
  }
  const late = db
    .prepare(
      `SELECT u.user_id FROM users u JOIN reservations r USING (user_id) WHERE r.state = 'held'
       AND (u.next_expiry_ms IS NULL OR u.next_expiry_ms > r.expires_at_ms) GROUP BY u.user_id`,
    )
    .pluck()
    .all()
  return [...problems, ...late.map((userId) => `a hold of ${userId} expires before next_expiry_ms`)]
}

/** Days on which something is stored or counted, with both. */
function daysSql(table: string, owner: string): string {
  const counted = `SELECT ${owner}, opened_at_ms / 86400000 AS day, sum(amount_micros) AS micros FROM positions
    WHERE ${owner} IS NOT NULL GROUP BY 1, 2`
  return `SELECT coalesce(d.${owner}, c.${owner}) AS owner, coalesce(d.day, c.day) AS day,
    coalesce(d.spent_micros, 0) AS stored, coalesce(c.micros, 0) AS counted
    FROM ${table} d FULL JOIN (${counted}) c ON c.${owner} = d.${owner} AND c.day = d.day`
}

type Bound = { userId: string; space: string; key: string; answer: string }

/** What was acknowledged is there as it was answered; what is there was asked for, and not refused. */
function claimProblems(db: Database.Database, claims: readonly Claim[]): string[] {
  const bound = new Map(
    (db.prepare('SELECT user_id AS userId, space, key, answer FROM retries').all() as Bound[]).map(
      ({ userId, space, key, answer }) => [`${userId} ${space} ${key}`, answer],
    ),
  )
  const voided = new Map(
    (
      db
        .prepare(
          `SELECT 'r' || reservation_id AS id, json_extract(closing_params, '$.reason') AS reason,
           closing_answer AS answer FROM reservations WHERE closing_method = 'spend.void'`,
        )
        .all() as { id: string; reason: string; answer: string }[]
    ).map(({ id, reason, answer }) => [`${id} ${reason}`, answer]),
  )
  const problems: string[] = []
  for (const { act, accepted } of claims) {
    for (const key of keysOf(act)) {
      const answer = (act.method === 'spend.void' ? voided : bound).get(key)
      bound.delete(key)
      const told = `act ${act.index}, ${act.method} of ${act.userId},`
      if (answer === undefined) {
        if (accepted !== null)
          problems.push(`${told} was acknowledged and is lost: ${JSON.stringify(accepted)}`)
      } else if (accepted !== null && !sameAnswer(JSON.parse(answer), accepted)) {
        problems.push(`${told} was answered ${JSON.stringify(accepted)} and is ${answer}`)
      } else if (act.accepted === null && !act.uncertain && act.underWay === 0)
        problems.push(`${told} was refused and is there`)
    }
  }
  return [...problems, ...[...bound.keys()].map((key) => `nobody asked for ${key}`)]
}

/** Where the store keeps the first answer of an act. */
function keysOf({ method, userId, params }: Act): string[] {
  if (method === 'spend.void') return [`${params['reservationId']} ${params['reason']}`]
  const keys = []
  if (params['idempotencyKey'] !== undefined) keys.push(`${userId} ${method} ${params['idempotencyKey']}`)
  if (params['tradeId'] !== undefined) keys.push(`${userId} trade ${params['tradeId']}`)
  return keys
}
