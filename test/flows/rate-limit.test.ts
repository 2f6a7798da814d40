import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { apiSecret } from '../support/flow.ts'
import { Story } from './story.ts'

/** Every retrieve a decryption. */
const uncached = { cache: { ttl_seconds: 0 } }

describe('at most 100 decryptions of a user in any 60 s', () => {
  test('the 101st is RateLimited, says when to come back, and costs nothing more', async () => {
    await using story = await Story.begin({ config: uncached })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    await story.store('bob', 2)
    const startedAt = performance.now()
    for (let n = 0; n < 100; n++) await story.ok('credentials.retrieve', one)
    const retryAfter: number[] = []
    for (let n = 0; n < 5; n++) {
      const error = await story.refused('RateLimited', 'credentials.retrieve', one)
      expect(error).toMatchObject({ code: 1002, data: { retryable: true, limit: 100, windowMs: 60_000 } })
      retryAfter.push(error.data.retryAfterMs)
    }
    const elapsedMs = performance.now() - startedAt
    for (const ms of retryAfter) {
      expect(ms).toBeLessThanOrEqual(60_000)
      expect(ms).toBeGreaterThanOrEqual(60_000 - elapsedMs - 50)
    }
    expect([...retryAfter].sort((a, b) => b - a)).toEqual(retryAfter)
    // It is the user's own window; and nothing else of the user's is limited by it.
    await story.ok('credentials.retrieve', { userId: 'bob' })
    await story.ok('credentials.rotate', one)
    await story.ok('credentials.get', one)

    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 100 })
    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 0 })
    for (let n = 0; n < 100; n++) await story.ok('credentials.retrieve', one)
    await story.refused('RateLimited', 'credentials.retrieve', one)

    // Empty at a start.
    await story.restart()
    await story.ok('credentials.retrieve', one)
    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 1 })

    const told = (await story.entries()).filter(({ details }) => details['error'] === 'RateLimited')
    expect(told).toHaveLength(6)
    for (const entry of told) {
      expect(entry).toMatchObject({
        action: 'api_key_retrieved',
        userId: 'alice',
        credentialId: 1,
        outcome: 'denied',
      })
    }
  })

  test('what is served from memory does not count, nor do refusals', async () => {
    await using story = await Story.begin({ config: { decrypt: { limit: 3 } } })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    const revoked = { userId: 'alice', credentialId: await story.store('alice', 2) }
    await story.ok('credentials.revoke', revoked)
    for (let n = 0; n < 10; n++) await story.ok('credentials.retrieve', one)
    for (let n = 0; n < 10; n++) await story.refused('CredentialRevoked', 'credentials.retrieve', revoked)
    for (let n = 0; n < 10; n++)
      await story.refused('NotFound', 'credentials.retrieve', { userId: 'alice', credentialId: 99 })
    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 1 })
  })

  test('retrieves that wait for the same opening are one', async () => {
    await using story = await Story.begin({
      config: { ...uncached, decrypt: { limit: 2 } },
      // A derivation long enough for all to wait for it.
      env: { PURSER_KDF_MEMORY_KIB: '65536' },
    })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    const other = { userId: 'alice', credentialId: await story.store('alice', 2) }
    const clients = Array.from({ length: 5 }, () => story.connect())
    const crowd = await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        clients[n % 5]!.call('credentials.retrieve', n % 2 === 0 ? one : other),
      ),
    )
    for (const [n, answer] of crowd.entries()) {
      expect(answer.result).toMatchObject({ apiSecret: apiSecret(n % 2 === 0 ? 1 : 2) })
    }
    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 2 })
  })

  test('who joins an opening under way is served though the window is full', async () => {
    await using story = await Story.begin({
      config: { ...uncached, decrypt: { limit: 1 } },
      env: { PURSER_KDF_MEMORY_KIB: '65536' },
    })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    const other = { userId: 'alice', credentialId: await story.store('alice', 2) }
    const [first, refused, joined] = await Promise.all([
      story.main.call('credentials.retrieve', one),
      story.main.call('credentials.retrieve', other),
      story.main.call('credentials.retrieve', one),
    ])
    expect(first.result).toMatchObject({ apiKey: 'key-1' })
    expect(joined.result).toMatchObject({ apiKey: 'key-1' })
    expect(refused.error?.data.type).toBe('RateLimited')
  })

  test('failed ones count, and RateLimited comes before DecryptionFailed', async () => {
    await using story = await Story.begin({ config: { ...uncached, decrypt: { limit: 4 } } })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    await story.restart(() => {
      const store = new Database(`${story.purser.dataDirectory}/purser.db`)
      store.prepare("UPDATE credentials SET envelope = x'01'").run()
      store.close()
    })
    for (let n = 0; n < 4; n++) await story.refused('DecryptionFailed', 'credentials.retrieve', one)
    for (let n = 0; n < 2; n++) await story.refused('RateLimited', 'credentials.retrieve', one)
    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 4 })
  })

  test('a window slides: after its time the next ones are let through', async () => {
    await using story = await Story.begin({
      config: { ...uncached, decrypt: { limit: 3, window_seconds: 1 } },
    })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    for (let n = 0; n < 3; n++) await story.ok('credentials.retrieve', one)
    const error = await story.refused('RateLimited', 'credentials.retrieve', one)
    expect(error.data).toMatchObject({ limit: 3, windowMs: 1000 })
    await new Promise((resolve) => setTimeout(resolve, error.data.retryAfterMs + 1))
    await story.ok('credentials.retrieve', one)
  })
})
