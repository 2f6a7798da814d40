import { expect, test } from 'vitest'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { jobEnded, keyFile, newKey, retired, setKeyFile } from './rotation.ts'
import { Story, sample } from './story.ts'

const idOf = (key: string) => keyIdOf(Buffer.from(key, 'hex'))

test('a rotation to a key given: either key opens the store until the source has the new one', async () => {
  await using story = await Story.begin()
  const ids: number[] = []
  for (let fill = 1; fill <= 20; fill++) ids.push(await story.store(`user-${fill % 4}`, fill))
  const before = await story.ok('master.status')
  expect(before).toEqual({ epoch: 1, keyId: before.keyId, oldKeyRetired: true, job: null })
  const oldKey = keyFile(story)
  const key = newKey()

  const { jobId } = await story.ok('master.rotate', { newMasterKey: key })
  expect(jobId).toMatch(/^[0-9a-f-]{36}$/)
  const ended = await jobEnded(story)
  expect(ended).toEqual({
    epoch: 2,
    keyId: idOf(key),
    oldKeyRetired: false,
    job: { kind: 'rotate', state: 'done', done: 20, total: 20 },
  })
  const { masterKey } = await story.ok('system.status')
  expect(masterKey).toMatchObject({ epoch: 2, keyId: idOf(key), keyIds: [before.keyId, idOf(key)] })

  // With the old key, as long as the source has that one.
  await story.restart()
  expect(await story.ok('master.status')).toEqual(ended)
  for (let fill = 1; fill <= 20; fill++) {
    const got = await story.ok('credentials.retrieve', {
      userId: `user-${fill % 4}`,
      credentialId: ids[fill - 1],
    })
    expect(got).toMatchObject({ apiKey: `key-${fill}`, apiSecret: sample('x', fill).apiSecret })
  }

  // With the new one, and then only with that.
  await story.restart(() => setKeyFile(story, key))
  await retired(story)
  expect((await story.ok('credentials.retrieve', { userId: 'user-1', credentialId: ids[0] })).apiKey).toBe(
    'key-1',
  )
  await story.restart()
  await expect(story.restart(() => setKeyFile(story, oldKey))).rejects.toMatchObject({ exitCode: 77 })
})
