import { describe, expect, test } from 'vitest'
import { hardhatKeys } from '../support/flow.ts'
import { sharedStory } from './story.ts'

const shared = sharedStory()

const [{ privateKey, address }] = hardhatKeys
const past = '2020-01-01T00:00:00.000Z'

describe('credentials.update', () => {
  test('changes what is given, null clears, the rest stays', async () => {
    const { story, alice } = shared.next()
    const credentialId = await story.store(alice, 1, {
      name: 'first',
      dailySpendLimitUsd: '10',
      expiresAt: '2999-01-01T00:00:00Z',
    })
    const one = { userId: alice, credentialId }
    const before = await story.ok('credentials.get', one)
    expect(await story.ok('credentials.update', { ...one, name: 'second' })).toEqual({
      ...before,
      name: 'second',
      updatedAt: expect.any(String),
    })
    expect(await story.ok('credentials.update', { ...one, dailySpendLimitUsd: 0 })).toMatchObject({
      name: 'second',
      dailySpendLimitUsd: '0.00',
      expiresAt: '2999-01-01T00:00:00.000Z',
    })
    const cleared = await story.ok('credentials.update', {
      ...one,
      name: null,
      dailySpendLimitUsd: null,
      expiresAt: null,
    })
    expect(cleared).toEqual({
      ...before,
      name: null,
      dailySpendLimitUsd: null,
      expiresAt: null,
      updatedAt: expect.any(String),
    })
    expect(await story.ok('credentials.get', one)).toEqual(cleared)
    expect(await story.ok('credentials.retrieve', { userId: alice })).toMatchObject({ name: null })
    // It is none of the acts that make a new envelope.
    expect(cleared.encryptedAt).toBe(before.encryptedAt)
  })

  test('a past expiresAt expires at once, a later one brings it back', async () => {
    const { story, alice } = shared.next()
    const one = { userId: alice, credentialId: await story.store(alice, 1) }
    await story.ok('credentials.retrieve', one)
    expect(await story.ok('credentials.update', { ...one, expiresAt: past })).toMatchObject({
      status: 'expired',
      expiresAt: past,
    })
    for (const params of [one, { userId: alice }]) {
      const error = await story.refused('CredentialExpired', 'credentials.retrieve', params)
      expect(error).toMatchObject({ code: 2004, data: { retryable: false, expiredAt: past } })
    }
    await story.ok('credentials.update', { ...one, expiresAt: '2999-01-01T00:00:00Z' })
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({ apiKey: 'key-1' })
    await story.ok('credentials.update', { ...one, expiresAt: null })
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({ expiresAt: null })
  })

  test('it expires by itself, at its time', async () => {
    const { story, alice } = shared.next()
    const expiresAtMs = Date.now() + 700
    const expiresAt = new Date(expiresAtMs).toISOString()
    const one = { userId: alice, credentialId: await story.store(alice, 1, { expiresAt }) }
    let given = 0
    for (;;) {
      const answer = await story.main.call('credentials.retrieve', one)
      const answeredAtMs = Date.now()
      if (answer.result === undefined) {
        expect(answer.error!.data).toMatchObject({ type: 'CredentialExpired', expiredAt: expiresAt })
        expect(answeredAtMs).toBeGreaterThanOrEqual(expiresAtMs)
        break
      }
      given += 1
      // From its time on nothing leaves: what was answered was asked for before.
      expect(answeredAtMs).toBeLessThan(expiresAtMs + 50)
    }
    expect(given).toBeGreaterThan(0)
    expect(await story.ok('credentials.get', one)).toMatchObject({ status: 'expired' })
  })

  test('sign-only is a way of no return', async () => {
    const { story, alice } = shared.next()
    const one = {
      userId: alice,
      credentialId: await story.store(alice, 1, { privateKey, passphrase: 'p' }),
    }
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({ privateKey })
    const before = await story.ok('credentials.get', one)
    const after = await story.ok('credentials.update', { ...one, privateKeyPolicy: 'sign-only' })
    expect(after).toMatchObject({ privateKeyPolicy: 'sign-only', hasPrivateKey: true, address })
    expect(after.privateKeyRetrievedAt).toBe(before.privateKeyRetrievedAt)
    const retrieved = await story.ok('credentials.retrieve', one)
    expect(retrieved).toMatchObject({ privateKey: null, address, apiKey: 'key-1', passphrase: 'p' })
    // Again it changes nothing, and no way leads back.
    expect(await story.ok('credentials.update', { ...one, privateKeyPolicy: 'sign-only' })).toMatchObject({
      privateKeyPolicy: 'sign-only',
      encryptedAt: after.encryptedAt,
    })
    for (const privateKeyPolicy of ['exportable', null]) {
      await story.refused('InvalidParams', 'credentials.update', { ...one, privateKeyPolicy })
    }
    await story.ok('credentials.replace', {
      ...one,
      apiKey: 'key-2',
      apiSecret: 'AAAA',
      privateKey: hardhatKeys[1].privateKey,
    })
    await story.ok('credentials.rotate', one)
    await story.ok('credentials.update', { ...one, name: 'n', isPrimary: true })
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({
      privateKey: null,
      address: hardhatKeys[1].address,
      apiKey: 'key-2',
    })
    await story.restart()
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({ privateKey: null })
  })

  test('isPrimary moves, in one step with the other changes', async () => {
    const { story, alice, bob } = shared.next()
    const first = await story.store(alice, 1)
    const second = await story.store(alice, 2)
    const other = await story.store(bob, 3)
    expect(
      await story.ok('credentials.update', {
        userId: alice,
        credentialId: second,
        isPrimary: true,
        name: 'n',
      }),
    ).toMatchObject({ isPrimary: true, name: 'n' })
    const get = (userId: string, credentialId: number) =>
      story.ok('credentials.get', { userId, credentialId })
    expect(await get(alice, first)).toMatchObject({ isPrimary: false })
    expect(await get(bob, other)).toMatchObject({ isPrimary: true })
    // Already primary: stays so.
    const again = { userId: alice, credentialId: second, isPrimary: true }
    expect(await story.ok('credentials.update', again)).toMatchObject({ isPrimary: true })
    expect(await story.ok('credentials.retrieve', { userId: alice })).toMatchObject({
      credentialId: second,
    })
    // An expired one may become it; a call without an id then is CredentialExpired.
    await story.ok('credentials.update', {
      userId: alice,
      credentialId: first,
      isPrimary: true,
      expiresAt: past,
    })
    await story.refused('CredentialExpired', 'credentials.retrieve', { userId: alice })
  })

  test('works on a revoked one, which stays revoked, but does not make it primary', async () => {
    const { story, alice } = shared.next()
    await story.store(alice, 1)
    const one = { userId: alice, credentialId: await story.store(alice, 2, { privateKey }) }
    const { revokedAt } = await story.ok('credentials.revoke', one)
    const changed = await story.ok('credentials.update', {
      ...one,
      name: 'n',
      dailySpendLimitUsd: '5',
      expiresAt: '2999-01-01T00:00:00Z',
      privateKeyPolicy: 'sign-only',
    })
    expect(changed).toMatchObject({ status: 'revoked', revokedAt, name: 'n', privateKeyPolicy: 'sign-only' })
    for (const more of [{}, { name: 'not told' }, { privateKeyPolicy: 'sign-only' }]) {
      const error = await story.refused('CredentialRevoked', 'credentials.update', {
        ...one,
        isPrimary: true,
        ...more,
      })
      expect(error.data).toMatchObject({ revokedAt })
    }
    expect(await story.ok('credentials.get', one)).toEqual(changed)
    expect(await story.ok('credentials.retrieve', { userId: alice })).toMatchObject({ apiKey: 'key-1' })
    await story.refused('CredentialRevoked', 'credentials.retrieve', one)
  })
})
