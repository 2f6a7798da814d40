import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { Metrics } from '../../src/service/metrics.ts'
import { Watch } from '../../src/service/watch.ts'
import { perform } from '../../src/store/operations.ts'
import { InProcessLedger } from './in-process.ts'

const dayMs = 86_400_000

let ledger: InProcessLedger
let metrics: Metrics
let watch: Watch
beforeEach(async () => {
  ledger = await InProcessLedger.open({ wallMs: Date.parse('2026-11-23T12:00:00Z') })
  await ledger.users.put(ledger.act(), { userId: 'alice' })
  watch = watching(null)
})
afterEach(async () => ledger.close())

/** A run of the daemon behind one that last wrote at `lastStoredMs`. */
function watching(lastStoredMs: number | null): Watch {
  metrics = new Metrics({
    version: '0',
    commits: () => ledger.commits.figures,
    cache: () => ({ hits: 0, misses: 0, size: 0 }),
    derivations: () => ({ running: 0, waiting: 0 }),
    decryptions: () => 0,
    connections: () => ({ connections: 0, inFlight: 0 }),
    auditHead: () => 0,
    frozen: () => false,
    sealed: () => false,
    toSealAnew: () => 0,
    secureMemory: () => ({ secureBytes: 0, unlockedBytes: 0 }),
  })
  const log = createLogger('warn', join(ledger.directory, 'log'))
  return new Watch({ commits: ledger.commits, log, metrics, now: () => ledger.host.wall, lastStoredMs })
}

/** What was logged since the last call. */
let read = 0
function told(): object[] {
  const lines = readFileSync(join(ledger.directory, 'log'), 'utf8').split('\n').slice(0, -1)
  const fresh = lines.slice(read).map((line) => JSON.parse(line))
  read = lines.length
  return fresh.map(({ credentialId, withinDays, days }) => ({ credentialId, withinDays, days }))
}
beforeEach(() => {
  read = 0
})

const gauge = async (sample: string) => {
  const { text } = await metrics.text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${sample} `))
      ?.split(' ')
      .at(-1),
  )
}
const expiring = (days: number) => gauge(`purser_credentials_expiring{days="${days}"}`)

function edit(credentialId: number, expiresAtMs: number | null): Promise<void> {
  return ledger.commits.submit(() =>
    perform('credentialEdit', credentialId, {
      name: null,
      dailyLimitMicros: null,
      expiresAtMs,
      isPrimary: 0,
      atMs: ledger.host.wall,
    }),
  )
}

/** The thresholds that were logged since the last look. */
function toldOfLimits(): [level: string, threshold: number][] {
  const lines = readFileSync(join(ledger.directory, 'log'), 'utf8').split('\n').slice(read, -1)
  read += lines.length
  return lines.map((line) => JSON.parse(line)).map(({ level, threshold }) => [level, threshold])
}

async function record(dollars: number): Promise<void> {
  const amountUsd = BigInt(dollars) * 1_000_000n
  await ledger.settling.record(ledger.act(), { userId: 'alice', amountUsd })
}

/** Has `watch` look at the accounts that were told of since the last call. */
function look(watch: Watch): void {
  for (const { before, after } of ledger.changed.splice(0)) watch.account(before, after)
}

test('a run after this one tells of a limit only what its own changes reach', async () => {
  await ledger.users.put(ledger.act(), { userId: 'alice', limits: { exposureUsd: 10_000_000_000n } })
  await record(400)
  look(watch)
  expect(toldOfLimits()).toEqual([['user_daily', 80]])
  await ledger.restart()
  const next = watching(ledger.host.wall)
  await record(1)
  look(next)
  expect(toldOfLimits()).toEqual([])
  await record(80)
  look(next)
  expect(toldOfLimits()).toEqual([['user_daily', 95]])
})

test('a limit is told of only once what used it up is on disk', async () => {
  ledger.storeFails = true
  await expect(record(100_000)).rejects.toMatchObject({ type: 'StorageUnavailable' })
  expect(ledger.changed).toEqual([])
  ledger.storeFails = false
  await record(400)
  expect(ledger.changed).toHaveLength(1)
})

test('a limit of a day is told of again on the next, and counts no more once its day is over', async () => {
  const spend = async (dollars: number) => {
    await record(dollars)
    look(watch)
    return toldOfLimits()
  }
  const used = (level: string) => gauge(`purser_limits_used{level="${level}",percent="80"}`)
  await ledger.users.put(ledger.act(), { userId: 'alice', limits: { exposureUsd: 10_000_000_000n } })
  expect(await spend(400)).toEqual([['user_daily', 80]])
  expect(await spend(1)).toEqual([])
  expect(await used('user_daily')).toBe(1)
  ledger.host.pass(dayMs)
  expect(await used('user_daily')).toBe(0)
  expect(await spend(400)).toEqual([['user_daily', 80]])
  ledger.host.pass(dayMs)
  expect(await spend(1)).toEqual([])
  expect(await spend(399)).toEqual([['user_daily', 80]])
  expect([await used('user_daily'), await used('exposure')]).toEqual([1, 0])
})

test('a credential that expires within 30, 7 and 1 days becomes a log line and a metric, once each', async () => {
  const id = await ledger.credential('alice', null, false)
  await ledger.credential('alice', null, false)
  await edit(id, ledger.host.wall + 31 * dayMs)
  const steps: [passDays: number, told: number | null, within: [number, number, number]][] = [
    [0, null, [0, 0, 0]],
    [1, 30, [1, 0, 0]],
    [1, null, [1, 0, 0]],
    [21.9, null, [1, 0, 0]],
    [0.1, 7, [1, 1, 0]],
    [5, null, [1, 1, 0]],
    [1, 1, [1, 1, 1]],
    [0.5, null, [1, 1, 1]],
    [0.5, null, [0, 0, 0]],
    [40, null, [0, 0, 0]],
  ]
  for (const [passDays, withinDays, within] of steps) {
    ledger.host.pass(passDays * dayMs)
    await watch.credentials()
    const expected = withinDays === null ? [] : [{ credentialId: id, withinDays, days: undefined }]
    expect(told(), `after ${passDays} days`).toEqual(expected)
    expect([await expiring(30), await expiring(7), await expiring(1)]).toEqual(within)
  }
})

test('a run after this one does not tell again what was true an hour before the last entry', async () => {
  const expiring = await ledger.credential('alice', null, false)
  const edited = await ledger.credential('alice', null, false)
  await ledger.credential('alice', null, false)
  ledger.host.pass(91 * dayMs)
  for (const id of [expiring, edited]) {
    await edit(id, ledger.host.wall + 29 * dayMs)
    const sealed = {
      envelope: Buffer.alloc(1),
      epoch: 1,
      privateKeyPolicy: 'exportable',
      fingerprint: null,
      address: null,
      atMs: ledger.host.wall,
      contentChanged: false,
    } as const
    await ledger.commits.submit(() => perform('credentialReseal', id, 1, sealed))
  }
  await watch.credentials()
  expect(told()).toHaveLength(3)
  ledger.host.pass(2 * 3_600_000)
  await edit(edited, ledger.host.wall + 28 * dayMs)
  const next = watching(ledger.host.wall)
  await next.credentials()
  // What was changed since then may not have been looked at.
  expect(told()).toEqual([{ credentialId: edited, withinDays: 30, days: undefined }])
  ledger.host.pass(22 * dayMs)
  const later = watching(ledger.host.wall - 21.9 * dayMs)
  await later.credentials()
  expect(told()).toMatchObject([
    { credentialId: expiring, withinDays: 7 },
    { credentialId: edited, withinDays: 7 },
  ])
  const first = watching(null)
  await first.credentials()
  expect(told()).toHaveLength(3)
})

test('one that is put off is told of again when its time comes, one that is revoked is not', async () => {
  const id = await ledger.credential('alice', null, false)
  await edit(id, ledger.host.wall + dayMs / 2)
  await watch.credentials()
  expect(told()).toMatchObject([{ withinDays: 1 }])
  await edit(id, ledger.host.wall + 100 * dayMs)
  await watch.credentials()
  await edit(id, ledger.host.wall + 6 * dayMs)
  await watch.credentials()
  expect(told()).toMatchObject([{ withinDays: 7 }])
  await ledger.commits.submit(() => perform('credentialRevoke', id, ledger.host.wall, null))
  ledger.host.pass(5.5 * dayMs)
  await watch.credentials()
  expect(told()).toEqual([])
  expect(await expiring(30)).toBe(0)
})

test('an envelope older than 90 days is told of once, and again when its next one is that old', async () => {
  const id = await ledger.credential('alice', null, false)
  ledger.host.pass(90 * dayMs)
  await watch.credentials()
  expect([told(), await gauge('purser_envelopes_old')]).toEqual([[], 0])
  ledger.host.pass(1)
  const old = [{ credentialId: id, withinDays: undefined, days: 90 }]
  await watch.credentials()
  expect([told(), await gauge('purser_envelopes_old')]).toEqual([old, 1])
  await watch.credentials()
  expect(told()).toEqual([])
  const sealed = {
    envelope: Buffer.alloc(1),
    epoch: 1,
    privateKeyPolicy: 'exportable',
    fingerprint: null,
    address: null,
    atMs: ledger.host.wall,
    contentChanged: false,
  } as const
  await ledger.commits.submit(() => perform('credentialReseal', id, 1, sealed))
  await watch.credentials()
  expect([told(), await gauge('purser_envelopes_old')]).toEqual([[], 0])
  ledger.host.pass(91 * dayMs)
  await watch.credentials()
  expect(told()).toEqual(old)
})

test('every credential is looked at, however many there are', async () => {
  const ids = await Promise.all(Array.from({ length: 2100 }, () => ledger.credential('alice', null, false)))
  ledger.host.pass(91 * dayMs)
  await edit(ids.at(-1)!, ledger.host.wall + dayMs / 2)
  await watch.credentials()
  expect([await gauge('purser_envelopes_old'), await expiring(1)]).toEqual([2100, 1])
  expect(told()).toHaveLength(2101)
})
