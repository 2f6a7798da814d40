import { describe, expect, test } from 'vitest'
import { addressOfPrivateKey } from '../../src/signer/address.ts'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { issuePaths, Story, sample, sharedStory } from './story.ts'

const shared = sharedStory()

const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
const hex = (value: bigint) => value.toString(16).padStart(64, '0')

describe('the API secret', () => {
  const bytes = Buffer.from('fb-ff-3e-fb-ff-3e-fb-ff'.replaceAll('-', ''), 'hex')
  const kept = '-_8--_8--_8='

  test('any of the four forms is kept as padded base64url', async () => {
    const { story, alice } = shared.next()
    let fill = 0
    for (const given of [kept, '-_8--_8--_8', '+/8++/8++/8=', '+/8++/8++/8']) {
      fill += 1
      const credentialId = await story.store(alice, fill, { apiSecret: given })
      const found = await story.ok('credentials.retrieve', { userId: alice, credentialId })
      expect(found.apiSecret, given).toBe(kept)
      expect(Buffer.from(found.apiSecret, 'base64url')).toEqual(bytes)
    }
  })

  test('every length of bytes comes back, padded', async () => {
    const { story, alice } = shared.next()
    for (let length = 1; length <= 9; length++) {
      const secret = Buffer.alloc(length, 0xa5)
      const credentialId = await story.store(alice, length, { apiSecret: secret.toString('base64url') })
      const found = await story.ok('credentials.retrieve', { userId: alice, credentialId })
      expect(found.apiSecret).toBe(secret.toString('base64').replaceAll('+', '-').replaceAll('/', '_'))
    }
    const longest = Buffer.alloc(768, 1).toString('base64')
    expect(longest).toHaveLength(1024)
    await story.store(alice, 100, { apiSecret: longest })
  })

  test('what decodes in more than one way is refused', async () => {
    await using story = await Story.begin()
    for (const given of [
      'A', // one digit holds no byte
      'AAAAA',
      'AB', // stray bits in the last digit
      'AAB',
      'AB==',
      'AAB=',
      'AA=', // padding that does not fill the group
      'AAA==',
      'AAAA=',
      'AAAA====',
      'A===',
      '====',
      '=',
      'AA=A',
      '=AAA',
      'AAAA AAAA',
      ' AAAA',
      'AAAA\n',
      'AA+_', // both alphabets
      'AAA.',
      'ÄAAA',
      'AAAA\0',
      'ＡＡＡＡ',
    ]) {
      const error = await story.refused('InvalidParams', 'credentials.store', {
        ...sample('alice', 1),
        apiSecret: given,
      })
      expect(issuePaths(error), JSON.stringify(given)).toEqual(['apiSecret'])
    }
    expect((await story.ok('credentials.list')).credentials).toEqual([])
  })
})

describe('the private key', () => {
  test('0x or not, any case; the answer is 0x in lower case; the address is checksummed', async () => {
    const { story, alice } = shared.next()
    const [{ privateKey, address }] = hardhatKeys
    const digits = privateKey.slice(2)
    let fill = 0
    for (const given of [privateKey, digits, digits.toUpperCase(), `0x${digits.toUpperCase()}`]) {
      fill += 1
      const stored = await story.ok('credentials.store', { ...sample(alice, fill), privateKey: given })
      expect(stored.address).toBe(address)
      const { credentialId } = stored
      expect(await story.ok('credentials.retrieve', { userId: alice, credentialId })).toMatchObject({
        privateKey,
        address,
      })
      expect(await story.ok('credentials.get', { userId: alice, credentialId })).toMatchObject({
        hasPrivateKey: true,
        address,
        fingerprint: stored.fingerprint,
      })
    }
  })

  test('1 and n-1 are keys, 0 and n are none', async () => {
    const { story, alice } = shared.next()
    for (const [fill, value] of [
      [1, 1n],
      [2, order - 1n],
    ] as const) {
      const { address, credentialId } = await story.ok('credentials.store', {
        ...sample(alice, fill),
        privateKey: hex(value),
      })
      expect(address).toBe(addressOfPrivateKey(Buffer.from(hex(value), 'hex')))
      const found = await story.ok('credentials.retrieve', { userId: alice, credentialId })
      expect(found.privateKey).toBe(`0x${hex(value)}`)
    }
    for (const given of [
      hex(0n),
      hex(order),
      hex(order + 1n),
      'f'.repeat(64),
      hex(1n).slice(1),
      `0${hex(1n)}`,
      `0x0${hex(1n)}`,
      `0X${hex(1n)}`,
      `0x${hex(1n).slice(2)}`,
      `x0${hex(1n)}`,
      `${hex(1n).slice(0, -1)}g`,
      ` ${hex(1n)}`,
      `-${hex(1n).slice(1)}`,
      'ä'.repeat(32),
    ]) {
      const error = await story.refused('InvalidParams', 'credentials.store', {
        ...sample(alice, 9),
        privateKey: given,
      })
      expect(issuePaths(error), given).toEqual(['privateKey'])
    }
  })

  test('its policy is the configured one where none is named', async () => {
    await using story = await Story.begin({ config: { credentials: { private_key_policy: 'sign-only' } } })
    const [{ privateKey, address }] = hardhatKeys
    const kept = await story.store('alice', 1, { privateKey })
    const given = await story.store('alice', 2, { privateKey, privateKeyPolicy: 'exportable' })
    const retrieve = (credentialId: number) =>
      story.ok('credentials.retrieve', { userId: 'alice', credentialId })
    expect(await retrieve(kept)).toMatchObject({ privateKey: null, address, apiKey: 'key-1' })
    expect(await retrieve(given)).toMatchObject({ privateKey, address })
    const get = (credentialId: number) => story.ok('credentials.get', { userId: 'alice', credentialId })
    expect(await get(kept)).toMatchObject({ privateKeyPolicy: 'sign-only', privateKeyRetrievedAt: null })
    expect(await get(given)).toMatchObject({ privateKeyPolicy: 'exportable' })
  })
})

describe('what else a store says', () => {
  test('everything given comes back, everything absent is null', async () => {
    await using story = await Story.begin()
    const [{ privateKey, address }] = hardhatKeys
    const given = {
      userId: 'alice',
      apiKey: 'k "\\\u2028 ä 🔑',
      apiSecret: apiSecret(1),
      passphrase: 'p "\\\n\t\0\u001f ä 🔑 \u2029 </script>',
      privateKey,
      name: 'name \u0007 "x"',
      dailySpendLimitUsd: 12.5,
      expiresAt: '2999-06-01T14:00:00.5+02:00',
      privateKeyPolicy: 'exportable',
    }
    const stored = await story.ok('credentials.store', given)
    expect(stored).toEqual({ credentialId: 1, address, fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) })
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toEqual({
      credentialId: 1,
      name: given.name,
      apiKey: given.apiKey,
      apiSecret: given.apiSecret,
      passphrase: given.passphrase,
      privateKey,
      address,
      expiresAt: '2999-06-01T12:00:00.500Z',
    })
    const least = await story.store('bob', 2)
    expect(await story.ok('credentials.retrieve', { userId: 'bob' })).toEqual({
      credentialId: least,
      name: null,
      apiKey: 'key-2',
      apiSecret: apiSecret(2),
      passphrase: null,
      privateKey: null,
      address: null,
      expiresAt: null,
    })
    const { createdAt } = await story.ok('credentials.get', { userId: 'bob', credentialId: least })
    expect(await story.ok('credentials.get', { userId: 'bob', credentialId: least })).toEqual({
      credentialId: least,
      userId: 'bob',
      name: null,
      status: 'active',
      isPrimary: true,
      address: null,
      fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
      hasPrivateKey: false,
      privateKeyPolicy: 'exportable',
      dailySpendLimitUsd: null,
      createdAt,
      updatedAt: createdAt,
      lastUsedAt: expect.any(String),
      expiresAt: null,
      revokedAt: null,
      revokeReason: null,
      encryptedAt: createdAt,
      apiSecretRetrievedAt: expect.any(String),
      privateKeyRetrievedAt: null,
    })
  })

  test('equal API keys have equal fingerprints, in every user, and say nothing else', async () => {
    const { story, alice, bob } = shared.next()
    await using other = await Story.begin()
    const print = async (from: Story, userId: string, fill: number) =>
      (await from.ok('credentials.store', sample(userId, fill))).fingerprint
    const first = await print(story, alice, 1)
    expect(await print(story, bob, 1)).toBe(first)
    expect(await print(story, alice, 2)).not.toBe(first)
    expect(await print(other, alice, 1)).not.toBe(first)
  })

  test('an unknown user is made, once, tier free', async () => {
    const { story, alice, bob, carol } = shared.next()
    await story.store(alice, 1)
    expect(await story.ok('users.get', { userId: alice })).toMatchObject({ tier: 'free' })
    await story.ok('users.put', { userId: bob, tier: 'pro' })
    await story.store(bob, 1)
    expect(await story.ok('users.get', { userId: bob })).toMatchObject({ tier: 'pro' })
    // A store that is refused makes none.
    await story.refused('InvalidParams', 'credentials.store', { ...sample(carol, 1), apiSecret: '!' })
    await story.refused('NotFound', 'users.get', { userId: carol })
  })

  test('the first ever is primary, later ones where they say so, and there is one at most', async () => {
    const { story, alice } = shared.next()
    const primary = async () => {
      const { credentials } = await story.ok('credentials.list', { userId: alice })
      return credentials.flatMap((one: { isPrimary: boolean; credentialId: number }) =>
        one.isPrimary ? [one.credentialId] : [],
      )
    }
    const first = await story.store(alice, 1, { isPrimary: false })
    expect(await primary()).toEqual([first])
    const second = await story.store(alice, 2)
    expect(await primary()).toEqual([first])
    const third = await story.store(alice, 3, { isPrimary: true })
    expect(await primary()).toEqual([third])
    expect(await story.ok('credentials.retrieve', { userId: alice })).toMatchObject({ apiKey: 'key-3' })
    // With the primary revoked the next one is no heir: it is not the first ever.
    await story.ok('credentials.revoke', { userId: alice, credentialId: third })
    await story.store(alice, 4)
    expect(await primary()).toEqual([third])
    await story.ok('credentials.update', { userId: alice, credentialId: second, isPrimary: true })
    expect(await primary()).toEqual([second])
  })

  test('expiresInDays counts from the store', async () => {
    const { story, alice } = shared.next()
    const dayMs = 86_400_000
    for (const [fill, days] of [
      [1, 1],
      [2, 3650],
    ] as const) {
      const before = Date.now()
      const credentialId = await story.store(alice, fill, { expiresInDays: days })
      const after = Date.now()
      const { expiresAt } = await story.ok('credentials.get', { userId: alice, credentialId })
      expect(Date.parse(expiresAt)).toBeGreaterThanOrEqual(before + days * dayMs)
      expect(Date.parse(expiresAt)).toBeLessThanOrEqual(after + days * dayMs)
    }
  })

  test('expiresAt is any RFC 3339 time', async () => {
    const { story, alice } = shared.next()
    const credentialId = await story.store(alice, 1)
    for (const [given, shown] of [
      ['2999-12-31T23:59:59Z', '2999-12-31T23:59:59.000Z'],
      ['2999-12-31t23:59:59z', '2999-12-31T23:59:59.000Z'],
      ['2999-12-31T23:59:59.123456789+00:00', '2999-12-31T23:59:59.123Z'],
      ['2999-12-31T23:59:59.9999999999999999999999-00:30', '3000-01-01T00:29:59.999Z'],
      ['3000-01-01T00:30:00+01:00', '2999-12-31T23:30:00.000Z'],
      ['2996-02-29T00:00:00-00:00', '2996-02-29T00:00:00.000Z'],
      ['2999-12-31T23:59:60Z', '3000-01-01T00:00:00.000Z'],
      ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
      // The past: as update takes it.
      ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
      ['1969-07-20T20:17:40Z', '1969-07-20T20:17:40.000Z'],
    ]) {
      const { expiresAt } = await story.ok('credentials.update', {
        userId: alice,
        credentialId,
        expiresAt: given,
      })
      expect(expiresAt, given).toBe(shown)
    }
    for (const expiresAt of [
      '2999-02-29T00:00:00Z',
      '2999-04-31T00:00:00Z',
      '2999-13-01T00:00:00Z',
      '2999-00-01T00:00:00Z',
      '2999-01-00T00:00:00Z',
      '2999-01-01T24:00:00Z',
      '2999-01-01T00:60:00Z',
      '2999-01-01T00:00:61Z',
      '2999-01-01T00:00:00+24:00',
      '2999-01-01T00:00:00+0100',
      '2999-01-01T00:00:00.Z',
      '2999-01-01 00:00:00Z',
      '2999-01-01T00:00:00',
      ' 2999-01-01T00:00:00Z',
      '2999-01-01T00:00:00Z\n',
      '+002999-01-01T00:00:00Z',
      '２999-01-01T00:00:00Z',
      // In UTC these lie in the years 10000 and -1, which RFC 3339 cannot write in an answer.
      '9999-12-31T23:59:59-00:01',
      '0000-01-01T00:00:00+00:01',
    ]) {
      const error = await story.refused('InvalidParams', 'credentials.store', {
        ...sample('a', 1),
        expiresAt,
      })
      expect(issuePaths(error), expiresAt).toEqual(['expiresAt'])
    }
  })

  test('all of it outlives a restart', async () => {
    await using story = await Story.begin()
    const [{ privateKey }] = hardhatKeys
    await story.store('alice', 1, { privateKey, passphrase: 'p', name: 'n', dailySpendLimitUsd: '5' })
    const before = await story.ok('credentials.retrieve', { userId: 'alice' })
    const metadata = await story.ok('credentials.list')
    await story.restart()
    expect(await story.ok('credentials.list')).toEqual(metadata)
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toEqual(before)
    expect(await story.store('alice', 2)).toBe(2)
    await story.chainHolds()
  })
})
