import { type Answer, RawClient } from '../raw-client.ts'
import type { Random } from './random.ts'

/** How many clients act at once. */
export const clientCount = 64

type ActMethod = 'spend.reserve' | 'spend.capture' | 'spend.void' | 'spend.record' | 'positions.close'

/** Something that happens at most once, however often it is asked for: every one has an id of its own. */
export type Act = {
  readonly index: number
  readonly method: ActMethod
  readonly params: Readonly<Record<string, unknown>> & { readonly userId?: string }
  readonly userId: string
  /** The first answer that accepted it. */
  accepted: Record<string, unknown> | null
  /** Requests sent so far, and those of them without an answer that may still come. */
  sent: number
  underWay: number
  /** Whether it may have happened though nobody was told: cut off or answered StorageUnavailable, and not refused since. */
  uncertain: boolean
}

/** A user of a round with what limits it. */
export type LoadUser = {
  readonly userId: string
  readonly credentialIds: readonly number[]
  readonly perTradeMicros: number
  /** Records pass limits, so users whose limits are looked at most strictly have none. */
  readonly records: boolean
  readonly held: string[]
  readonly open: string[]
}

/** Everything that was asked of a store, and what was answered. */
export class ActJournal {
  readonly acts: Act[] = []
  /** Answers to one act that differ. */
  readonly contradictions: string[] = []
  readonly #prefix = Math.random().toString(36).slice(2, 8)

  add(method: ActMethod, userId: string, params: (id: string) => Record<string, unknown>): Act {
    const index = this.acts.length
    const act: Act = {
      index,
      method,
      params: params(`${this.#prefix}-${index}`),
      userId,
      accepted: null,
      sent: 0,
      underWay: 0,
      uncertain: false,
    }
    this.acts.push(act)
    return act
  }

  /** Acts of which it is not known whether they happened. */
  get open(): Act[] {
    return this.acts.filter((act) => act.accepted === null && act.uncertain)
  }

  get accepted(): Act[] {
    return this.acts.filter((act) => act.accepted !== null)
  }

  /** Sends it (again); resolves with the answer, rejects where the connection ended first. */
  async send(act: Act, client: RawClient): Promise<Answer> {
    act.sent++
    act.underWay++
    try {
      const answer = await client.call(act.method, act.params, `${act.index}.${act.sent}`)
      act.underWay--
      this.#take(act, answer)
      return answer
    } catch (error) {
      act.underWay--
      act.uncertain = true
      throw error
    }
  }

  #take(act: Act, { result, error }: Answer): void {
    if (error !== undefined) {
      const { type } = error.data
      if (type === 'StorageUnavailable') act.uncertain = true
      else if (act.accepted !== null)
        this.contradictions.push(`act ${act.index} was accepted and then answered ${type}`)
      else if (act.underWay === 0) act.uncertain = false
      return
    }
    if (act.accepted === null) act.accepted = result
    else if (!sameAnswer(act.accepted, result)) {
      this.contradictions.push(
        `act ${act.index} was answered ${JSON.stringify(act.accepted)} and then ${JSON.stringify(result)}`,
      )
    }
  }
}

/** Whether two answers tell of the same act: `state` is that of the moment. */
export function sameAnswer(a: object, b: object): boolean {
  return JSON.stringify({ ...a, state: null }) === JSON.stringify({ ...b, state: null })
}

const unlimited = '1000000.00'

/** Users of one round, each tight on another level, the last on all of them. */
export async function addUsers(client: RawClient, round: string): Promise<LoadUser[]> {
  const plans = [
    {
      name: 'daily',
      limits: { perTradeUsd: '50', dailyUsd: '2000', exposureUsd: unlimited },
      ownUsd: [null],
    },
    {
      name: 'exposure',
      limits: { perTradeUsd: '50', dailyUsd: unlimited, exposureUsd: '900' },
      ownUsd: [null],
    },
    {
      name: 'credential',
      limits: { perTradeUsd: '50', dailyUsd: unlimited, exposureUsd: unlimited },
      ownUsd: ['700', '900'],
    },
    {
      name: 'all',
      limits: { perTradeUsd: '20', dailyUsd: '900', exposureUsd: '500' },
      ownUsd: ['800'],
      records: true,
    },
  ]
  return Promise.all(
    plans.map(async ({ name, limits, ownUsd, records = false }) => {
      const userId = `${name}-${round}`
      await ok(client.call('users.put', { userId, limits }))
      const credentialIds: number[] = []
      for (const [index, dailySpendLimitUsd] of ownUsd.entries()) {
        const params = {
          userId,
          apiKey: `key-${userId}-${index}`,
          apiSecret: 'c2VjcmV0',
          ...(dailySpendLimitUsd !== null && { dailySpendLimitUsd }),
        }
        credentialIds.push((await ok(client.call('credentials.store', params)))['credentialId'] as number)
      }
      const perTradeMicros = Number(limits.perTradeUsd) * 1_000_000
      return { userId, credentialIds, perTradeMicros, records, held: [], open: [] }
    }),
  )
}

async function ok(pending: Promise<Answer>): Promise<Record<string, unknown>> {
  const { result, error } = await pending
  if (error !== undefined) throw new Error(`setting up the load failed: ${JSON.stringify(error)}`)
  return result
}

/** 64 clients that reserve, capture, void, record and close until they are stopped or the daemon is gone. */
export class Load {
  readonly #journal: ActJournal
  readonly #users: readonly LoadUser[]
  readonly #random: Random
  readonly #clients: RawClient[]
  readonly #running: Promise<void>[]
  #stopping = false

  constructor(socketPath: string, journal: ActJournal, users: readonly LoadUser[], random: Random) {
    this.#journal = journal
    this.#users = users
    this.#random = random
    this.#clients = Array.from({ length: clientCount }, () => new RawClient(socketPath))
    this.#running = this.#clients.map((client) => this.#run(client))
  }

  /** Resolves when every client has its last answer or lost its connection. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.ended()
  }

  async ended(): Promise<void> {
    await Promise.all(this.#running)
    for (const client of this.#clients) client.close()
  }

  async #run(client: RawClient): Promise<void> {
    while (!this.#stopping) {
      const user = this.#random.pick(this.#users)
      const act = this.#random.chance(0.05) ? this.#again() : chooseAct(this.#journal, user, this.#random)
      try {
        await this.#journal.send(act, client)
      } catch {
        return
      }
      follow(this.#users, act)
    }
  }

  /** One that was sent before, and may still be under way. */
  #again(): Act {
    const { acts } = this.#journal
    const recent = acts[acts.length - this.#random.int(1, Math.min(acts.length, 200))]
    // A capture of a hold that something else closed stays refused, which is no contradiction; so is every other act.
    return recent ?? chooseAct(this.#journal, this.#users[0]!, this.#random)
  }
}

/** Keeps what later acts can be about. */
function follow(users: readonly LoadUser[], act: Act): void {
  const user = users.find(({ userId }) => userId === act.userId)
  if (act.accepted === null || user === undefined || act.sent > 1) return
  const { reservationId, positionId } = act.accepted
  if (act.method === 'spend.reserve') user.held.push(reservationId as string)
  if (act.method === 'spend.capture' || act.method === 'spend.record') user.open.push(positionId as string)
}

function chooseAct(journal: ActJournal, user: LoadUser, random: Random): Act {
  const kind = random.next()
  if (kind < 0.3 && user.held.length > 0) return capture(journal, user, random)
  if (kind < 0.4 && user.held.length > 0) {
    const reservationId = take(user.held, random)
    return journal.add('spend.void', user.userId, (id) => ({ reservationId, reason: id }))
  }
  if (kind < 0.55 && user.open.length > 0) return close(journal, user, random)
  const spend = {
    userId: user.userId,
    ...(random.chance(0.5) && { credentialId: random.pick(user.credentialIds) }),
    amountUsd: usd(random.int(1, user.perTradeMicros * 1.05)),
  }
  if (kind < 0.65 && user.records) {
    return journal.add('spend.record', user.userId, (id) => ({
      ...spend,
      amountUsd: usd(random.int(1, user.perTradeMicros / 10)),
      idempotencyKey: `key-${id}`,
      ...(random.chance(0.5) && { tradeId: `trade-${id}` }),
    }))
  }
  const ttlSeconds = random.chance(0.05) ? 1 : 86_400
  return journal.add('spend.reserve', user.userId, (id) => ({
    ...spend,
    ttlSeconds,
    idempotencyKey: `key-${id}`,
  }))
}

/** Most take all of a hold; some take a part and leave the rest held for the next. */
function capture(journal: ActJournal, user: LoadUser, random: Random): Act {
  const final = random.chance(0.7)
  const reservationId = final ? take(user.held, random) : random.pick(user.held)
  return journal.add('spend.capture', user.userId, (id) => ({
    reservationId,
    ...(random.chance(0.6) && { amountUsd: usd(random.int(1, user.perTradeMicros / 4)) }),
    tradeId: `trade-${id}`,
    final,
  }))
}

function close(journal: ActJournal, user: LoadUser, random: Random): Act {
  const whole = random.chance(0.7)
  const positionId = whole ? take(user.open, random) : random.pick(user.open)
  return journal.add('positions.close', user.userId, (id) => ({
    userId: user.userId,
    positionId,
    ...(!whole && { amountUsd: usd(random.int(1, user.perTradeMicros / 10)) }),
    idempotencyKey: `key-${id}`,
  }))
}

function take(from: string[], random: Random): string {
  return from.splice(random.int(0, from.length - 1), 1)[0]!
}

/** Whole micro-dollars as the decimal string the contract wants. */
export function usd(micros: number): string {
  const whole = Math.floor(micros)
  return `${Math.floor(whole / 1_000_000)}.${String(whole % 1_000_000).padStart(6, '0')}`
}
