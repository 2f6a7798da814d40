import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { jobEnded, keyFile, newKey, onStore, retired, type Status, setKeyFile } from './rotation.ts'
import { issuePaths, Story, sample, until } from './story.ts'

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

/** Everything in the data directory. */
function bytesOfStore(story: Story): Buffer {
  const { dataDirectory } = story.purser
  return Buffer.concat(readdirSync(dataDirectory).map((name) => readFileSync(`${dataDirectory}/${name}`)))
}

test('once the old key is retired nothing of it is left in the files of the store, while the daemon runs', async () => {
  await using story = await Story.begin()
  for (let fill = 1; fill <= 8; fill++) await story.store('alice', fill)
  await story.purser.kill('SIGTERM')
  const envelopes = onStore(
    story,
    (store) => store.prepare('SELECT envelope FROM credentials').pluck().all() as Buffer[],
  )
  await story.purser.restart()
  const key = newKey()
  await story.ok('master.rotate', { newMasterKey: key })
  await jobEnded(story)
  await story.purser.kill('SIGTERM')
  const wraps = onStore(story, (store) => {
    const columns = 'check_value, wrapped_store_key, wrapped_other_key'
    const rows = store.prepare(`SELECT ${columns} FROM master_keys ORDER BY epoch`).raw().all() as Buffer[][]
    // Of the new key's row only the wrap of the old key goes.
    return [...rows[0]!, rows[1]![2]!]
  })
  for (const wrap of wraps) expect(bytesOfStore(story).includes(wrap)).toBe(true)
  setKeyFile(story, key)
  await story.purser.restart()
  await retired(story)
  await until(() => [...wraps, ...envelopes].every((bytes) => !bytesOfStore(story).includes(bytes)))
})

test('the old key stays until the source itself hands out the new one, however the daemon was started', async () => {
  await using story = await Story.begin()
  await story.store('alice', 1)
  const oldKey = keyFile(story)
  const key = newKey()
  await story.ok('master.rotate', { newMasterKey: key })
  await jobEnded(story)
  const unretired = async () => expect((await story.ok('master.status')).oldKeyRetired).toBe(false)
  await unretired()
  // The source has been changed, but nobody has asked it since.
  setKeyFile(story, key)
  await unretired()
  // It was changed back: the last word of the source counts.
  await story.restart(() => setKeyFile(story, oldKey))
  await unretired()
  await story.restart(() => setKeyFile(story, key))
  await retired(story)
})

test('it stays too while a job is not over, or an envelope of its epoch is left', async () => {
  await using story = await Story.begin()
  const ids = []
  for (let fill = 1; fill <= 3; fill++) ids.push(await story.store('alice', fill))
  const damaged = { userId: 'alice', credentialId: ids[1]! }
  await story.restart(() =>
    onStore(story, (store) =>
      store
        .prepare('UPDATE credentials SET envelope = zeroblob(length(envelope)) WHERE credential_id = ?')
        .run(damaged.credentialId),
    ),
  )
  const key = newKey()
  setKeyFile(story, key)
  await story.ok('master.rotate', { newMasterKey: key })
  expect(await jobEnded(story)).toMatchObject({
    oldKeyRetired: false,
    job: { kind: 'rotate', state: 'failed', done: 2, total: 3 },
  })
  // The source has the new key, at a start too.
  await story.restart()
  const still: Status = await story.ok('master.status')
  expect(still).toMatchObject({ epoch: 2, oldKeyRetired: false, job: { state: 'failed' } })
  await story.refused('Conflict', 'master.rotate', { newMasterKey: newKey() })
  await story.ok('credentials.retrieve', { userId: 'alice', credentialId: ids[2] })
  await story.refused('DecryptionFailed', 'credentials.retrieve', damaged)

  // With all secrets given nothing of the old envelope is needed; then a reseal finds nothing of the old key.
  const secrets = { apiSecret: sample('x', 9).apiSecret, passphrase: 'p', privateKey: '02'.repeat(32) }
  await story.ok('credentials.replace', { ...damaged, apiKey: 'new', ...secrets })
  await story.ok('master.reseal')
  expect((await jobEnded(story)).job).toEqual({ kind: 'reseal', state: 'done', done: 3, total: 3 })
  await retired(story)
  expect((await story.ok('credentials.retrieve', damaged)).apiKey).toBe('new')
  const told = (await story.entries()).filter(({ action }) => action.startsWith('master_'))
  expect(
    told.map(({ action, outcome, details }) => [action, outcome, details['stage'] ?? details['error']]),
  ).toEqual([
    ['master_rotated', 'ok', 'started'],
    ['master_rotated', 'error', 'failed'],
    ['master_rotated', 'denied', 'Conflict'],
    ['master_resealed', 'ok', 'started'],
    ['master_resealed', 'ok', 'done'],
    ['master_rotated', 'ok', 'old_key_retired'],
  ])
})

test('what cannot be rotated to, and when', async () => {
  await using story = await Story.begin()
  const present = keyFile(story)
  for (const newMasterKey of ['', 'no key', `${'01'.repeat(32)}0`, present]) {
    const error = await story.refused('InvalidParams', 'master.rotate', { newMasterKey })
    expect(issuePaths(error)).toEqual(['newMasterKey'])
    if (newMasterKey !== '') expect(JSON.stringify(error)).not.toContain(newMasterKey)
  }
  expect(await story.ok('master.status')).toMatchObject({ epoch: 1, oldKeyRetired: true, job: null })
  const key = newKey()
  await story.ok('master.rotate', { newMasterKey: ` ${Buffer.from(key, 'hex').toString('base64url')}\n` })
  await jobEnded(story)
  // A conflict comes before what is wrong with the key in the light of what is stored.
  for (const params of [{}, { newMasterKey: newKey() }, { newMasterKey: key }]) {
    const { data } = await story.refused('Conflict', 'master.rotate', params)
    expect(data).toMatchObject({ resource: 'rotation', field: null })
  }
})

test('two rotations asked for at once are one', async () => {
  await using story = await Story.begin()
  for (let fill = 1; fill <= 40; fill++) await story.store('alice', fill)
  const answers = await Promise.all([
    story.main.call('master.rotate'),
    story.main.call('master.rotate', { newMasterKey: newKey() }),
    story.main.call('master.rotate'),
    story.main.call('master.reseal'),
  ])
  const errors = answers.flatMap(({ error }) => (error === undefined ? [] : [error.data]))
  expect(errors).toHaveLength(3)
  for (const data of errors) expect(data).toMatchObject({ type: 'Conflict', resource: 'rotation' })
  await jobEnded(story)
  expect((await story.ok('master.status')).epoch).toBe(answers[3]!.error === undefined ? 1 : 2)
  await story.restart()
})

test('a rotation changes nothing of a credential but when it was sealed', async () => {
  await using story = await Story.begin()
  const users = [
    ['alice', await story.store('alice', 1)],
    ['bob', await story.store('bob', 2, { expiresInDays: 1 })],
    ['carol', await story.store('carol', 3)],
    ['dave', await story.store('dave', 4, { privateKey: '03'.repeat(32), privateKeyPolicy: 'sign-only' })],
  ] as const
  await story.ok('credentials.update', {
    userId: 'bob',
    credentialId: users[1][1],
    expiresAt: '2020-01-01T00:00:00Z',
  })
  await story.ok('credentials.revoke', { userId: 'carol', credentialId: users[2][1] })
  await story.ok('credentials.retrieve', { userId: 'alice' })
  const all = () =>
    Promise.all(users.map(([userId, credentialId]) => story.ok('credentials.get', { userId, credentialId })))
  const before = await all()
  await story.ok('master.rotate', { newMasterKey: newKey() })
  expect((await jobEnded(story)).job).toMatchObject({ done: 4 })
  const after = await all()
  for (const [index, metadata] of after.entries()) {
    const { encryptedAt, ...rest } = metadata
    expect(rest).toEqual({ ...before[index], encryptedAt: undefined })
    expect(Date.parse(encryptedAt)).toBeGreaterThanOrEqual(Date.parse(before[index].encryptedAt))
  }
  // What was in memory stays there.
  const { cache } = await story.ok('system.status')
  await story.ok('credentials.retrieve', { userId: 'alice' })
  expect((await story.ok('system.status')).cache).toMatchObject({
    hits: cache.hits + 1,
    misses: cache.misses,
  })
})

test('a reseal puts every envelope at the configured cost', async () => {
  await using story = await Story.begin()
  for (let fill = 1; fill <= 5; fill++) await story.store('alice', fill)
  const costs = () =>
    onStore(story, (store) => {
      const envelopes = store.prepare('SELECT envelope FROM credentials').pluck().all() as Buffer[]
      return envelopes.map((envelope) => [envelope.readUInt32BE(5), envelope.readUInt32BE(9)])
    })
  await using costly = await Story.begin({
    dataDirectory: story.purser.dataDirectory,
    masterKey: await story.purser.kill('SIGTERM').then(() => keyFile(story)),
    fastKdf: false,
    env: { PURSER_KDF_MEMORY_KIB: '64', PURSER_KDF_ITERATIONS: '3' },
  })
  expect(await costly.ok('master.reseal')).toEqual({ jobId: expect.any(String) })
  expect(await jobEnded(costly)).toMatchObject({
    epoch: 1,
    oldKeyRetired: true,
    job: { kind: 'reseal', state: 'done', done: 5, total: 5 },
  })
  for (let id = 1; id <= 5; id++)
    await costly.ok('credentials.retrieve', { userId: 'alice', credentialId: id })
  await costly.purser.kill('SIGTERM')
  expect(costs()).toEqual(Array.from({ length: 5 }, () => [64, 3]))
})
