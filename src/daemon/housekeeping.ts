import type { RefusalLimiter } from '../access/refusals.ts'
import type { AuditEntry } from '../audit/entry.ts'
import type { AuditWriter } from '../audit/writer.ts'
import type { Logger } from '../log.ts'
import type { FreezeService } from '../service/freeze.ts'
import type { LockedMemory } from '../service/locked-memory.ts'
import { sweepExpired } from '../service/spending/expiry.ts'
import { type Watch, watchMs } from '../service/watch.ts'
import type { GroupCommit } from '../store/group-commit.ts'
import { notify } from '../transport/systemd.ts'

/** How often the end of the audit chain is written to the log, where a truncated tail shows. */
const headLogMs = 600_000
/** How often refusals that were only counted become an entry. */
const refusalsMs = 60_000
/** How often holds that are over are freed without a decision. */
const sweepMs = 1000
/** Commits that fail are logged this often at most: there can be a thousand a second, on the disk that is full. */
const failureLogMs = 1000
/** How often it is looked whether opened secrets lie in locked memory. */
const lockedMemoryMs = 60_000

/** The transaction that writes one entry of the daemon's own, or of a caller who has no request. */
export function tell(
  action: AuditEntry['action'],
  outcome: AuditEntry['outcome'],
  details: AuditEntry['details'],
  peer: AuditEntry['peer'],
) {
  return function* (unit: { audit(entry: AuditEntry): void }): Generator<never, void, unknown> {
    unit.audit({ action, outcome, userId: null, credentialId: null, details, peer, client: null })
  }
}

/** Writes how many refusals were only counted, if any were. */
export async function tellSkipped(commits: GroupCommit<AuditEntry>, refusals: RefusalLimiter): Promise<void> {
  await refusals.tellSkipped(({ clientId, count }) => {
    const details = clientId === null ? { error: 'Forbidden', count } : { asClient: clientId, count }
    return commits.submit(tell('access_denied', 'denied', details, null))
  })
}

/** Logs failures of the store, some of them for all: `since` counts those that were left out before. */
export function storeFailureLog(log: Logger): (error: unknown) => void {
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

/** Writes the end of the audit chain to the log. */
export function logHead(log: Logger, writer: AuditWriter): void {
  const head = writer.committedHead
  if (head !== null) log.info({ seq: head.seq, hash: head.hash.toString('hex') }, 'audit head')
}

/** Everything that happens without a request, sealed or not. */
export function startTimers(
  env: Record<string, string | undefined>,
  watchdogMs: number | null,
  parts: {
    commits: GroupCommit<AuditEntry>
    refusals: RefusalLimiter
    writer: AuditWriter
    log: Logger
    watch: Watch
    freeze: FreezeService
    lockedMemory: LockedMemory
    ledgerNow: () => { todayMs: number | null }
  },
): NodeJS.Timeout[] {
  const { commits, refusals, writer, log, watch, freeze, lockedMemory, ledgerNow } = parts
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
    setInterval(() => void lockedMemory.look(), lockedMemoryMs),
  ]
  if (watchdogMs !== null) timers.push(setInterval(() => notify(env, { watchdog: true }), watchdogMs))
  return timers
}
