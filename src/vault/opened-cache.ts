import { LRUCache } from 'lru-cache'
import type { OpenedCredential } from './opened-credential.ts'

/** setTimeout takes 2^31 - 1 ms at most and fires at once beyond, and the cache would arm it again for ever. */
const MAX_TTL_MS = 2_147_000_000

/**
 * Half of the secure allocations a process may make (see secure-memory.ts): a larger cache, once full, would leave none
 * to open another credential with.
 */
const MAX_ENTRIES = 4096

type Entry = { readonly revision: number; readonly opened: OpenedCredential }

/**
 * Opened credentials by id, the least recently used dropped first. The cache is one holder of what it keeps: what it
 * drops lives on until the requests that hold it are done.
 */
export class OpenedCache {
  readonly #entries: LRUCache<number, Entry> | null
  readonly #ttlMs: number
  /** Entries it really keeps. */
  readonly maxEntries: number
  #hits = 0
  #misses = 0

  /**
   * At most `maxEntries`, each for `ttlMs` of the monotonic clock, counted from its opening and not from its last use:
   * a bot that asks every second must not keep a key in memory for ever. 0 of either turns the cache off; more than
   * 4096 entries are 4096.
   */
  constructor({ maxEntries, ttlMs }: { readonly maxEntries: number; readonly ttlMs: number }) {
    if (!Number.isInteger(maxEntries) || maxEntries < 0) throw new RangeError('maxEntries is a whole number')
    if (!(ttlMs >= 0 && ttlMs <= MAX_TTL_MS)) throw new RangeError(`ttlMs is 0 to ${MAX_TTL_MS}`)
    this.#ttlMs = ttlMs
    this.maxEntries = Math.min(maxEntries, MAX_ENTRIES)
    this.#entries = maxEntries === 0 || ttlMs === 0 ? null : newCache(this.maxEntries, ttlMs)
  }

  get size(): number {
    return this.#entries?.size ?? 0
  }

  get hits(): number {
    return this.#hits
  }

  get misses(): number {
    return this.#misses
  }

  /**
   * The opened credential of exactly this revision, retained for the caller, or null. One of an earlier revision is
   * dropped; one of a later stays, and who asks for an earlier has been overtaken.
   */
  get(credentialId: number, revision: number): OpenedCredential | null {
    const entry = this.#entries?.get(credentialId)
    if (entry?.revision === revision) {
      this.#hits += 1
      return entry.opened.retain()
    }
    this.#misses += 1
    if (entry !== undefined && entry.revision < revision) this.drop(credentialId)
    return null
  }

  /**
   * Keeps `opened`, whose holder stays its holder. Does nothing where the cache has a later revision, as an opening
   * that a replace overtook has nothing to say, and where the ttl has passed.
   */
  set(credentialId: number, revision: number, opened: OpenedCredential): void {
    const entries = this.#entries
    // lru-cache would take the opening as the entry's start, but wipe it only a whole ttl after it was set.
    const leftMs = Math.floor(opened.openedAtMs + this.#ttlMs - performance.now())
    // To lru-cache a ttl of 0 is no limit at all.
    if (entries === null || leftMs < 1) return
    const known = entries.peek(credentialId)
    if (known !== undefined && known.revision > revision) return
    entries.set(credentialId, { revision, opened: opened.retain() }, { ttl: leftMs })
  }

  drop(credentialId: number): void {
    this.#entries?.delete(credentialId)
  }

  clear(): void {
    this.#entries?.clear()
  }
}

function newCache(maxEntries: number, ttlMs: number): LRUCache<number, Entry> {
  return new LRUCache<number, Entry>({
    max: maxEntries,
    ttl: ttlMs,
    // Without it what has expired stays in memory until somebody asks for it.
    ttlAutopurge: true,
    // Ask the clock each time: the default remembers it for a millisecond and sets a timer to forget.
    ttlResolution: 0,
    dispose: ({ opened }) => opened.release(),
  })
}
