import { uptime } from 'node:os'
import { ClientDirectory, type OverflowIds } from '../access/directory.ts'
import { readOverflowIds } from '../access/identity.ts'
import type { AuditEntry } from '../audit/entry.ts'
import { AuditWriter } from '../audit/writer.ts'
import type { Config } from '../config.ts'
import { LedgerClock } from '../ledger/clock.ts'
import type { Logger } from '../log.ts'
import { DecryptionWindow } from '../service/decryption-window.ts'
import { FreezeService } from '../service/freeze.ts'
import { LockedMemory } from '../service/locked-memory.ts'
import { Metrics } from '../service/metrics.ts'
import { Sealing } from '../service/sealing.ts'
import { Watch } from '../service/watch.ts'
import { GroupCommit } from '../store/group-commit.ts'
import type { Engine } from '../store/operations.ts'
import { DerivationQueue } from '../vault/derivation-queue.ts'
import { OpenedCache } from '../vault/opened-cache.ts'
import { version } from '../version.ts'
import { storeFailureLog } from './housekeeping.ts'

/** What every service stands on, whether there is a key or not. */
export type Core = {
  readonly writer: AuditWriter
  readonly commits: GroupCommit<AuditEntry>
  readonly queue: DerivationQueue
  readonly cache: OpenedCache
  readonly sealing: Sealing
  readonly window: DecryptionWindow
  readonly clock: LedgerClock
  readonly freeze: FreezeService
  readonly metrics: Metrics
  readonly watch: Watch
  readonly lockedMemory: LockedMemory
  readonly overflow: OverflowIds
  readonly directory: ClientDirectory
  readonly now: () => number
}

export type CoreParts = {
  readonly config: Config
  readonly engine: Engine
  readonly hasStore: () => boolean
  /** The latest wall-clock time the store holds; null for a new one, or none. */
  readonly lastStoredMs: number | null
  readonly connections: () => { connections: number; inFlight: number }
  /** Credentials that a job has yet to seal anew. */
  readonly toSealAnew: () => number
  readonly log: Logger
}

/** Builds it all, sealed as yet (see Sealing.start); nothing runs and nothing is written. */
export function makeCore(parts: CoreParts): Core {
  const { config, engine, hasStore, lastStoredMs, connections, toSealAnew, log } = parts
  const now = () => Date.now()
  const writer = new AuditWriter((hash) => sealing.auditMac(hash), now, {
    owed: () => sealing.owed(),
    paid: (entry) => sealing.paid(entry),
    hasStore,
  })
  const commits = new GroupCommit<AuditEntry>(engine, writer, storeFailureLog(log))
  const queue = new DerivationQueue(undefined, config.rpc.maxDerivationsQueued)
  const cache = new OpenedCache({
    maxEntries: config.cache.maxEntries,
    ttlMs: config.cache.ttlSeconds * 1000,
  })
  const sealing: Sealing = new Sealing({ commits, queue, kdf: config.kdf, cache, now, hasStore })
  const window = new DecryptionWindow(config.decrypt.limit, config.decrypt.windowSeconds * 1000)
  const clock = new LedgerClock(
    { wallMs: now, monotonicMs: () => performance.now(), sinceBootMs: () => uptime() * 1000 },
    lastStoredMs,
  )
  const freeze = new FreezeService({ commits, clock, now })
  const lockedMemory = new LockedMemory(log)
  const metrics = new Metrics({
    version,
    commits: () => commits.figures,
    cache: () => cache,
    derivations: () => ({ running: queue.running, waiting: queue.size }),
    decryptions: () => window.total,
    connections,
    auditHead: () => writer.committedHead?.seq ?? 0,
    frozen: () => freeze.anything,
    sealed: () => sealing.sealed,
    toSealAnew,
    secureMemory: () => lockedMemory.look(),
  })
  const watch = new Watch({ commits, log, metrics, now, lastStoredMs })
  const overflow = readOverflowIds()
  const directory = new ClientDirectory(overflow, now)
  return {
    ...{ writer, commits, queue, cache, sealing, window, clock, freeze, metrics, watch, lockedMemory },
    ...{ overflow, directory, now },
  }
}
