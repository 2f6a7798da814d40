import { describe, expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { sharedStory } from './story.ts'

const shared = sharedStory()

describe('credentials.revoke', () => {
  test('is for good, and again it changes nothing', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1) }
    const before = Date.now()
    const revoked = await story.ok('credentials.revoke', { ...one, reason: 'leaked in a log' })
    expect(revoked).toMatchObject({ status: 'revoked', revokeReason: 'leaked in a log', isPrimary: true })
    expect(Date.parse(revoked.revokedAt)).toBeGreaterThanOrEqual(before)
    for (const more of [{}, { reason: 'another reason' }]) {
      expect(await story.ok('credentials.revoke', { ...one, ...more })).toEqual(revoked)
    }
    expect(await story.ok('credentials.get', one)).toEqual(revoked)
    for (const params of [one, { userId: alice }]) {
      const error = await story.refused('CredentialRevoked', 'credentials.retrieve', params)
      expect(error).toMatchObject({ code: 2003, data: { retryable: false, revokedAt: revoked.revokedAt } })
    }
    await story.restart()
    await story.refused('CredentialRevoked', 'credentials.retrieve', one)
  })

  test('beats expiry', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1) }
    await story.ok('credentials.update', { ...one, expiresAt: '2020-01-01T00:00:00Z' })
    expect(await story.ok('credentials.revoke', one)).toMatchObject({ status: 'revoked' })
    await story.refused('CredentialRevoked', 'credentials.retrieve', one)
    await story.refused('CredentialRevoked', 'credentials.rotate', one)
  })

  test('without an heir: the user has to be told which one', async () => {
    const { story, alice } = shared.next()
    const first = await story.store(alice, 1)
    const second = await story.store(alice, 2)
    await story.ok('credentials.revoke', { userId: alice, credentialId: first })
    await story.refused('CredentialRevoked', 'credentials.retrieve', { userId: alice })
    await story.ok('credentials.retrieve', { userId: alice, credentialId: second })
    // A rotation without an id means all that are unrevoked.
    expect(await story.ok('credentials.rotate', { userId: alice })).toEqual({ rotated: 1 })
    const third = await story.store(alice, 3)
    await story.refused('CredentialRevoked', 'credentials.retrieve', { userId: alice })
    await story.ok('credentials.update', { userId: alice, credentialId: third, isPrimary: true })
    expect(await story.ok('credentials.retrieve', { userId: alice })).toMatchObject({ credentialId: third })
  })
})

describe('credentials.replace', () => {
  const [first, second] = hardhatKeys

  test('what is absent stays', async () => {
    const { story, alice } = shared.next()
    const one = {
      userId: alice,
      credentialId: await story.store(alice, 1, {
        passphrase: 'old',
        privateKey: first.privateKey,
        name: 'n',
        dailySpendLimitUsd: '5',
      }),
    }
    const get = () => story.ok('credentials.retrieve', one)
    const before = await story.ok('credentials.get', one)
    const replaced = await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-2',
      apiSecret: apiSecret(2),
    })
    expect(replaced).toEqual({
      ...before,
      fingerprint: expect.any(String),
      encryptedAt: expect.any(String),
      updatedAt: expect.any(String),
    })
    expect(replaced.fingerprint).not.toBe(before.fingerprint)
    expect(await get()).toMatchObject({
      apiKey: 'key-2',
      apiSecret: apiSecret(2),
      passphrase: 'old',
      privateKey: first.privateKey,
    })
    await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-3',
      apiSecret: apiSecret(3),
      passphrase: 'new',
    })
    expect(await get()).toMatchObject({ passphrase: 'new', privateKey: first.privateKey })
    const moved = await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-4',
      apiSecret: apiSecret(4),
      privateKey: second.privateKey,
    })
    expect(moved.address).toBe(second.address)
    expect(await get()).toMatchObject({
      passphrase: 'new',
      privateKey: second.privateKey,
      address: second.address,
    })
    await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-5',
      apiSecret: apiSecret(5),
      passphrase: 'both',
      privateKey: first.privateKey,
    })
    expect(await get()).toMatchObject({ passphrase: 'both', address: first.address })
    // The old API keys are free again.
    await story.store(alice, 2)
  })

  test('can add a private key to a credential that had none', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1) }
    const replaced = await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-2',
      apiSecret: apiSecret(2),
      privateKey: first.privateKey,
    })
    expect(replaced).toMatchObject({ hasPrivateKey: true, address: first.address })
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({ privateKey: first.privateKey })
  })

  test('works on a revoked one, which stays revoked, and on an expired one, which stays expired', async () => {
    const { story, alice } = shared.next()
    const revoked = { userId: alice, credentialId: await story.store(alice, 1) }
    const expired = { userId: alice, credentialId: await story.store(alice, 2) }
    const { revokedAt } = await story.ok('credentials.revoke', revoked)
    await story.ok('credentials.update', { ...expired, expiresAt: '2020-01-01T00:00:00Z' })
    const secrets = { apiKey: 'key-9', apiSecret: apiSecret(9) }
    expect(await story.ok('credentials.replace', { ...revoked, ...secrets })).toMatchObject({
      status: 'revoked',
      revokedAt,
    })
    expect(await story.ok('credentials.replace', { ...expired, ...secrets })).toMatchObject({
      status: 'expired',
    })
    await story.refused('CredentialRevoked', 'credentials.retrieve', revoked)
    await story.refused('CredentialExpired', 'credentials.retrieve', expired)
  })
})
