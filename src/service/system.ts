import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  createReadStream,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  statfsSync,
  statSync,
  unlinkSync,
} from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { invalidParams, PurserError } from '../errors.ts'
import { perform } from '../store/operations.ts'
import { removeUnfinished, unfinishedBackup } from '../unfinished.ts'
import type { DerivationQueue } from '../vault/derivation-queue.ts'
import type { OpenedCache } from '../vault/opened-cache.ts'
import type { Vault } from '../vault/vault.ts'
import type { Act, Commits } from './act.ts'
import { audited, submitAudited, successEntry } from './act.ts'
import { time } from './credentials/metadata.ts'
import type { DecryptionWindow } from './decryption-window.ts'
import type { FreezeService } from './freeze.ts'
import type { LockedMemory } from './locked-memory.ts'
import type { Sealing } from './sealing.ts'

/** Free space is looked at this often at most; it costs a system call. */
const diskLookMs = 250

/** A copy being made is written to all the time, by another purserd too; one this old was left by a run that was killed. */
const staleBackupMs = 3_600_000

/** Beginnings of a copy that may fall into an open transaction. */
const copyTriesMax = 1000

/** What the daemon knows of itself beyond its services. */
export type SystemParts = {
  readonly version: string
  readonly dataDirectory: string
  readonly storePath: string
  /** The store's write-ahead log is larger than this only where it cannot be moved into the store. */
  readonly walBytesMax: number
  readonly schemaVersion: number
  readonly reserveBytes: number
  /** Names the configured key source; null where there is none. */
  readonly masterKeySource: () => string | null
  readonly socketPath: string | null
  readonly commits: Commits
  readonly vault: () => Vault
  readonly sealing: Sealing
  readonly lockedMemory: LockedMemory
  readonly cache: OpenedCache
  readonly queue: DerivationQueue
  readonly window: DecryptionWindow
  readonly freeze: FreezeService
  readonly now: () => number
  /** Copies the store to a path that does not exist, in slices. */
  readonly copyStore: (path: string) => Promise<void>
  readonly connections: () => { connections: number; inFlight: number }
}

type HealthStatus = 'ok' | 'sealed' | 'frozen' | 'degraded'

/** What the daemon says of itself, and copies of its store. */
export class SystemService {
  readonly version: string
  readonly #parts: SystemParts
  readonly #startedAtMs: number
  readonly #startedAt = performance.now()
  #diskLookedAtMs = Number.NEGATIVE_INFINITY
  #diskIsLow = false
  #copying = false

  constructor(parts: SystemParts) {
    this.version = parts.version
    this.#parts = parts
    this.#startedAtMs = parts.now()
  }

  async health(act: Act): Promise<{ status: HealthStatus; checks: Record<string, string> }> {
    const { freeze, commits, sealing } = this.#parts
    const store = commits.failing
      ? 'the last write failed'
      : freeze.unwritten > 0
        ? 'a freeze stands in memory only'
        : 'ok'
    const checkpoint = this.#walBytes() > this.#parts.walBytesMax ? 'the WAL cannot be checkpointed' : 'ok'
    const disk = this.diskLow() ? 'free space is below store.reserve_mb' : 'ok'
    const frozen = await commits.submit(() => freeze.systemFreeze(), act).catch(() => null)
    const { sealed } = sealing
    const checks = {
      store: store === 'ok' && !sealing.hasStore() ? 'there is none yet' : store,
      checkpoint,
      disk,
      masterKey: sealed ? 'sealed' : 'ok',
      freeze: frozen === null ? 'ok' : `frozen: ${frozen.reason}`,
      memory: this.#parts.lockedMemory.check(),
    }
    const degraded = [store, checkpoint, disk].some((check) => check !== 'ok')
    const status = degraded ? 'degraded' : sealed ? 'sealed' : frozen === null ? 'ok' : 'frozen'
    return { status, checks }
  }

  async status(act: Act): Promise<Record<string, unknown> & { version: string }> {
    const { commits, cache, queue, sealing, window } = this.#parts
    const { store, head, keys } = await commits.submit(function* () {
      return {
        store: yield* perform('storeGet'),
        head: yield* perform('auditHead'),
        keys: yield* perform('masterKeys'),
      }
    }, act)
    return {
      version: this.version,
      startedAt: time(this.#startedAtMs),
      uptimeSeconds: Math.floor((performance.now() - this.#startedAt) / 1000),
      sealed: sealing.sealed,
      sealedAt: time(store?.sealedAtMs ?? null),
      socket: this.#parts.socketPath,
      counts: {
        users: store?.userCount ?? 0,
        credentials: store?.credentialCount ?? 0,
        auditEntries: head?.seq ?? 0,
      },
      connections: this.#parts.connections(),
      cache: { entries: cache.size, hits: cache.hits, misses: cache.misses },
      derivations: { running: queue.running, waiting: queue.size },
      decryptionWindows: window.users,
      commits: commits.figures,
      store: store === undefined ? null : this.#storeStatus(store.createdAtMs),
      masterKey: {
        source: this.#parts.masterKeySource(),
        // Of the newest epoch, and, sealed, of the key that purser waits for.
        keyId: keys.at(-1)?.keyId ?? null,
        epoch: keys.at(-1)?.epoch ?? null,
        // While a rotation's old key is not retired, either of two opens the store.
        keyIds: keys.map(({ keyId }) => keyId),
      },
      memory: { rssBytes: process.memoryUsage.rss(), ...this.#parts.lockedMemory.look() },
    }
  }

  #storeStatus(createdAtMs: number): Record<string, unknown> {
    const { storePath: path, schemaVersion } = this.#parts
    const walBytes = this.#walBytes()
    return { path, bytes: statSync(path).size, walBytes, schemaVersion, createdAt: time(createdAtMs) }
  }

  #walBytes(): number {
    return statSync(`${this.#parts.storePath}-wal`, { throwIfNoEntry: false })?.size ?? 0
  }

  /** Whether free space on the data directory's disk is below the reserve. */
  diskLow(): boolean {
    const { reserveBytes, dataDirectory } = this.#parts
    if (reserveBytes === 0) return false
    const now = performance.now()
    if (now - this.#diskLookedAtMs < diskLookMs) return this.#diskIsLow
    this.#diskLookedAtMs = now
    try {
      const { bavail, bsize } = statfsSync(dataDirectory)
      this.#diskIsLow = bavail * bsize < reserveBytes
    } catch {
      this.#diskIsLow = true
    }
    return this.#diskIsLow
  }

  /**
   * Writes a copy of the store, sealed as it is, mode 0600. Conflict where the path exists, InvalidParams where it is
   * relative, Overloaded while another copy is made.
   */
  async backup(
    act: Act,
    given: string | undefined,
  ): Promise<{ path: string; bytes: number; sha256: string; keyId: string }> {
    const path = given ?? join(this.#parts.dataDirectory, `backup-${stamp(this.#parts.now())}.db`)
    if (!isAbsolute(path) || path.includes('\0')) throw invalidParams('path', 'must be an absolute path')
    if (this.#copying)
      throw new PurserError('Overloaded', { retryAfterMs: 1000 }, { message: 'another backup is being made' })
    this.#copying = true
    const subject = { action: 'backup_created', userId: null, credentialId: null } as const
    try {
      return await audited(this.#parts.commits, act, subject, async () => {
        const { keyId } = this.#parts.vault().keyring
        const made = await this.#copy(path)
        try {
          await submitAudited(this.#parts.commits, act, subject, function* (unit) {
            unit.audit(successEntry(act, subject, { path, bytes: made.bytes, sha256: made.sha256 }))
          })
        } catch (error) {
          // No entry, no copy; and the next try finds its path free.
          remove(path)
          throw error
        }
        return { path, ...made, keyId }
      })
    } finally {
      this.#copying = false
    }
  }

  async #copy(path: string): Promise<{ bytes: number; sha256: string }> {
    // Made under another name and linked into place: a path that appears meanwhile is never overwritten, and a half
    // copy never has the name of a whole one.
    const partial = unfinishedBackup(dirname(path))
    try {
      if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw exists()
      removeUnfinished(dirname(path), 'backups', staleBackupMs)
      closeSync(openSync(partial, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600))
      await this.#copyTo(partial)
      const made = await digestOf(partial)
      linkSync(partial, path)
      sync(path)
      sync(dirname(path))
      return made
    } catch (error) {
      throw backupError(error)
    } finally {
      for (const leftover of [partial, `${partial}-journal`, `${partial}-wal`, `${partial}-shm`])
        remove(leftover)
    }
  }

  /** SQLite copies nothing while a transaction is open, and calls that done: then the file stays as empty as it was made. */
  async #copyTo(partial: string): Promise<void> {
    for (let tries = 0; tries < copyTriesMax; tries++) {
      await this.#parts.copyStore(partial)
      if (statSync(partial).size > 0) return
    }
    throw new PurserError(
      'Overloaded',
      { retryAfterMs: 1000 },
      { message: 'the store is too busy to be copied' },
    )
  }
}

/** Refuses what needs the space that is kept for freezing and the like. */
export function diskLowError(): PurserError {
  return new PurserError(
    'StorageUnavailable',
    {},
    {
      message: 'free disk space is below store.reserve_mb',
      hint: 'free space on the disk of the data directory',
    },
  )
}

function exists(): PurserError {
  return new PurserError(
    'Conflict',
    { resource: 'path', field: 'path' },
    { message: 'the path exists', hint: 'name one that does not; nothing was overwritten' },
  )
}

function backupError(error: unknown): unknown {
  if (error instanceof PurserError) return error
  const { code } = error as NodeJS.ErrnoException
  if (code === 'EEXIST') return exists()
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP')
    return invalidParams('path', 'its directory does not exist')
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return invalidParams('path', 'the daemon may not write there')
  if (code === 'ENAMETOOLONG') return invalidParams('path', 'is too long')
  // Whatever else the system or SQLite has a code for: no space, quota, I/O.
  if (code !== undefined) {
    return new PurserError(
      'StorageUnavailable',
      {},
      { message: 'the backup could not be written', cause: error },
    )
  }
  return error
}

async function digestOf(path: string): Promise<{ bytes: number; sha256: string }> {
  const digest = createHash('sha256')
  let bytes = 0
  for await (const chunk of createReadStream(path)) {
    digest.update(chunk as Buffer)
    bytes += (chunk as Buffer).length
  }
  return { bytes, sha256: digest.digest('hex') }
}

function sync(path: string): void {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // It was never made, or is gone.
  }
}

function stamp(atMs: number): string {
  return new Date(atMs).toISOString().replace(/[-:]/g, '').replace('.', '-')
}
