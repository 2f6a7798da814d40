/** What `purser top` reads out of `system.metrics`, the Prometheus text format. */

/** Counters and gauges at one moment. */
export type Sample = {
  /** Monotonic milliseconds. */
  readonly atMs: number
  /** Requests answered since the daemon's start, by method. */
  readonly requests: ReadonlyMap<string, number>
  /** Those of them that were answered with an error. */
  readonly refused: number
  readonly commits: number
  readonly connections: number
  readonly inFlight: number
}

/** What happened between two samples, per second. */
export type Rates = {
  readonly requests: number
  readonly refused: number
  readonly commits: number
  /** Busiest first; methods nobody called are left out. */
  readonly methods: readonly { readonly method: string; readonly perSecond: number }[]
}

const line = /^(purser_[a-z_]+)(?:\{(.*)\})? (\S+)$/
const label = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g

/** Takes the figures out of the text; what is missing there counts as 0. */
export function parseMetrics(text: string, atMs: number): Sample {
  const requests = new Map<string, number>()
  const plain = new Map<string, number>()
  let refused = 0
  for (const row of text.split('\n')) {
    const [, name = '', labels, figure] = line.exec(row) ?? []
    const value = Number(figure)
    if (!Number.isFinite(value)) continue
    if (labels === undefined) plain.set(name, value)
    if (name !== 'purser_request_seconds_count' || labels === undefined) continue
    const byName = new Map([...labels.matchAll(label)].map(([, key, text]) => [key, text]))
    const method = byName.get('method') ?? ''
    requests.set(method, (requests.get(method) ?? 0) + value)
    if (byName.get('outcome') !== 'ok') refused += value
  }
  return {
    atMs,
    requests,
    refused,
    commits: plain.get('purser_commits_total') ?? 0,
    connections: plain.get('purser_connections') ?? 0,
    inFlight: plain.get('purser_requests_in_flight') ?? 0,
  }
}

/** The rates between two samples, without the `own` requests that top itself made between them, by method. */
export function ratesBetween(before: Sample, after: Sample, own: ReadonlyMap<string, number>): Rates {
  const seconds = Math.max((after.atMs - before.atMs) / 1000, 0.001)
  const methods: { method: string; perSecond: number }[] = []
  let requests = 0
  for (const [method, count] of after.requests) {
    const made = count - (before.requests.get(method) ?? 0) - (own.get(method) ?? 0)
    if (made <= 0) continue
    requests += made
    methods.push({ method, perSecond: made / seconds })
  }
  methods.sort((one, two) => two.perSecond - one.perSecond || (one.method < two.method ? -1 : 1))
  return {
    requests: requests / seconds,
    refused: Math.max(0, after.refused - before.refused) / seconds,
    commits: Math.max(0, after.commits - before.commits) / seconds,
    methods,
  }
}
