import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { awayFromMidnight, SpendFlow } from '../ledger/spend-flow.ts'

let flow: SpendFlow
beforeAll(async () => {
  await awayFromMidnight(20_000)
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

type Sample = { name: string; labels: Record<string, string>; value: number }
type Exposition = { types: Map<string, string>; helps: Set<string>; samples: Sample[] }

/** Reads the Prometheus text format (0.0.4) and throws at the first line that is none of it. */
function parse(text: string): Exposition {
  const read: Exposition = { types: new Map(), helps: new Set(), samples: [] }
  if (!text.endsWith('\n')) throw new Error('the last line does not end')
  for (const line of text.split('\n')) {
    const help = /^# HELP ([a-zA-Z_:][\w:]*) (?:[^\\\n]|\\\\|\\n)*$/.exec(line)
    const type = /^# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line)
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/.exec(line)
    if (help !== null) read.helps.add(help[1]!)
    else if (type !== null) {
      if (read.types.has(type[1]!)) throw new Error(`typed twice: ${line}`)
      read.types.set(type[1]!, type[2]!)
    } else if (sample !== null) {
      const labels: Record<string, string> = {}
      const rest = (sample[2] ?? '').replace(
        /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)",?/g,
        (_all, name, value) => {
          labels[name] = value
          return ''
        },
      )
      if (rest !== '') throw new Error(`no labels: ${line}`)
      read.samples.push({ name: sample[1]!, labels, value: Number(sample[3]!.replace('Inf', 'Infinity')) })
    } else if (line !== '') throw new Error(`not of the format: ${line}`)
  }
  return read
}

async function metrics(): Promise<
  Exposition & { value: (name: string, labels?: Record<string, string>) => number }
> {
  const { contentType, text } = await flow.call('system.metrics')
  expect(contentType).toMatch(/^text\/plain; version=0\.0\.4/)
  const read = parse(text)
  const value = (name: string, labels: Record<string, string> = {}) =>
    read.samples
      .filter(
        (sample) =>
          sample.name === name &&
          Object.entries(labels).every(([key, label]) => sample.labels[key] === label),
      )
      .reduce((total, sample) => total + sample.value, 0)
  return { ...read, value }
}

/** The log lines of thresholds of a user, as [level, threshold]. */
function told(userId: string): [string, number][] {
  return flow.purser
    .logs()
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter((line) => line.userId === userId && line.threshold !== undefined)
    .map((line) => [line.level, line.threshold])
}

/** What was told by now is in the pipe, but may not have been read yet. */
async function heard(userId: string, expected: [string, number][]): Promise<void> {
  await vi.waitFor(() => expect(told(userId)).toEqual(expected), { timeout: 5000, interval: 5 })
}

describe('limit thresholds', () => {
  test('80, 95 and 100 percent become a log line and a metric, once each', async () => {
    const before = await metrics()
    const userId = await flow.user({ limits: { perTradeUsd: '100', dailyUsd: '100', exposureUsd: '1000' } })
    const steps: [string, number[]][] = [
      ['79.99', []],
      ['0.01', [80]],
      ['0.01', [80]],
      ['14.98', [80]],
      ['0.01', [80, 95]],
      ['4.99', [80, 95]],
      ['0.01', [80, 95, 100]],
      ['50', [80, 95, 100]],
    ]
    for (const [amountUsd, expected] of steps) {
      await flow.record(userId, amountUsd)
      await heard(
        userId,
        expected.map((percent) => ['user_daily', percent]),
      )
    }
    const after = await metrics()
    for (const percent of ['80', '95', '100']) {
      const labels = { level: 'user_daily', percent }
      const name = 'purser_limit_thresholds_total'
      expect(after.value(name, labels) - before.value(name, labels)).toBe(1)
    }
  })

  test('of a credential, of exposure, and by a hold as well', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '100', dailyUsd: '1000', exposureUsd: '100' } })
    await flow.credential(userId, { dailySpendLimitUsd: '50' })
    const { reservationId } = await flow.reserve(userId, '48', { ttlSeconds: 600 })
    await heard(userId, [['credential_daily', 95]])
    await flow.record(userId, '40')
    const expected: [string, number][] = [
      ['credential_daily', 95],
      ['exposure', 80],
      ['credential_daily', 100],
    ]
    await heard(userId, expected)
    await flow.capture(reservationId)
    await flow.record(userId, '7')
    await heard(userId, [...expected, ['exposure', 95]])
  })

  test('exposure that has fallen below is told of again when it rises; what a day used is not', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '100', dailyUsd: '100', exposureUsd: '100' } })
    const { reservationId } = await flow.reserve(userId, '85', { ttlSeconds: 600 })
    await heard(userId, [
      ['user_daily', 80],
      ['exposure', 80],
    ])
    await flow.void(reservationId)
    const { positionId } = await flow.record(userId, '85')
    await flow.call('positions.close', { userId, positionId })
    await flow.reserve(userId, '10')
    await flow.record(userId, '75')
    await heard(userId, [
      ['user_daily', 80],
      ['exposure', 80],
      ['exposure', 80],
      ['user_daily', 95],
      ['user_daily', 100],
      ['exposure', 80],
    ])
  })

  test('how many accounts are at each is a metric without names, which falls again', async () => {
    const used = async () => {
      const { value } = await metrics()
      return (['user_daily', 'exposure'] as const).map((level) =>
        ['80', '95', '100'].map((percent) => value('purser_limits_used', { level, percent })),
      )
    }
    const before = await used()
    const grown = async () =>
      (await used()).map((counts, level) => counts.map((count, index) => count - before[level]![index]!))
    const userId = await flow.user({ limits: { perTradeUsd: '100', dailyUsd: '100', exposureUsd: '100' } })
    const { reservationId } = await flow.reserve(userId, '10', { ttlSeconds: 600 })
    const { positionId } = await flow.record(userId, '86')
    expect(await grown()).toEqual([
      [1, 1, 0],
      [1, 1, 0],
    ])
    await flow.void(reservationId)
    expect(await grown()).toEqual([
      [1, 0, 0],
      [1, 0, 0],
    ])
    await flow.call('positions.close', { userId, positionId })
    expect(await grown()).toEqual([
      [1, 0, 0],
      [0, 0, 0],
    ])
  })

  test('a refusal reaches none', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '100', dailyUsd: '100', exposureUsd: '100' } })
    await flow.record(userId, '50')
    await flow.refused('spend.reserve', { userId, amountUsd: '50.01' })
    await flow.call('spend.check', { userId, amountUsd: '50' })
    await flow.record(userId, '30')
    await heard(userId, [
      ['user_daily', 80],
      ['exposure', 80],
    ])
  })
})

describe('system.metrics', () => {
  test('is the Prometheus text format: every sample typed and explained, every histogram whole', async () => {
    await flow.refused('spend.reserve', { userId: 'nobody', amountUsd: '1' })
    const { types, helps, samples } = await metrics()
    expect([...types.keys()].sort()).toEqual([...helps].sort())
    const seen = new Set<string>()
    for (const { name, labels } of samples) {
      const base = types.get(name) === undefined ? name.replace(/_(bucket|sum|count)$/, '') : name
      expect(types.get(base), name).toBeDefined()
      expect(name).toMatch(/^purser_/)
      const key = `${name} ${JSON.stringify(labels)}`
      expect(seen.has(key), key).toBe(false)
      seen.add(key)
    }
    const buckets = samples.filter(({ name }) => name === 'purser_request_seconds_bucket')
    const groups = Map.groupBy(buckets, ({ labels }) => `${labels['method']} ${labels['outcome']}`)
    expect(groups.has('spend.reserve NotFound')).toBe(true)
    for (const [key, group] of groups) {
      const bounds = group.map(({ labels }) => Number(labels['le']!.replace('+Inf', 'Infinity')))
      expect(bounds, key).toEqual(bounds.toSorted((a, b) => a - b))
      expect(bounds.at(-1)).toBe(Number.POSITIVE_INFINITY)
      const counts = group.map(({ value }) => value)
      expect(counts, key).toEqual(counts.toSorted((a, b) => a - b))
      const { labels } = group[0]!
      const of = samples.find(
        (sample) =>
          sample.name === 'purser_request_seconds_count' &&
          sample.labels['method'] === labels['method'] &&
          sample.labels['outcome'] === labels['outcome'],
      )
      expect(of?.value).toBe(counts.at(-1))
    }
  })

  test('counts denials by the level that refused', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '50', dailyUsd: '60', exposureUsd: '70' } })
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '10' })
    const before = await metrics()
    await flow.refused('spend.check', { userId, amountUsd: '51' })
    await flow.refused('spend.reserve', { userId, amountUsd: '51' })
    await flow.refused('spend.reserve', { userId, amountUsd: '11' })
    await flow.call('credentials.update', { userId, credentialId, dailySpendLimitUsd: null })
    await flow.record(userId, '40')
    await flow.refused('spend.reserve', { userId, amountUsd: '21' })
    await flow.call('users.put', { userId, limits: { dailyUsd: '600' } })
    await flow.refused('spend.check', { userId, amountUsd: '31' })
    const after = await metrics()
    const denials = (level: string) =>
      after.value('purser_spend_denials_total', { level }) -
      before.value('purser_spend_denials_total', { level })
    expect(['per_trade', 'credential_daily', 'user_daily', 'exposure'].map(denials)).toEqual([2, 1, 1, 1])
  })

  test('counts requests, commits, the audit head and the cache as they are', async () => {
    const userId = await flow.user()
    await flow.credential(userId)
    const before = await metrics()
    await flow.call('credentials.retrieve', { userId })
    await flow.call('credentials.retrieve', { userId })
    for (let count = 0; count < 5; count++) await flow.reserve(userId, '1')
    await flow.refused('spend.reserve', { userId, amountUsd: '101' })
    const head = await flow.head()
    const after = await metrics()
    const grown = (name: string, labels?: Record<string, string>) =>
      after.value(name, labels) - before.value(name, labels)
    const requests = 'purser_request_seconds_count'
    expect(grown(requests, { method: 'spend.reserve', outcome: 'ok' })).toBe(5)
    expect(grown(requests, { method: 'spend.reserve', outcome: 'SpendLimitExceeded' })).toBe(1)
    expect(grown(requests, { method: 'system.metrics', outcome: 'ok' })).toBe(1)
    expect(after.value('purser_audit_head')).toBe(head)
    expect(grown('purser_commits_total')).toBeGreaterThanOrEqual(6)
    expect(grown('purser_commit_jobs_total')).toBeGreaterThanOrEqual(6)
    expect(grown('purser_commit_failures_total')).toBe(0)
    expect([grown('purser_decryptions_total'), grown('purser_cache_hits_total')]).toEqual([1, 1])
    expect(after.value('purser_connections')).toBeGreaterThanOrEqual(1)
    expect(after.value('purser_info')).toBe(1)
    expect(after.value('purser_resident_bytes')).toBeGreaterThan(1e6)
    for (const { name, value } of before.samples)
      if (name.endsWith('_total')) expect(after.value(name), name).toBeGreaterThanOrEqual(value)
  })

  test('labels hold no name that a caller chose', async () => {
    const userId = await flow.user()
    await flow.client.call(`spend.${userId}"`, {})
    const { text } = await flow.call('system.metrics')
    expect(text).not.toContain(userId)
    expect(text).toContain('method="unknown"')
  })

  test('tells of a freeze at once', async () => {
    await flow.call('system.freeze', { reason: 'x' })
    expect((await metrics()).value('purser_frozen')).toBe(1)
    await flow.call('system.unfreeze')
    expect((await metrics()).value('purser_frozen')).toBe(0)
  })
})
