import { timingSafeEqual } from 'node:crypto'
import type { ClientEntry } from '../service/grant.ts'

/** Ids that the daemon's user namespace shows for those it cannot see: they are nobody. */
export type OverflowIds = { readonly uid: number; readonly gid: number }

/** What the kernel says of a caller, and whether entries with the scope `admin` count where it came in. */
export type KernelWord = {
  readonly uid: number
  /** Primary and supplementary. */
  readonly gids: readonly number[]
  readonly adminCounts: boolean
}

/**
 * Every client entry, in memory: a request must not wait for the store to know whose it is. The clients service changes
 * it together with the store. `version` rises with every change, so that who resolved an entry knows when to look again.
 */
export class ClientDirectory {
  readonly #overflow: OverflowIds
  readonly #now: () => number
  #version = 0
  readonly #byId = new Map<number, ClientEntry>()
  /** By the hash of the token as hex. */
  readonly #byToken = new Map<string, ClientEntry>()
  /** Entries without a token, in the order they were added; by gid only those without a uid. */
  readonly #byUid = new Map<number, ClientEntry[]>()
  readonly #byGid = new Map<number, ClientEntry[]>()

  /** `now` is wall-clock milliseconds. */
  constructor(overflow: OverflowIds, now: () => number) {
    this.#overflow = overflow
    this.#now = now
  }

  get version(): number {
    return this.#version
  }

  get size(): number {
    return this.#byId.size
  }

  get(clientId: number): ClientEntry | undefined {
    return this.#byId.get(clientId)
  }

  /** All that have not expired. */
  current(): ClientEntry[] {
    return [...this.#byId.values()].filter((entry) => !this.isOver(entry))
  }

  /** Puts an entry in the place of the one with its id, or adds it. */
  put(entry: ClientEntry): void {
    this.remove(entry.clientId)
    this.#byId.set(entry.clientId, entry)
    if (entry.tokenHash !== null) this.#byToken.set(entry.tokenHash.toString('hex'), entry)
    else if (entry.uid !== null) insert(this.#byUid, entry.uid, entry)
    else if (entry.gid !== null) insert(this.#byGid, entry.gid, entry)
  }

  remove(clientId: number): void {
    this.#version++
    const entry = this.#byId.get(clientId)
    if (entry === undefined) return
    this.#byId.delete(clientId)
    if (entry.tokenHash !== null) this.#byToken.delete(entry.tokenHash.toString('hex'))
    else if (entry.uid !== null) withdraw(this.#byUid, entry.uid, entry)
    else if (entry.gid !== null) withdraw(this.#byGid, entry.gid, entry)
  }

  /** Whether an entry has expired: it counts as none. */
  isOver({ grant: { expiresAtMs } }: ClientEntry): boolean {
    return expiresAtMs !== null && expiresAtMs <= this.#now()
  }

  /** The entry of a caller without a token: its uid's, else of its groups' the one added first; null where none counts. */
  ofKernel(word: KernelWord): ClientEntry | null {
    const ofUid = this.#byUid.get(word.uid)?.find((entry) => this.#counts(entry, word))
    if (ofUid !== undefined) return ofUid
    let first: ClientEntry | null = null
    for (const gid of word.gids) {
      const found = this.#byGid.get(gid)?.find((entry) => this.#counts(entry, word))
      if (found !== undefined && (first === null || found.clientId < first.clientId)) first = found
    }
    return first
  }

  /** The entry of the token with this SHA-256, where all else that it names matches too. */
  ofToken(hash: Buffer, word: KernelWord): ClientEntry | null {
    const entry = this.#byToken.get(hash.toString('hex'))
    // The look-up compares strings; what decides takes the same time whatever the bytes.
    if (entry === undefined || !timingSafeEqual(entry.tokenHash!, hash)) return null
    return this.#counts(entry, word) ? entry : null
  }

  /** The entry of this id for a caller whose token it was, while it is there and counts. */
  ofId(clientId: number, word: KernelWord): ClientEntry | null {
    const entry = this.#byId.get(clientId)
    return entry !== undefined && this.#counts(entry, word) ? entry : null
  }

  #counts(entry: ClientEntry, word: KernelWord): boolean {
    const { uid, gid } = entry
    if (uid !== null && (uid !== word.uid || uid === this.#overflow.uid)) return false
    if (gid !== null && (gid === this.#overflow.gid || !word.gids.includes(gid))) return false
    return !this.isOver(entry) && (word.adminCounts || !entry.grant.scopes.has('admin'))
  }
}

function insert(index: Map<number, ClientEntry[]>, key: number, entry: ClientEntry): void {
  const entries = [...(index.get(key) ?? []), entry]
  index.set(
    key,
    entries.sort((a, b) => a.clientId - b.clientId),
  )
}

function withdraw(index: Map<number, ClientEntry[]>, key: number, entry: ClientEntry): void {
  const left = (index.get(key) ?? []).filter((other) => other !== entry)
  if (left.length === 0) index.delete(key)
  else index.set(key, left)
}
