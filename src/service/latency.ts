import type { Metric } from 'prom-client'

/** Upper bounds of the buckets, seconds: from a cached retrieve to a queue of derivations. */
const bounds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

type Series = {
  readonly method: string
  readonly outcome: string
  readonly buckets: Float64Array
  sum: number
  count: number
}

/**
 * Request latencies as a histogram that prom-client's registry can read. Its own histogram checks and hashes the labels
 * at every observation, a tenth of a cached retrieve; here a request costs a look-up and an addition.
 */
export class LatencyHistogram {
  readonly name = 'purser_request_seconds'
  readonly help = 'time from a request being taken up to its answer being ready'
  readonly type = 'histogram'
  readonly aggregator = 'sum'
  readonly #series = new Map<string, Map<string, Series>>()

  /** This object as what the registry takes: it asks for `name` and `get` alone. */
  asMetric(): Metric {
    return this as unknown as Metric
  }

  observe(method: string, outcome: string, seconds: number): void {
    let outcomes = this.#series.get(method)
    if (outcomes === undefined) {
      outcomes = new Map()
      this.#series.set(method, outcomes)
    }
    let series = outcomes.get(outcome)
    if (series === undefined) {
      series = { method, outcome, buckets: new Float64Array(bounds.length), sum: 0, count: 0 }
      outcomes.set(outcome, series)
    }
    series.sum += seconds
    series.count++
    for (let index = 0; index < bounds.length; index++) {
      if (seconds <= bounds[index]!) {
        series.buckets[index]!++
        return
      }
    }
  }

  /** What prom-client's registry prints. */
  get(): Promise<object> {
    const values = [...this.#series.values()].flatMap((outcomes) => [...outcomes.values()].flatMap(valuesOf))
    const { name, help, type, aggregator } = this
    return Promise.resolve({ name, help, type, aggregator, values })
  }

  reset(): void {
    this.#series.clear()
  }
}

function valuesOf({ method, outcome, buckets, sum, count }: Series): object[] {
  const name = 'purser_request_seconds'
  const labels = { method, outcome }
  let below = 0
  const rows = bounds.map((bound, index) => {
    below += buckets[index]!
    return { labels: { le: bound, ...labels }, value: below, metricName: `${name}_bucket` }
  })
  return [
    ...rows,
    { labels: { le: '+Inf', ...labels }, value: count, metricName: `${name}_bucket` },
    { labels, value: sum, metricName: `${name}_sum` },
    { labels, value: count, metricName: `${name}_count` },
  ]
}
