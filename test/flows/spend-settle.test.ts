import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { awayFromMidnight, SpendFlow } from '../ledger/spend-flow.ts'

let flow: SpendFlow
beforeAll(async () => {
  await awayFromMidnight(20_000)
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

async function hold(amountUsd: string, more: object = {}) {
  const userId = await flow.user()
  const { reservationId } = await flow.reserve(userId, amountUsd, { ttlSeconds: 3600, ...more })
  return { userId, reservationId }
}

async function reservation(userId: string, state: string) {
  const { reservations } = await flow.call('reservations.list', { userId, state })
  expect(reservations).toHaveLength(1)
  return reservations[0]
}

describe('spend.capture', () => {
  test('without an amount captures all that is held', async () => {
    const { userId, reservationId } = await hold('40')
    const answer = await flow.capture(reservationId)
    expect(answer).toEqual({
      positionId: expect.any(String),
      amountUsd: '40.00',
      releasedUsd: '0.00',
      heldUsd: '0.00',
      remaining: {
        perTradeUsd: '100.00',
        credentialDailyUsd: null,
        userDailyUsd: '460.00',
        exposureUsd: '460.00',
      },
    })
    expect(await reservation(userId, 'captured')).toMatchObject({ amountUsd: '40.00', capturedUsd: '40.00' })
    expect((await flow.call('positions.list', { userId })).positions).toEqual([
      {
        positionId: answer.positionId,
        userId,
        credentialId: null,
        tradeId: null,
        amountUsd: '40.00',
        openUsd: '40.00',
        state: 'open',
        openedAt: expect.any(String),
        closedAt: null,
      },
    ])
  })

  test('of less, by default the last one: the rest is released', async () => {
    for (const final of [{}, { final: true }]) {
      const { userId, reservationId } = await hold('40')
      expect(await flow.capture(reservationId, { amountUsd: '15.5', ...final })).toMatchObject({
        amountUsd: '15.50',
        releasedUsd: '24.50',
        heldUsd: '0.00',
        remaining: { userDailyUsd: '484.50', exposureUsd: '484.50' },
      })
      expect(await reservation(userId, 'captured')).toMatchObject({
        amountUsd: '40.00',
        capturedUsd: '15.50',
      })
    }
  })

  test('final: false keeps the rest held for the next fill; one that leaves nothing closes', async () => {
    const { userId, reservationId } = await hold('40')
    const first = await flow.capture(reservationId, { amountUsd: '10', final: false })
    expect(first).toMatchObject({ amountUsd: '10.00', releasedUsd: '0.00', heldUsd: '30.00' })
    expect(first.remaining).toMatchObject({ userDailyUsd: '460.00', exposureUsd: '460.00' })
    expect(await reservation(userId, 'held')).toMatchObject({ amountUsd: '40.00', capturedUsd: '10.00' })
    const again = await flow.capture(reservationId, { amountUsd: '10', final: false })
    expect(again).toMatchObject({ heldUsd: '20.00' })
    expect(again.positionId).not.toBe(first.positionId)
    const { userDaily, exposure } = await flow.status(userId)
    expect([userDaily.spentUsd, userDaily.reservedUsd]).toEqual(['20.00', '20.00'])
    expect([exposure.openUsd, exposure.reservedUsd]).toEqual(['20.00', '20.00'])
    expect(await flow.capture(reservationId, { amountUsd: '20', final: false })).toMatchObject({
      amountUsd: '20.00',
      heldUsd: '0.00',
      releasedUsd: '0.00',
    })
    expect(await reservation(userId, 'captured')).toMatchObject({ capturedUsd: '40.00' })
    expect((await flow.call('positions.list', { userId })).positions).toHaveLength(3)
  })

  test('final: false without an amount takes all and closes', async () => {
    const { userId, reservationId } = await hold('40')
    expect(await flow.capture(reservationId, { final: false })).toMatchObject({
      amountUsd: '40.00',
      heldUsd: '0.00',
    })
    await reservation(userId, 'captured')
  })

  test('above what is still held is InvalidParams, and nothing has changed', async () => {
    const { userId, reservationId } = await hold('40')
    await flow.capture(reservationId, { amountUsd: '10', final: false })
    const before = await flow.status(userId)
    for (const more of [
      { amountUsd: '30.000001' },
      { amountUsd: '40', final: false },
      { amountUsd: '31', tradeId: 't' },
    ])
      expect(await flow.refused('spend.capture', { reservationId, ...more })).toMatchObject({
        code: -32602,
        issues: [{ path: 'amountUsd', message: expect.stringContaining('30.00') }],
      })
    expect(await flow.status(userId)).toEqual(before)
    expect(await reservation(userId, 'held')).toMatchObject({ capturedUsd: '10.00' })
    await flow.capture(reservationId, { amountUsd: '30', tradeId: 't' })
  })

  test('counts against the credential that held', async () => {
    const userId = await flow.user()
    await flow.credential(userId, { dailySpendLimitUsd: '100' })
    const second = await flow.credential(userId, { dailySpendLimitUsd: '50' })
    const { reservationId } = await flow.reserve(userId, '30', { credentialId: second })
    expect(await flow.capture(reservationId, { amountUsd: '20' })).toMatchObject({
      remaining: { credentialDailyUsd: '30.00' },
    })
    expect((await flow.status(userId)).credentialDaily).toMatchObject({
      spentUsd: '0.00',
      reservedUsd: '0.00',
    })
    expect((await flow.status(userId, second)).credentialDaily).toMatchObject({ spentUsd: '20.00' })
  })
})

describe('spend.void', () => {
  test('gives back what was held', async () => {
    const { userId, reservationId } = await hold('40')
    expect(await flow.void(reservationId, { reason: 'no fill' })).toEqual({ releasedUsd: '40.00' })
    expect(await reservation(userId, 'voided')).toMatchObject({ capturedUsd: '0.00' })
    const { userDaily, exposure } = await flow.status(userId)
    expect([userDaily.reservedUsd, exposure.reservedUsd, userDaily.spentUsd]).toEqual([
      '0.00',
      '0.00',
      '0.00',
    ])
  })

  test('after partial captures gives back the rest, and the state is voided', async () => {
    const { userId, reservationId } = await hold('40')
    await flow.capture(reservationId, { amountUsd: '15', final: false })
    expect(await flow.void(reservationId)).toEqual({ releasedUsd: '25.00' })
    expect(await reservation(userId, 'voided')).toMatchObject({ capturedUsd: '15.00' })
    const { userDaily, exposure } = await flow.status(userId)
    expect([userDaily.spentUsd, exposure.openUsd, exposure.reservedUsd]).toEqual(['15.00', '15.00', '0.00'])
  })
})

describe('a closed reservation', () => {
  test('the very capture that closed it, repeated, gets its answer again, and any other ReservationClosed', async () => {
    const { userId, reservationId } = await hold('40')
    const answer = await flow.capture(reservationId, { amountUsd: '15' })
    for (const same of [{ amountUsd: '15.00' }, { amountUsd: 15, final: true }])
      expect(await flow.capture(reservationId, same)).toEqual(answer)
    for (const other of [
      {},
      { amountUsd: '14' },
      { amountUsd: '15', final: false },
      { amountUsd: '15', tradeId: 't' },
    ])
      expect(await flow.refused('spend.capture', { reservationId, ...other })).toMatchObject({
        code: 3002,
        type: 'ReservationClosed',
        retryable: false,
        state: 'captured',
      })
    expect(await flow.refused('spend.void', { reservationId })).toMatchObject({ state: 'captured' })
    expect((await flow.call('positions.list', { userId })).positions).toHaveLength(1)
    expect((await flow.status(userId)).userDaily.spentUsd).toBe('15.00')
  })

  test('the last of several captures closed it: only that one is repeated', async () => {
    const { userId, reservationId } = await hold('40')
    await flow.capture(reservationId, { amountUsd: '15', final: false })
    const last = await flow.capture(reservationId, { amountUsd: '25', final: false })
    expect(await flow.capture(reservationId, { amountUsd: '25', final: false })).toEqual(last)
    expect(
      await flow.refused('spend.capture', { reservationId, amountUsd: '15', final: false }),
    ).toMatchObject({
      state: 'captured',
    })
    expect((await flow.call('positions.list', { userId })).positions).toHaveLength(2)
  })

  test('the same for a void, its reason being part of it', async () => {
    const { userId, reservationId } = await hold('40')
    await flow.void(reservationId, { reason: 'no fill' })
    const other = await flow.reserve(userId, '60')
    expect(await flow.void(reservationId, { reason: 'no fill' })).toEqual({ releasedUsd: '40.00' })
    for (const more of [{}, { reason: 'another' }])
      expect(await flow.refused('spend.void', { reservationId, ...more })).toMatchObject({ state: 'voided' })
    expect(await flow.refused('spend.capture', { reservationId })).toMatchObject({ state: 'voided' })
    expect(await flow.void(other.reservationId)).toEqual({ releasedUsd: '60.00' })
    expect((await flow.status(userId)).userDaily.reservedUsd).toBe('0.00')
  })

  test('an unknown one is NotFound, whatever the id looks like', async () => {
    await hold('1')
    for (const reservationId of [
      'r999999',
      'r0',
      'r-1',
      'r01',
      '1',
      'p1',
      'x',
      '__proto__',
      'r1e3',
      'r99999999999999999999',
    ])
      for (const method of ['spend.capture', 'spend.void'])
        expect(await flow.refused(method, { reservationId }), reservationId).toMatchObject({
          code: 2001,
          resource: 'reservation',
        })
  })
})

describe('spend.record', () => {
  test('is always counted, and says whether a check would have refused', async () => {
    const userId = await flow.user()
    expect(await flow.record(userId, '100')).toEqual({
      positionId: expect.any(String),
      overLimit: false,
      remaining: {
        perTradeUsd: '100.00',
        credentialDailyUsd: null,
        userDailyUsd: '400.00',
        exposureUsd: '400.00',
      },
    })
    expect(await flow.record(userId, '100.000001')).toMatchObject({ overLimit: true })
    expect(await flow.record(userId, '1000')).toMatchObject({
      overLimit: true,
      remaining: { userDailyUsd: '0.00', exposureUsd: '0.00' },
    })
    expect(await flow.record(userId, '0.000001')).toMatchObject({ overLimit: true })
    const status = await flow.status(userId)
    expect(status.userDaily).toMatchObject({ spentUsd: '1200.000002', remainingUsd: '0.00', percent: 240 })
    expect(status.exposure).toMatchObject({ openUsd: '1200.000002', remainingUsd: '0.00', percent: 240 })
    expect(await flow.refused('spend.check', { userId, amountUsd: '0.01' })).toMatchObject({
      level: 'user_daily',
      usedUsd: '1200.000002',
      availableUsd: '0.00',
    })
  })

  test.each([
    ['credential_daily', { dailySpendLimitUsd: '10' }, {}],
    ['user_daily', {}, { dailyUsd: '10' }],
    ['exposure', {}, { exposureUsd: '10' }],
  ])('over the limit of %s', async (level, ofCredential, limits) => {
    const userId = await flow.user({ limits })
    await flow.credential(userId, ofCredential)
    expect(await flow.record(userId, '10')).toMatchObject({ overLimit: false })
    expect(await flow.record(userId, '0.01')).toMatchObject({ overLimit: true })
    expect((await flow.refused('spend.check', { userId, amountUsd: '0.01' })).level).toBe(level)
  })

  test('without credentialId counts against the primary', async () => {
    const userId = await flow.user()
    const first = await flow.credential(userId, { dailySpendLimitUsd: '100' })
    const second = await flow.credential(userId, { dailySpendLimitUsd: '100' })
    await flow.record(userId, '30')
    await flow.record(userId, '20', { credentialId: second })
    expect((await flow.status(userId, first)).credentialDaily.spentUsd).toBe('30.00')
    expect((await flow.status(userId, second)).credentialDaily.spentUsd).toBe('20.00')
    expect((await flow.status(userId)).userDaily.spentUsd).toBe('50.00')
  })
})

describe('positions.close', () => {
  test('in parts, by its id; closing frees exposure only', async () => {
    const userId = await flow.user()
    const { positionId } = await flow.record(userId, '90')
    expect(await flow.call('positions.close', { userId, positionId, amountUsd: '30' })).toEqual({
      closedUsd: '30.00',
      openUsd: '60.00',
    })
    const partly = (await flow.call('positions.list', { userId, state: 'open' })).positions
    expect(partly).toMatchObject([{ amountUsd: '90.00', openUsd: '60.00', state: 'open', closedAt: null }])
    const { userDaily, exposure } = await flow.status(userId)
    expect([userDaily.spentUsd, userDaily.remainingUsd]).toEqual(['90.00', '410.00'])
    expect([exposure.openUsd, exposure.remainingUsd]).toEqual(['60.00', '440.00'])
    expect(await flow.call('positions.close', { userId, positionId })).toEqual({
      closedUsd: '60.00',
      openUsd: '0.00',
    })
    const closed = (await flow.call('positions.list', { userId, state: 'closed' })).positions
    expect(closed).toMatchObject([{ amountUsd: '90.00', openUsd: '0.00', state: 'closed' }])
    expect(Date.parse(closed[0].closedAt)).toBeGreaterThanOrEqual(Date.parse(closed[0].openedAt))
    expect((await flow.call('positions.list', { userId, state: 'open' })).positions).toEqual([])
  })

  test('by its trade, of a capture and of a record', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '10')
    await flow.capture(reservationId, { tradeId: 'captured' })
    await flow.record(userId, '20', { tradeId: 'recorded' })
    for (const [tradeId, closedUsd] of [
      ['captured', '10.00'],
      ['recorded', '20.00'],
    ])
      expect(await flow.call('positions.close', { userId, tradeId })).toEqual({ closedUsd, openUsd: '0.00' })
  })

  test('above what is open is InvalidParams; closed already it is "0.00" without an amount', async () => {
    const userId = await flow.user()
    const { positionId } = await flow.record(userId, '90')
    const above = (amountUsd: string) => flow.refused('positions.close', { userId, positionId, amountUsd })
    expect(await above('90.000001')).toMatchObject({ code: -32602, issues: [{ path: 'amountUsd' }] })
    await flow.call('positions.close', { userId, positionId, amountUsd: '40' })
    expect(await above('50.01')).toMatchObject({ issues: [{ message: expect.stringContaining('50.00') }] })
    await flow.call('positions.close', { userId, positionId, amountUsd: '50' })
    const { closedAt } = (await flow.call('positions.list', { userId })).positions[0]
    for (let times = 0; times < 2; times++)
      expect(await flow.call('positions.close', { userId, positionId })).toEqual({
        closedUsd: '0.00',
        openUsd: '0.00',
      })
    expect(await above('0.000001')).toMatchObject({ code: -32602 })
    expect((await flow.call('positions.list', { userId })).positions[0].closedAt).toBe(closedAt)
    expect((await flow.status(userId)).exposure.openUsd).toBe('0.00')
  })

  test('of another user, unknown or of no shape is NotFound', async () => {
    const userId = await flow.user()
    const other = await flow.user()
    const { positionId } = await flow.record(other, '5', { tradeId: 'shared' })
    for (const of of [
      { positionId },
      { positionId: 'p999999' },
      { positionId: 'r1' },
      { positionId: 'x' },
      { tradeId: 'shared' },
    ])
      expect(await flow.refused('positions.close', { userId, ...of })).toMatchObject({
        code: 2001,
        resource: 'position',
      })
    expect(await flow.refused('positions.close', { userId: 'nobody', positionId })).toMatchObject({
      resource: 'user',
    })
    expect((await flow.status(other)).exposure.openUsd).toBe('5.00')
  })
})

test('a capture and a void of one reservation at once: one of them is done', async () => {
  const { userId, reservationId } = await hold('40')
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      flow.client.call(index % 2 === 0 ? 'spend.capture' : 'spend.void', { reservationId }),
    ),
  )
  const states = new Set(
    answers.map(({ error, result }) => error?.data.state ?? ('positionId' in result ? 'captured' : 'voided')),
  )
  expect(states.size).toBe(1)
  expect(answers.filter(({ error }) => error === undefined)).toHaveLength(10)
  const { userDaily } = await flow.status(userId)
  expect(userDaily.reservedUsd).toBe('0.00')
  expect(userDaily.spentUsd).toBe(states.has('captured') ? '40.00' : '0.00')
})

test('64 partial captures of one hold at once never take more than it holds', async () => {
  const { userId, reservationId } = await hold('40')
  const answers = await Promise.all(
    Array.from({ length: 64 }, () =>
      flow.client.call('spend.capture', { reservationId, amountUsd: '1', final: false }),
    ),
  )
  // The 40th closes it; those that come after it are the very act that did, and get its answer.
  const positions = answers.map(({ result }) => result.positionId)
  expect(new Set(positions).size).toBe(40)
  const { userDaily, exposure } = await flow.status(userId)
  expect([userDaily.spentUsd, exposure.openUsd, exposure.reservedUsd]).toEqual(['40.00', '40.00', '0.00'])
})

test('everything is as it was after a restart', async () => {
  const { userId, reservationId } = await hold('40')
  await flow.capture(reservationId, { amountUsd: '15', final: false })
  const { positionId } = await flow.record(userId, '20', { tradeId: 'kept' })
  await flow.call('positions.close', { userId, positionId, amountUsd: '5' })
  const all = async () => [
    await flow.status(userId),
    await flow.call('reservations.list', { userId }),
    await flow.call('positions.list', { userId }),
  ]
  const before = await all()
  await flow.restart()
  expect(await all()).toEqual(before)
  expect(await flow.capture(reservationId, { amountUsd: '25' })).toMatchObject({ releasedUsd: '0.00' })
  await flow.restart()
  expect(await flow.capture(reservationId, { amountUsd: '25.00' })).toMatchObject({ releasedUsd: '0.00' })
  expect((await flow.status(userId)).exposure).toMatchObject({ openUsd: '55.00', reservedUsd: '0.00' })
})
