import type { Role } from './caller.ts'

/** Refusals of callers of role none written one by one in a minute: of one uid, and of all together. */
const perUidMax = 60
const strangersMax = 600
/** Those of one client. */
const perClientMax = 600
/** Clients told apart in one minute; the refusals of more are only counted, all together. */
const clientsMax = 10_000
const minuteMs = 60_000

/** Whose refusal it is. */
export type Refused = { readonly role: Role; readonly uid: number; readonly clientId: number | null }

/** Refusals that were only counted. `clientId` is null for those of callers of role none. */
export type Skipped = { readonly clientId: number | null; readonly count: number }

/**
 * Bounds how much refusals can write to the audit log, for one user namespace can show 65,536 uids and a client may
 * ask for ever: the first of a minute are written one by one, the rest as one entry with a count when the minute is
 * over. An admin's are all written.
 */
export class RefusalLimiter {
  readonly #nowMs: () => number
  readonly #isDiskLow: () => boolean
  #minute = -1
  #strangers = 0
  readonly #byUid = new Map<number, number>()
  readonly #byClient = new Map<number, number>()
  /** Not yet told of, by client. */
  readonly #skipped = new Map<number | null, number>()

  /**
   * `nowMs` is monotonic milliseconds. While `isDiskLow`, nothing is written one by one but for admins: what is left of
   * the disk is for those who freeze.
   */
  constructor(nowMs: () => number = () => performance.now(), isDiskLow: () => boolean = () => false) {
    this.#nowMs = nowMs
    this.#isDiskLow = isDiskLow
  }

  /** Whether the refusal is to be written by itself; else it is counted. */
  admit({ role, uid, clientId }: Refused): boolean {
    if (role === 'admin') return true
    this.#roll()
    const isStranger = clientId === null
    const written = !this.#isDiskLow() && (isStranger ? this.#takeOfUid(uid) : this.#takeOfClient(clientId))
    if (!written) this.#skip(clientId, 1)
    return written
  }

  /**
   * Tells of what was only counted, of minutes that are over (at a stop: of this one too), by one `write` for the
   * callers of role none and one for each client. What cannot be written is told of the next time.
   */
  async tellSkipped(write: (skipped: Skipped) => Promise<unknown>): Promise<void> {
    const skipped = [...this.#skipped].map(([clientId, count]) => ({ clientId, count }))
    this.#skipped.clear()
    const writing = skipped.map((one) => write(one).catch(() => this.#skip(one.clientId, one.count)))
    await Promise.all(writing)
  }

  #takeOfUid(uid: number): boolean {
    const ofUid = this.#byUid.get(uid) ?? 0
    if (this.#strangers >= strangersMax || ofUid >= perUidMax) return false
    this.#strangers++
    this.#byUid.set(uid, ofUid + 1)
    return true
  }

  #takeOfClient(clientId: number): boolean {
    const ofClient = this.#byClient.get(clientId) ?? 0
    if (ofClient >= perClientMax || (ofClient === 0 && this.#byClient.size >= clientsMax)) return false
    this.#byClient.set(clientId, ofClient + 1)
    return true
  }

  #skip(clientId: number | null, count: number): void {
    const key = this.#skipped.has(clientId) || this.#skipped.size < clientsMax ? clientId : null
    this.#skipped.set(key, (this.#skipped.get(key) ?? 0) + count)
  }

  #roll(): void {
    const minute = Math.floor(this.#nowMs() / minuteMs)
    if (minute === this.#minute) return
    this.#minute = minute
    this.#strangers = 0
    this.#byUid.clear()
    this.#byClient.clear()
  }
}
