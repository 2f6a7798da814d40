import type { Answer, RawClient } from '../raw-client.ts'
import type { Act, ActJournal } from './ledger-load.ts'

/** Requests read in one turn of the event loop, and so carried out in one commit. */
export const turnSize = 64
const user = { userId: 'alice' }

/** A user with limits that are far away, a credential, and holds for the turns to come. */
export async function prepare(client: RawClient, journal: ActJournal): Promise<Holds> {
  const limits = { perTradeUsd: '100000', dailyUsd: '1000000', exposureUsd: '1000000' }
  await client.call('users.put', { ...user, limits })
  await client.call('credentials.store', {
    ...user,
    apiKey: 'key',
    apiSecret: 'c2VjcmV0',
    passphrase: 'sesame',
  })
  // Opened once, so that handing it out is as fast as everything else and belongs to the same turn.
  await client.call('credentials.retrieve', user)
  return holdsFor(client, journal)
}

export type Holds = string[]

/** Holds for two turns. */
export async function holdsFor(client: RawClient, journal: ActJournal): Promise<Holds> {
  const acts = Array.from({ length: 40 }, () => reserve(journal))
  const answers = await Promise.all(acts.map((act) => journal.send(act, client)))
  return answers.map(({ result }) => result.reservationId as string)
}

/** An act that would be granted. */
export function reserve(journal: ActJournal): Act {
  return journal.add('spend.reserve', user.userId, (id) => ({
    ...user,
    amountUsd: '1.000001',
    ttlSeconds: 86_400,
    idempotencyKey: id,
  }))
}

/** 64 requests at once: holds, captures, voids, records, checks and retrievals. Uses up 20 holds. */
export class MixedTurn {
  readonly acts: Act[]
  readonly #reads: { method: string; params: object }[]

  constructor(journal: ActJournal, holds: Holds) {
    const record = () =>
      journal.add('spend.record', user.userId, (id) => ({
        ...user,
        amountUsd: '2.5',
        tradeId: id,
        idempotencyKey: id,
      }))
    const capture = () => {
      const reservationId = holds.pop()!
      return journal.add('spend.capture', user.userId, (id) => ({
        reservationId,
        amountUsd: '0.6',
        tradeId: id,
      }))
    }
    const close = () => {
      const reservationId = holds.pop()!
      return journal.add('spend.void', user.userId, (id) => ({ reservationId, reason: id }))
    }
    this.acts = [
      ...Array.from({ length: 20 }, () => reserve(journal)),
      ...Array.from({ length: 10 }, capture),
      ...Array.from({ length: 10 }, close),
      ...Array.from({ length: 12 }, record),
    ]
    this.#reads = [
      ...Array.from({ length: 6 }, () => ({ method: 'spend.check', params: { ...user, amountUsd: '1' } })),
      ...Array.from({ length: turnSize - this.acts.length - 6 }, () => ({
        method: 'credentials.retrieve',
        params: user,
      })),
    ]
  }

  /** Sends all of them in one piece; resolves with the answers, of the acts first. */
  async send(client: RawClient, journal: ActJournal): Promise<Answer[]> {
    client.socket.cork()
    const acts = this.acts.map((act) => journal.send(act, client))
    const reads = this.#reads.map(({ method, params }) => client.call(method, params))
    client.socket.uncork()
    return Promise.all([...acts, ...reads])
  }
}

/** What each answer says: `ok`, or the type of its error. */
export function told(answers: readonly Answer[]): string[] {
  return answers.map(({ error }) => (error === undefined ? 'ok' : error.data.type))
}
