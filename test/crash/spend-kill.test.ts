import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { TestPurser } from '../../src/testing/index.ts'
import { startPurser } from '../../src/testing/index.ts'
import { problemsOf } from '../support/faults/ledger-check.ts'
import type { Act } from '../support/faults/ledger-load.ts'
import { ActJournal, addUsers, Load } from '../support/faults/ledger-load.ts'
import { storeLauncher } from '../support/faults/power-cuts.ts'
import { Random, seedOfRun } from '../support/faults/random.ts'
import { RawClient } from '../support/raw-client.ts'

const rounds = Number(process.env['PURSER_TEST_CRASH_ROUNDS'] ?? 10)
/** A store is checked whole after every round, so it is begun anew before that takes long. */
const roundsOfStore = 5
/** A load is killed after this long at most, milliseconds. */
const killMsMax = 250
/** Acknowledged acts that are asked for once more after each restart. */
const repeated = 100

test(`kill -9 at ${rounds} random moments loses nothing and does nothing twice`, {
  timeout: 30_000 + rounds * 5000,
}, async () => {
  const seed = seedOfRun()
  const random = new Random(seed)
  console.log(`PURSER_TEST_SEED=${seed}`)
  const figures = { acknowledged: 0, open: 0, done: 0 }
  for (let store = 0; store * roundsOfStore < rounds; store++) {
    // Every other store answers by promises, so that a kill can come between any two steps of a transaction.
    const awaited = store % 2 === 1
    await crashOneStore(random, awaited, Math.min(roundsOfStore, rounds - store * roundsOfStore), figures)
  }
  console.log(`${rounds} kills: ${JSON.stringify(figures)}`)
  // A run in which nothing was caught half way proves little.
  if (rounds >= 10) expect(figures.open).toBeGreaterThan(rounds)
})

type Figures = { acknowledged: number; open: number; done: number }

async function crashOneStore(
  random: Random,
  awaited: boolean,
  count: number,
  figures: Figures,
): Promise<void> {
  const env = { STORE_AWAITED: awaited ? '1' : '0' }
  await using purser = await startPurser({ fastKdf: true, launcher: storeLauncher, env })
  const journal = new ActJournal()
  for (let round = 0; round < count; round++) {
    const setUp = new RawClient(purser.socketPath)
    const users = await addUsers(setUp, String(round))
    setUp.close()
    const load = new Load(purser.socketPath, journal, users, random)
    await killWhile(purser, load.ended(), random.int(1, killMsMax))
    figures.open += journal.open.length
    expectWhole(purser, journal)
    await purser.restart()
    const openBefore = journal.open
    // What was cut off is asked for again, and in some rounds that is cut off too.
    const again = retry(purser, journal, openBefore, random)
    if (random.chance(0.3)) {
      await killWhile(purser, again, random.int(1, 30))
      expectWhole(purser, journal)
      await purser.restart()
      await retry(purser, journal, openBefore, random)
    } else await again
    expect(journal.open).toEqual([])
    figures.done += openBefore.filter((act) => act.accepted !== null).length
    await expectConsistentAnswers(purser, users)
  }
  figures.acknowledged += journal.accepted.length
  await purser.kill('SIGTERM')
  expectWhole(purser, journal)
}

async function killWhile(purser: TestPurser, work: Promise<unknown>, ms: number): Promise<void> {
  await sleep(ms)
  expect((await purser.kill('SIGKILL')).signal).toBe('SIGKILL')
  await work
}

/** Checks a copy of the stopped store: opening it already repairs what the next start is to find as it is. */
function expectWhole(purser: TestPurser, journal: ActJournal): void {
  const copy = mkdtempSync(join(tmpdir(), 'purser-crash-'))
  try {
    cpSync(purser.dataDirectory, copy, { recursive: true })
    const claims = journal.acts.map((act) => ({ act, accepted: act.accepted }))
    expect(problemsOf(join(copy, 'purser.db'), purser.masterKey!, claims)).toEqual([])
    expect(journal.contradictions).toEqual([])
  } finally {
    rmSync(copy, { recursive: true })
  }
}

/** Asks for `open` acts, each twice, and for some that were acknowledged: the journal notes answers that differ. */
async function retry(
  purser: TestPurser,
  journal: ActJournal,
  open: readonly Act[],
  random: Random,
): Promise<void> {
  const accepted = journal.accepted
  const acts = [
    ...open,
    ...open,
    ...Array.from({ length: Math.min(repeated, accepted.length) }, () => random.pick(accepted)),
  ]
  const clients = Array.from({ length: 8 }, () => new RawClient(purser.socketPath))
  await Promise.all(
    clients.map(async (client, index) => {
      for (let at = index; at < acts.length; at += clients.length) {
        try {
          await journal.send(acts[at]!, client)
        } catch {
          return
        }
      }
    }),
  )
  for (const client of clients) client.close()
}

/** What the daemon says of itself adds up, and it vouches for its audit log. */
async function expectConsistentAnswers(
  purser: TestPurser,
  users: readonly { readonly userId: string }[],
): Promise<void> {
  const client = new RawClient(purser.socketPath)
  for (const { userId } of users) await expectSums(client, userId)
  const { result: verified } = await client.call('audit.verify', {})
  expect(verified).toMatchObject({ ok: true, firstBadSeq: null, macChecked: true })
  client.close()
}

/** The totals of a user are the sums of what the lists show. */
async function expectSums(client: RawClient, userId: string): Promise<void> {
  const { result: status } = await client.call('spend.status', { userId })
  const { result: held } = await client.call('reservations.list', { userId, limit: 1000 })
  const { result: open } = await client.call('positions.list', { userId, state: 'open', limit: 1000 })
  const { result: after } = await client.call('spend.status', { userId })
  if (after.exposure.reservedUsd !== status.exposure.reservedUsd) {
    // A hold's time was over meanwhile.
    await expectSums(client, userId)
    return
  }
  expect([held.nextCursor, open.nextCursor]).toEqual([null, null])
  const reserved = held.reservations.map(
    (row: Row) => micros(row['amountUsd']!) - micros(row['capturedUsd']!),
  )
  expect(micros(status.exposure.reservedUsd)).toBe(sum(reserved))
  expect(micros(status.exposure.openUsd)).toBe(sum(open.positions.map((row: Row) => micros(row['openUsd']!))))
}

type Row = Readonly<Record<string, string>>

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n)
}

function micros(usd: string): bigint {
  const [whole, fraction = ''] = usd.split('.')
  return BigInt(whole!) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
}
