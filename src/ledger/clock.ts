export const dayMs = 86_400_000

/** How far the wall clock may depart from the time since boot before nothing more is granted. */
const departureMsMax = 300_000
/** A step between wall and monotonic clock that calls for a look at the time since boot; NTP slews far less. */
const stepMs = 1000
/** The time since boot is looked at this often at least; it costs a file read. */
const lookMs = 1000

/** The UTC day of a wall-clock time: whole days since 1970. */
export function dayOf(wallMs: number): number {
  return Math.floor(wallMs / dayMs)
}

/** When the day after `day` begins, milliseconds. */
export function dayEndMs(day: number): number {
  return (day + 1) * dayMs
}

/** Three clocks, all in milliseconds: wall, monotonic (stands still in suspend), since boot (counts suspend). */
export type Clocks = { wallMs(): number; monotonicMs(): number; sinceBootMs(): number }

/** Since when the wall clock is not trusted. */
export type ClockDoubt = { readonly sinceMs: number }

/**
 * Whether the wall clock can be believed. It decides which day money is counted in, so whoever moves it by a day would
 * get a fresh day's limits. It is held against the time since boot, which only a reboot sets back; where they depart,
 * nothing more is granted until an admin says that the clock is right.
 */
export class LedgerClock {
  readonly #clocks: Clocks
  #doubt: ClockDoubt | null = null
  /** Wall clock less time since boot, as it was when last taken for right. */
  #offsetMs: number
  #lookedMonotonicMs: number
  #lookedWallMs: number

  /** `lastStoredMs` is the latest wall-clock time the store holds: a start long before it is in doubt. */
  constructor(clocks: Clocks, lastStoredMs: number | null) {
    this.#clocks = clocks
    this.#lookedWallMs = clocks.wallMs()
    this.#lookedMonotonicMs = clocks.monotonicMs()
    this.#offsetMs = this.#lookedWallMs - clocks.sinceBootMs()
    if (lastStoredMs !== null && lastStoredMs - this.#lookedWallMs > departureMsMax) {
      this.#doubt = { sinceMs: this.#lookedWallMs }
    }
  }

  /** The wall clock, looked at anew, and the doubt about it, which stays once there is one. */
  look(): { readonly nowMs: number; readonly doubt: ClockDoubt | null } {
    const nowMs = this.#clocks.wallMs()
    if (this.#doubt !== null) return { nowMs, doubt: this.#doubt }
    const monotonicMs = this.#clocks.monotonicMs()
    const passedMs = monotonicMs - this.#lookedMonotonicMs
    const stepped = Math.abs(nowMs - this.#lookedWallMs - passedMs) > stepMs
    if (stepped || passedMs >= lookMs) {
      const departedMs = nowMs - this.#clocks.sinceBootMs() - this.#offsetMs
      if (Math.abs(departedMs) > departureMsMax) this.#doubt = { sinceMs: nowMs }
      this.#lookedWallMs = nowMs
      this.#lookedMonotonicMs = monotonicMs
    }
    return { nowMs, doubt: this.#doubt }
  }

  /** Takes the wall clock as it is for right. */
  trust(): void {
    this.#doubt = null
    this.#lookedWallMs = this.#clocks.wallMs()
    this.#lookedMonotonicMs = this.#clocks.monotonicMs()
    this.#offsetMs = this.#lookedWallMs - this.#clocks.sinceBootMs()
  }
}
