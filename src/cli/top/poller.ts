import {
  isPurserError,
  type MethodName,
  type Params,
  type PurserClient,
  type Reservation,
  type Result,
  type SpendStatus,
  type SystemStatus,
} from '../../client/index.ts'
import { parseMetrics, type Rates, ratesBetween, type Sample } from './metrics.ts'
import type { Section, TopData } from './state.ts'
import { UserBoard } from './user-board.ts'

/** Users whose holds are looked at, and how many of each: more than a screen shows. */
const holderUsers = 10
const holdsPerUser = 20
/** More entries than any screen has lines. */
const entryRows = 100

/** Asks one daemon, over one connection, what `purser top` shows. */
export class Poller {
  readonly #client: PurserClient
  readonly #signal: AbortSignal
  readonly #board: UserBoard
  /**
   * Requests made since the last sample, by method: they are no load that others make. That of the sample itself is in
   * here already and in the daemon's count only afterwards; the one before makes up for it.
   */
  readonly #own = new Map<string, number>()
  #sample: Sample | null = null

  constructor(client: PurserClient, signal: AbortSignal) {
    this.#client = client
    this.#signal = signal
    this.#board = new UserBoard({
      list: (page) => this.#call('users.list', page),
      status: (userId) => this.#call('spend.status', { userId }),
    })
  }

  /** One look. Rejects where the daemon does not say how it is; a list it refuses has its reason in it instead. */
  async poll(): Promise<TopData> {
    // First and by itself: whatever else was asked for has been counted by the daemon then.
    const { text } = await this.#call('system.metrics', {})
    const sample = parseMetrics(text, performance.now())
    const rates = this.#ratesTo(sample)
    const [status, health, users, entries] = await Promise.all([
      this.#call('system.status', {}),
      this.#call('system.health', {}),
      section(this.#board.look()),
      section(this.#call('audit.query', { limit: entryRows }).then(({ entries }) => entries)),
    ])
    const reservations = await section(this.#holdsOf(users.rows))
    return {
      atMs: Date.now(),
      version: status.version,
      uptimeSeconds: figure(status, 'uptimeSeconds'),
      health,
      connections: sample.connections,
      inFlight: sample.inFlight,
      rates,
      userCount: Math.max(figure(status['counts'], 'users'), users.rows.length),
      users,
      reservations,
      entries,
    }
  }

  #ratesTo(sample: Sample): Rates | null {
    const rates = this.#sample === null ? null : ratesBetween(this.#sample, sample, this.#own)
    this.#sample = sample
    this.#own.clear()
    return rates
  }

  async #holdsOf(users: readonly SpendStatus[]): Promise<readonly Reservation[]> {
    const holders = users.filter(({ exposure }) => exposure.reservedUsd !== '0.00').slice(0, holderUsers)
    const pages = await Promise.all(
      holders.map(({ userId }) => this.#call('reservations.list', { userId, limit: holdsPerUser })),
    )
    return pages
      .flatMap((page) => page.reservations)
      .sort((one, two) => (one.createdAt < two.createdAt ? -1 : 1))
  }

  #call<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    this.#own.set(method, (this.#own.get(method) ?? 0) + 1)
    const call = this.#client.call as (
      method: string,
      params: unknown,
      options: { signal: AbortSignal },
    ) => Promise<unknown>
    return call.call(this.#client, method, params, { signal: this.#signal }) as Promise<Result<M>>
  }
}

/** The rows, or why the daemon refused them. Rejects where nobody answered. */
async function section<Row>(rows: Promise<readonly Row[]>): Promise<Section<Row>> {
  try {
    return { rows: await rows, problem: null }
  } catch (error) {
    if (isPurserError(error)) return { rows: [], problem: error.message }
    throw error
  }
}

/** A figure of `system.status`, whose members may change between versions: 0 where it is not there. */
function figure(group: SystemStatus | unknown, name: string): number {
  const value = typeof group === 'object' && group !== null ? (group as Record<string, unknown>)[name] : 0
  return typeof value === 'number' ? value : 0
}
