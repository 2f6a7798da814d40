import type Database from 'better-sqlite3'

/** A ledger of its own, made from nothing but the audit log, and held against the tables. */

const dayMs = 86_400_000n

type Hold = { userId: string; credentialId: bigint | null; held: bigint; captured: bigint; state: string }
type Position = { userId: string; credentialId: bigint | null; amount: bigint; open: bigint }
type Totals = { held: bigint; open: bigint; spent: Map<bigint, bigint> }
type Limits = { perTrade: bigint; daily: bigint; exposure: bigint }
type Entry = {
  seq: bigint
  atMs: bigint
  action: string
  userId: string
  credentialId: bigint | null
  details: string
}

/**
 * Replays the acts the audit log tells of. Says where a grant passed a limit, where an act is told twice or makes no
 * sense, and where the tables hold something else in the end. Limits must not have been changed after the first grant.
 */
export function replay(db: Database.Database): string[] {
  const replayed = new Replay(db)
  const entries = db
    .prepare(
      `SELECT seq, at_ms AS atMs, action, user_id AS userId, credential_id AS credentialId, details FROM audit
       WHERE outcome = 'ok' AND (action LIKE 'spend\\_%' ESCAPE '\\' OR action = 'position_closed') ORDER BY seq`,
    )
    .all() as Entry[]
  for (const entry of entries) replayed.take(entry)
  replayed.compare()
  return replayed.problems
}

class Replay {
  readonly problems: string[] = []
  readonly #db: Database.Database
  readonly #holds = new Map<string, Hold>()
  readonly #positions = new Map<string, Position>()
  readonly #totals = new Map<string, Totals>()
  readonly #limits: Map<string, Limits>
  readonly #ownDaily: Map<bigint, bigint | null>

  constructor(db: Database.Database) {
    this.#db = db
    const users = db
      .prepare(
        `SELECT user_id AS userId, per_trade_micros AS perTrade, daily_micros AS daily, exposure_micros AS exposure
         FROM users WHERE per_trade_micros IS NOT NULL`,
      )
      .all() as (Limits & { userId: string })[]
    this.#limits = new Map(users.map((user) => [user.userId, user]))
    const credentials = db
      .prepare('SELECT credential_id AS id, daily_limit_micros AS daily FROM credentials')
      .all() as { id: bigint; daily: bigint | null }[]
    this.#ownDaily = new Map(credentials.map(({ id, daily }) => [id, daily]))
  }

  take(entry: Entry): void {
    const details = JSON.parse(entry.details) as Record<string, string>
    const day = entry.atMs / dayMs
    switch (entry.action) {
      case 'spend_reserved':
        this.#reserved(entry, details, day)
        break
      case 'spend_captured':
        this.#captured(entry, details, day)
        break
      case 'spend_voided':
      case 'spend_expired':
        this.#released(entry, details)
        break
      case 'spend_recorded':
        this.#opened(entry, details['positionId']!, micros(details['amountUsd']!), day)
        break
      case 'position_closed':
        this.#closed(entry, details)
        break
      default:
        this.#problem(entry, 'is unknown')
    }
  }

  #reserved(entry: Entry, details: Record<string, string>, day: bigint): void {
    const amount = micros(details['amountUsd']!)
    const { userId, credentialId } = entry
    if (this.#holds.has(details['reservationId']!)) this.#problem(entry, 'is told twice')
    const user = this.#of(userId)
    const limits = this.#limits.get(userId)
    if (limits !== undefined) {
      if (amount > limits.perTrade) this.#problem(entry, 'passes per_trade')
      if (user.held + spentOn(user, day) + amount > limits.daily) this.#problem(entry, 'passes user_daily')
      if (user.held + user.open + amount > limits.exposure) this.#problem(entry, 'passes exposure')
    }
    user.held += amount
    if (credentialId !== null) {
      const own = this.#of(credentialId)
      const daily = this.#ownDaily.get(credentialId) ?? null
      if (daily !== null && own.held + spentOn(own, day) + amount > daily)
        this.#problem(entry, 'passes credential_daily')
      own.held += amount
    }
    this.#holds.set(details['reservationId']!, {
      userId,
      credentialId,
      held: amount,
      captured: 0n,
      state: 'held',
    })
  }

  #captured(entry: Entry, details: Record<string, string>, day: bigint): void {
    const amount = micros(details['amountUsd']!)
    this.#take(entry, details['reservationId']!, amount + micros(details['releasedUsd']!), (hold) => {
      hold.captured += amount
      if (hold.held === 0n) hold.state = 'captured'
    })
    this.#opened(entry, details['positionId']!, amount, day)
  }

  #released(entry: Entry, details: Record<string, string>): void {
    this.#take(entry, details['reservationId']!, micros(details['releasedUsd']!), (hold) => {
      if (hold.held !== 0n) this.#problem(entry, `leaves ${hold.held} held`)
      hold.state = entry.action === 'spend_voided' ? 'voided' : 'expired'
    })
  }

  /** Takes an amount off a hold. */
  #take(entry: Entry, reservationId: string, amount: bigint, then: (hold: Hold) => void): void {
    const hold = this.#holds.get(reservationId)
    if (hold === undefined || hold.state !== 'held' || hold.held < amount) {
      this.#problem(entry, 'takes what is not held')
      return
    }
    hold.held -= amount
    this.#of(hold.userId).held -= amount
    if (hold.credentialId !== null) this.#of(hold.credentialId).held -= amount
    then(hold)
  }

  #opened(entry: Entry, positionId: string, amount: bigint, day: bigint): void {
    if (this.#positions.has(positionId)) this.#problem(entry, 'is told twice')
    const { userId, credentialId } = entry
    this.#positions.set(positionId, { userId, credentialId, amount, open: amount })
    for (const owner of credentialId === null ? [userId] : [userId, credentialId]) {
      const totals = this.#of(owner)
      totals.open += amount
      totals.spent.set(day, spentOn(totals, day) + amount)
    }
  }

  #closed(entry: Entry, details: Record<string, string>): void {
    const position = this.#positions.get(details['positionId']!)
    const amount = micros(details['closedUsd']!)
    if (position === undefined || position.open < amount) {
      this.#problem(entry, 'closes what is not open')
      return
    }
    position.open -= amount
    if (position.open !== micros(details['openUsd']!)) this.#problem(entry, `leaves ${position.open} open`)
    this.#of(position.userId).open -= amount
  }

  /** Holds what was replayed against the tables, row by row. */
  compare(): void {
    const holds = this.#db
      .prepare(
        `SELECT 'r' || reservation_id AS id, held_micros AS held, captured_micros AS captured, state FROM reservations`,
      )
      .all() as { id: string; held: bigint; captured: bigint; state: string }[]
    this.#compareRows(
      'reservation',
      holds,
      this.#holds,
      (row, hold) => row.held === hold.held && row.captured === hold.captured && row.state === hold.state,
    )
    const positions = this.#db
      .prepare(`SELECT 'p' || position_id AS id, amount_micros AS amount, open_micros AS open FROM positions`)
      .all() as { id: string; amount: bigint; open: bigint }[]
    this.#compareRows(
      'position',
      positions,
      this.#positions,
      (row, position) => row.amount === position.amount && row.open === position.open,
    )
    const users = this.#db
      .prepare('SELECT user_id AS id, held_micros AS held, open_micros AS open FROM users')
      .all() as { id: string; held: bigint; open: bigint }[]
    for (const { id, held, open } of users) {
      const totals = this.#of(id)
      if (held !== totals.held || open !== totals.open)
        this.problems.push(
          `user ${id} holds ${held}, ${open} open; the log makes ${totals.held}, ${totals.open}`,
        )
    }
  }

  #compareRows<Row extends { id: string }, Told>(
    what: string,
    rows: readonly Row[],
    told: ReadonlyMap<string, Told>,
    same: (row: Row, told: Told) => boolean,
  ): void {
    const seen = new Set<string>()
    for (const row of rows) {
      const replayed = told.get(row.id)
      seen.add(row.id)
      if (replayed === undefined) this.problems.push(`${what} ${row.id} is not in the audit log`)
      else if (!same(row, replayed)) this.problems.push(`${what} ${row.id} is not as the audit log tells`)
    }
    for (const id of told.keys())
      if (!seen.has(id)) this.problems.push(`${what} ${id} is in the audit log only`)
  }

  #of(owner: string | bigint): Totals {
    const key = `${typeof owner} ${owner}`
    let totals = this.#totals.get(key)
    if (totals === undefined) {
      totals = { held: 0n, open: 0n, spent: new Map() }
      this.#totals.set(key, totals)
    }
    return totals
  }

  #problem({ seq, action }: Entry, text: string): void {
    this.problems.push(`entry ${seq}, ${action}, ${text}`)
  }
}

function spentOn(totals: Totals, day: bigint): bigint {
  return totals.spent.get(day) ?? 0n
}

function micros(usd: string): bigint {
  const [whole, fraction = ''] = usd.split('.')
  return BigInt(whole!) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
}
