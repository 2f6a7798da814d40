import { describe, expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { Story, until } from './story.ts'

// What is opened stays in memory for a while, and no state of the store is ever answered from there.

type Figures = { entries: number; hits: number; misses: number }
const figures = async (story: Story): Promise<Figures> => (await story.ok('system.status')).cache

/** What retrieving once does to the figures. */
async function retrieved(story: Story, params: object): Promise<'hit' | 'miss'> {
  const before = await figures(story)
  await story.ok('credentials.retrieve', params)
  const after = await figures(story)
  expect(after.hits + after.misses).toBe(before.hits + before.misses + 1)
  return after.hits > before.hits ? 'hit' : 'miss'
}

describe('the cache of opened credentials', () => {
  test('hits after the first retrieve, by id and as primary', async () => {
    await using story = await Story.begin()
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    expect(await figures(story)).toEqual({ entries: 0, hits: 0, misses: 0 })
    expect(await retrieved(story, one)).toBe('miss')
    expect(await retrieved(story, one)).toBe('hit')
    expect(await retrieved(story, { userId: 'alice' })).toBe('hit')
    expect((await figures(story)).entries).toBe(1)
    await story.restart()
    expect(await figures(story)).toEqual({ entries: 0, hits: 0, misses: 0 })
    expect(await retrieved(story, one)).toBe('miss')
  })

  test('store, update, replace and rotate leave nothing in it', async () => {
    await using story = await Story.begin()
    const [{ privateKey }] = hardhatKeys
    const one = { userId: 'alice', credentialId: await story.store('alice', 1, { privateKey }) }
    await story.ok('credentials.update', { ...one, privateKeyPolicy: 'sign-only' })
    await story.ok('credentials.replace', { ...one, apiKey: 'key-2', apiSecret: apiSecret(2) })
    await story.ok('credentials.rotate', one)
    await story.ok('credentials.rotate', { userId: 'alice' })
    expect(await figures(story)).toEqual({ entries: 0, hits: 0, misses: 0 })
  })

  test('drops what revoke, expiry, replace, rotate and sign-only overtook, at once', async () => {
    await using story = await Story.begin()
    const [{ privateKey }] = hardhatKeys
    let fill = 0
    const opened = async () => {
      fill += 1
      const one = { userId: 'alice', credentialId: await story.store('alice', fill, { privateKey }) }
      await story.ok('credentials.retrieve', one)
      expect(await retrieved(story, one)).toBe('hit')
      return one
    }

    const revoked = await opened()
    await story.ok('credentials.revoke', revoked)
    await story.refused('CredentialRevoked', 'credentials.retrieve', revoked)

    const expired = await opened()
    await story.ok('credentials.update', { ...expired, expiresAt: '2020-01-01T00:00:00Z' })
    await story.refused('CredentialExpired', 'credentials.retrieve', expired)

    const replaced = await opened()
    await story.ok('credentials.replace', { ...replaced, apiKey: 'new', apiSecret: apiSecret(99) })
    expect((await figures(story)).entries).toBe(0)
    expect(await story.ok('credentials.retrieve', replaced)).toMatchObject({
      apiKey: 'new',
      apiSecret: apiSecret(99),
    })

    const rotated = await opened()
    const before = await story.ok('credentials.retrieve', rotated)
    await story.ok('credentials.rotate', rotated)
    const missesBefore = (await figures(story)).misses
    expect(await story.ok('credentials.retrieve', rotated)).toEqual(before)
    expect((await figures(story)).misses).toBe(missesBefore + 1)

    const kept = await opened()
    expect(await story.ok('credentials.retrieve', kept)).toMatchObject({ privateKey })
    await story.ok('credentials.update', { ...kept, privateKeyPolicy: 'sign-only' })
    expect(await story.ok('credentials.retrieve', kept)).toMatchObject({ privateKey: null })
    expect(await story.ok('credentials.retrieve', kept)).toMatchObject({ privateKey: null })

    // A change of what the envelope does not hold leaves it there.
    const named = await opened()
    await story.ok('credentials.update', { ...named, name: 'n', isPrimary: true, dailySpendLimitUsd: '1' })
    expect(await retrieved(story, named)).toBe('hit')
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject({ name: 'n' })
  })

  test('forgets after ttl_seconds from the opening, however often it was asked', async () => {
    await using story = await Story.begin({ config: { cache: { ttl_seconds: 1 } } })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    const openedAt = performance.now()
    expect(await retrieved(story, one)).toBe('miss')
    let last: 'hit' | 'miss' = 'hit'
    let hits = 0
    await until(async () => {
      last = await retrieved(story, one)
      if (last === 'hit') hits += 1
      return last === 'miss'
    }, 5000)
    const elapsedMs = performance.now() - openedAt
    expect(hits).toBeGreaterThan(3)
    expect(elapsedMs).toBeGreaterThan(990)
    expect(elapsedMs).toBeLessThan(2000)
    // And it is gone from memory by itself, without anybody asking.
    await until(async () => (await figures(story)).entries === 0, 3000)
  })

  test('keeps max_entries, the least recently used goes first', async () => {
    await using story = await Story.begin({ config: { cache: { max_entries: 2 } } })
    const ids = [await story.store('alice', 1), await story.store('alice', 2), await story.store('bob', 3)]
    const one = (index: number) => ({ userId: index === 2 ? 'bob' : 'alice', credentialId: ids[index] })
    expect(await retrieved(story, one(0))).toBe('miss')
    expect(await retrieved(story, one(1))).toBe('miss')
    expect(await retrieved(story, one(0))).toBe('hit')
    expect(await retrieved(story, one(2))).toBe('miss')
    expect((await figures(story)).entries).toBe(2)
    expect(await retrieved(story, one(0))).toBe('hit')
    expect(await retrieved(story, one(1))).toBe('miss')
  })

  test('ttl_seconds = 0 turns it off', async () => {
    await using story = await Story.begin({ config: { cache: { ttl_seconds: 0 } } })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    for (let n = 0; n < 3; n++) expect(await retrieved(story, one)).toBe('miss')
    expect((await figures(story)).entries).toBe(0)
  })
})
