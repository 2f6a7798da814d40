import { describe, expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { Story, sharedStory } from './story.ts'

const shared = sharedStory()

const [{ privateKey }] = hardhatKeys

describe('when a credential was used', () => {
  test('the first use shows at once, each of what was handed out', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1, { privateKey }) }
    const plain = { userId: alice, credentialId: await story.store(alice, 2) }
    const get = (which: object) => story.ok('credentials.get', which)
    const never = { lastUsedAt: null, apiSecretRetrievedAt: null, privateKeyRetrievedAt: null }
    expect(await get(one)).toMatchObject(never)
    // Nothing but a retrieve counts as one.
    await story.ok('credentials.rotate', one)
    await story.ok('credentials.update', { ...one, name: 'n' })
    expect(await get(one)).toMatchObject(never)

    const before = Date.now()
    await story.ok('credentials.retrieve', one)
    const { lastUsedAt, apiSecretRetrievedAt, privateKeyRetrievedAt } = await get(one)
    for (const at of [lastUsedAt, apiSecretRetrievedAt, privateKeyRetrievedAt]) {
      expect(Date.parse(at)).toBeGreaterThanOrEqual(before)
      expect(Date.parse(at)).toBeLessThanOrEqual(Date.now())
    }
    await story.ok('credentials.retrieve', plain)
    expect(await get(plain)).toMatchObject({
      lastUsedAt: expect.any(String),
      apiSecretRetrievedAt: expect.any(String),
      privateKeyRetrievedAt: null,
    })
  })

  test('a key that may not leave is not said to have left', async () => {
    const { story, alice } = shared.next()
    const one = {
      userId: alice,
      credentialId: await story.store(alice, 1, { privateKey, privateKeyPolicy: 'sign-only' }),
    }
    await story.ok('credentials.retrieve', one)
    expect(await story.ok('credentials.get', one)).toMatchObject({
      apiSecretRetrievedAt: expect.any(String),
      privateKeyRetrievedAt: null,
    })
  })

  test('a refused retrieve is no use', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1) }
    await story.ok('credentials.update', { ...one, expiresAt: '2020-01-01T00:00:00Z' })
    await story.refused('CredentialExpired', 'credentials.retrieve', one)
    expect(await story.ok('credentials.get', one)).toMatchObject({
      lastUsedAt: null,
      apiSecretRetrievedAt: null,
    })
  })

  test('new secrets have not left yet, and the first time they do shows at once', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1, { privateKey }) }
    const get = () => story.ok('credentials.get', one)
    await story.ok('credentials.retrieve', one)
    const used = await get()
    // The private key stays the one that has left; the API secret is new.
    await story.ok('credentials.replace', { ...one, apiKey: 'key-2', apiSecret: apiSecret(2) })
    expect(await get()).toMatchObject({
      apiSecretRetrievedAt: null,
      privateKeyRetrievedAt: used.privateKeyRetrievedAt,
      lastUsedAt: used.lastUsedAt,
    })
    await story.ok('credentials.retrieve', one)
    expect((await get()).apiSecretRetrievedAt).not.toBeNull()
    // And now a new private key.
    await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-3',
      apiSecret: apiSecret(3),
      privateKey: hardhatKeys[1].privateKey,
    })
    expect(await get()).toMatchObject({ apiSecretRetrievedAt: null, privateKeyRetrievedAt: null })
    await story.ok('credentials.retrieve', one)
    const after = await get()
    expect(after.apiSecretRetrievedAt).not.toBeNull()
    expect(after.privateKeyRetrievedAt).not.toBeNull()
    // The same for one that has no private key, where nothing else asks for the write.
    const plain = { userId: alice, credentialId: await story.store(alice, 10) }
    await story.ok('credentials.retrieve', plain)
    await story.ok('credentials.replace', { ...plain, apiKey: 'key-11', apiSecret: apiSecret(11) })
    await story.ok('credentials.retrieve', plain)
    expect((await story.ok('credentials.get', plain)).apiSecretRetrievedAt).not.toBeNull()
  })

  test('a later use within a minute writes nothing, so that a busy bot costs no disk', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1) }
    await story.ok('credentials.retrieve', one)
    const used = await story.ok('credentials.get', one)
    await new Promise((resolve) => setTimeout(resolve, 5))
    for (let n = 0; n < 3; n++) await story.ok('credentials.retrieve', one)
    expect(await story.ok('credentials.get', one)).toEqual(used)
  })
})

describe('which credential', () => {
  test('the primary without an id, any one with it', async () => {
    await using story = await Story.begin()
    for (let fill = 1; fill <= 3; fill++) await story.store('alice', fill)
    await story.store('bob', 4)
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject({ credentialId: 1 })
    for (const credentialId of [1, 2, 3]) {
      expect(await story.ok('credentials.retrieve', { userId: 'alice', credentialId })).toMatchObject({
        credentialId,
        apiKey: `key-${credentialId}`,
        apiSecret: apiSecret(credentialId),
      })
    }
    expect(await story.ok('credentials.retrieve', { userId: 'bob' })).toMatchObject({ apiKey: 'key-4' })
  })

  test('a user may be called anything the contract allows', async () => {
    await using story = await Story.begin({ config: { cache: { ttl_seconds: 0 } } })
    const names = [
      '__proto__',
      'constructor',
      '0',
      '-',
      '.',
      'a:b@c.d_e-f',
      'x'.repeat(128),
      'null',
      'A',
      'a',
    ]
    for (const [fill, userId] of names.entries()) {
      await story.store(userId, fill, { name: `n\0${userId}` })
      await story.refused('NotFound', 'credentials.retrieve', { userId, credentialId: 999 })
    }
    for (const [fill, userId] of names.entries()) {
      const found = await story.ok('credentials.retrieve', { userId })
      expect(found).toMatchObject({ credentialId: fill + 1, apiKey: `key-${fill}`, name: `n\0${userId}` })
      expect(await story.ok('users.resetDecryptions', { userId })).toEqual({ cleared: 1 })
      expect(await story.ok('users.get', { userId })).toMatchObject({ userId })
    }
    const numbered = await story.ok('users.put', { userId: Number.MAX_SAFE_INTEGER })
    expect(numbered.userId).toBe('9007199254740991')
    const { users } = await story.ok('audit.failures', { over: 0 })
    expect(users).toHaveLength(names.length)
    await story.chainHolds()
  })

  test('pipelined, each answer has its own', async () => {
    await using story = await Story.begin()
    await Promise.all(Array.from({ length: 30 }, (_, fill) => story.store(`user-${fill % 3}`, fill)))
    const { credentials } = await story.ok('credentials.list')
    await Promise.all(
      [...credentials, ...credentials].map(async ({ userId, credentialId }) => {
        const found = await story.ok('credentials.retrieve', { userId, credentialId })
        expect(found.apiSecret).toBe(apiSecret(Number(found.apiKey.slice(4))))
        expect(found.credentialId).toBe(credentialId)
      }),
    )
  })
})
