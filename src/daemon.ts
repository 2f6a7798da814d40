import type { ClientDirectory, OverflowIds } from './access/directory.ts'
import type { IdentityRules } from './access/identity.ts'
import { RefusalLimiter } from './access/refusals.ts'
import { identify } from './access/session.ts'
import type { AuditEntry } from './audit/entry.ts'
import { canCollectGarbage, collectInside } from './collect-garbage.ts'
import type { Config } from './config.ts'
import { type Core, makeCore } from './daemon/core.ts'
import { logHead, startTimers, tell, tellSkipped } from './daemon/housekeeping.ts'
import { makeServices } from './daemon/services.ts'
import { checkHanded, hasAdminSocket, openSockets } from './daemon/sockets.ts'
import { firstRows, lastStoredMs, loadClients, type Opened, openWithKey } from './daemon/store.ts'
import { StartError } from './errors.ts'
import { ConfiguredSource } from './keysource/configured-source.ts'
import type { EnvironmentKey } from './keysource/environment.ts'
import { dayOf } from './ledger/clock.ts'
import type { Logger } from './log.ts'
import { createLogger } from './log.ts'
import { Dispatcher } from './rpc/dispatcher.ts'
import { HandOver } from './rpc/hand-over.ts'
import type { Services } from './rpc/method.ts'
import { methods } from './rpc/methods/index.ts'
import { openRpcDocument } from './rpc/open-rpc.ts'
import type { SealingJobs } from './service/sealing-jobs.ts'
import { Unsealing } from './service/unsealing.ts'
import type { Engine } from './store/operations.ts'
import { perform } from './store/operations.ts'
import { makeStore, openStore, prepareDataDirectory } from './store/sqlite/open.ts'
import { StoreSlot } from './store/sqlite/store-slot.ts'
import {
  disableCoreDumps,
  lockMemory,
  lowerWorkerPriority,
  sealAgainstWritableCode,
  setNotDumpable,
  withMemoryUnlocked,
} from './transport/libc.ts'
import { Listener } from './transport/listener.ts'
import type { ActivatedSocket } from './transport/systemd.ts'
import { activatedSockets, notify, watchdogIntervalMs } from './transport/systemd.ts'
import { version } from './version.ts'

/** Connections that have not taken their answers after this are cut, so that a stop takes less than 5 s. */
const drainMs = 3500
/** Argon2 runs on threads at this nice value, so that the event loop gets a core whenever it wants one. */
const workerNice = 10

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
  /** Resolves where the daemon must not go on, for what came only after its start; the caller stops it. */
  readonly failed: Promise<StartError>
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
  const source = new ConfiguredSource(config, env, environmentKey)
  const opened = await openWithKey(config, source, log)
  const slot = new StoreSlot(opened.store, dayOf(Date.now()))
  try {
    return await serve(config, env, { opened, slot, source, handed, watchdogMs, log }, options)
  } catch (error) {
    opened.keyring?.close()
    slot.close()
    throw error
  }
}

/** Before any secret is in memory. What a host cannot do is a warning: the daemon still works. */
function harden(log: Logger): void {
  process.umask(0o077)
  setNotDumpable()
  disableCoreDumps()
  if (process.execArgv.includes('--jitless')) {
    const sealed = sealAgainstWritableCode()
    const locked = lockMemory()
    collectInside(withMemoryUnlocked)
    log.info({ memory: locked, code: sealed }, 'hardened')
    if (locked !== 'locked')
      log.warn(
        { reason: locked },
        'memory is not locked: what requests and answers hold may be swapped to disk',
      )
  }
  if (!canCollectGarbage())
    log.warn('node runs without --expose-gc: a seal leaves what it drops to the collector')
  try {
    lowerWorkerPriority(workerNice)
  } catch (error) {
    log.warn({ reason: String(error) }, 'the priority of worker threads could not be lowered')
  }
}

type Running = {
  readonly opened: Opened
  readonly slot: StoreSlot
  readonly source: ConfiguredSource
  readonly handed: readonly ActivatedSocket[]
  readonly watchdogMs: number | null
  readonly log: Logger
}

async function serve(
  config: Config,
  env: Record<string, string | undefined>,
  running: Running,
  options: DaemonOptions,
): Promise<Daemon> {
  const { opened, slot, source, handed, log } = running
  let listener: Listener | null = null
  let jobs: SealingJobs | null = null
  const connections = () => ({ connections: listener?.connections ?? 0, inFlight: listener?.inFlight ?? 0 })
  const core = makeCore({
    config,
    engine: options.wrapEngine?.(slot) ?? slot,
    hasStore: () => slot.isMade,
    lastStoredMs: opened.store === null ? null : lastStoredMs(opened.store),
    connections,
    toSealAnew: () => jobs?.left ?? 0,
    log,
  })
  const { commits, sealing, clock, cache, lockedMemory } = core
  lockedMemory.checkRoom(config.cache.ttlSeconds === 0 ? 0 : cache.maxEntries)
  const ledgerNow = () => {
    const { nowMs, doubt } = clock.look()
    return { nowMs, todayMs: doubt === null ? nowMs : null }
  }
  const makeStore = (masterKey: Buffer) => makeMissingStore(config, slot, core, masterKey)
  const unsealing = new Unsealing({ sealing, commits, source, log, makeStore })
  const services = makeServices(core, { config, slot, source, unsealing, ledgerNow, log, connections })
  const { sealingJobs } = services
  jobs = sealingJobs
  const refusals = new RefusalLimiter(undefined, () => services.system.diskLow())
  if (opened.store !== null) loadClients(opened.store, core.directory)
  listener = makeListener(core, services, { config, handed, refusals, log })
  if (opened.keyring !== null) sealing.start(opened.keyring)
  if (opened.store !== null) {
    await tellStart(core, { storeCreated: opened.store.created, sealed: sealing.sealed })
  }
  const sockets = await openSockets(config, handed, listener)
  announce(config, env, sockets, { sealed: sealing.sealed, boundary: boundaryOf(core) })
  if (opened.keyring !== null) sealing.resumed('source', opened.keyring.openedWith)
  sealing.register({
    resume: () => void notify(env, { status: statusText(sockets.path, false) }),
    pause: () => void notify(env, { status: statusText(sockets.path, true) }),
  })
  if (opened.waitsForSource) void unsealing.retrySource()
  const timers = startTimers(env, running.watchdogMs, { ...core, refusals, log, ledgerNow })
  const stop = async (reason: string) => {
    notify(env, { stopping: true })
    sealing.stop()
    await listener.drain(drainMs)
    for (const timer of timers) clearInterval(timer)
    void sealingJobs.pause()
    await finishWriting(core, { refusals, log, reason })
    logHead(log, core.writer)
    core.cache.clear()
    await sealing.close()
    slot.close()
  }
  return { failed: unsealing.failed, stop }
}

/** Makes the store of a daemon that was started without one; null, with nothing touched, where its name is taken. */
async function makeMissingStore(
  config: Config,
  slot: StoreSlot,
  { commits }: Core,
  masterKey: Buffer,
): Promise<AuditEntry | null> {
  if (!makeStore(config.dataDir, firstRows(masterKey))) return null
  const store = openStore(config.dataDir, null)
  await commits.idle()
  slot.adopt(store)
  return startEntry({ storeCreated: true, sealed: true, holdsKept: 0 })
}

function makeListener(
  { commits, metrics, directory, overflow }: Core,
  services: Services,
  parts: {
    config: Config
    handed: readonly ActivatedSocket[]
    refusals: RefusalLimiter
    log: Logger
  },
): Listener {
  const { config, handed, refusals, log } = parts
  const handOver = new HandOver()
  // Made when somebody asks for it: it takes 10 ms, a twentieth of a start.
  let document: unknown
  const dispatcher = new Dispatcher({
    methods,
    services,
    commits,
    handOver,
    log,
    metrics,
    diskLow: () => services.system.diskLow(),
    discover: () => {
      document ??= openRpcDocument(methods, version)
      return document
    },
  })
  const rules: IdentityRules = {
    ownUid: process.getuid!(),
    overflow,
    hasAdminSocket: config.socket.adminPath !== null || hasAdminSocket(handed),
    directory,
    admitsRefusal: (refused) => refusals.admit(refused),
  }
  return new Listener({
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
}

/** What nobody waits for any more must not write behind the last entry: its audit key is about to go. */
async function finishWriting(
  { queue, commits, freeze }: Core,
  { refusals, log, reason }: { refusals: RefusalLimiter; log: Logger; reason: string },
): Promise<void> {
  await queue.stop()
  await tellSkipped(commits, refusals)
  await commits.idle()
  await freeze.writeUnwritten(Number.POSITIVE_INFINITY).catch(() => undefined)
  if (freeze.unwritten > 0)
    log.error({ freezes: freeze.unwritten }, 'freezes could not be written: they end with this daemon')
  const stopped = commits.submit(tell('daemon_stopped', 'ok', { reason }, null)).catch(() => undefined)
  await Promise.all([stopped, commits.close()])
}

/** `uid` where some bot has a uid or gid other than the daemon's, which keeps it from the daemon's files and memory. */
function boundaryOf({
  directory,
  overflow,
}: {
  directory: ClientDirectory
  overflow: OverflowIds
}): 'uid' | 'none' {
  const [ownUid, ownGid] = [process.getuid!(), process.getgid!()]
  const isOther = directory.current().some(({ uid, gid }) => {
    if (uid !== null) return uid !== ownUid && uid !== overflow.uid
    return gid !== null && gid !== ownGid && gid !== overflow.gid
  })
  return isOther ? 'uid' : 'none'
}

type Start = { readonly storeCreated: boolean; readonly sealed: boolean }

/** The first entry of a run. Holds that went over while nobody could capture them are kept one more time, once. */
async function tellStart({ commits, now }: Core, start: Start): Promise<void> {
  const nowMs = now()
  try {
    await commits.submit(function* (unit) {
      const holdsKept = yield* perform('reservationsKeep', nowMs)
      unit.audit(startEntry({ ...start, holdsKept }))
    })
  } catch (error) {
    throw new StartError(
      'storeUnusable',
      'the store cannot be written',
      'free disk space or repair the store, then start again',
      error,
    )
  }
}

function startEntry(start: Start & { readonly holdsKept: number }): AuditEntry {
  const { storeCreated, holdsKept, sealed } = start
  const details = { version, storeCreated, holdsKept, sealed }
  const nobody = { userId: null, credentialId: null, peer: null, client: null }
  return { action: 'daemon_started', outcome: 'ok', details, ...nobody }
}

/** The ready line, whatever the log level, and READY=1 for systemd. */
function announce(
  config: Config,
  env: Record<string, string | undefined>,
  sockets: { path: string; adminPath: string | null },
  { sealed, boundary }: { readonly sealed: boolean; readonly boundary: 'uid' | 'none' },
): void {
  createLogger('info').info(
    {
      socket: sockets.path,
      adminSocket: sockets.adminPath,
      boundary,
      sealed,
      version,
      pid: process.pid,
      dataDirectory: config.dataDir,
    },
    'ready',
  )
  notify(env, { ready: true, status: statusText(sockets.path, sealed) })
}

/** What `systemctl status` shows. */
function statusText(socketPath: string, sealed: boolean): string {
  return sealed ? `sealed, waiting for system.unseal on ${socketPath}` : `serving on ${socketPath}`
}
