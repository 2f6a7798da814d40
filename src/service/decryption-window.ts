import { PurserError } from '../errors.ts'

/** Users remembered before those whose window has run empty are swept out. */
const sweepAboveUsers = 4096

/**
 * At most `limit` decryptions a user in any `windowMs` of the monotonic clock. Lives in memory, so it is empty at a
 * start; one entry of 8 bytes for each decryption that still counts.
 */
export class DecryptionWindow {
  readonly #limit: number
  readonly #windowMs: number
  readonly #nowMs: () => number
  readonly #taken = new Map<string, number[]>()
  /** Decryptions counted since the start, of all users. */
  total = 0

  /** `nowMs` is monotonic milliseconds (performance.now). */
  constructor(limit: number, windowMs: number, nowMs: () => number = () => performance.now()) {
    this.#limit = limit
    this.#windowMs = windowMs
    this.#nowMs = nowMs
  }

  /** Counts one decryption of `userId`; RateLimited, counting nothing, where the window is full. */
  take(userId: string): void {
    const now = this.#nowMs()
    const times = this.#current(userId, now)
    if (times.length >= this.#limit) {
      const oldest = times[0] ?? now
      throw new PurserError('RateLimited', {
        retryAfterMs: Math.max(1, Math.ceil(oldest + this.#windowMs - now)),
        limit: this.#limit,
        windowMs: this.#windowMs,
      })
    }
    times.push(now)
    this.total++
    this.#taken.set(userId, times)
    if (this.#taken.size > sweepAboveUsers) this.#sweep(now)
  }

  /** Empties the window of `userId`; answers how many decryptions counted in it. */
  reset(userId: string): number {
    const counted = this.#current(userId, this.#nowMs()).length
    this.#taken.delete(userId)
    return counted
  }

  /** Users with a decryption that still counts, or did when last looked at. */
  get users(): number {
    return this.#taken.size
  }

  #current(userId: string, now: number): number[] {
    const times = this.#taken.get(userId)
    if (times === undefined) return []
    // A decryption counts in (now - window, now]: one exactly a window old no longer does.
    let gone = 0
    while (gone < times.length && times[gone]! <= now - this.#windowMs) gone++
    if (gone > 0) times.splice(0, gone)
    return times
  }

  #sweep(now: number): void {
    for (const userId of this.#taken.keys()) {
      if (this.#current(userId, now).length === 0) this.#taken.delete(userId)
    }
  }
}
