import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { StartPurserError } from '../../src/testing/index.ts'
import { jobEnded, newKey, type Status } from '../flows/rotation.ts'
import { Story, until } from '../flows/story.ts'
import { RawClient } from '../support/raw-client.ts'

// kill -9 at every step of a rotation: those that put a key of purser's own making into the key file, and those of every
// rotation. The next start with what then lies in the key file opens, and either finishes or is as before.

const stepped = fileURLToPath(new URL('../support/stepped-purserd', import.meta.url))

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-steps-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** A store with two credentials whose rotation is killed at `step`; answers where it lies. */
async function killed(name: string, step: string, newMasterKey?: string): Promise<string> {
  const dataDirectory = join(directory, name)
  await using story = await Story.begin({
    dataDirectory,
    masterKey: null,
    launcher: stepped,
    env: { PURSER_TEST_KILL_AT: step },
  })
  await story.store('alice', 1)
  await story.store('alice', 2)
  const client = new RawClient(story.purser.socketPath)
  await client
    .call('master.rotate', newMasterKey === undefined ? {} : { newMasterKey })
    .catch(() => undefined)
  await client.ended()
  client.close()
  return dataDirectory
}

function start(dataDirectory: string, masterKey: string | null): Promise<Story> {
  return Story.begin({ dataDirectory, masterKey })
}

async function expectReadable(story: Story): Promise<void> {
  for (const credentialId of [1, 2]) {
    const got = await story.ok('credentials.retrieve', { userId: 'alice', credentialId })
    expect(got.apiKey).toBe(`key-${credentialId}`)
  }
  await story.chainHolds()
}

/** Steps behind which the new key opens the store; before them everything is as before. */
const asBefore = ['new key made', 'new key synced', 'before commit of masterKeyInsert']
const goesOn = [
  'after commit of masterKeyInsert',
  'before link',
  'after link',
  'before rename',
  'after rename',
  'before commit of masterKeyPlaced',
  'after commit of masterKeyPlaced',
  'before commit of credentialRenew',
  'after commit of credentialRenew',
  'before commit of sealingJobEnd',
  'after commit of sealingJobEnd',
  'before commit of masterKeyDelete',
  'after commit of masterKeyDelete',
]

test.each([...asBefore, ...goesOn])('a key of its own making: kill -9 %s', async (step) => {
  const dataDirectory = await killed(`own ${step}`, step)
  const file = join(dataDirectory, 'master.key')
  const found = readFileSync(file, 'utf8').trim()
  await using story = await start(dataDirectory, null)
  const status: Status = await story.ok('master.status')
  if (asBefore.includes(step)) {
    expect(status).toMatchObject({ epoch: 1, oldKeyRetired: true, job: null })
    await expectReadable(story)
    await story.ok('master.rotate')
  }
  await jobEnded(story)
  await until(async () => (await story.ok('master.status')).oldKeyRetired)
  expect(await story.ok('master.status')).toMatchObject({
    epoch: 2,
    job: { state: 'done', done: 2, total: 2 },
  })
  await expectReadable(story)
  expect(existsSync(`${file}.new`)).toBe(false)
  expect(existsSync(`${file}.epoch-1`)).toBe(true)
  // The file always held one key or the other, whole.
  expect([readFileSync(file, 'utf8').trim(), readFileSync(`${file}.epoch-1`, 'utf8').trim()]).toContain(found)
})

test.each(goesOn.filter((step) => / (masterKeyInsert|credentialRenew|sealingJobEnd)$/.test(step)))(
  'a key given: kill -9 %s, then a start with either key',
  async (step) => {
    const key = newKey()
    const dataDirectory = await killed(`given ${step}`, step, key)
    const oldKey = readFileSync(join(dataDirectory, 'master.key'), 'utf8').trim()
    {
      await using story = await start(dataDirectory, oldKey)
      expect(await story.ok('master.status')).toMatchObject({ epoch: 2, oldKeyRetired: false })
      await jobEnded(story)
      await expectReadable(story)
    }
    {
      await using story = await start(dataDirectory, key)
      await jobEnded(story)
      await until(async () => (await story.ok('master.status')).oldKeyRetired)
      await expectReadable(story)
    }
    await expect(start(dataDirectory, oldKey)).rejects.toBeInstanceOf(StartPurserError)
  },
)
