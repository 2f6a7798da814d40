import { describe, expect, test } from 'vitest'
import { parseMetrics, ratesBetween } from '../../../src/cli/top/metrics.ts'

const text = (reserves: number, refused: number, pings: number, commits: number): string =>
  `# HELP purser_request_seconds time
# TYPE purser_request_seconds histogram
purser_request_seconds_bucket{le="0.001",method="spend.reserve",outcome="ok"} 7
purser_request_seconds_sum{method="spend.reserve",outcome="ok"} 0.25
purser_request_seconds_count{method="spend.reserve",outcome="ok"} ${reserves}
purser_request_seconds_count{method="spend.reserve",outcome="SpendLimitExceeded"} ${refused}
purser_request_seconds_count{method="system.ping",outcome="ok"} ${pings}
purser_commits_total ${commits}
purser_connections 3
purser_requests_in_flight 1
purser_info{version="0.1.0 \\"x\\""} 1
other_total 99
not a line
purser_connections NaN
`

describe('parseMetrics', () => {
  test('takes counts by method, and what was refused', () => {
    expect(parseMetrics(text(10, 4, 2, 8), 5)).toEqual({
      atMs: 5,
      requests: new Map([
        ['spend.reserve', 14],
        ['system.ping', 2],
      ]),
      refused: 4,
      commits: 8,
      connections: 3,
      inFlight: 1,
    })
  })

  test('what is missing is 0', () => {
    expect(parseMetrics('', 0)).toMatchObject({ requests: new Map(), commits: 0, connections: 0 })
  })
})

describe('ratesBetween', () => {
  test('is per second, busiest first, without what top itself asked', () => {
    const before = parseMetrics(text(10, 4, 2, 8), 1000)
    const after = parseMetrics(text(30, 14, 12, 20), 3000)
    expect(ratesBetween(before, after, new Map([['system.ping', 8]]))).toEqual({
      requests: 16,
      refused: 5,
      commits: 6,
      methods: [
        { method: 'spend.reserve', perSecond: 15 },
        { method: 'system.ping', perSecond: 1 },
      ],
    })
  })

  test('never falls below 0 nor divides by it', () => {
    const sample = parseMetrics(text(10, 4, 2, 8), 1000)
    const less = parseMetrics(text(1, 0, 0, 0), 1000)
    expect(ratesBetween(sample, less, new Map([['system.ping', 5]]))).toEqual({
      requests: 0,
      refused: 0,
      commits: 0,
      methods: [],
    })
  })
})
