import { availableParallelism } from 'node:os'
import { PurserError } from '../errors.ts'

/** At 20 ms a derivation and two cores this much waiting is 10 s of work: later answers would come to nobody. */
const DEFAULT_MAX_WAITING = 1024

/** Bounds of the advice in Overloaded: below, clients would spin; above, they would idle after the crowd has gone. */
const RETRY_AFTER_MS = { min: 50, max: 10_000 } as const

/** Until one has been timed: Argon2id at the default cost takes about this long. */
const FIRST_GUESS_MS = 20

/** How far the newest time moves the running mean. */
const MEAN_WEIGHT = 0.2

/**
 * What has waited in the background for as long as this many derivations take is let in before requests, so that it ends
 * on a host that is never idle too. With two of them waiting for each core that is a fifth of what the host can do.
 */
const BACKGROUND_WAIT_DERIVATIONS = 10

type Waiting = {
  readonly start: () => void
  readonly refuse: (reason: PurserError) => void
  readonly sinceMs: number
}

/**
 * Runs key derivations, at most so many at once, round robin by user and first come, first served within one: a user
 * who opens a thousand credentials delays another's first by one derivation, not by a thousand. Work in the background
 * has what requests leave.
 *
 * Node's thread pool has 4 threads unless UV_THREADPOOL_SIZE says otherwise; on more cores than that it is the pool
 * that bounds what runs at once.
 */
export class DerivationQueue {
  readonly #maxRunning: number
  readonly #maxWaiting: number
  /** Waiting derivations of each user that has any. A Map keeps the order of insertion, and that order is the turn. */
  readonly #lanes = new Map<string, Waiting[]>()
  readonly #background: Waiting[] = []
  #waiting = 0
  #running = 0
  #stopped = false
  #onIdle: (() => void)[] = []
  #meanMs = FIRST_GUESS_MS

  constructor(maxRunning: number = availableParallelism(), maxWaiting: number = DEFAULT_MAX_WAITING) {
    if (!(maxRunning >= 1) || !(maxWaiting >= 0)) throw new RangeError('a queue runs at least one at once')
    this.#maxRunning = maxRunning
    this.#maxWaiting = maxWaiting
  }

  /** Derivations of requests that wait for their turn. */
  get size(): number {
    return this.#waiting
  }

  /** Derivations under way. */
  get running(): number {
    return this.#running
  }

  /**
   * Runs `derive` when it is `userId`'s turn and answers what it answers. Throws Overloaded where the queue is full
   * or stopped, or where the place was given to a user who had fewer waiting.
   */
  run<Result>(userId: string, derive: () => Promise<Result>): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      if (this.#stopped || !this.#makeRoomFor(userId)) return reject(this.#overloaded())
      this.#enqueue(userId, this.#entry(derive, resolve, reject))
      this.#startWhatMay()
    })
  }

  /**
   * Runs `derive` when no request waits, or when it has waited for as long as ten derivations take. The caller bounds how
   * many of these wait. Throws Overloaded where the queue is stopped.
   */
  runInBackground<Result>(derive: () => Promise<Result>): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      if (this.#stopped) return reject(this.#overloaded())
      this.#background.push(this.#entry(derive, resolve, reject))
      this.#startWhatMay()
    })
  }

  #entry<Result>(
    derive: () => Promise<Result>,
    resolve: (result: Result) => void,
    refuse: (reason: unknown) => void,
  ): Waiting {
    const start = () => void this.#time(derive).then(resolve, refuse)
    return { start, refuse, sinceMs: performance.now() }
  }

  /** Refuses what waits and what comes with Overloaded; resolves when nothing runs any more. */
  stop(): Promise<void> {
    this.#stopped = true
    const reason = this.#overloaded()
    for (const lane of this.#lanes.values()) for (const { refuse } of lane) refuse(reason)
    for (const { refuse } of this.#background.splice(0)) refuse(reason)
    this.#lanes.clear()
    this.#waiting = 0
    if (this.#running === 0) return Promise.resolve()
    return new Promise((resolve) => this.#onIdle.push(resolve))
  }

  /**
   * Whether one more of `userId` may come. A full queue takes the newest place of the user with the most waiting,
   * where that user has more than `userId` would: one alone cannot keep all others out. One pass over the users.
   */
  #makeRoomFor(userId: string): boolean {
    if (this.#running < this.#maxRunning || this.#waiting < this.#maxWaiting) return true
    let longest: Waiting[] = []
    for (const lane of this.#lanes.values()) if (lane.length > longest.length) longest = lane
    if (longest.length <= (this.#lanes.get(userId)?.length ?? 0) + 1) return false
    const displaced = longest.pop()
    this.#waiting -= 1
    displaced?.refuse(this.#overloaded())
    return true
  }

  #enqueue(userId: string, entry: Waiting): void {
    const lane = this.#lanes.get(userId)
    if (lane === undefined) this.#lanes.set(userId, [entry])
    else lane.push(entry)
    this.#waiting += 1
  }

  #startWhatMay(): void {
    while (this.#running < this.#maxRunning) {
      const entry = this.#nextInBackground() ?? this.#nextOfUsers()
      if (entry === null) return
      this.#running += 1
      entry.start()
    }
  }

  #nextInBackground(): Waiting | null {
    const first = this.#background[0]
    if (first === undefined) return null
    if (this.#waiting > 0 && this.#mayStillWait(first)) return null
    this.#background.shift()
    return first
  }

  #mayStillWait({ sinceMs }: Waiting): boolean {
    return performance.now() - sinceMs < BACKGROUND_WAIT_DERIVATIONS * this.#meanMs
  }

  #nextOfUsers(): Waiting | null {
    const next = this.#lanes.entries().next()
    if (next.done) return null
    const [userId, lane] = next.value
    const entry = lane.shift()!
    // Deleted and set anew, the user's lane goes behind all others.
    this.#lanes.delete(userId)
    if (lane.length > 0) this.#lanes.set(userId, lane)
    this.#waiting -= 1
    return entry
  }

  async #time<Result>(derive: () => Promise<Result>): Promise<Result> {
    const startedMs = performance.now()
    try {
      return await derive()
    } finally {
      this.#meanMs += (performance.now() - startedMs - this.#meanMs) * MEAN_WEIGHT
      this.#running -= 1
      if (!this.#stopped) this.#startWhatMay()
      if (this.#running === 0) for (const resolve of this.#onIdle.splice(0)) resolve()
    }
  }

  /** Tells the caller to come back when what waits now will have been done. */
  #overloaded(): PurserError {
    const backlogMs = ((this.#waiting + 1) / this.#maxRunning) * this.#meanMs
    const retryAfterMs = Math.ceil(Math.min(Math.max(backlogMs, RETRY_AFTER_MS.min), RETRY_AFTER_MS.max))
    return new PurserError('Overloaded', { retryAfterMs })
  }
}
