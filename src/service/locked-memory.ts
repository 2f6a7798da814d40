import type { Logger } from '../log.ts'
import { lockLimitBytes, secureMemory, secureMemoryIsLocked } from '../vault/secure-memory.ts'

/** An opened credential takes one page: its texts are bounded (rpc/schemas.ts). */
const entryBytes = 4096
/** Keys, and what derivations and requests under way hold at once. */
const othersBytes = 256 * 1024

const remedy =
  'set LimitMEMLOCK=infinity in its unit (`ulimit -l unlimited` in a shell), or lower cache.max_entries'

/**
 * Whether opened secrets lie in memory that the kernel never swaps. Past RLIMIT_MEMLOCK libsodium goes on without a word,
 * so this asks the kernel. Whatever it finds is a warning: the daemon still works.
 */
export class LockedMemory {
  readonly #log: Logger
  #warned = false

  constructor(log: Logger) {
    this.#log = log
  }

  /** At the start: warns where what a full cache holds would not be locked. */
  checkRoom(maxEntries: number): void {
    const bytes = maxEntries * entryBytes + othersBytes
    if (secureMemoryIsLocked(bytes)) return
    this.#warned = true
    this.#log.warn(
      { memlockLimitBytes: lockLimitBytes(), neededBytes: bytes, cacheMaxEntries: maxEntries },
      `memory for as many opened credentials as the cache may hold cannot be locked, some may be swapped to disk: ${remedy}`,
    )
  }

  /** What is locked now, in bytes of whole pages. Warns the first time that something is not, unless the start has. */
  look(): { secureBytes: number; unlockedBytes: number } {
    const { bytes, unlockedBytes } = secureMemory()
    if (unlockedBytes > 0 && !this.#warned) {
      this.#warned = true
      this.#log.warn(
        { memlockLimitBytes: lockLimitBytes(), secureBytes: bytes, unlockedBytes },
        `opened secrets lie in memory that is not locked, and may be swapped to disk: ${remedy}`,
      )
    }
    return { secureBytes: bytes, unlockedBytes }
  }

  /** For system.health: what is not locked now. */
  check(): string {
    const { unlockedBytes } = this.look()
    return unlockedBytes === 0
      ? 'ok'
      : `${unlockedBytes / 1024} KiB of opened secrets are not locked in memory`
  }
}
