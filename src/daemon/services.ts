import type { Config } from '../config.ts'
import type { ConfiguredSource } from '../keysource/configured-source.ts'
import type { Logger } from '../log.ts'
import type { Services } from '../rpc/method.ts'
import { AuditTrail } from '../service/audit-trail.ts'
import { ClientService } from '../service/clients.ts'
import { CredentialLifecycle } from '../service/credentials/lifecycle.ts'
import { CredentialQueries } from '../service/credentials/queries.ts'
import { CredentialRetrieval } from '../service/credentials/retrieval.ts'
import { SealingJobs } from '../service/sealing-jobs.ts'
import { SpendReports } from '../service/spending/reports.ts'
import type { SpendingParts } from '../service/spending/reserving.ts'
import { Reserving } from '../service/spending/reserving.ts'
import { Settling } from '../service/spending/settling.ts'
import { SystemService } from '../service/system.ts'
import type { Unsealing } from '../service/unsealing.ts'
import { UserService } from '../service/users.ts'
import { currentSchemaVersion, walBytesMax } from '../store/sqlite/open.ts'
import type { StoreSlot } from '../store/sqlite/store-slot.ts'
import { truncateWal } from '../store/sqlite/truncate-wal.ts'
import { version } from '../version.ts'
import type { Core } from './core.ts'

/** Pages copied in one go by a backup: under a millisecond each time. */
const backupPages = 100

export type ServiceParts = {
  readonly config: Config
  readonly slot: StoreSlot
  readonly source: ConfiguredSource
  readonly unsealing: Unsealing
  readonly ledgerNow: () => { nowMs: number; todayMs: number | null }
  readonly log: Logger
  readonly connections: () => { connections: number; inFlight: number }
}

/** What methods call. */
export function makeServices(core: Core, parts: ServiceParts): Services {
  const { config, slot, source, unsealing, ledgerNow, log, connections } = parts
  const { sealing, commits, cache, window, freeze, metrics, watch, queue, directory, lockedMemory, now } =
    core
  const shared = { commits, vault: () => sealing.vault(), cache, window, freeze, now }
  const spending: SpendingParts = {
    commits,
    tiers: config.tiers,
    freeze,
    changed: (before, after) => watch.account(before, after),
    denied: (level) => metrics.denied(level),
  }
  const sealingJobs = new SealingJobs({
    commits,
    vault: shared.vault,
    source,
    startsSealed: config.sealed,
    truncateLog: () => truncateWal(slot.database),
    diskLow: () => services.system.diskLow(),
    log,
    now,
  })
  sealing.register(sealingJobs)
  const services: Services = {
    sealing,
    unsealing,
    sealingJobs,
    freeze,
    metrics,
    clients: new ClientService({
      commits,
      book: directory,
      diskLow: () => services.system.diskLow(),
      now,
    }),
    reserving: new Reserving(spending),
    settling: new Settling(spending, ledgerNow),
    reports: new SpendReports(spending, ledgerNow),
    retrieval: new CredentialRetrieval(shared),
    lifecycle: new CredentialLifecycle({ ...shared, settings: config.credentials }),
    queries: new CredentialQueries(shared),
    users: new UserService({ ...shared, tiers: config.tiers }),
    audit: new AuditTrail({ commits, mac: (hash) => sealing.auditMac(hash), now }),
    system: new SystemService({
      ...shared,
      sealing,
      lockedMemory,
      version,
      dataDirectory: config.dataDir,
      storePath: config.store.path,
      walBytesMax,
      schemaVersion: currentSchemaVersion,
      reserveBytes: config.store.reserveMb * 1024 * 1024,
      masterKeySource: () => source.describe,
      socketPath: config.socket.path,
      queue,
      copyStore: async (path) => void (await slot.database.backup(path, { progress: () => backupPages })),
      connections,
    }),
  }
  return services
}
