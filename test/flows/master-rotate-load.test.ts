import { expect, test } from 'vitest'
import { Bot, openStored } from '../support/rotation-bots.ts'
import { jobEnded, newKey, retired, setKeyFile } from './rotation.ts'
import { randomOf, Story, testSeed } from './story.ts'

const seed = testSeed()
const botCount = 6

// Bots do everything there is to do with credentials while each is sealed anew under another key, twice in a row.
// No request fails, nothing is unreadable, and what they changed stays as they left it.

test(`rotation under the feet of bots (PURSER_TEST_SEED=${seed})`, async () => {
  await using story = await Story.begin({
    // Some are served from memory, most are opened: with the key that they were sealed under at that moment.
    config: { decrypt: { limit: 100_000 }, cache: { max_entries: 12 } },
  })
  const random = randomOf(seed)
  const bots = Array.from({ length: botCount }, (_, index) => new Bot(`bot-${index}`, random, 16))
  await Promise.all(bots.map((bot) => bot.begin(story.connect(), 10)))
  let ended = false
  const working = Promise.all(bots.map((bot) => bot.work(story.connect(), () => ended)))
  let key = ''
  const rotating = (async () => {
    for (let round = 0; round < 2; round++) {
      key = newKey()
      setKeyFile(story, key)
      await story.ok('master.rotate', { newMasterKey: key })
      const { epoch, job } = await jobEnded(story)
      expect(epoch).toBe(round + 2)
      expect(job).toMatchObject({ state: 'done', done: job!.total })
      await retired(story)
    }
  })()
  try {
    await Promise.race([working, rotating])
  } finally {
    ended = true
  }
  await Promise.all([working, rotating])
  expect(bots.reduce((sum, { acts }) => sum + acts, 0)).toBeGreaterThan(50)
  await story.chainHolds()
  for (const bot of bots) {
    const client = story.connect()
    for (const [credentialId, known] of bot.credentials) {
      const metadata = await story.ok('credentials.get', { userId: bot.userId, credentialId }, client)
      expect(metadata.status).toBe(known.revoked ? 'revoked' : 'active')
      expect(metadata.privateKeyPolicy).toBe(known.signOnly ? 'sign-only' : 'exportable')
    }
  }
  await story.purser.kill('SIGTERM')
  const stored = await openStored(`${story.purser.dataDirectory}/purser.db`, Buffer.from(key, 'hex'))
  expect(new Set(stored.rows.map(({ epoch }) => epoch))).toEqual(new Set([3]))
  for (const bot of bots)
    for (const [id, { apiKey }] of bot.credentials) expect(stored.apiKeys.get(id)).toBe(apiKey)
})
