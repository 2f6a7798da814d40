import Database from 'better-sqlite3'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { Story, sample } from './story.ts'

// Where several errors apply, the first of the contract's order is answered. None of alice's credentials opens any
// more; 2 is revoked, 3 expired, 4 both; her window is full, and she has as many as she may.

let story: Story
const alice = (credentialId?: number) => ({
  userId: 'alice',
  ...(credentialId === undefined ? {} : { credentialId }),
})
const secrets = { apiKey: 'new', apiSecret: apiSecret(50) }

beforeAll(async () => {
  story = await Story.begin({ config: { decrypt: { limit: 1 }, credentials: { max_per_user: 3 } } })
  const past = { expiresAt: '2020-01-01T00:00:00Z' }
  for (const fill of [1, 2, 3, 4]) {
    const credentialId = await story.store('alice', fill, { privateKey: hardhatKeys[0].privateKey })
    if (fill >= 3) await story.ok('credentials.update', { ...alice(credentialId), ...past })
    if (fill === 2 || fill === 4) await story.ok('credentials.revoke', alice(credentialId))
  }
  await story.store('alice', 5)
  await story.restart(() => {
    const store = new Database(`${story.purser.dataDirectory}/purser.db`)
    store.prepare('UPDATE credentials SET envelope = zeroblob(100)').run()
    store.close()
  })
  await story.refused('DecryptionFailed', 'credentials.retrieve', alice(1))
})
afterAll(() => story[Symbol.asyncDispose]())

test.each<[type: string, method: string, params: unknown]>([
  ['MethodNotFound', 'credentials.recover', { userId: 5, x: 1 }],
  // InvalidParams before what is stored is looked at.
  ['InvalidParams', 'credentials.retrieve', { userId: 'nobody', x: 1 }],
  ['InvalidParams', 'credentials.retrieve', { ...alice(2), x: 1 }],
  ['InvalidParams', 'credentials.store', { ...sample('alice', 1), apiSecret: '!' }],
  ['InvalidParams', 'credentials.store', { ...sample('alice', 1), ...{ expiresAt: '2020-01-01T00:00:00Z' } }],
  [
    'InvalidParams',
    'credentials.replace',
    { userId: 'nobody', credentialId: 1, ...secrets, privateKey: '00' },
  ],
  ['InvalidParams', 'users.put', { userId: 'alice', tier: 'no-such' }],
  ['InvalidParams', 'backup.create', { path: 'relative' }],
  // NotFound before all that a credential has.
  ['NotFound', 'credentials.replace', { userId: 'alice', credentialId: 99, ...secrets, apiKey: 'key-1' }],
  ['NotFound', 'credentials.update', { userId: 'alice', credentialId: 99, isPrimary: true }],
  // Revoked before expired, before RateLimited and DecryptionFailed.
  ['CredentialRevoked', 'credentials.retrieve', alice(2)],
  ['CredentialRevoked', 'credentials.retrieve', alice(4)],
  ['CredentialRevoked', 'credentials.rotate', alice(2)],
  ['CredentialRevoked', 'credentials.rotate', alice(4)],
  [
    'CredentialRevoked',
    'credentials.update',
    { ...alice(2), isPrimary: true, privateKeyPolicy: 'sign-only' },
  ],
  ['CredentialExpired', 'credentials.retrieve', alice(3)],
  ['CredentialExpired', 'credentials.rotate', alice(3)],
  // Conflict before DecryptionFailed; of several the API key.
  ['Conflict', 'credentials.replace', { ...alice(1), ...secrets, apiKey: 'key-3' }],
  ['Conflict', 'credentials.replace', { ...alice(2), ...secrets, apiKey: 'key-3' }],
  // RateLimited before DecryptionFailed.
  ['RateLimited', 'credentials.retrieve', alice(1)],
  ['RateLimited', 'credentials.retrieve', alice()],
  ['DecryptionFailed', 'credentials.replace', { ...alice(1), ...secrets }],
  ['DecryptionFailed', 'credentials.replace', { ...alice(2), ...secrets }],
  ['DecryptionFailed', 'credentials.rotate', alice(1)],
  ['DecryptionFailed', 'credentials.rotate', alice()],
])('%s: %s %j', async (type, method, params) => {
  await story.refused(type, method, params)
})

test('Conflict on the API key before Conflict on the number of credentials', async () => {
  const taken = await story.refused('Conflict', 'credentials.store', sample('alice', 1))
  expect(taken.data.resource).toBe('apiKey')
  const free = await story.refused('Conflict', 'credentials.store', sample('alice', 60))
  expect(free.data.resource).toBe('credential')
})

test('every error says what the contract lists, and nothing else', async () => {
  const always = ['hint', 'retryable', 'type']
  for (const [type, method, params, more] of [
    ['NotFound', 'credentials.get', { userId: 'nobody', credentialId: 1 }, ['resource']],
    ['Conflict', 'credentials.store', sample('alice', 1), ['field', 'resource']],
    ['CredentialRevoked', 'credentials.retrieve', alice(2), ['revokedAt']],
    ['CredentialExpired', 'credentials.retrieve', alice(3), ['expiredAt']],
    ['RateLimited', 'credentials.retrieve', alice(1), ['limit', 'retryAfterMs', 'windowMs']],
    ['DecryptionFailed', 'credentials.rotate', alice(1), ['credentialId']],
    ['InvalidParams', 'credentials.get', {}, ['issues']],
    ['MethodNotFound', 'no.such', {}, []],
  ] as const) {
    const error = await story.refused(type, method, params)
    expect(Object.keys(error).sort()).toEqual(['code', 'data', 'message'])
    expect(Object.keys(error.data).sort(), type).toEqual([...always, ...more].sort())
    expect(error.data.retryable).toBe(type === 'RateLimited')
    for (const text of [error.message, error.data.hint]) {
      expect(text).toMatch(/^[a-z`-].*[^.]$/)
    }
  }
})
