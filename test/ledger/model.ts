/**
 * The ledger as the contract tells of it (protocol, section 5), in plain lists and with no thought of speed: totals are
 * added up anew for every question. Written without looking at src/ledger and sharing nothing with it.
 */

const dayMs = 86_400_000
const mostCounted = 2n ** 63n - 1n

export type Outcome = { ok: unknown } | { error: { type: string } & Record<string, unknown> }
export type Entry = {
  action: string
  outcome: 'ok' | 'denied'
  userId: string | null
  credentialId: number | null
}

type State = 'held' | 'captured' | 'voided' | 'expired'
type Hold = {
  id: string
  userId: string
  credentialId: number | null
  amount: bigint
  held: bigint
  captured: bigint
  state: State
  createdAt: number
  ttl: number
  expiresAt: number
  kept: boolean
  closing: { act: string; answer: unknown } | null
}
type Position = {
  id: string
  userId: string
  credentialId: number | null
  tradeId: string | null
  amount: bigint
  open: bigint
  openedAt: number
  closedAt: number | null
}
type Spend = { userId: string; credentialId: number | null; day: number; amount: bigint }
type Freeze = { reason: string; since: number }
type User = { perTrade: bigint; daily: bigint; exposure: bigint; frozen: Freeze | null }
type Credential = {
  id: number
  userId: string
  primary: boolean
  daily: bigint | null
  revokedAt: number | null
  expiresAt: number | null
}

class Refused extends Error {
  readonly error: { type: string } & Record<string, unknown>

  constructor(type: string, data: Record<string, unknown> = {}) {
    super(type)
    this.error = { type, ...data }
  }
}

const time = (ms: number) => new Date(ms).toISOString()

/** Two to six fraction digits. */
export function money(micros: bigint): string {
  const digits = micros.toString().padStart(7, '0')
  const whole = digits.slice(0, -6)
  let fraction = digits.slice(-6)
  while (fraction.length > 2 && fraction.endsWith('0')) fraction = fraction.slice(0, -1)
  return `${whole}.${fraction}`
}

export function percent(used: bigint, limit: bigint): number {
  if (limit === 0n) return 100
  const hundredths = (used * 10_000n - ((used * 10_000n) % limit)) / limit
  return Number(hundredths) / 100
}

function least(one: bigint, other: bigint): bigint {
  if (one < other) return one
  return other
}

const left = (limit: bigint, used: bigint) => (limit > used ? limit - used : 0n)

export class Model {
  now: number
  doubted = false
  ledgerDay: number
  /** The day an unfreeze last took the ledger back to. */
  steppedBackDay: number | null = null
  systemFrozen: Freeze | null = null
  readonly users = new Map<string, User>()
  readonly credentials: Credential[] = []
  readonly holds: Hold[] = []
  readonly positions: Position[] = []
  readonly spends: Spend[] = []
  readonly retries = new Map<string, { params: [string, unknown][]; answer: unknown }>()
  /** What the audit log must have got since `entries` was last emptied. */
  entries: Entry[] = []
  lastStored: number
  nextHold: number
  nextPosition: number

  constructor(now: number, next: { hold: number; position: number }) {
    this.now = now
    this.lastStored = now
    this.ledgerDay = Math.floor(now / dayMs)
    this.nextHold = next.hold
    this.nextPosition = next.position
  }

  /** The day in which money counts now. */
  get day(): number {
    const today = Math.floor(this.now / dayMs)
    return this.doubted || today < this.ledgerDay ? this.ledgerDay : today
  }

  check(p: { userId: string; credentialId?: number | undefined; amountUsd: bigint }): Outcome {
    return this.#try(null, () => {
      const { user, credential } = this.#grantable(p)
      this.#refuseOver(p.userId, user, credential, p.amountUsd)
      return { allowed: true, remaining: this.#remaining(p.userId, credential) }
    })
  }

  reserve(p: {
    userId: string
    credentialId?: number | undefined
    amountUsd: bigint
    ttlSeconds?: number | undefined
    idempotencyKey?: string | undefined
  }): Outcome {
    const subject = { action: 'spend_rejected', userId: p.userId, credentialId: p.credentialId ?? null }
    return this.#try(subject, () => {
      const { user, credential } = this.#grantable(p)
      const params: [string, unknown][] = [
        ['credentialId', p.credentialId],
        ['amountUsd', p.amountUsd],
        ['ttlSeconds', p.ttlSeconds ?? 60],
      ]
      const known = this.#known(p.userId, 'spend.reserve', p.idempotencyKey, 'idempotencyKey', params)
      if (known !== null) {
        const answer = known as { reservationId: string }
        return { ...answer, state: this.holds.find((hold) => hold.id === answer.reservationId)!.state }
      }
      this.#refuseOver(p.userId, user, credential, p.amountUsd)
      const ttl = (p.ttlSeconds ?? 60) * 1000
      const hold: Hold = {
        id: `r${this.nextHold++}`,
        userId: p.userId,
        credentialId: credential?.id ?? null,
        amount: p.amountUsd,
        held: p.amountUsd,
        captured: 0n,
        state: 'held',
        createdAt: this.now,
        ttl,
        expiresAt: this.now + ttl,
        kept: false,
        closing: null,
      }
      this.holds.push(hold)
      this.ledgerDay = this.day
      const answer = {
        reservationId: hold.id,
        state: 'held',
        amountUsd: money(p.amountUsd),
        expiresAt: time(hold.expiresAt),
        remaining: this.#remaining(p.userId, credential),
      }
      this.#bind(p.userId, 'spend.reserve', p.idempotencyKey, params, answer)
      this.#tell('spend_reserved', 'ok', hold.userId, hold.credentialId)
      return answer
    })
  }

  capture(p: {
    reservationId: string
    amountUsd?: bigint | undefined
    tradeId?: string | undefined
    final?: boolean | undefined
  }): Outcome {
    const final = p.final ?? true
    return this.#onHold('spend_captured', p.reservationId, (hold) => {
      const params: [string, unknown][] = [
        ['method', 'capture'],
        ['reservationId', p.reservationId],
        ['amountUsd', p.amountUsd],
        ['final', final],
      ]
      const known = this.#known(hold.userId, 'trade', p.tradeId, 'tradeId', params)
      if (known !== null) return known
      const act = `capture ${p.reservationId} ${p.amountUsd} ${p.tradeId} ${final}`
      if (hold.state !== 'held') return this.#closedBy(hold, act)
      const amount = p.amountUsd ?? hold.held
      if (amount > hold.held) throw new Refused('InvalidParams', { path: 'amountUsd' })
      const kept = final ? 0n : hold.held - amount
      const releasedNow = hold.held - amount - kept
      this.#refuseUncountable(hold.userId, amount)
      hold.captured += amount
      hold.held = kept
      if (kept === 0n) hold.state = 'captured'
      const position = this.#buy(hold.userId, hold.credentialId, amount, p.tradeId)
      const answer = {
        positionId: position,
        amountUsd: money(amount),
        releasedUsd: money(releasedNow),
        heldUsd: money(kept),
        remaining: this.#remaining(hold.userId, this.#credential(hold.credentialId)),
      }
      if (kept === 0n) hold.closing = { act, answer }
      this.#bind(hold.userId, 'trade', p.tradeId, params, answer)
      this.#tell('spend_captured', 'ok', hold.userId, hold.credentialId)
      return answer
    })
  }

  void(p: { reservationId: string; reason?: string | undefined }): Outcome {
    return this.#onHold('spend_voided', p.reservationId, (hold) => {
      const act = `void ${p.reservationId} ${p.reason}`
      if (hold.state !== 'held') return this.#closedBy(hold, act)
      const answer = { releasedUsd: money(hold.held) }
      hold.held = 0n
      hold.state = 'voided'
      hold.closing = { act, answer }
      this.ledgerDay = this.day
      this.#tell('spend_voided', 'ok', hold.userId, hold.credentialId)
      return answer
    })
  }

  record(p: {
    userId: string
    credentialId?: number | undefined
    amountUsd: bigint
    tradeId?: string | undefined
    idempotencyKey?: string | undefined
  }): Outcome {
    const subject = { action: 'spend_recorded', userId: p.userId, credentialId: p.credentialId ?? null }
    return this.#try(subject, () => {
      const { user, credential } = this.#find(p)
      this.#free(p.userId)
      const params: [string, unknown][] = [
        ['credentialId', p.credentialId],
        ['amountUsd', p.amountUsd],
        ['tradeId', p.tradeId],
        ['idempotencyKey', p.idempotencyKey],
      ]
      const asTrade: [string, unknown][] = [['method', 'record'], ...params]
      const known =
        this.#known(p.userId, 'spend.record', p.idempotencyKey, 'idempotencyKey', params) ??
        this.#known(p.userId, 'trade', p.tradeId, 'tradeId', asTrade)
      if (known !== null) return known
      const overLimit = this.#over(p.userId, user, credential, p.amountUsd) !== null
      this.#refuseUncountable(p.userId, p.amountUsd)
      const positionId = this.#buy(p.userId, credential?.id ?? null, p.amountUsd, p.tradeId)
      const answer = { positionId, overLimit, remaining: this.#remaining(p.userId, credential) }
      this.#bind(p.userId, 'spend.record', p.idempotencyKey, params, answer)
      this.#bind(p.userId, 'trade', p.tradeId, asTrade, answer)
      this.#tell('spend_recorded', 'ok', p.userId, credential?.id ?? null)
      return answer
    })
  }

  close(p: {
    userId: string
    positionId?: string | undefined
    tradeId?: string | undefined
    amountUsd?: bigint | undefined
    idempotencyKey?: string | undefined
  }): Outcome {
    const subject = { action: 'position_closed', userId: p.userId, credentialId: null }
    return this.#try(subject, () => {
      const position = this.positions.find(
        ({ userId, id, tradeId }) =>
          userId === p.userId && (p.tradeId === undefined ? id === p.positionId : tradeId === p.tradeId),
      )
      if (position === undefined)
        throw new Refused('NotFound', { resource: this.users.has(p.userId) ? 'position' : 'user' })
      const params: [string, unknown][] = [
        ['positionId', p.positionId],
        ['tradeId', p.tradeId],
        ['amountUsd', p.amountUsd],
      ]
      const known = this.#known(p.userId, 'positions.close', p.idempotencyKey, 'idempotencyKey', params)
      if (known !== null) return known
      const amount = p.amountUsd ?? position.open
      if (amount > position.open) throw new Refused('InvalidParams', { path: 'amountUsd' })
      if (amount > 0n) {
        position.open -= amount
        if (position.open === 0n) position.closedAt = this.now
        this.ledgerDay = this.day
      }
      const answer = { closedUsd: money(amount), openUsd: money(position.open) }
      this.#bind(p.userId, 'positions.close', p.idempotencyKey, params, answer)
      this.#tell('position_closed', 'ok', p.userId, position.credentialId)
      return answer
    })
  }

  status(p: { userId: string; credentialId?: number | undefined }): Outcome {
    return this.#try(null, () => {
      const { user, credential } = this.#find(p)
      this.#free(p.userId)
      const of = this.#used(p.userId)
      const resetsAt = time((this.day + 1) * dayMs)
      const daily = (limit: bigint, spent: bigint, held: bigint) => ({
        limitUsd: money(limit),
        spentUsd: money(spent),
        reservedUsd: money(held),
        remainingUsd: money(left(limit, spent + held)),
        percent: percent(spent + held, limit),
        resetsAt,
      })
      const system =
        this.systemFrozen ?? (this.doubted ? { reason: 'clock', since: Number.NaN } : null) ?? user.frozen
      const dayLeft = left(user.daily, of.spent + of.held)
      const exposureLeft = left(user.exposure, of.open + of.held)
      const further = system === null ? least(dayLeft, exposureLeft) : 0n
      const usedOfCredential = credential === null ? null : this.#usedOf(credential)
      return {
        userId: p.userId,
        tier: 'free',
        frozen:
          system === null
            ? null
            : { reason: system.reason, since: system.since > 0 ? time(system.since) : 0 },
        perTrade: { limitUsd: money(user.perTrade) },
        credentialDaily:
          credential === null || usedOfCredential === null || credential.daily === null
            ? null
            : daily(credential.daily, usedOfCredential.spent, usedOfCredential.held),
        userDaily: daily(user.daily, of.spent, of.held),
        exposure: {
          limitUsd: money(user.exposure),
          openUsd: money(of.open),
          reservedUsd: money(of.held),
          remainingUsd: money(exposureLeft),
          percent: percent(of.open + of.held, user.exposure),
        },
        worstCaseUsd: money(of.open + of.held + further),
        unbounded: [],
      }
    })
  }

  reservations(p: { userId: string; state: State }): Outcome {
    return this.#try(null, () => {
      if (!this.users.has(p.userId)) throw new Refused('NotFound', { resource: 'user' })
      this.#free(p.userId)
      return this.holds
        .filter(({ userId, state }) => userId === p.userId && state === p.state)
        .map((hold) => ({
          reservationId: hold.id,
          userId: hold.userId,
          credentialId: hold.credentialId,
          amountUsd: money(hold.amount),
          capturedUsd: money(hold.captured),
          state: hold.state,
          signed: false,
          digest: null,
          createdAt: time(hold.createdAt),
          expiresAt: time(hold.expiresAt),
          postHeadersAt: null,
        }))
    })
  }

  positionsOf(p: { userId: string; state?: 'open' | 'closed' | undefined }): Outcome {
    return this.#try(null, () => {
      if (!this.users.has(p.userId)) throw new Refused('NotFound', { resource: 'user' })
      return this.positions
        .map((position) => ({
          positionId: position.id,
          userId: position.userId,
          credentialId: position.credentialId,
          tradeId: position.tradeId,
          amountUsd: money(position.amount),
          openUsd: money(position.open),
          state: position.open === 0n ? 'closed' : 'open',
          openedAt: time(position.openedAt),
          closedAt: position.closedAt === null ? null : time(position.closedAt),
        }))
        .filter(({ userId, state }) => userId === p.userId && (p.state === undefined || p.state === state))
    })
  }

  putLimits(userId: string, limits: Partial<Pick<User, 'perTrade' | 'daily' | 'exposure'>>): void {
    const user = this.users.get(userId)!
    const same = Object.entries(limits).every(([name, value]) => user[name as 'daily'] === value)
    Object.assign(user, limits)
    this.#tell(same ? 'user_put' : 'limits_updated', 'ok', userId, null)
  }

  freezeUser(userId: string, reason: string | null): void {
    this.users.get(userId)!.frozen = reason === null ? null : { reason, since: this.now }
    this.#tell(reason === null ? 'user_unfrozen' : 'user_frozen', 'ok', userId, null)
  }

  freezeSystem(reason: string): void {
    this.systemFrozen = { reason, since: this.now }
    this.#tell('system_frozen', 'ok', null, null)
  }

  /** Takes the wall clock as it is for right, also as the ledger's day. */
  unfreezeSystem(): void {
    this.systemFrozen = null
    this.doubted = false
    const day = Math.floor(this.now / dayMs)
    if (day < this.ledgerDay) this.steppedBackDay = day
    this.ledgerDay = day
    this.#tell('system_unfrozen', 'ok', null, null)
  }

  /** A start keeps every hold that is over for one more ttl, once, and looks anew at the clock. */
  restart(): void {
    this.doubted = Math.max(this.lastStored, this.ledgerDay * dayMs) - this.now > 300_000
    for (const hold of this.holds) {
      if (hold.state !== 'held' || hold.expiresAt > this.now || hold.kept) continue
      hold.expiresAt = this.now + hold.ttl
      hold.kept = true
    }
    this.#tell('daemon_started', 'ok', null, null)
  }

  /** Every hold of every user whose time is over, as the daemon's timer does. */
  sweep(): void {
    for (const userId of this.users.keys()) this.#free(userId)
  }

  #try(subject: Omit<Entry, 'outcome'> | null, work: () => unknown): Outcome {
    try {
      return { ok: work() }
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      if (subject !== null && error.error.type !== 'InvalidParams')
        this.#tell(subject.action, 'denied', subject.userId, subject.credentialId)
      return { error: error.error }
    }
  }

  #onHold(action: string, id: string, work: (hold: Hold) => unknown): Outcome {
    const hold = this.holds.find((held) => held.id === id)
    const subject = { action, userId: hold?.userId ?? null, credentialId: hold?.credentialId ?? null }
    return this.#try(subject, () => {
      if (hold === undefined) throw new Refused('NotFound', { resource: 'reservation' })
      if (hold.state === 'held') this.#free(hold.userId)
      return work(hold)
    })
  }

  #closedBy(hold: Hold, act: string): unknown {
    if (hold.closing?.act === act) return hold.closing.answer
    throw new Refused('ReservationClosed', { state: hold.state })
  }

  #tell(action: string, outcome: 'ok' | 'denied', userId: string | null, credentialId: number | null): void {
    this.entries.push({ action, outcome, userId, credentialId })
    this.lastStored = this.now
  }

  #credential(id: number | null): Credential | null {
    return this.credentials.find((credential) => credential.id === id) ?? null
  }

  #find(p: { userId: string; credentialId?: number | undefined }) {
    const user = this.users.get(p.userId)
    if (user === undefined) throw new Refused('NotFound', { resource: 'user' })
    const ofUser = this.credentials.filter(({ userId }) => userId === p.userId)
    const named = p.credentialId === undefined ? null : ofUser.find(({ id }) => id === p.credentialId)
    if (named === undefined) throw new Refused('NotFound', { resource: 'credential' })
    return { user, credential: named ?? ofUser.find(({ primary }) => primary) ?? null }
  }

  /** Frozen, NotFound, CredentialRevoked, CredentialExpired, in that order. */
  #grantable(p: { userId: string; credentialId?: number | undefined }) {
    if (this.doubted) throw new Refused('Frozen', { reason: 'clock' })
    const freeze = this.systemFrozen ?? this.users.get(p.userId)?.frozen ?? null
    if (freeze !== null) throw new Refused('Frozen', { reason: freeze.reason, since: time(freeze.since) })
    const { user, credential } = this.#find(p)
    if (credential?.revokedAt != null)
      throw new Refused('CredentialRevoked', { revokedAt: time(credential.revokedAt) })
    if (credential?.expiresAt != null && credential.expiresAt <= this.now)
      throw new Refused('CredentialExpired', { expiredAt: time(credential.expiresAt) })
    this.#free(p.userId)
    return { user, credential }
  }

  #free(userId: string): void {
    if (this.doubted) return
    const due = this.holds.filter(
      (hold) => hold.userId === userId && hold.state === 'held' && hold.expiresAt <= this.now,
    )
    for (const hold of due.sort((a, b) => a.expiresAt - b.expiresAt)) {
      hold.held = 0n
      hold.state = 'expired'
      this.#tell('spend_expired', 'ok', userId, hold.credentialId)
    }
  }

  #sum<T>(of: readonly T[], amount: (one: T) => bigint): bigint {
    return of.reduce((total, one) => total + amount(one), 0n)
  }

  #counted(spend: Spend): boolean {
    return spend.day === this.day || (spend.day > this.day && this.day === this.steppedBackDay)
  }

  #used(userId: string) {
    return {
      held: this.#sum(
        this.holds.filter((hold) => hold.userId === userId),
        ({ held }) => held,
      ),
      open: this.#sum(
        this.positions.filter((position) => position.userId === userId),
        ({ open }) => open,
      ),
      spent: this.#sum(
        this.spends.filter((spend) => spend.userId === userId && this.#counted(spend)),
        ({ amount }) => amount,
      ),
    }
  }

  #usedOf(credential: Credential) {
    return {
      held: this.#sum(
        this.holds.filter((hold) => hold.credentialId === credential.id),
        ({ held }) => held,
      ),
      spent: this.#sum(
        this.spends.filter((spend) => spend.credentialId === credential.id && this.#counted(spend)),
        ({ amount }) => amount,
      ),
    }
  }

  #over(userId: string, user: User, credential: Credential | null, amount: bigint) {
    const of = this.#used(userId)
    const levels: [string, bigint, bigint][] = [['per_trade', user.perTrade, 0n]]
    if (credential !== null && credential.daily !== null) {
      const { spent, held } = this.#usedOf(credential)
      levels.push(['credential_daily', credential.daily, spent + held])
    }
    levels.push(
      ['user_daily', user.daily, of.spent + of.held],
      ['exposure', user.exposure, of.open + of.held],
    )
    const first = levels.find(([, limit, used]) => used + amount > limit)
    if (first === undefined) return null
    const [level, limit, used] = first
    return {
      level,
      limitUsd: money(limit),
      usedUsd: money(used),
      requestedUsd: money(amount),
      availableUsd: money(left(limit, used)),
      resetsAt: level.endsWith('daily') ? time((this.day + 1) * dayMs) : null,
    }
  }

  #refuseOver(userId: string, user: User, credential: Credential | null, amount: bigint): void {
    const over = this.#over(userId, user, credential, amount)
    if (over !== null) throw new Refused('SpendLimitExceeded', over)
  }

  /** SQLite counts to 2^63 - 1 micro-dollars, nine trillion dollars. */
  #refuseUncountable(userId: string, amount: bigint): void {
    const today = this.#sum(
      this.spends.filter((spend) => spend.userId === userId && spend.day === this.day),
      (spend) => spend.amount,
    )
    if (this.#used(userId).open + amount > mostCounted || today + amount > mostCounted)
      throw new Refused('InvalidParams', { path: 'amountUsd' })
  }

  #remaining(userId: string, credential: Credential | null) {
    const user = this.users.get(userId)!
    const of = this.#used(userId)
    const ofCredential = credential === null ? null : this.#usedOf(credential)
    return {
      perTradeUsd: money(user.perTrade),
      credentialDailyUsd:
        credential === null || ofCredential === null || credential.daily === null
          ? null
          : money(left(credential.daily, ofCredential.spent + ofCredential.held)),
      userDailyUsd: money(left(user.daily, of.spent + of.held)),
      exposureUsd: money(left(user.exposure, of.open + of.held)),
    }
  }

  #buy(userId: string, credentialId: number | null, amount: bigint, tradeId: string | undefined): string {
    const id = `p${this.nextPosition++}`
    this.ledgerDay = this.day
    this.positions.push({
      id,
      userId,
      credentialId,
      tradeId: tradeId ?? null,
      amount,
      open: amount,
      openedAt: this.now,
      closedAt: null,
    })
    this.spends.push({ userId, credentialId, day: this.day, amount })
    return id
  }

  #known(
    userId: string,
    space: string,
    key: string | undefined,
    resource: string,
    params: [string, unknown][],
  ): unknown {
    if (key === undefined) return null
    const first = this.retries.get(`${userId} ${space} ${key}`)
    if (first === undefined) return null
    const before = new Map(first.params)
    const differs = params.find(([name, value]) => before.get(name) !== value)
    // A trade that was captured is not recorded, nor the other way round: what cannot be given twice is its id.
    const field = differs?.[0] === 'method' ? 'tradeId' : differs?.[0]
    if (field !== undefined) throw new Refused('Conflict', { resource, field })
    return first.answer
  }

  #bind(
    userId: string,
    space: string,
    key: string | undefined,
    params: [string, unknown][],
    answer: unknown,
  ): void {
    if (key !== undefined) this.retries.set(`${userId} ${space} ${key}`, { params, answer })
  }
}
