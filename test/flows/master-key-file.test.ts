import { execFileSync, spawnSync } from 'node:child_process'
import {
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { jobEnded, keyFile, newKey, type Status } from './rotation.ts'
import { issuePaths, Story, until } from './story.ts'

// Without a new key purser makes one itself and puts it into the key file, where it may. Where it may not, nothing is
// changed.

const asRoot = process.getuid?.() === 0

/** What lies beside the key file, and in it. */
function keyFiles(story: Story): Record<string, string> {
  const directory = dirname(story.purser.masterKeyFile!)
  const names = readdirSync(directory).filter((name) => name.startsWith('master.key'))
  return Object.fromEntries(names.map((name) => [name, readFileSync(`${directory}/${name}`, 'utf8').trim()]))
}

async function expectRefused(story: Story, of: string): Promise<void> {
  const before = [await story.ok('master.status'), keyFiles(story)]
  const error = await story.refused('InvalidParams', 'master.rotate')
  expect(issuePaths(error)).toEqual(['newMasterKey'])
  expect(error.data.issues[0].message).toContain(of)
  expect([await story.ok('master.status'), keyFiles(story)]).toEqual(before)
}

test('purser makes the new key, keeps the old one beside it, and that retires by itself', async () => {
  await using story = await Story.begin()
  const id = await story.store('alice', 1)
  const file = story.purser.masterKeyFile!
  const oldKey = keyFile(story)
  await story.ok('master.rotate')
  await jobEnded(story)
  await until(async () => (await story.ok('master.status')).oldKeyRetired)
  const key = keyFile(story)
  expect(key).not.toBe(oldKey)
  expect(key).toMatch(/^[0-9a-f]{64}$/)
  expect(keyFiles(story)).toEqual({ 'master.key': key, 'master.key.epoch-1': oldKey })
  expect([statSync(file).mode & 0o777, statSync(file).uid]).toEqual([0o600, process.getuid!()])
  const status: Status = await story.ok('master.status')
  expect(status).toMatchObject({ epoch: 2, keyId: keyIdOf(Buffer.from(key, 'hex')) })

  await story.restart()
  expect((await story.ok('credentials.retrieve', { userId: 'alice', credentialId: id })).apiKey).toBe('key-1')
  // And once more; the next old key stays beside the first.
  await story.ok('master.rotate')
  await jobEnded(story)
  expect(Object.keys(keyFiles(story)).sort()).toEqual(
    ['', '.epoch-1', '.epoch-2'].map((suffix) => `master.key${suffix}`),
  )
})

test('a file that is a symbolic link, of somebody else or of another key is left alone', async () => {
  await using story = await Story.begin()
  const file = story.purser.masterKeyFile!
  const oldKey = keyFile(story)

  renameSync(file, `${file}.real`)
  symlinkSync(`${file}.real`, file)
  await expectRefused(story, 'is a symbolic link')
  rmSync(file)
  renameSync(`${file}.real`, file)

  if (asRoot) {
    chownSync(file, 12_345, 12_345)
    await expectRefused(story, 'belongs to another user')
    chownSync(file, 0, 0)
  }

  writeFileSync(file, newKey())
  await expectRefused(story, 'does not hold the present key')
  writeFileSync(file, 'no key at all')
  await expectRefused(story, 'holds no master key')
  writeFileSync(file, oldKey)

  writeFileSync(`${file}.epoch-1`, 'somebody keeps something here')
  await expectRefused(story, 'is there already')
  rmSync(`${file}.epoch-1`)

  rmSync(file)
  await expectRefused(story, 'is not there')
  writeFileSync(file, oldKey, { mode: 0o600 })
  await story.ok('master.rotate')
  expect((await jobEnded(story)).job!.state).toBe('done')
})

test('a key that came from anywhere else is not for purser to change', async () => {
  const key = newKey()
  await using story = await Story.begin({ masterKey: null, env: { MASTER_ENCRYPTION_KEY: key } })
  const error = await story.refused('InvalidParams', 'master.rotate')
  expect(error.data.issues).toEqual([
    { path: 'newMasterKey', message: expect.stringContaining('MASTER_ENCRYPTION_KEY') },
  ])
  expect((await story.ok('master.status')).job).toBeNull()
})

/** Whether mounts can be made in a namespace of their own. */
function canMount(): boolean {
  return spawnSync('unshare', ['-m', 'true']).status === 0 && spawnSync('which', ['nsenter']).status === 0
}

/** Mounts a key file on itself, in the namespace of the daemon alone. */
function bindMount(pid: number, file: string): void {
  execFileSync('nsenter', ['-t', String(pid), '-m', 'mount', '--bind', file, file])
}

test('a mount point is seen before anything is done', async ({ skip }) => {
  if (!asRoot || !canMount()) skip('needs root and mount namespaces')
  await using story = await Story.begin({ launcher: `${import.meta.dirname}/../support/unshared-purserd` })
  bindMount(story.purser.pid, story.purser.masterKeyFile!)
  await expectRefused(story, 'is a mount point')
})

test('a file that is mounted at the last moment fails the job, which takes the new key back', async ({
  skip,
}) => {
  if (!asRoot || !canMount()) skip('needs root and mount namespaces')
  await using story = await Story.begin({
    launcher: `${import.meta.dirname}/../support/unshared-purserd`,
    env: { PURSER_TEST_STOP_AT: 'before rename' },
  })
  const id = await story.store('alice', 1)
  const file = story.purser.masterKeyFile!
  const [before, oldKey] = [await story.ok('master.status'), keyFile(story)]
  await story.ok('master.rotate')
  await until(() => existsSync(`${file}.stopped`))
  expect(await story.ok('master.status')).toMatchObject({ epoch: 2, oldKeyRetired: false })
  // What is stored meanwhile must be there whatever becomes of the new key.
  const between = await story.store('alice', 2)
  bindMount(story.purser.pid, file)
  rmSync(`${file}.stopped`)
  const { job, ...after } = await jobEnded(story)
  expect(job!.state).toBe('failed')
  expect({ ...after, job: null }).toEqual(before)
  // The last thing it does.
  await until(() => story.purser.logs().some((line) => line.includes('EBUSY')))
  expect(keyFiles(story)).toEqual({ 'master.key': oldKey })
  const told = (await story.entries()).filter(({ action }) => action === 'master_rotated')
  expect(told.map(({ outcome, details }) => [outcome, details['stage']])).toEqual([
    ['ok', 'started'],
    ['error', 'taken_back'],
  ])
  await story.restart()
  for (const credentialId of [id, between])
    await story.ok('credentials.retrieve', { userId: 'alice', credentialId })
  await story.ok('master.rotate', { newMasterKey: newKey() })
  expect((await jobEnded(story)).job!.state).toBe('done')
})
