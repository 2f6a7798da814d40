import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { hardhatKeys } from '../support/flow.ts'
import { Story, sharedStory } from './story.ts'

const shared = sharedStory()

/** Envelopes by id, looked at while the daemon does not run. */
async function envelopes(story: Story): Promise<Map<number, Buffer>> {
  let found = new Map<number, Buffer>()
  await story.restart(() => {
    const store = new Database(`${story.purser.dataDirectory}/purser.db`, { readonly: true })
    const rows = store.prepare('SELECT credential_id AS id, envelope FROM credentials').all()
    found = new Map((rows as { id: number; envelope: Buffer }[]).map(({ id, envelope }) => [id, envelope]))
    store.close()
  })
  return found
}

/** Version, epoch and cost stay; salt, nonce, ciphertext and tag must not. */
function expectFresh(before: Buffer, after: Buffer): void {
  expect(after.subarray(0, 13)).toEqual(before.subarray(0, 13))
  expect(after).toHaveLength(before.length)
  const parts = { salt: [13, 29], nonce: [29, 41], ciphertext: [41, -16], tag: [-16, undefined] } as const
  for (const [from, to] of Object.values(parts)) {
    expect(after.subarray(from, to)).not.toEqual(before.subarray(from, to))
  }
}

describe('credentials.rotate', () => {
  test('one: a fresh salt, key and nonce, and nothing else changes', async () => {
    const { story, alice } = shared.next()
    const one = {
      userId: alice,
      credentialId: await story.store(alice, 1, { privateKey: hardhatKeys[0].privateKey }),
    }
    await story.store(alice, 2)
    const secrets = await story.ok('credentials.retrieve', one)
    const metadata = await story.ok('credentials.get', one)
    const before = await envelopes(story)
    expect(await story.ok('credentials.rotate', one)).toEqual({ rotated: 1 })
    expect(await story.ok('credentials.retrieve', one)).toEqual(secrets)
    expect(await story.ok('credentials.get', one)).toEqual({ ...metadata, encryptedAt: expect.any(String) })
    expect((await story.ok('credentials.get', one)).encryptedAt > metadata.encryptedAt).toBe(true)
    const after = await envelopes(story)
    expectFresh(before.get(1)!, after.get(1)!)
    expect(after.get(2)).toEqual(before.get(2))
    expect(await story.ok('credentials.retrieve', one)).toEqual(secrets)
  })

  test('all: the unrevoked ones, expired ones too, each by itself and with an entry of its own', async () => {
    await using story = await Story.begin()
    const ids: number[] = []
    for (let fill = 1; fill <= 5; fill++) ids.push(await story.store('alice', fill))
    await story.store('bob', 9)
    await story.ok('credentials.revoke', { userId: 'alice', credentialId: ids[1] })
    await story.ok('credentials.update', {
      userId: 'alice',
      credentialId: ids[2],
      expiresAt: '2020-01-01T00:00:00Z',
    })
    const before = await envelopes(story)
    const told = await story.audited(async () => {
      expect(await story.ok('credentials.rotate', { userId: 'alice' })).toEqual({ rotated: 4 })
    })
    expect(told.map(({ action, credentialId, outcome }) => [action, credentialId, outcome])).toEqual(
      [ids[0], ids[2], ids[3], ids[4]].map((id) => ['api_key_rotated', id, 'ok']),
    )
    const after = await envelopes(story)
    for (const [id, envelope] of before) {
      if (id === ids[1] || id === 6) expect(after.get(id)).toEqual(envelope)
      else expectFresh(envelope, after.get(id)!)
    }
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject({ apiKey: 'key-1' })
  })

  test('more than a page of them', async () => {
    const { story, alice } = shared.next()
    await Promise.all(Array.from({ length: 205 }, (_, fill) => story.store(alice, fill)))
    expect(await story.ok('credentials.rotate', { userId: alice })).toEqual({ rotated: 205 })
    await story.chainHolds()
  })

  test('a revoked and an expired one by name are refused, the primary is no exception for all of them', async () => {
    const { story, alice } = shared.next()
    const revoked = { userId: alice, credentialId: await story.store(alice, 1) }
    const expired = { userId: alice, credentialId: await story.store(alice, 2) }
    await story.ok('credentials.revoke', revoked)
    await story.refused('CredentialRevoked', 'credentials.rotate', revoked)
    await story.ok('credentials.update', { ...expired, expiresAt: '2020-01-01T00:00:00Z' })
    await story.refused('CredentialExpired', 'credentials.rotate', expired)
    expect(await story.ok('credentials.rotate', { userId: alice })).toEqual({ rotated: 1 })
    await story.ok('credentials.revoke', expired)
    expect(await story.ok('credentials.rotate', { userId: alice })).toEqual({ rotated: 0 })
  })

  test('is no decryption', async () => {
    await using story = await Story.begin({ config: { decrypt: { limit: 1 } } })
    const one = { userId: 'alice', credentialId: await story.store('alice', 1) }
    for (let n = 0; n < 5; n++) await story.ok('credentials.rotate', one)
    await story.ok('credentials.retrieve', one)
    await story.refused('RateLimited', 'credentials.retrieve', {
      userId: 'alice',
      credentialId: await story.store('alice', 2),
    })
    await story.ok('credentials.rotate', one)
  })
})
