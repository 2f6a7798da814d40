import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openStore } from '../../src/store/sqlite/open.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'
import { DiskShim } from '../support/faults/disk-shim.ts'
import { addUsers, Load } from '../support/faults/ledger-load.ts'
import { PowerCuts } from '../support/faults/power-cuts.ts'
import { Random, seedOfRun } from '../support/faults/random.ts'
import { RawClient } from '../support/raw-client.ts'

const rounds = Number(process.env['PURSER_TEST_CRASH_ROUNDS'] ?? 6)
/** A store is begun anew after so many rounds: each image of it is checked whole. */
const roundsOfStore = 3
/** Power cuts looked at in each round, besides the one at its end. */
const cutsOfRound = 8
const loadMsMax = 250

let shim: DiskShim | string
beforeAll(() => {
  shim = DiskShim.build()
  if (typeof shim === 'string') console.log(`power loss is not tested here: ${shim}`)
})
afterAll(() => {
  if (typeof shim !== 'string') shim.remove()
})

describe('power loss', () => {
  test(`in ${rounds} rounds, with what was not synced lost, torn or out of order, nothing acknowledged is lost`, {
    timeout: 30_000 + rounds * 10_000,
  }, async ({ skip }) => {
    if (typeof shim === 'string') return skip(shim)
    const seed = seedOfRun()
    const random = new Random(seed)
    console.log(`PURSER_TEST_SEED=${seed}`)
    const figures = { images: 0, acknowledged: 0 }
    for (let round = 0; round < rounds; round += roundsOfStore)
      await crashOneStore(shim, random, Math.min(roundsOfStore, rounds - round), figures)
    console.log(`${rounds} rounds: ${JSON.stringify(figures)}`)
  })

  test('after a sync that failed and a kill, a restart puts nothing behind what is not on disk', async ({
    skip,
  }) => {
    if (typeof shim === 'string') return skip(shim)
    await using power = await PowerCuts.start(shim, new Random(seedOfRun()), '')
    const { purser, journal, control } = power
    let client = new RawClient(purser.socketPath)
    await client.call('users.put', { userId: 'alice', tier: 'premium' })
    const reserve = () =>
      journal.send(
        journal.add('spend.reserve', 'alice', (id) => ({
          userId: 'alice',
          amountUsd: '1.5',
          ttlSeconds: 3600,
          idempotencyKey: id,
        })),
        client,
      )
    expect((await reserve()).result).toMatchObject({ state: 'held' })
    control.set('sync', { error: 'EIO', file: 'wal' })
    expect((await reserve()).error?.data.type).toBe('StorageUnavailable')
    expect(control.fired('sync')).toBeGreaterThan(0)
    await purser.kill('SIGKILL')
    control.set('sync', null)
    // No power cut: the kernel still has the pages, and says they are written.
    await purser.restart()
    client = new RawClient(purser.socketPath)
    expect((await reserve()).result).toMatchObject({ state: 'held' })
    await purser.kill('SIGKILL')
    power.check(0, 'nothing')
    expect(power.problems).toEqual([])
  })

  test('while a store is made leaves one that opens, or that can be made', async ({ skip }) => {
    if (typeof shim === 'string') return skip(shim)
    await using power = await PowerCuts.start(shim, new Random(seedOfRun()), '')
    await power.purser.kill('SIGKILL')
    let made = 0
    let opened = 0
    for (const { directory } of power.beforeFirstAnswer()) {
      const store = openStore(directory, (database) => {
        const statements = statementsOf(database)
        statements.storeInsert(Buffer.alloc(16), 0)
        statements.ledgerInsert(0)
      })
      if (store.created) made++
      else opened++
      expect(statementsOf(store.database).storeGet()).toBeDefined()
      store.database.close()
    }
    expect(made).toBeGreaterThan(0)
    expect(opened).toBeGreaterThan(0)
  })

  for (const level of ['NORMAL', 'OFF']) {
    test(`control: with synchronous = ${level} acts are lost, and the checker says so`, async ({ skip }) => {
      if (typeof shim === 'string') return skip(shim)
      const random = new Random(seedOfRun())
      await using power = await PowerCuts.start(shim, random, `PRAGMA synchronous = ${level}`)
      await loadUntilKilled(power, random, 'control')
      power.check(0, 'nothing')
      expect(power.problems.join('\n')).toMatch(/was acknowledged and is lost|cannot be read/)
    })
  }
})

async function crashOneStore(
  shim: DiskShim,
  random: Random,
  count: number,
  figures: { images: number; acknowledged: number },
): Promise<void> {
  // A checkpoint, which moves pages from the WAL to the database, comes every 1000 pages; here more often too.
  const pragmas = `PRAGMA wal_autocheckpoint = ${random.pick([1000, 100, 20])}`
  await using power = await PowerCuts.start(shim, random, pragmas)
  for (let round = 0; round < count; round++) {
    if (round > 0) await restartAndRetry(power)
    await loadUntilKilled(power, random, `power-${round}`)
    power.check(cutsOfRound)
    expect(power.problems).toEqual([])
    // In some rounds only the process is killed: what the kernel has not written is still there at the next start.
    if (random.chance(0.7)) power.cut()
  }
  figures.images += power.images
  figures.acknowledged += power.journal.accepted.length
}

/** A load, in half of the rounds on a disk whose syncs or writes fail for a while. */
async function loadUntilKilled(power: PowerCuts, random: Random, name: string): Promise<void> {
  const { purser, journal, control } = power
  const setUp = new RawClient(purser.socketPath)
  const users = await addUsers(setUp, name)
  setUp.close()
  const load = new Load(purser.socketPath, journal, users, random)
  const failing = name !== 'control' && random.chance(0.5)
  if (failing) {
    const fault = {
      skip: random.int(0, 10),
      times: random.int(1, 4),
      file: random.pick(['any', 'wal'] as const),
    }
    control.set('sync', random.chance(0.7) ? { error: 'EIO', ...fault } : null)
    control.set('write', random.chance(0.5) ? { error: 'ENOSPC', torn: random.chance(0.5), ...fault } : null)
  }
  await sleep(random.int(20, loadMsMax))
  await purser.kill('SIGKILL')
  await load.ended()
  control.set('sync', null)
  control.set('write', null)
}

/** The daemon on what the crash left: it vouches for its log, and what was cut off is done once now. */
async function restartAndRetry({ purser, journal, problems }: PowerCuts): Promise<void> {
  await purser.restart()
  const client = new RawClient(purser.socketPath)
  const { result } = await client.call('audit.verify', {})
  if (!result.ok || !result.macChecked) problems.push(`audit.verify answers ${JSON.stringify(result)}`)
  const { open } = journal
  for (const act of [...open, ...open]) await journal.send(act, client)
  client.close()
}
