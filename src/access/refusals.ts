/** Refusals written one by one in a minute, for one uid and for all together; what is beyond is counted. */
const perUidMax = 60
const perMinuteMax = 600
const minuteMs = 60_000

/**
 * Bounds how much a caller without any grant can write to the audit log: the first refusals of a minute one by one,
 * the rest as one entry with a count when the minute is over.
 */
export class RefusalLimiter {
  readonly #nowMs: () => number
  #minute = -1
  #written = 0
  #skipped = 0
  readonly #byUid = new Map<number, number>()

  /** `nowMs` is monotonic milliseconds. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  /** Whether the refusal of `uid` is to be written by itself; else it is counted. */
  admit(uid: number): boolean {
    this.#roll()
    const ofUid = this.#byUid.get(uid) ?? 0
    if (this.#written >= perMinuteMax || ofUid >= perUidMax) {
      this.#skipped++
      return false
    }
    this.#written++
    this.#byUid.set(uid, ofUid + 1)
    return true
  }

  /** How many refusals of minutes that are over (of this one too at a stop) wait to be told of; starts from 0 again. */
  takeSkipped(): number {
    const skipped = this.#skipped
    this.#skipped = 0
    return skipped
  }

  #roll(): void {
    const minute = Math.floor(this.#nowMs() / minuteMs)
    if (minute === this.#minute) return
    this.#minute = minute
    this.#written = 0
    this.#byUid.clear()
  }
}
