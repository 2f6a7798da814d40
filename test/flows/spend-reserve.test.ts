import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { awayFromMidnight, nextMidnight, SpendFlow } from '../ledger/spend-flow.ts'

let flow: SpendFlow
beforeAll(async () => {
  await awayFromMidnight(20_000)
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

const free = { perTradeUsd: '100.00', userDailyUsd: '500.00', exposureUsd: '500.00' }

describe('spend.check', () => {
  test('answers what is left now, the amount not deducted, and changes nothing', async () => {
    const userId = await flow.user()
    const head = await flow.head()
    const granted = { allowed: true, remaining: { ...free, credentialDailyUsd: null } }
    for (const amountUsd of ['100', '100.00', 0.000001])
      expect(await flow.call('spend.check', { userId, amountUsd })).toEqual(granted)
    expect(await flow.head()).toBe(head)
    expect((await flow.status(userId)).userDaily).toMatchObject({ spentUsd: '0.00', reservedUsd: '0.00' })
  })

  test('tells of the credential its limit is counted by', async () => {
    const userId = await flow.user()
    await flow.credential(userId, { dailySpendLimitUsd: '60' })
    const second = await flow.credential(userId)
    const third = await flow.credential(userId, { dailySpendLimitUsd: '0' })
    const left = async (more: object) =>
      (await flow.call('spend.check', { userId, amountUsd: '1', ...more })).remaining.credentialDailyUsd
    expect(await left({})).toBe('60.00')
    expect(await left({ credentialId: second })).toBeNull()
    expect(await flow.refused('spend.check', { userId, amountUsd: '1', credentialId: third })).toMatchObject({
      level: 'credential_daily',
      limitUsd: '0.00',
    })
  })

  test('a refusal of it is not audited', async () => {
    const userId = await flow.user()
    const head = await flow.head()
    expect((await flow.refused('spend.check', { userId, amountUsd: '101' })).level).toBe('per_trade')
    expect((await flow.refused('spend.check', { userId: 'nobody', amountUsd: '1' })).type).toBe('NotFound')
    expect(await flow.head()).toBe(head)
  })
})

describe('spend.reserve', () => {
  test('holds the amount and tells what is left after it', async () => {
    const userId = await flow.user()
    await flow.credential(userId, { dailySpendLimitUsd: '90' })
    const answer = await flow.reserve(userId, '30.5')
    expect(answer).toEqual({
      reservationId: expect.any(String),
      state: 'held',
      amountUsd: '30.50',
      expiresAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      remaining: {
        perTradeUsd: '100.00',
        credentialDailyUsd: '59.50',
        userDailyUsd: '469.50',
        exposureUsd: '469.50',
      },
    })
    expect((await flow.call('reservations.list', { userId })).reservations).toEqual([
      {
        reservationId: answer.reservationId,
        userId,
        credentialId: expect.any(Number),
        amountUsd: '30.50',
        capturedUsd: '0.00',
        state: 'held',
        signed: false,
        digest: null,
        createdAt: expect.any(String),
        expiresAt: answer.expiresAt,
        postHeadersAt: null,
      },
    ])
  })

  test('works at the levels of a user without any credential', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '100')
    expect(await flow.capture(reservationId)).toMatchObject({ amountUsd: '100.00' })
    expect((await flow.call('positions.list', { userId })).positions).toMatchObject([{ credentialId: null }])
  })

  test('without credentialId the primary is meant, also where it changes', async () => {
    const userId = await flow.user()
    const first = await flow.credential(userId)
    const second = await flow.credential(userId)
    await flow.reserve(userId, '1')
    await flow.call('credentials.update', { userId, credentialId: second, isPrimary: true })
    await flow.reserve(userId, '1')
    await flow.reserve(userId, '1', { credentialId: first })
    const { reservations } = await flow.call('reservations.list', { userId })
    expect(reservations.map(({ credentialId }: { credentialId: number }) => credentialId)).toEqual([
      first,
      second,
      first,
    ])
  })

  test('refused: nothing is held', async () => {
    const userId = await flow.user()
    const before = await flow.status(userId)
    await flow.refused('spend.reserve', { userId, amountUsd: '100.000001' })
    expect(await flow.status(userId)).toEqual(before)
    expect((await flow.call('reservations.list', { userId })).reservations).toEqual([])
  })
})

describe('SpendLimitExceeded names the level and its numbers, and says when it resets', () => {
  const limits = { perTradeUsd: '50', dailyUsd: '120', exposureUsd: '110' }

  test('per_trade', async () => {
    const userId = await flow.user({ limits })
    for (const method of ['spend.check', 'spend.reserve'])
      expect(await flow.refused(method, { userId, amountUsd: '50.000001' })).toEqual({
        code: 3001,
        type: 'SpendLimitExceeded',
        retryable: false,
        hint: expect.any(String),
        level: 'per_trade',
        limitUsd: '50.00',
        usedUsd: '0.00',
        requestedUsd: '50.000001',
        availableUsd: '50.00',
        resetsAt: null,
      })
  })

  test('credential_daily, also of what is held by it and by it alone', async () => {
    const userId = await flow.user({ limits })
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '40' })
    const other = await flow.credential(userId, { dailySpendLimitUsd: '40' })
    await flow.record(userId, '10')
    await flow.reserve(userId, '25')
    for (const of of [{}, { credentialId }])
      expect(await flow.refused('spend.reserve', { userId, amountUsd: '5.01', ...of })).toMatchObject({
        level: 'credential_daily',
        limitUsd: '40.00',
        usedUsd: '35.00',
        requestedUsd: '5.01',
        availableUsd: '5.00',
        resetsAt: nextMidnight(),
      })
    await flow.reserve(userId, '5')
    await flow.reserve(userId, '40', { credentialId: other })
  })

  test('user_daily, whichever credential spent it', async () => {
    const userId = await flow.user({ limits: { ...limits, exposureUsd: '1000' } })
    const first = await flow.credential(userId)
    const second = await flow.credential(userId)
    await flow.record(userId, '50', { credentialId: first })
    await flow.reserve(userId, '45', { credentialId: second })
    expect(
      await flow.refused('spend.reserve', { userId, amountUsd: '25.01', credentialId: second }),
    ).toMatchObject({
      level: 'user_daily',
      limitUsd: '120.00',
      usedUsd: '95.00',
      requestedUsd: '25.01',
      availableUsd: '25.00',
      resetsAt: nextMidnight(),
    })
  })

  test('exposure, until a position is closed', async () => {
    const userId = await flow.user({ limits: { ...limits, dailyUsd: '1000' } })
    const { positionId } = await flow.record(userId, '50')
    await flow.reserve(userId, '50')
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '10.01' })).toMatchObject({
      level: 'exposure',
      limitUsd: '110.00',
      usedUsd: '100.00',
      requestedUsd: '10.01',
      availableUsd: '10.00',
      resetsAt: null,
    })
    await flow.call('positions.close', { userId, positionId, amountUsd: '0.01' })
    await flow.reserve(userId, '10.01')
  })

  test('the first level in the order of the contract is named', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '10', dailyUsd: '5', exposureUsd: '5' } })
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '5' })
    const level = async (amountUsd: string) =>
      (await flow.refused('spend.check', { userId, amountUsd })).level
    expect(await level('11')).toBe('per_trade')
    expect(await level('6')).toBe('credential_daily')
    await flow.call('credentials.update', { userId, credentialId, dailySpendLimitUsd: null })
    expect(await level('6')).toBe('user_daily')
    await flow.call('users.put', { userId, limits: { dailyUsd: '100' } })
    expect(await level('6')).toBe('exposure')
  })
})

describe('who and what there is', () => {
  test("an unknown user, and a credential that is not the user's", async () => {
    const userId = await flow.user()
    const other = await flow.user()
    const foreign = await flow.credential(other)
    const of = { amountUsd: '1' }
    for (const method of ['spend.check', 'spend.reserve', 'spend.record']) {
      const unknown = await flow.refused(method, { ...of, userId: 'nobody' })
      expect(unknown, method).toMatchObject({ code: 2001, type: 'NotFound', resource: 'user' })
      const notHis = await flow.refused(method, { ...of, userId, credentialId: foreign })
      const never = await flow.refused(method, { ...of, userId, credentialId: 999_999 })
      expect(notHis, method).toMatchObject({ code: 2001, resource: 'credential' })
      expect(notHis, method).toEqual(never)
    }
    for (const method of ['spend.status', 'reservations.list', 'positions.list'])
      expect(await flow.refused(method, { userId: 'nobody' }), method).toMatchObject({ resource: 'user' })
    expect(await flow.refused('spend.status', { userId, credentialId: foreign })).toMatchObject({
      resource: 'credential',
    })
  })
})

describe('a revoked or expired credential', () => {
  async function unusable(how: 'revoked' | 'expired') {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '100' })
    const { reservationId } = await flow.reserve(userId, '20')
    const second = await flow.reserve(userId, '5')
    const { positionId } = await flow.record(userId, '10')
    if (how === 'revoked') await flow.call('credentials.revoke', { userId, credentialId })
    else await flow.call('credentials.update', { userId, credentialId, expiresAt: '2020-01-01T00:00:00Z' })
    return { userId, credentialId, reservationId, second: second.reservationId, positionId }
  }

  test.each([
    ['revoked', 2003, 'CredentialRevoked', 'revokedAt'],
    ['expired', 2004, 'CredentialExpired', 'expiredAt'],
  ] as const)(
    '%s: check and reserve are refused; what has happened is still counted',
    async (how, code, type, since) => {
      const { userId, credentialId, reservationId, second, positionId } = await unusable(how)
      for (const method of ['spend.check', 'spend.reserve'])
        for (const of of [{}, { credentialId }]) {
          const error = await flow.refused(method, { userId, amountUsd: '1', ...of })
          expect(error).toMatchObject({ code, type, retryable: false })
          expect(Date.parse(error[since])).toBeLessThanOrEqual(Date.now())
        }
      expect(await flow.capture(reservationId)).toMatchObject({
        amountUsd: '20.00',
        remaining: { credentialDailyUsd: '65.00' },
      })
      expect(await flow.void(second)).toEqual({ releasedUsd: '5.00' })
      expect(await flow.record(userId, '10')).toMatchObject({
        overLimit: false,
        remaining: { credentialDailyUsd: '60.00' },
      })
      expect(await flow.call('positions.close', { userId, positionId })).toEqual({
        closedUsd: '10.00',
        openUsd: '0.00',
      })
      expect((await flow.status(userId)).credentialDaily).toMatchObject({ spentUsd: '40.00' })
    },
  )

  test('there is no automatic heir, but another credential may be named', async () => {
    const { userId } = await unusable('revoked')
    const heir = await flow.credential(userId)
    expect((await flow.refused('spend.reserve', { userId, amountUsd: '1' })).type).toBe('CredentialRevoked')
    await flow.reserve(userId, '1', { credentialId: heir })
    await flow.call('credentials.update', { userId, credentialId: heir, isPrimary: true })
    await flow.reserve(userId, '1')
  })

  test('counters of both levels survive revoke, replace and update', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '100' })
    await flow.record(userId, '40')
    await flow.reserve(userId, '20')
    const figures = async () => {
      const { credentialDaily, userDaily, exposure } = await flow.status(userId, credentialId)
      return [credentialDaily, userDaily, exposure].map(({ spentUsd, openUsd, reservedUsd }) => [
        spentUsd ?? openUsd,
        reservedUsd,
      ])
    }
    const before = await figures()
    expect(before).toEqual(Array(3).fill(['40.00', '20.00']))
    await flow.call('credentials.replace', {
      userId,
      credentialId,
      apiKey: 'another',
      apiSecret: Buffer.alloc(32, 3).toString('base64url'),
    })
    await flow.call('credentials.rotate', { userId, credentialId })
    await flow.call('credentials.update', { userId, credentialId, name: 'x', dailySpendLimitUsd: '90' })
    expect(await figures()).toEqual(before)
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '30.01' })).toMatchObject({
      level: 'credential_daily',
      usedUsd: '60.00',
      availableUsd: '30.00',
    })
    await flow.call('credentials.revoke', { userId, credentialId })
    expect(await figures()).toEqual(before)
    const next = await flow.credential(userId, { isPrimary: true })
    expect((await flow.status(userId, next)).userDaily).toMatchObject({ spentUsd: '40.00' })
    expect(await flow.refused('spend.check', { userId, amountUsd: '100.01' })).toMatchObject({
      level: 'per_trade',
    })
  })
})

describe('a lowered limit', () => {
  test('grants nothing until it is below again; open holds stay and can be captured', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '100')
    const { positionId } = await flow.record(userId, '100')
    await flow.call('users.put', {
      userId,
      limits: { perTradeUsd: '20', dailyUsd: '150', exposureUsd: '150' },
    })
    const lowered = await flow.status(userId)
    expect(lowered.exposure).toMatchObject({ remainingUsd: '0.00', reservedUsd: '100.00', percent: 133.33 })
    expect(lowered.userDaily).toMatchObject({ remainingUsd: '0.00', percent: 133.33 })
    expect(lowered.worstCaseUsd).toBe('200.00')
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '0.01' })).toMatchObject({
      level: 'user_daily',
      usedUsd: '200.00',
      limitUsd: '150.00',
      availableUsd: '0.00',
    })
    expect(await flow.capture(reservationId, { amountUsd: '90' })).toMatchObject({
      amountUsd: '90.00',
      releasedUsd: '10.00',
      remaining: { userDailyUsd: '0.00', exposureUsd: '0.00', perTradeUsd: '20.00' },
    })
    await flow.call('users.put', { userId, limits: { dailyUsd: '1000' } })
    expect((await flow.refused('spend.reserve', { userId, amountUsd: '1' })).level).toBe('exposure')
    await flow.call('positions.close', { userId, positionId })
    expect((await flow.refused('spend.reserve', { userId, amountUsd: '20.01' })).level).toBe('per_trade')
    await flow.reserve(userId, '20')
  })

  test('of a credential as well', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '100' })
    const { reservationId } = await flow.reserve(userId, '60')
    await flow.call('credentials.update', { userId, credentialId, dailySpendLimitUsd: '50' })
    expect((await flow.status(userId)).credentialDaily).toMatchObject({ remainingUsd: '0.00', percent: 120 })
    expect(await flow.refused('spend.check', { userId, amountUsd: '0.01' })).toMatchObject({
      level: 'credential_daily',
      availableUsd: '0.00',
    })
    await flow.capture(reservationId, { amountUsd: '30' })
    await flow.reserve(userId, '20')
  })
})

test('a tier that the configuration no longer names means limits of 0, until it is named again', async () => {
  const config = { tiers: { gold: { per_trade: '50', daily: '200', exposure: '300' } } }
  await using first = await SpendFlow.start({ config })
  const { masterKey, dataDirectory } = first.purser
  await first.call('users.put', { userId: 'alice', tier: 'gold' })
  await first.call('users.put', { userId: 'bob', tier: 'gold', limits: { dailyUsd: '70' } })
  const { reservationId } = await first.reserve('alice', '50')
  expect((await first.status('alice')).exposure.limitUsd).toBe('300.00')
  await first.purser.kill('SIGTERM')

  await using second = await SpendFlow.start({ masterKey, dataDirectory })
  const { tier, perTrade, userDaily, exposure, worstCaseUsd } = await second.status('alice')
  expect([tier, perTrade.limitUsd, userDaily.limitUsd, exposure.limitUsd]).toEqual([
    'gold',
    '0.00',
    '0.00',
    '0.00',
  ])
  expect([userDaily.percent, exposure.percent, worstCaseUsd]).toEqual([100, 100, '50.00'])
  expect(await second.refused('spend.reserve', { userId: 'alice', amountUsd: '1' })).toMatchObject({
    level: 'per_trade',
    limitUsd: '0.00',
  })
  expect((await second.status('bob')).userDaily.limitUsd).toBe('70.00')
  expect(await second.capture(reservationId)).toMatchObject({ amountUsd: '50.00' })
  await second.call('users.put', { userId: 'alice', tier: 'free' })
  await second.reserve('alice', '100')
})
