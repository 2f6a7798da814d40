import { uptime } from 'node:os'
import type Database from 'better-sqlite3'
import { ClientDirectory, type OverflowIds } from './access/directory.ts'
import type { Door, IdentityRules } from './access/identity.ts'
import { readOverflowIds } from './access/identity.ts'
import { RefusalLimiter } from './access/refusals.ts'
import { identify } from './access/session.ts'
import type { AuditEntry } from './audit/entry.ts'
import { AuditWriter } from './audit/writer.ts'
import type { Config } from './config.ts'
import { PurserError, StartError } from './errors.ts'
import type { EnvironmentKey } from './keysource/environment.ts'
import type { KeySource } from './keysource/key-source.ts'
import { selectKeySource } from './keysource/select.ts'
import { dayMs, dayOf, LedgerClock } from './ledger/clock.ts'
import type { Logger } from './log.ts'
import { createLogger } from './log.ts'
import { Dispatcher } from './rpc/dispatcher.ts'
import { HandOver } from './rpc/hand-over.ts'
import type { Services } from './rpc/method.ts'
import { methods } from './rpc/methods/index.ts'
import { openRpcDocument } from './rpc/open-rpc.ts'
import { AuditTrail } from './service/audit-trail.ts'
import { ClientService, entryOf } from './service/clients.ts'
import { CredentialLifecycle } from './service/credentials/lifecycle.ts'
import { CredentialQueries } from './service/credentials/queries.ts'
import { CredentialRetrieval } from './service/credentials/retrieval.ts'
import { DecryptionWindow } from './service/decryption-window.ts'
import { FreezeService } from './service/freeze.ts'
import { Metrics } from './service/metrics.ts'
import { sweepExpired } from './service/spending/expiry.ts'
import { SpendReports } from './service/spending/reports.ts'
import { Reserving } from './service/spending/reserving.ts'
import { Settling } from './service/spending/settling.ts'
import { SystemService } from './service/system.ts'
import { UserService } from './service/users.ts'
import { Watch, watchMs } from './service/watch.ts'
import { GroupCommit } from './store/group-commit.ts'
import type { Engine } from './store/operations.ts'
import { perform } from './store/operations.ts'
import { SqliteEngine } from './store/sqlite/engine.ts'
import {
  currentSchemaVersion,
  openStore,
  prepareDataDirectory,
  storeError,
  walBytesMax,
} from './store/sqlite/open.ts'
import { rewriteWal } from './store/sqlite/rewrite-wal.ts'
import { statementsOf } from './store/sqlite/statements.ts'
import {
  disableCoreDumps,
  lockMemory,
  lowerWorkerPriority,
  sealAgainstWritableCode,
  setNotDumpable,
} from './transport/libc.ts'
import { Listener } from './transport/listener.ts'
import type { ActivatedSocket } from './transport/systemd.ts'
import { activatedSockets, notify, watchdogIntervalMs } from './transport/systemd.ts'
import { DerivationQueue } from './vault/derivation-queue.ts'
import type { Keyring } from './vault/keyring.ts'
import { createKeyMaterial, openKeyMaterial } from './vault/keyring.ts'
import { OpenedCache } from './vault/opened-cache.ts'
import { Vault } from './vault/vault.ts'
import { version } from './version.ts'

/** Connections that have not taken their answers after this are cut, so that a stop takes less than 5 s. */
const drainMs = 3500
/** Argon2 runs on threads at this nice value, so that the event loop gets a core whenever it wants one. */
const workerNice = 10
/** How often the end of the audit chain is written to the log, where a truncated tail shows. */
const headLogMs = 600_000
/** How often refusals that were only counted become an entry. */
const refusalsMs = 60_000
/** How often holds that are over are freed without a decision. */
const sweepMs = 1000
/** Commits that fail are logged this often at most: there can be a thousand a second, on the disk that is full. */
const failureLogMs = 1000
/** Pages copied in one go by a backup: under a millisecond each time. */
const backupPages = 100

/** What a test may put in the place of a part. */
export type DaemonOptions = {
  /** Stands between the group commit and the store engine. */
  readonly wrapEngine?: (engine: Engine) => Engine
}

/** What the process was given: its variables, without the master key that stood in one of them. */
export type Surroundings = {
  readonly env: Record<string, string | undefined>
  readonly environmentKey: EnvironmentKey | null
}

/** A running daemon. */
export type Daemon = {
  /** Drains, writes what is left, closes the store. `reason` goes into the audit log. */
  readonly stop: (reason: string) => Promise<void>
}

/** Everything between the configuration and the ready line. StartError for whatever keeps it from starting. */
export async function startDaemon(
  config: Config,
  { env, environmentKey }: Surroundings,
  options: DaemonOptions = {},
): Promise<Daemon> {
  const handed = activatedSockets(env, process.pid)
  checkHanded(config, handed)
  const watchdogMs = watchdogIntervalMs(env, process.pid)
  const log = createLogger(config.log.level)
  for (const warning of config.warnings) log.warn(warning)
  harden(log)
  prepareDataDirectory(config.dataDir)
  const source = selectKeySource(config, env, environmentKey)
  const { database, keyring, storePath, created } = await openWithKey(config, source, log)
  try {
    const running = { database, keyring, storePath, created, source, handed, watchdogMs, log }
    return await serve(config, env, running, options)
  } catch (error) {
    keyring.close()
    database.close()
    throw error
  }
}

type Opened = { database: Database.Database; keyring: Keyring; storePath: string; created: boolean }

function checkHanded(config: Config, handed: readonly ActivatedSocket[]): void {
  if (handed.length === 0) return
  const hasAdmin = handed.some(({ name }) => name === 'purser-admin')
  if (config.socket.adminPath === null || hasAdmin) return
  throw new StartError(
    'config',
    'an admin socket is configured but the socket unit did not hand one over',
    'add a socket with FileDescriptorName=purser-admin, or take --admin-socket away',
  )
}

/** Before any secret is in memory. What a host cannot do is a warning: the daemon still works. */
function harden(log: Logger): void {
  process.umask(0o077)
  setNotDumpable()
  disableCoreDumps()
  if (process.execArgv.includes('--jitless')) {
    const sealed = sealAgainstWritableCode()
    const locked = lockMemory()
    log.info({ memory: locked, code: sealed }, 'hardened')
  }
  try {
    lowerWorkerPriority(workerNice)
  } catch (error) {
    log.warn({ reason: String(error) }, 'the priority of worker threads could not be lowered')
  }
}

/** Opens the store, or makes it, with the key from `source`, which is wiped here once the keyring has it. */
async function openWithKey(config: Config, source: KeySource, log: Logger): Promise<Opened> {
  const masterKey = await source.read()
  if (source.warning !== null) log.warn(source.warning)
  try {
    const store = openStore(config.dataDir, (database) => {
      const { storeId, ...row } = createKeyMaterial(masterKey)
      const statements = statementsOf(database)
      statements.storeInsert(storeId, Date.now())
      statements.masterKeyInsert(row, Date.now())
      statements.ledgerInsert(dayOf(Date.now()))
    })
    if (store.migrationCopy !== null)
      log.info({ copy: store.migrationCopy }, 'the store was brought to a newer schema')
    try {
      rewriteWal(store.path)
      return { ...store, storePath: store.path, keyring: unlock(store.database, masterKey, source) }
    } catch (error) {
      store.database.close()
      // A table or column that is missing shows when the statements are prepared.
      throw storeError(error, store.path)
    }
  } finally {
    masterKey.fill(0)
  }
}

function unlock(database: Database.Database, masterKey: Buffer, source: KeySource): Keyring {
  const statements = statementsOf(database)
  const store = statements.storeGet()
  const row = statements.masterKeys().at(-1)
  if (store === undefined || row === undefined) {
    throw new StartError('storeUnusable', 'the store is damaged: it has no key material', 'restore a backup')
  }
  try {
    return openKeyMaterial(masterKey, { ...row, storeId: store.storeId })
  } catch (error) {
    if (!(error instanceof PurserError)) {
      throw new StartError(
        'storeUnusable',
        'the key material of the store is damaged',
        'restore a backup',
        error,
      )
    }
    throw new StartError(
      'masterKey',
      `the master key from ${source.describe} does not open this store (it was made with key ${row.keyId})`,
      'configure the master key the store was made with; nothing was changed',
      error,
    )
  }
}

type Running = Opened & {
  source: KeySource
  handed: readonly ActivatedSocket[]
  watchdogMs: number | null
  log: Logger
}

async function serve(
  config: Config,
  env: Record<string, string | undefined>,
  running: Running,
  options: DaemonOptions,
): Promise<Daemon> {
  const { database, keyring, log, source, handed } = running
  const now = () => Date.now()
  const mac = (hash: Buffer) => (keyring.closed ? null : keyring.auditMac(hash))
  const engine = options.wrapEngine?.(new SqliteEngine(database)) ?? new SqliteEngine(database)
  const writer = new AuditWriter(mac, now)
  const commits = new GroupCommit<AuditEntry>(engine, writer, storeFailureLog(log))
  const queue = new DerivationQueue(undefined, config.rpc.maxDerivationsQueued)
  const vault = new Vault({ keyring, queue, kdf: config.kdf })
  const cache = new OpenedCache({
    maxEntries: config.cache.maxEntries,
    ttlMs: config.cache.ttlSeconds * 1000,
  })
  const window = new DecryptionWindow(config.decrypt.limit, config.decrypt.windowSeconds * 1000)
  const lastMs = lastStoredMs(database)
  const clock = new LedgerClock(
    { wallMs: now, monotonicMs: () => performance.now(), sinceBootMs: () => uptime() * 1000 },
    lastMs,
  )
  const freeze = new FreezeService({ commits, clock, now })
  const shared = { commits, vault: () => vault, cache, window, freeze, now }
  const handOver = new HandOver()
  let listener: Listener | null = null
  const metrics: Metrics = new Metrics({
    version,
    commits: () => commits.figures,
    cache: () => cache,
    derivations: () => ({ running: queue.running, waiting: queue.size }),
    decryptions: () => window.total,
    connections: () => ({ connections: listener?.connections ?? 0, inFlight: listener?.inFlight ?? 0 }),
    auditHead: () => writer.committedHead?.seq ?? 0,
    frozen: () => freeze.anything,
  })
  const watch: Watch = new Watch({ commits, log, metrics, now, lastStoredMs: lastMs })
  const spending = {
    commits,
    tiers: config.tiers,
    freeze,
    changed: (...accounts: Parameters<Watch['account']>) => watch.account(...accounts),
    denied: (level: Parameters<Metrics['denied']>[0]) => metrics.denied(level),
  }
  const ledgerNow = () => {
    const { nowMs, doubt } = clock.look()
    return { nowMs, todayMs: doubt === null ? nowMs : null }
  }
  const overflow = readOverflowIds()
  const directory = new ClientDirectory(overflow, now)
  loadClients(database, directory)
  const services: Services = {
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
    audit: new AuditTrail({ commits, mac, now }),
    system: new SystemService({
      ...shared,
      version,
      dataDirectory: config.dataDir,
      storePath: running.storePath,
      walBytesMax,
      schemaVersion: currentSchemaVersion,
      reserveBytes: config.store.reserveMb * 1024 * 1024,
      masterKeySource: source.describe,
      socketPath: config.socket.path,
      queue,
      copyStore: async (path) => void (await database.backup(path, { progress: () => backupPages })),
      connections: () => ({ connections: listener?.connections ?? 0, inFlight: listener?.inFlight ?? 0 }),
    }),
  }
  const refusals = new RefusalLimiter(undefined, () => services.system.diskLow())
  const document = openRpcDocument(methods, version)
  const dispatcher = new Dispatcher({
    methods,
    services,
    commits,
    handOver,
    log,
    metrics,
    diskLow: () => services.system.diskLow(),
    discover: () => document,
  })
  const hasAdminSocket =
    config.socket.adminPath !== null || handed.some(({ name }) => name === 'purser-admin')
  const rules: IdentityRules = {
    ownUid: process.getuid!(),
    overflow,
    hasAdminSocket,
    directory,
    admitsRefusal: (refused) => refusals.admit(refused),
  }
  listener = new Listener({
    dispatcher,
    handOver,
    identify: (peer, groups, door) => identify(peer, groups, door, rules),
    refused: (peer) => {
      if (refusals.admit({ role: 'none', uid: peer.uid, clientId: null }))
        void commits
          .submit(tell('access_denied', 'denied', { error: 'Forbidden', door: 'admin' }, peer))
          .catch(() => undefined)
    },
    afterTurn: () => commits.flush(),
  })
  const written = await commits.submit(started(running.created, now())).then(
    () => true,
    () => false,
  )
  if (!written) {
    throw new StartError(
      'storeUnusable',
      'the store cannot be written',
      'free disk space or repair the store, then start again',
    )
  }
  try {
    const boundary = isBoundary(directory, overflow) ? 'uid' : 'none'
    announce(config, env, await openSockets(config, handed, listener), boundary)
  } catch (error) {
    // One of two sockets may listen already, and would keep the process alive.
    await listener.drain(0)
    throw error
  }
  const timers = startTimers(env, running.watchdogMs, {
    commits,
    refusals,
    writer,
    log,
    watch,
    freeze,
    ledgerNow,
  })
  return {
    stop: async (reason) => {
      notify(env, { stopping: true })
      await listener.drain(drainMs)
      for (const timer of timers) clearInterval(timer)
      // What nobody waits for any more must not write behind the last entry: its audit key is about to go.
      await queue.stop()
      await tellSkipped(commits, refusals)
      await commits.idle()
      await freeze.writeUnwritten(Number.POSITIVE_INFINITY).catch(() => undefined)
      if (freeze.unwritten > 0)
        log.error({ freezes: freeze.unwritten }, 'freezes could not be written: they end with this daemon')
      const stopped = commits.submit(tell('daemon_stopped', 'ok', { reason }, null)).catch(() => undefined)
      await Promise.all([stopped, commits.close()])
      logHead(log, writer)
      cache.clear()
      await vault.close()
      database.close()
    },
  }
}

function loadClients(database: Database.Database, directory: ClientDirectory): void {
  try {
    for (const row of statementsOf(database).clientsPage(0, Number.MAX_SAFE_INTEGER))
      directory.put(entryOf(row))
  } catch (error) {
    throw new StartError('storeUnusable', 'a client entry of the store is damaged', 'restore a backup', error)
  }
}

/** Whether some bot has a uid or gid other than the daemon's, which keeps it from the daemon's files and memory. */
function isBoundary(directory: ClientDirectory, overflow: OverflowIds): boolean {
  const [ownUid, ownGid] = [process.getuid!(), process.getgid!()]
  return directory.current().some(({ uid, gid }) => {
    if (uid !== null) return uid !== ownUid && uid !== overflow.uid
    return gid !== null && gid !== ownGid && gid !== overflow.gid
  })
}

/** The first entry of a run. Holds that went over while nobody could capture them are kept one more time, once. */
function started(storeCreated: boolean, nowMs: number) {
  return function* (unit: { audit(entry: AuditEntry): void }) {
    const holdsKept = yield* perform('reservationsKeep', nowMs)
    yield* tell('daemon_started', 'ok', { version, storeCreated, holdsKept }, null)(unit)
  }
}

/**
 * The latest wall-clock time the store holds. The ledger's day is one too: a start in doubt is an entry of the audit log
 * itself, and the next start must not take that one's time for right.
 */
function lastStoredMs(database: Database.Database): number | null {
  const statements = statementsOf(database)
  const head = statements.auditHead()
  const atMs = head === undefined ? undefined : statements.auditRange(head.seq, 1)[0]?.atMs
  return atMs === undefined ? null : Math.max(atMs, statements.ledgerGet().day * dayMs)
}

function tell(
  action: AuditEntry['action'],
  outcome: AuditEntry['outcome'],
  details: AuditEntry['details'],
  peer: AuditEntry['peer'],
) {
  return function* (unit: { audit(entry: AuditEntry): void }): Generator<never, void, unknown> {
    unit.audit({ action, outcome, userId: null, credentialId: null, details, peer, client: null })
  }
}

async function tellSkipped(commits: GroupCommit<AuditEntry>, refusals: RefusalLimiter): Promise<void> {
  await refusals.tellSkipped(({ clientId, count }) => {
    const details = clientId === null ? { error: 'Forbidden', count } : { asClient: clientId, count }
    return commits.submit(tell('access_denied', 'denied', details, null))
  })
}

/** Logs failures of the store, some of them for all: `since` counts those that were left out before. */
function storeFailureLog(log: Logger): (error: unknown) => void {
  let toldAtMs = Number.NEGATIVE_INFINITY
  let since = 0
  return (error) => {
    const nowMs = performance.now()
    if (nowMs - toldAtMs < failureLogMs) {
      since++
      return
    }
    const { code, cause } = error as { code?: string; cause?: { code?: string } }
    log.error({ code: code ?? cause?.code, reason: String(cause ?? error), since }, 'the store failed')
    toldAtMs = nowMs
    since = 0
  }
}

function logHead(log: Logger, writer: AuditWriter): void {
  const head = writer.committedHead
  if (head !== null) log.info({ seq: head.seq, hash: head.hash.toString('hex') }, 'audit head')
}

async function openSockets(
  config: Config,
  handed: readonly ActivatedSocket[],
  listener: Listener,
): Promise<{ path: string; adminPath: string | null }> {
  if (handed.length > 0) {
    for (const { fd, name } of handed) await listener.listen({ fd }, doorOf(name))
    const pathOf = (door: Door) => handed.find(({ name }) => doorOf(name) === door)?.path ?? null
    return { path: pathOf('main') ?? config.socket.path, adminPath: pathOf('admin') }
  }
  await listener.listen({ path: config.socket.path, mode: config.socket.mode }, 'main')
  if (config.socket.adminPath !== null)
    await listener.listen({ path: config.socket.adminPath, mode: 0o600 }, 'admin')
  return { path: config.socket.path, adminPath: config.socket.adminPath }
}

function doorOf(name: ActivatedSocket['name']): Door {
  return name === 'purser-admin' ? 'admin' : 'main'
}

function startTimers(
  env: Record<string, string | undefined>,
  watchdogMs: number | null,
  parts: {
    commits: GroupCommit<AuditEntry>
    refusals: RefusalLimiter
    writer: AuditWriter
    log: Logger
    watch: Watch
    freeze: FreezeService
    ledgerNow: () => { todayMs: number | null }
  },
): NodeJS.Timeout[] {
  const { commits, refusals, writer, log, watch, freeze, ledgerNow } = parts
  const lookAtCredentials = () => void watch.credentials().catch(() => undefined)
  lookAtCredentials()
  const timers = [
    setInterval(() => void tellSkipped(commits, refusals), refusalsMs),
    setInterval(() => logHead(log, writer), headLogMs),
    setInterval(() => {
      const { todayMs } = ledgerNow()
      if (todayMs !== null) void sweepExpired(commits, todayMs).catch(() => undefined)
      void freeze.writeUnwritten().catch(() => undefined)
    }, sweepMs),
    setInterval(lookAtCredentials, watchMs),
  ]
  if (watchdogMs !== null) timers.push(setInterval(() => notify(env, { watchdog: true }), watchdogMs))
  return timers
}

/** The ready line, whatever the log level, and READY=1 for systemd. */
function announce(
  config: Config,
  env: Record<string, string | undefined>,
  sockets: { path: string; adminPath: string | null },
  boundary: 'uid' | 'none',
): void {
  createLogger('info').info(
    {
      socket: sockets.path,
      adminSocket: sockets.adminPath,
      boundary,
      version,
      pid: process.pid,
      dataDirectory: config.dataDir,
    },
    'ready',
  )
  notify(env, { ready: true, status: `serving on ${sockets.path}` })
}
