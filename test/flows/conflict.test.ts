import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { Story, sample, sharedStory } from './story.ts'

const shared = sharedStory()

// What conflicts with what is stored, which resource and field it names, and that it leaves everything as it was.

test('an API key that the user has in an unrevoked credential', async () => {
  const { story, alice, bob } = shared.next()
  const first = await story.store(alice, 1, { expiresAt: '2999-01-01T00:00:00Z' })
  const error = await story.refused('Conflict', 'credentials.store', sample(alice, 1))
  expect(error).toMatchObject({
    code: 2002,
    data: { retryable: false, resource: 'apiKey', field: 'apiKey' },
  })
  expect(JSON.stringify(error)).not.toContain('key-1')

  // Another user may have the same one, and so may the same user once the first is revoked.
  await story.store(bob, 1)
  await story.ok('credentials.revoke', { userId: alice, credentialId: first })
  const second = await story.store(alice, 1)
  await story.refused('Conflict', 'credentials.store', sample(alice, 1))

  // An expired one is still unrevoked.
  await story.ok('credentials.update', {
    userId: alice,
    credentialId: second,
    expiresAt: '2020-01-01T00:00:00Z',
  })
  await story.refused('Conflict', 'credentials.store', sample(alice, 1))

  // Replace: with the key of another credential it conflicts, with its own it does not.
  const third = await story.store(alice, 3)
  const replaced = { userId: alice, credentialId: third, apiSecret: apiSecret(99) }
  const conflict = await story.refused('Conflict', 'credentials.replace', { ...replaced, apiKey: 'key-1' })
  expect(conflict.data).toMatchObject({ resource: 'apiKey', field: 'apiKey' })
  await story.ok('credentials.replace', { ...replaced, apiKey: 'key-3' })
  const retrieved = await story.ok('credentials.retrieve', { userId: alice, credentialId: third })
  expect(retrieved).toMatchObject({ apiKey: 'key-3', apiSecret: apiSecret(99) })

  // A revoked one may be replaced too, but not by a key that is in use.
  await story.refused('Conflict', 'credentials.replace', {
    ...replaced,
    credentialId: first,
    apiKey: 'key-3',
  })
  await story.ok('credentials.replace', { ...replaced, credentialId: first, apiKey: 'key-77' })
  await story.chainHolds()
})

test('the same API key at once: one store wins', async () => {
  await using story = await Story.begin()
  const answers = await Promise.all(
    Array.from({ length: 12 }, () => story.main.call('credentials.store', sample('alice', 1))),
  )
  expect(answers.filter(({ result }) => result !== undefined)).toHaveLength(1)
  for (const { error } of answers) {
    if (error !== undefined) expect(error.data).toMatchObject({ type: 'Conflict', resource: 'apiKey' })
  }
  expect((await story.ok('credentials.list')).credentials).toHaveLength(1)
})

test('an admin may store a private key twice', async () => {
  await using story = await Story.begin()
  const { privateKey, address } = hardhatKeys[0]
  await story.store('alice', 1, { privateKey })
  await story.store('alice', 2, { privateKey })
  await story.store('bob', 3, { privateKey })
  const { credentials } = await story.ok('credentials.list')
  expect(credentials.map((found: { address: string }) => found.address)).toEqual([address, address, address])
})

test('more unrevoked credentials than max_per_user', async () => {
  await using story = await Story.begin({ config: { credentials: { max_per_user: 3 } } })
  const ids = [await story.store('alice', 1), await story.store('alice', 2), await story.store('alice', 3)]
  const error = await story.refused('Conflict', 'credentials.store', sample('alice', 4))
  expect(error.data).toMatchObject({ resource: 'credential', field: null })
  await story.store('bob', 4)
  // Expired ones count, revoked ones do not; replacing makes no new one.
  await story.ok('credentials.update', {
    userId: 'alice',
    credentialId: ids[0],
    expiresAt: '2020-01-01T00:00:00Z',
  })
  await story.refused('Conflict', 'credentials.store', sample('alice', 4))
  await story.ok('credentials.replace', {
    userId: 'alice',
    credentialId: ids[1],
    apiKey: 'k',
    apiSecret: apiSecret(5),
  })
  await story.ok('credentials.revoke', { userId: 'alice', credentialId: ids[2] })
  await story.store('alice', 5)
  await story.refused('Conflict', 'credentials.store', sample('alice', 6))
})

test('a crowd of stores at once does not pass max_per_user', async () => {
  await using story = await Story.begin({ config: { credentials: { max_per_user: 3 } } })
  const clients = Array.from({ length: 4 }, () => story.connect())
  const answers = await Promise.all(
    Array.from({ length: 24 }, (_, n) => clients[n % 4]!.call('credentials.store', sample('alice', n))),
  )
  expect(answers.filter(({ result }) => result !== undefined)).toHaveLength(3)
  for (const { error } of answers) {
    if (error !== undefined) expect(error.data).toMatchObject({ type: 'Conflict', resource: 'credential' })
  }
  expect((await story.ok('credentials.list')).credentials).toHaveLength(3)
  const primaries = (await story.ok('credentials.list')).credentials.filter(
    ({ isPrimary }: { isPrimary: boolean }) => isPrimary,
  )
  expect(primaries).toHaveLength(1)
})

test('a backup never overwrites', async () => {
  const { story } = shared.next()
  const { directory } = story.purser
  const taken = `${directory}/taken`
  writeFileSync(taken, 'mine')
  mkdirSync(`${directory}/folder`)
  symlinkSync(`${directory}/nowhere`, `${directory}/dangling`)
  for (const path of [
    taken,
    `${directory}/folder`,
    `${directory}/dangling`,
    `${story.purser.dataDirectory}/purser.db`,
  ]) {
    const error = await story.refused('Conflict', 'backup.create', { path })
    expect(error.data).toMatchObject({ resource: 'path', field: 'path' })
  }
  expect(readFileSync(taken, 'utf8')).toBe('mine')
  expect(existsSync(`${directory}/nowhere`)).toBe(false)
  // Each of those refusals is an entry of its own.
  const told = (await story.entries()).filter(({ action }) => action === 'backup_created')
  expect(told).toHaveLength(4)
  for (const { outcome, details } of told) {
    expect(outcome).toBe('denied')
    expect(details).toEqual({ error: 'Conflict', resource: 'path' })
  }
})
