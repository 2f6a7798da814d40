import prom from 'prom-client'
import type { Level } from '../ledger/account.ts'
import { LatencyHistogram } from './latency.ts'

/** Figures that other parts keep and that are read when somebody asks. */
export type MetricSources = {
  readonly version: string
  readonly commits: () => { commits: number; jobs: number; failures: number; largestBatch: number }
  readonly cache: () => { hits: number; misses: number; size: number }
  readonly derivations: () => { running: number; waiting: number }
  readonly decryptions: () => number
  readonly connections: () => { connections: number; inFlight: number }
  readonly auditHead: () => number
  readonly frozen: () => boolean
  readonly sealed: () => boolean
  readonly toSealAnew: () => number
  readonly secureMemory: () => { secureBytes: number; unlockedBytes: number }
}

/** How many accounts have used up `percent` or more of their limit at `level`. */
export type LimitsUsed = { readonly level: Level; readonly percent: number; readonly accounts: number }

/** The daemon's metrics in the Prometheus text format, in a registry of its own. */
export class Metrics {
  readonly #registry = new prom.Registry()
  readonly #requests = new LatencyHistogram()
  readonly #denials: prom.Counter<'level'>
  readonly #thresholds: prom.Counter<'level' | 'percent'>
  readonly #expiring: prom.Gauge<'days'>
  readonly #oldEnvelopes: prom.Gauge

  constructor(sources: MetricSources) {
    const registers = [this.#registry]
    this.#registry.registerMetric(this.#requests.asMetric())
    this.#denials = new prom.Counter({
      name: 'purser_spend_denials_total',
      help: 'checks and reserves refused, by the level that refused',
      labelNames: ['level'],
      registers,
    })
    this.#thresholds = new prom.Counter({
      name: 'purser_limit_thresholds_total',
      help: 'times a limit was used up to this share, once a day and account',
      labelNames: ['level', 'percent'],
      registers,
    })
    this.#expiring = new prom.Gauge({
      name: 'purser_credentials_expiring',
      help: 'unrevoked credentials that expire within this many days',
      labelNames: ['days'],
      registers,
    })
    this.#oldEnvelopes = new prom.Gauge({
      name: 'purser_envelopes_old',
      help: 'unrevoked credentials sealed more than 90 days ago: rotate them',
      registers,
    })
    this.#readings(sources)
  }

  /** Counts a request; `outcome` is ok or the error's type. */
  request(method: string, outcome: string, seconds: number): void {
    this.#requests.observe(method, outcome, seconds)
  }

  denied(level: Level): void {
    this.#denials.inc({ level })
  }

  threshold(level: Level, percent: number): void {
    this.#thresholds.inc({ level, percent: String(percent) })
  }

  /** From now on tells what `read` answers when somebody asks. No user is named: that is what `spend.usage` is for. */
  limitsUsed(read: () => readonly LimitsUsed[]): void {
    new prom.Gauge({
      name: 'purser_limits_used',
      help: 'accounts that have used a limit up to this share, as of their last change',
      labelNames: ['level', 'percent'],
      registers: [this.#registry],
      collect() {
        for (const { level, percent, accounts } of read())
          this.set({ level, percent: String(percent) }, accounts)
      },
    })
  }

  credentials(expiring: ReadonlyMap<number, number>, oldEnvelopes: number): void {
    for (const [days, count] of expiring) this.#expiring.set({ days: String(days) }, count)
    this.#oldEnvelopes.set(oldEnvelopes)
  }

  async text(): Promise<{ contentType: string; text: string }> {
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() }
  }

  #readings(sources: MetricSources): void {
    const gauge = (name: string, help: string, read: () => number) =>
      new prom.Gauge({
        name: `purser_${name}`,
        help,
        registers: [this.#registry],
        collect() {
          this.set(read())
        },
      })
    const counter = (name: string, help: string, read: () => number) =>
      new prom.Counter({
        name: `purser_${name}_total`,
        help,
        registers: [this.#registry],
        collect() {
          this.reset()
          this.inc(read())
        },
      })
    counter('commits', 'commits synced to disk', () => sources.commits().commits)
    counter(
      'commit_jobs',
      'transactions in those commits; divided by them, the mean batch',
      () => sources.commits().jobs,
    )
    counter('commit_failures', 'commits that failed', () => sources.commits().failures)
    gauge('commit_batch_largest', 'most transactions in one commit', () => sources.commits().largestBatch)
    counter('cache_hits', 'retrieves served from memory', () => sources.cache().hits)
    counter('cache_misses', 'retrieves that found nothing in memory', () => sources.cache().misses)
    gauge('cache_entries', 'opened credentials in memory', () => sources.cache().size)
    counter('decryptions', 'decryptions counted against a window', () => sources.decryptions())
    gauge('derivations_running', 'key derivations on the thread pool', () => sources.derivations().running)
    gauge('derivations_waiting', 'key derivations waiting for it', () => sources.derivations().waiting)
    gauge('connections', 'open connections', () => sources.connections().connections)
    gauge('requests_in_flight', 'requests not yet answered', () => sources.connections().inFlight)
    gauge('audit_head', 'sequence number of the last audit entry', () => sources.auditHead())
    gauge('frozen', '1 while everything is frozen', () => (sources.frozen() ? 1 : 0))
    gauge('sealed', '1 while there is no master key in memory', () => (sources.sealed() ? 1 : 0))
    gauge('credentials_to_seal_anew', 'credentials that a rotation or reseal has yet to seal anew', () =>
      sources.toSealAnew(),
    )
    gauge(
      'secure_memory_bytes',
      'memory for keys and opened credentials',
      () => sources.secureMemory().secureBytes,
    )
    gauge(
      'secure_memory_unlocked_bytes',
      'of that, what may be swapped to disk',
      () => sources.secureMemory().unlockedBytes,
    )
    gauge('resident_bytes', 'resident memory of the daemon', () => process.memoryUsage.rss())
    const info = new prom.Gauge({
      name: 'purser_info',
      help: 'always 1; the version is a label',
      labelNames: ['version'],
      registers: [this.#registry],
    })
    info.set({ version: sources.version }, 1)
  }
}
