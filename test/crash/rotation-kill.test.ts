import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { StartPurserError } from '../../src/testing/index.ts'
import type { Status } from '../flows/rotation.ts'
import { newKey } from '../flows/rotation.ts'
import { randomOf, Story, testSeed, until } from '../flows/story.ts'
import { stores } from '../races/stores.ts'
import { Bot, openStored } from '../support/rotation-bots.ts'

// Rotations of a store that bots work with, killed -9 at random points and started again with either key. Every envelope
// opens at every point, with each key that is said to open the store; nothing that was acknowledged is lost; no request
// fails but those that a kill cut off. PURSER_TEST_CRASH_ROUNDS (`npm run soak`) makes it 2,000 credentials and 20 kills.

const seed = testSeed()
const long = process.env['PURSER_TEST_CRASH_ROUNDS'] !== undefined
const { credentials, kills } = long ? { credentials: 2000, kills: 20 } : { credentials: 160, kills: 6 }
const botCount = 4

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-rotation-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const dataIn = (name: string) => join(directory, name)

/** The keys that may open the store: after a rotation began two, of which the older may be retired. */
type Keys = { older: string | null; newest: string }

/** Starts with one of the keys, by the toss of a coin. The older may have retired, if the newest was given last. */
async function startWithEither(
  keys: Keys,
  random: () => number,
  options: object,
  mayRetire: boolean,
): Promise<Story> {
  const begin = (masterKey: string) =>
    Story.begin({ ...options, dataDirectory: dataIn('data'), masterKey, config: { decrypt: { limit: 1e5 } } })
  if (keys.older === null || random() < 0.5) return begin(keys.newest)
  try {
    return await begin(keys.older)
  } catch (error) {
    if (!(error instanceof StartPurserError) || error.exitCode !== 77 || !mayRetire) throw error
    keys.older = null
    return begin(keys.newest)
  }
}

/** Holds what a kill left behind against what the bots know. */
async function expectWhole(keys: Keys, bots: readonly Bot[]): Promise<void> {
  rmSync(dataIn('copy'), { recursive: true, force: true })
  cpSync(dataIn('data'), dataIn('copy'), { recursive: true })
  const open = (key: string) => openStored(join(dataIn('copy'), 'purser.db'), Buffer.from(key, 'hex'))
  const { rows, apiKeys, keyring } = await open(keys.newest).catch((error) => {
    // The wraps of the new key were never committed.
    if (keys.older === null) throw error
    keys.newest = keys.older
    keys.older = null
    return open(keys.newest)
  })
  for (const epoch of new Set(rows.map((row) => row.epoch))) expect(keyring.masterKey(epoch)).not.toBeNull()
  for (const bot of bots) {
    bot.settle(apiKeys, rows)
    const mine = rows.filter(({ userId }) => userId === bot.userId)
    expect(mine.map(({ credentialId }) => credentialId)).toEqual(
      [...bot.credentials.keys()].sort((a, b) => a - b),
    )
    for (const { credentialId, revoked, privateKeyPolicy } of mine) {
      const known = bot.credentials.get(credentialId)!
      expect(apiKeys.get(credentialId)).toBe(known.apiKey)
      expect([revoked, privateKeyPolicy === 'sign-only']).toEqual([known.revoked, known.signOnly])
    }
  }
}

test(`rotations killed -9 at ${kills} points (PURSER_TEST_SEED=${seed})`, {
  timeout: long ? 1_800_000 : 60_000,
}, async () => {
  const random = randomOf(seed)
  const bots = Array.from(
    { length: botCount },
    (_, index) => new Bot(`bot-${index}`, random, credentials / 2),
  )
  const keys: Keys = { older: null, newest: newKey() }
  let rotations = 0
  let killedMidway = 0
  let mayRetire = false
  for (let round = 0; round <= kills; round++) {
    if (round > 0) await expectWhole(keys, bots)
    await using story = await startWithEither(keys, random, stores[round % stores.length]!.options, mayRetire)
    if (round === 0) await Promise.all(bots.map((bot) => bot.begin(story.connect(), credentials / botCount)))
    await story.chainHolds()
    mayRetire = story.purser.masterKey === keys.newest
    const status: Status = await story.ok('master.status')
    if (status.oldKeyRetired) keys.older = null
    if (round === kills) break
    // The rest of the last one, or a new one.
    if (status.job?.state !== 'running' && keys.older === null) {
      keys.older = keys.newest
      keys.newest = newKey()
      mayRetire = false
      await story.ok('master.rotate', { newMasterKey: keys.newest })
      rotations += 1
    }
    let killed = false
    const working = bots.map((bot) =>
      bot.work(story.connect(), () => killed).catch((error: Error) => error.message),
    )
    const from: Status = await story.ok('master.status')
    const goal = from.job!.done + Math.floor(0.8 * random() * (from.job!.total - from.job!.done))
    const watch = story.connect()
    await until(async () => {
      const { result } = await watch.call('master.status')
      return result.job.state !== 'running' || result.job.done >= goal
    }, 600_000)
    const { result } = await watch.call('master.status')
    if (result.job.state === 'running') killedMidway += 1
    await story.purser.kill('SIGKILL')
    killed = true
    for (const outcome of await Promise.all(working))
      if (outcome !== undefined) expect(outcome).toBe('the connection ended without that answer')
  }
  console.info(`${rotations} rotations, ${killedMidway} of ${kills} kills in the midst of one (seed ${seed})`)
  expect(killedMidway).toBeGreaterThan(0)
})
